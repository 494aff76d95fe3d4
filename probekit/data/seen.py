"""Objects of photographs as the images show them that a test crop makes: in pixels of these, cut where they are."""

from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probekit.h5 import CentreCrop, ObjectRows, Objects, open_encoded, pack_objects
from probekit.h5.objects import mask_of, runs_of


def objects_seen(
    objects: ObjectRows, path: Path, split: str, index: NDArray[np.int64], crop: CentreCrop | None
) -> ObjectRows:
    """The objects of some images, as they are or as the crop of photographs shows them.

    `index`: int64 `[n]`, places of the images in the split of the dataset.
    """
    found = objects.take(index)
    if crop is None:
        return found
    with closing(open_encoded(path, split)) as photographs:
        sizes = [photographs.size(int(place)) for place in index]
    return pack_objects([as_seen(each, size, crop) for each, size in zip(found, sizes, strict=True)])


def as_seen(objects: Objects, size: tuple[int, int], crop: CentreCrop) -> Objects:
    """The objects of a photograph of (height, width) within its crop; those that lie outside it are left out."""
    x0, y0, x1, y1 = crop.box(*size)
    scale = np.array([crop.side / (x1 - x0), crop.side / (y1 - y0)])
    ends = ((objects.boxes.reshape(-1, 2, 2) - (x0, y0)) * scale).clip(0, crop.side)
    kept = np.flatnonzero((ends[:, 0] < ends[:, 1]).all(axis=1))
    masks = None
    if objects.masks is not None:
        seen = (crop.of_image(255 * mask_of(objects.masks[k], size).astype(np.uint8)) for k in kept)
        masks = tuple(runs_of(mask > 127) for mask in seen)
    boxes = ends[kept].reshape(-1, 4).astype(np.float32)
    return Objects(boxes, objects.labels[kept], objects.flags[kept], masks)
