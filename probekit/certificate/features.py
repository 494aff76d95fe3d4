"""What a certificate's linear probes read: numbers of images, uint8 `[N, H, W]` -> float32 `[N, D]`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probekit.probe.baselines import CODES, LUMA, binarise, ink_statistics, patch_codes, raw_pixels

Floats = NDArray[np.float32]

SCALARS = {  # columns of `ink_statistics`
    "ink": slice(0, 1),
    "bounding box": slice(3, 7),
    "perimeter": slice(1, 2),
    "Euler number": slice(2, 3),
}
PIXELS = "pixels"
BRIGHTNESS, LEVELS = "mean and deviation", "levels"
CHUNK = 64  # images at a time
GREYS, COLOURS = 32, 4  # ours: levels of grey; levels of each of three colours
STEPS = 4  # ours: levels of the pixel in the middle of a pattern
PATTERNS = 256  # of eight neighbours that are at least as bright, or not
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
TWO_LEVELS = 0.9  # ours: share of an image's pixels near its darkest or its brightest level, from which on it is drawn


def bag_of(side: int) -> str:
    """What the bag of patches of `side` px is called."""
    return f"bag of {side}x{side}"


def patch_counts(images: NDArray[np.uint8], side: int) -> Floats:
    """How often each binary patch of 3 x 3 pixels that are (side - 1) / 2 apart occurs, `[N, 512]`: whole numbers.

    They are equal for two images that hold the same patches of `side` px; a product or a root of shares need not be.
    """
    ink = (binarise(images[begin : begin + CHUNK]) for begin in range(0, len(images), CHUNK))
    return np.concatenate([_counts(patch_codes(part, (side - 1) // 2), CODES) for part in ink])


def measured(images: NDArray[np.uint8], sides: Sequence[int]) -> dict[str, Floats]:
    """All that the probes of a certificate read, by name: scalars, raw pixels, a bag for each side of patches."""
    scalars = ink_statistics(images)
    found = {name: scalars[:, columns] for name, columns in SCALARS.items()} | {PIXELS: raw_pixels(images)}
    return found | {bag_of(side): patch_counts(images, side) for side in sides}


# --- Of photographs, in which there is no ink.


def drawn(images: NDArray[np.uint8]) -> bool:
    """Whether most images have two levels of grey, ink and ground, but for a few pixels between them."""
    if images.ndim == 4:
        return False
    low, high = (extreme(images, axis=(1, 2), keepdims=True).astype(np.int64) for extreme in (np.min, np.max))
    near = (images - low) * 8 <= high - low
    near |= (high - images) * 8 <= high - low
    return bool(np.median(near.mean(axis=(1, 2))) >= TWO_LEVELS)


def brightness(images: NDArray[np.uint8]) -> Floats:
    """Mean and standard deviation of each channel, `[N, 2 * C]`."""
    pixels = images.reshape(len(images), -1, 3 if images.ndim == 4 else 1)
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1, dtype=np.float32)


def level_counts(images: NDArray[np.uint8]) -> Floats:
    """How many pixels have each of 32 greys, `[N, 32]`, or of 64 colours, `[N, 64]`: a bag of 1x1 patches."""
    if images.ndim == 3:
        return _counts(images // (256 // GREYS), GREYS)
    red, green, blue = np.moveaxis(images // (256 // COLOURS), 3, 0)
    return _counts((red * COLOURS + green) * COLOURS + blue, COLOURS**3)


def pattern_counts(images: NDArray[np.uint8], side: int) -> Floats:
    """How often each local binary pattern (Ojala et al. 2002) occurs, `[N, 4 * 256]`: whole numbers.

    A pattern says which of eight pixels, (side - 1) / 2 away in each direction, are at least as bright as the one
    amid them, and in which quarter of the levels that one is. Colour becomes luma.
    """
    found = []
    for begin in range(0, len(images), CHUNK):
        part = images[begin : begin + CHUNK]
        grey = np.rint(part @ LUMA).astype(np.uint8) if part.ndim == 4 else part
        away, (height, width) = (side - 1) // 2, grey.shape[1:]
        if min(height, width) < side:
            found.append(np.zeros((len(part), STEPS * PATTERNS), np.float32))
            continue
        middle = grey[:, away : height - away, away : width - away]
        codes = (middle // (256 // STEPS)).astype(np.int64) * PATTERNS
        for bit, (down, right) in enumerate(RING):
            top, left = away + away * down, away + away * right
            codes |= (grey[:, top : top + middle.shape[1], left : left + middle.shape[2]] >= middle).astype(
                np.int64
            ) << bit
        found.append(_counts(codes, STEPS * PATTERNS))
    return np.concatenate(found)


def _counts(codes: NDArray[np.integer], most: int) -> Floats:
    """How often each code below `most` occurs in each image, `[N, most]`."""
    rows = codes.reshape(len(codes), -1).astype(np.int64) + most * np.arange(len(codes))[:, None]
    return np.bincount(rows.ravel(), minlength=most * len(codes)).reshape(len(codes), most).astype(np.float32)


def of_photographs(images: NDArray[np.uint8], sides: Sequence[int]) -> dict[str, Floats]:
    """What stands in place of `measured` where there is no ink."""
    found = {BRIGHTNESS: brightness(images), LEVELS: level_counts(images), PIXELS: raw_pixels(images)}
    return found | {bag_of(side): pattern_counts(images, side) for side in sides}
