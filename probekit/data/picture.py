"""A picture of a few images of each class, their evidence outlined: what a notebook shows of a dataset."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit.h5.schema import EVIDENCE

CLASSES, EACH = 6, 8  # rows, and images of each
SIDE = 128  # px of an image, about: small ones are enlarged by a whole factor
GAP = 4  # px between images
GROUND = 255
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0))  # Okabe and Ito's, one a mask

Pixels = NDArray[np.uint8]


def picture(images: Pixels, labels: NDArray[np.integer] | None, masks: Mapping[str, NDArray[np.bool_]]) -> bytes:
    """A PNG file: a class a row, and in it the first images of the class.

    Args:
        images: uint8 `[N, H, W]` or `[N, H, W, 3]`.
        labels: Classes `[N]`; without them, or with several an image, rows are filled as the images come.
        masks: By name, `[N, H, W]`; the outlines of evidence are drawn, a colour each.
    """
    evidence = [mask for name, mask in masks.items() if name.startswith(EVIDENCE)]
    rows = [[_drawn(images[i], [mask[i] for mask in evidence]) for i in row] for row in _rows(len(images), labels)]
    height, width = rows[0][0].shape[:2]
    size = len(rows) * (height + GAP) - GAP, max(map(len, rows)) * (width + GAP) - GAP, 3
    canvas = np.full(size, GROUND, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = y * (height + GAP), x * (width + GAP)
            canvas[top : top + height, left : left + width] = image
    return cv2.imencode(".png", canvas[..., ::-1])[1].tobytes()


def _rows(n: int, labels: NDArray[np.integer] | None) -> list[Sequence[int]]:
    if labels is None or labels.ndim != 1:
        return [range(start, min(start + EACH, n)) for start in range(0, min(n, CLASSES * EACH), EACH)]
    return [np.flatnonzero(labels == k)[:EACH].tolist() for k in np.unique(labels)[:CLASSES]]


def _drawn(image: Pixels, masks: Sequence[NDArray[np.bool_]]) -> Pixels:
    """An image as a grid has it, RGB, with outlines."""
    longest = max(image.shape[:2])
    scale = max(1, round(SIDE / longest)) if longest < 2 * SIDE else SIDE / longest
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    plain = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    how = cv2.INTER_NEAREST if scale >= 1 else cv2.INTER_AREA
    found = np.array(cv2.resize(np.ascontiguousarray(plain), size, interpolation=how), np.uint8)
    for mask, colour in zip(masks, COLOURS, strict=False):
        large = np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.uint8)
        lines, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(found, lines, -1, colour, 1)
    return found
