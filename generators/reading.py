"""What ideal readers see with: ink, its connected parts, and what is plain of each of them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generators.raster import Floats, Pixels


class Part(NamedTuple):
    """A connected part of the ink, diagonal neighbours included.

    points: float `[k, 2]`, the (x, y) of its pixels. middle: their mean, `[2]`. box: uint8 `[h, w]`, the part alone.
    """

    points: Floats
    middle: Floats
    box: Pixels

    @property
    def reach(self) -> int:
        """The longer side of its box."""
        return int(max(self.box.shape))

    @property
    def elongation(self) -> float:
        """0 of what is as wide as high in every direction, near 1 of a long line; a pixel is a square."""
        spread = np.cov(self.points.T, bias=True) + np.eye(2) / 12.0
        low, high = np.linalg.eigvalsh(spread)
        return float((high - low) / (high + low))

    @property
    def hollowness(self) -> float:
        """The farthest of its pixels from its middle over the nearest one: of a ring the least, if it is thin."""
        away = np.hypot(*(self.points - self.middle).T)
        return float(away.max() / away.min())


def inked(images: Pixels) -> NDArray[np.bool_]:
    """The pixels, bool `[n, H, W]`, that are nearer to the ink than to the background, which the corner shows."""
    away = abs(images.astype(np.int16) - images[:, :1, :1])
    found: NDArray[np.bool_] = 2 * away > away.max(axis=(1, 2), keepdims=True)
    return found


def parts(ink: NDArray[np.bool_]) -> list[Part]:
    """The connected parts of one image's ink, `[H, W]`, the one with the largest box first."""
    count, labels, stats, middles = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    found = []
    for k in range(1, count):
        x, y, width, height = stats[k, :4]
        box = (labels[y : y + height, x : x + width] == k).astype(np.uint8)
        points: Floats = np.argwhere(box)[:, ::-1].astype(np.float64) + np.array([x, y])
        found.append(Part(points, np.asarray(middles[k], np.float64), box))
    return sorted(found, key=lambda part: -part.reach)


def ink(images: Pixels) -> Floats:
    """How much ink each pixel holds, `[n, H, W]` in [0, 1]; the first pixel of an image is background."""
    found = abs(images.astype(np.float64) - images[:, :1, :1])
    largest: Floats = found.max(axis=(1, 2), keepdims=True)
    return found / np.maximum(largest, 1.0)


def middle(share: Floats) -> tuple[Floats, Floats]:
    """The centre of mass (x, y) of each image `[n, H, W]` of ink, in pixels."""
    height, width = share.shape[1:]
    total = np.maximum(share.sum(axis=(1, 2)), 1e-9)
    x: Floats = (share.sum(axis=1) * (np.arange(width) + 0.5)).sum(axis=1) / total
    y: Floats = (share.sum(axis=2) * (np.arange(height) + 0.5)).sum(axis=1) / total
    return x, y


def components(share: Floats) -> tuple[Floats, Floats]:
    """Middles `[m, 2]`, x first, and ink `[m]` of the connected parts of an image `[H, W]` of ink.

    Diagonal neighbours are connected.
    """
    count, labels = cv2.connectedComponents((share > 0).astype(np.uint8), connectivity=8)
    rows, columns = np.indices(share.shape) + 0.5
    weights = np.stack((share, share * columns, share * rows)).reshape(3, -1)
    amount, *places = (np.bincount(labels.ravel(), weight, count)[1:].astype(np.float64) for weight in weights)
    return np.stack(places, axis=1) / amount[:, None], amount
