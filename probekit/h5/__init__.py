"""The dataset file: the only owner of its schema. Checked reader, streaming writer.

Attributes at the root: `schema` ("probekit-dataset/5"), `generator` (empty for imports), `parameters`, `classes`,
`factors` and `mask_names` (JSON), `seed`, `version`, `digests` (JSON, by split), `content_hash` and `seal`; where it is
known, `certificate`, what is proved of the images (JSON, `generators.certificates`); in one of several shards, `shard`
(JSON, `probekit.h5.schema.Shard`). Under each split ("train", "val", "test"; an empty one is
absent, but not all):

    images          uint8 [N, H, W] or [N, H, W, 3], chunked
    encoded/        in place of images: JPEG files, all of one size (attributes height, width, channels, format "jpeg");
                    bytes: uint8, one file after the other, chunked, not compressed; offsets: int64 [N + 1]
                    format "photographs": JPEG or PNG files of differing sizes; sizes: int32 [N, 2], height and width
                    of each, upright; attribute resize: the shorter side in the test transform, whose middle height by
                    width is what is read as images and has the masks (`probekit.h5.photographs`)
    labels          int64 [N]; multi-label: uint8 [N, K], 0 absent, 1 present, 255 only difficult instances, which
                    losses and scores leave out; absent for unlabelled images
    factors/<name>  one 1-D array for each factor: numbers or fixed-length bytes
    masks           uint8 [N, H, W], uint32 of more than 8 names, bit k is mask_names[k]; absent without masks
    objects/        absent without boxes: what objects each image has, as `probekit.h5.objects` defines: bytes: uint8,
                    one image after the other, chunked, not compressed; offsets: int64 [N + 1]; attribute masks: 1 if
                    objects have masks of their own, else 0
    checksums       uint64 [K], XXH3 of every chunk; see `probekit.h5.checksums`

Plain h5py reads it without plug-ins. The content hash is defined in `probekit.h5.contents`, the seal in
`probekit.h5.checksums`: whoever changes a file with h5py makes it a damaged one.
"""

from probekit.h5.blocks import Block, EncodedBlock, as_columns, pack
from probekit.h5.encoded import decode, encode
from probekit.h5.file import Split
from probekit.h5.objects import ObjectRows, Objects, pack_objects
from probekit.h5.photographs import CentreCrop, decode_photograph
from probekit.h5.read import (
    Encoded,
    compression_of,
    join_rows,
    open_encoded,
    read_images,
    read_info,
    read_labels,
    read_split,
    seen_by,
    verify,
)
from probekit.h5.schema import (
    ABSENT,
    COMPRESSIONS,
    DIFFICULT,
    PRESENT,
    SPLITS,
    DatasetInfo,
    Header,
    Shard,
    SplitInfo,
    chunk_rows,
)
from probekit.h5.shards import is_dataset
from probekit.h5.target import check_target
from probekit.h5.write import DatasetWriter
