"""Baselines: features that need no learning, functions of images: uint8 `[N, H, W]` or `[N, H, W, 3]` -> `[N, D]`.

A new baseline is one function and one line in `BASELINES`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import euler_number, perimeter

CHUNK = 64  # images at a time: bounds the memory of what is computed on the way
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
MAX_SIDE = 128  # ours: the paper's image size; larger images are averaged down before they count as raw pixels
DILATIONS = (1, 2, 4)  # ours: patches of 3, 5 and 9 px; enough for both published sets
CODES = 512  # binary 3x3 patches


def nothing(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """No information, `[N, 1]`: the probe can only predict the most frequent training class."""
    return np.zeros((len(images), 1), dtype=np.float32)


def ink_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Seven numbers about the ink of the whole image, `[N, 7]`.

    area (share of the image), perimeter (in half-perimeters of the image), Euler number (8-connected objects minus
    holes), bounding box x0, y0, x1, y1 (shares of the sides). All zeros without ink.
    """
    return np.array([_one_ink(ink) for chunk in _chunks(images) for ink in binarise(chunk)], dtype=np.float32)


def raw_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Every pixel over 255, `[N, H * W * C]`.

    An image with a side over `MAX_SIDE` is first averaged down by a whole factor, its short side to 1 pixel at least;
    what is left over at the end is cut.
    """
    n, height, width = images.shape[:3]
    f = min(-(-max(height, width) // MAX_SIDE), height, width)
    blocks = (-1, height // f, f, width // f, f, images[0, 0, 0].size)
    whole = images[:, : height // f * f, : width // f * f]
    small = [chunk.reshape(blocks).mean(axis=(2, 4), dtype=np.float32) for chunk in _chunks(whole)]
    pixels = np.concatenate(small, dtype=np.float32).reshape(n, -1)
    return pixels / np.float32(255)


def patch_bag(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How often each binary 3x3 patch occurs anywhere in the image, `[N, 3 * 512]`: no order, no position.

    The nine pixels of a patch are 1, 2 or 4 px apart (`DILATIONS`). Square roots of frequencies let rare patches count.
    """
    bags = [
        np.concatenate([_frequencies(ink, dilation) for dilation in DILATIONS], axis=1)
        for ink in map(binarise, _chunks(images))
    ]
    roots: NDArray[np.float32] = np.sqrt(np.concatenate(bags), dtype=np.float32)
    return roots


@dataclass(frozen=True)
class Baseline:
    """A baseline's features, and its protocol where it does not follow the encoder's."""

    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    protocol: str | None = None


BASELINES: dict[str, Baseline] = {
    "chance": Baseline(nothing),
    "ink statistics": Baseline(ink_statistics),
    "raw pixels": Baseline(raw_pixels),
    # Frequencies need a scale and a C of their own: unscaled at C = 1 the bag would look weaker than it is.
    "patch bag": Baseline(patch_bag, protocol="tuned"),
}


def binarise(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Ink, true where a pixel belongs to the drawing, bool `[N, H, W]`.

    Colour becomes luma. Otsu's threshold (1979) of each image divides it in two; the side that holds most of the border
    is the ground, so a dark drawing on white counts like a white one on black. An image of one value has no ink.
    """
    grey = np.rint(images @ LUMA).astype(np.uint8) if images.ndim == 4 else images
    n = len(grey)
    offsets = np.arange(n, dtype=np.int64)[:, None, None] * 256
    histogram = np.bincount((grey + offsets).ravel(), minlength=n * 256).reshape(n, 256)
    ink: NDArray[np.bool_] = grey > _otsu(histogram)[:, None, None]
    border = [ink[:, 0], ink[:, -1], ink[:, 1:-1, 0], ink[:, 1:-1, -1]]
    inverted = np.concatenate(border, axis=1).mean(axis=1) > 0.5
    ink ^= inverted[:, None, None]
    return ink


def _otsu(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value t `[N]` for which {<= t} and {> t} differ most between, from counts `[N, 256]`; the first of ties."""
    below = histogram.cumsum(axis=1)
    total = below[:, -1:]
    mass = (histogram * np.arange(256)).cumsum(axis=1)
    weight = (below * (total - below)).astype(np.float64)
    between = (mass[:, -1:] / total * below - mass) ** 2 / np.where(weight > 0, weight, np.inf)
    threshold: NDArray[np.int64] = between.argmax(axis=1)
    return threshold


def _one_ink(ink: NDArray[np.bool_]) -> list[float]:
    if not ink.any():
        return [0.0] * 7
    height, width = ink.shape
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return [
        float(ink.mean()),
        perimeter(ink, neighborhood=4) / (height + width),  # type: ignore[no-untyped-call]
        float(euler_number(ink, connectivity=2)),  # type: ignore[no-untyped-call]
        columns[0] / width,
        rows[0] / height,
        (columns[-1] + 1) / width,
        (rows[-1] + 1) / height,
    ]


def patch_codes(ink: NDArray[np.bool_], dilation: int) -> NDArray[np.integer]:
    """The code of the 3x3 patch at every place where it fits, `[N, H - 2 * dilation, W - 2 * dilation]`.

    Bit 3 * i + j is the pixel i * dilation below and j * dilation right of the patch's top left.
    """
    d = dilation
    bits = ink.astype(np.uint16)
    row: NDArray[np.integer] = bits[:, :, : -2 * d] | bits[:, :, d:-d] << 1 | bits[:, :, 2 * d :] << 2
    return row[:, : -2 * d] | row[:, d:-d] << 3 | row[:, 2 * d :] << 6


def _frequencies(ink: NDArray[np.bool_], dilation: int) -> NDArray[np.float64]:
    """Share of each code `[N, 512]`; zeros where the image is smaller than the patch."""
    codes = patch_codes(ink, dilation).reshape(len(ink), -1)
    offsets = np.arange(len(ink), dtype=np.int64)[:, None] * CODES
    counts = np.bincount((codes + offsets).ravel(), minlength=len(ink) * CODES)
    return counts.reshape(len(ink), CODES) / max(1, codes.shape[1])


def _chunks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
