"""The foreground of a split's images: where the masks of its file are, at the size that the images are trained at."""

import math

import numpy as np
import torch
from torch import Tensor

from probekit.data.split import CHUNK_BYTES, CPU, to_device
from probekit.h5 import DatasetInfo, read_split
from probekit.h5.schema import EVIDENCE
from probekit.registry import nearest

WHOLE = 255  # of a pixel that all of the mask covers


def names_of(info: DatasetInfo, mask: str) -> list[str]:
    """The masks that are the foreground: the one that is named, or all but evidence."""
    return [mask] if mask else [name for name in info.mask_names if not name.startswith(EVIDENCE)]


def foreground(info: DatasetInfo, split: str, mask: str, *, n: int, max_size: int) -> Tensor:
    """How much of each pixel a mask covers, uint8 `[n, 1, H, W]` on the CPU, of the first n images of a split.

    255 is all of a pixel; between it and 0 are pixels of images that were averaged down, as `data.split.open_split`
    does. A ValueError if the split has no masks, or none of this name. `mask`: a name in the file; "" is where any is
    but evidence, which lies beside objects, too.
    """
    found = info.splits[split]
    if not found.masked:
        raise ValueError(
            f"expected masks of the foreground in the split {split} of {info.path}, found none; type: --data FILE, of "
            "gen or of import with --masks FOLDER"
        )
    if mask and mask not in info.mask_names:
        raise ValueError(nearest("mask", mask, info.mask_names))
    wanted = names_of(info, mask)
    if not wanted:
        names = ", ".join(info.mask_names)
        raise ValueError(
            f"expected masks of objects in {info.path}, found {names} alone; name one as the branch's mask"
        )
    bits = sum(1 << info.mask_names.index(name) for name in wanted)
    step = max(1, CHUNK_BYTES // math.prod(found.shape))
    parts = []
    for start in range(0, n, step):
        held = read_split(info.path, split, start=start, stop=min(start + step, n), images=False, masks=True).masks
        assert held is not None
        parts.append(to_device(np.where(held & bits, WHOLE, 0).astype(np.uint8), CPU, max_size=max_size))
    return torch.cat(parts)
