"""What the ideal readers see first: ink, and where it is. Images have no noise and no blur."""

from __future__ import annotations

import cv2
import numpy as np

from generators.raster import Floats, Pixels


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
