"""What a certificate's linear probes read: numbers of images, uint8 `[N, H, W]` -> float32 `[N, D]`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probekit.probe.baselines import CODES, binarise, ink_statistics, patch_codes, raw_pixels

Floats = NDArray[np.float32]

SCALARS = {  # columns of `ink_statistics`
    "ink": slice(0, 1),
    "bounding box": slice(3, 7),
    "perimeter": slice(1, 2),
    "Euler number": slice(2, 3),
}
PIXELS = "pixels"
CHUNK = 64  # images at a time


def bag_of(side: int) -> str:
    """What the bag of patches of `side` px is called."""
    return f"bag of {side}x{side}"


def patch_counts(images: NDArray[np.uint8], side: int) -> Floats:
    """How often each binary patch of 3 x 3 pixels that are (side - 1) / 2 apart occurs, `[N, 512]`: whole numbers.

    They are equal for two images that hold the same patches of `side` px; a product or a root of shares need not be.
    """
    counts = np.zeros((len(images), CODES), np.float32)
    for begin in range(0, len(images), CHUNK):
        ink = binarise(images[begin : begin + CHUNK])
        for k, codes in enumerate(patch_codes(ink, (side - 1) // 2)):
            counts[begin + k] = np.bincount(codes.ravel(), minlength=CODES)
    return counts


def measured(images: NDArray[np.uint8], sides: Sequence[int]) -> dict[str, Floats]:
    """All that the probes of a certificate read, by name: scalars, raw pixels, a bag for each side of patches."""
    scalars = ink_statistics(images)
    found = {name: scalars[:, columns] for name, columns in SCALARS.items()} | {PIXELS: raw_pixels(images)}
    return found | {bag_of(side): patch_counts(images, side) for side in sides}
