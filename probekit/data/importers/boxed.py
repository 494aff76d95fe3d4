"""Objects of imported images, as the stored image will have them: boxes are moved, scaled and cut, masks resized."""

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import Item
from probekit.data.importers.images import to_square
from probekit.h5 import Objects
from probekit.h5.objects import mask_of, runs_of

Shape = tuple[int, int]
LEAST = 1.0  # px: what is left of an object that is narrower or lower than that is left out


class Boxed(Item, Protocol):
    """One image of a source whose images have objects."""

    def objects(self, shape: Shape) -> Objects:
        """Its objects, in pixels of the image as it is decoded, of `shape`; raises `Broken`."""


def in_square(found: Objects, shape: Shape, side: int, resize: str) -> Objects:
    """Objects of an image of `shape`, (H, W), as `to_square` makes of it: the centre square, or all of it."""
    height, width = shape
    left, top = 0, 0
    if resize == "crop":
        short = min(shape)
        left, top, height, width = (width - short) // 2, (height - short) // 2, short, short
    masks = None
    if found.masks is not None:
        masks = [to_square(_white(runs, shape), side, resize) for runs in found.masks]
    return _fitted(found, np.array([left, top]), np.array([side / width, side / height]), (side, side), masks)


def in_photograph(found: Objects, shape: Shape, stored: Shape) -> Objects:
    """Objects of an image of `shape`, (H, W), that is shrunk to `stored`."""
    masks = None
    if found.masks is not None:
        if stored == shape:
            masks = [_white(runs, shape) for runs in found.masks]
        else:
            size = stored[::-1]
            masks = [np.asarray(cv2.resize(_white(r, shape), size, interpolation=cv2.INTER_AREA)) for r in found.masks]
    scale = np.array([stored[1] / shape[1], stored[0] / shape[0]])
    return _fitted(found, np.zeros(2), scale, stored, masks)


def _white(runs: NDArray[np.uint32], shape: Shape) -> NDArray[np.uint8]:
    return mask_of(runs, shape).astype(np.uint8) * 255


def _fitted(
    found: Objects,
    origin: NDArray[np.float64],
    scale: NDArray[np.float64],
    stored: Shape,
    masks: list[NDArray[np.uint8]] | None,
) -> Objects:
    """`origin`: (x, y) of the stored image's corner in the old one; inside is where the larger part of a pixel is."""
    corners = (found.boxes.reshape(-1, 2, 2).astype(np.float64) - origin) * scale
    boxes = np.clip(corners, 0, stored[::-1]).reshape(-1, 4).astype(np.float32)
    kept = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]) >= LEAST).all(axis=1))
    runs = None if masks is None else tuple(runs_of(masks[k] > 127) for k in kept)
    return Objects(boxes[kept], found.labels[kept], found.flags[kept], runs)
