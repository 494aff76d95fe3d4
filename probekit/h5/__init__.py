"""The dataset file: the only owner of its schema. Checked reader, streaming writer.

Attributes at the root: `schema` ("probekit-dataset/4"), `generator` (empty for imports), `parameters`, `classes`,
`factors` and `mask_names` (JSON), `seed`, `version`, `content_hash` and `seal`; where it is known, `certificate`, what
is proved of the images (JSON, `generators.certificates`). Under each split ("train", "val", "test"; an empty one is
absent, but not all):

    images          uint8 [N, H, W] or [N, H, W, 3], chunked
    encoded/        in place of images: JPEG files, all of one size (attributes height, width, channels, format);
                    bytes: uint8, one file after the other, chunked, not compressed; offsets: int64 [N + 1]
    labels          int64 [N]; multi-label: uint8 [N, K], 0 absent, 1 present, 255 only difficult instances, which
                    losses and scores leave out; absent for unlabelled images
    factors/<name>  one 1-D array for each factor: numbers or fixed-length bytes
    masks           uint8 [N, H, W], bit k is mask_names[k]; absent without masks
    checksums       uint64 [K], XXH3 of every chunk; see `probekit.h5.checksums`

Plain h5py reads it without plug-ins. The content hash is defined in `probekit.h5.schema`, the seal in
`probekit.h5.checksums`: whoever changes a file with h5py makes it a damaged one.
"""

from probekit.h5.encoded import EncodedImages, decode, encode
from probekit.h5.read import (
    Split,
    compression_of,
    open_encoded,
    read_images,
    read_info,
    read_labels,
    read_split,
    verify,
)
from probekit.h5.schema import (
    ABSENT,
    COMPRESSIONS,
    DIFFICULT,
    PRESENT,
    SCHEMA,
    SPLITS,
    DatasetInfo,
    SplitInfo,
    chunk_rows,
)
from probekit.h5.target import check_target
from probekit.h5.write import Block, DatasetWriter, EncodedBlock, Header, as_columns, pack
