"""The dataset file: the only owner of its schema. Checked reader, streaming writer.

Attributes at the root: `schema` ("probekit-dataset/1"), `generator` (empty for imports), `params`, `classes`,
`factors` and `mask_names` (JSON), `seed`, `style`, `version` and `content_hash`. Under each split ("train", and "val"
and "test" where there are any):

    images          uint8 [N, H, W] or [N, H, W, 3], chunked
    labels          int64 [N]; absent for unlabelled images
    factors/<name>  one 1-D array for each factor: numbers or fixed-length bytes
    masks           uint8 [N, H, W], bit k is mask_names[k]; absent without masks

Plain h5py reads it without plug-ins. The content hash is defined in `probekit.h5.schema`.
"""

from probekit.h5.read import Split, read_info, read_labels, read_split
from probekit.h5.schema import COMPRESSIONS, SCHEMA, SPLITS, DatasetInfo, SplitInfo, chunk_rows
from probekit.h5.write import Block, DatasetWriter, Header, pack

__all__ = [
    "COMPRESSIONS",
    "SCHEMA",
    "SPLITS",
    "Block",
    "DatasetInfo",
    "DatasetWriter",
    "Header",
    "Split",
    "SplitInfo",
    "chunk_rows",
    "pack",
    "read_info",
    "read_labels",
    "read_split",
]
