"""Encoders of which theory says what they can read, for the exam's own test: arrays of images in, features out."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from probekit.exams.draw import Frame, Pixels, drawer, pairs
from probekit.exams.items import ITEMS

Floats = NDArray[np.floating]

SIZE = 128  # px, of all frames
CROP = slice(40, 88)  # px, what of the frame a ring in its middle lies in
SIDE = 9  # px, of the windows
KERNELS = 64
NOISE = 0.35  # of a pixel, in grey levels of which ink is CONTRAST
CONTRAST = 0.7


def rings(item: str, px: float) -> Floats:
    """A clean ring in the middle of the frame in role 0 and in role 1, `[2, 48, 48]`, ink 0.7."""
    changed = {"gap": px, "place": 0.0}
    made = drawer(ITEMS[item], 0, Frame(SIZE, 0.0), clean=True, changed=changed)
    drawn = pairs(ITEMS[item], made, 0, seed=0, split="selftest", n=1)[0]
    found: Floats = (CONTRAST / 255 * drawn[:, CROP, CROP]).astype(np.float32)
    return found


def block_means(images: Floats, k: int) -> Floats:
    """Means of blocks of k x k pixels in their places, `[n, H, W] -> [n, H / k * W / k]`."""
    n, height, width = images.shape
    found: Floats = images.reshape(n, height // k, k, width // k, k).mean(axis=(2, 4)).reshape(n, -1)
    return found


def both_ways(images: Floats, k: int) -> Floats:
    """The block means of an image and of its mirror image, added: nothing of right and left is left over."""
    return block_means(images, k) + block_means(images[:, :, ::-1], k)


def seen(item: str, px: float, k: int, *, flipped: bool) -> float:
    """The area at which the best linear read-out tells the rings' block means apart, in closed form.

    White noise of sd s per pixel is one of s / k per block; d' is the length of the difference over that, and the area
    Phi(d' / sqrt 2). Added to its mirror image, every block stands there twice: length and noise grow by sqrt 2 each.
    """
    zero, one = (both_ways if flipped else block_means)(rings(item, px), k)
    length = np.linalg.norm((one - zero).astype(np.float64)) / (2 if flipped else 1)
    return float(ndtr(length * k / NOISE / np.sqrt(2)))


def threshold_of(item: str, k: int, levels: Sequence[float], *, flipped: bool) -> float:
    """The gap in px, within the levels, at which that area is .75."""
    found: float = brentq(lambda px: seen(item, px, k, flipped=flipped) - 0.75, levels[0], levels[-1], xtol=1e-3)
    return found


def windows(images: Pixels) -> Floats:
    """A layer of filters that see 9 x 9 px, rectified and added up over all places, `[n, 64]`.

    All sums are of whole numbers, and exact: images of the same patches have the same features, bit for bit.
    """
    kernels = np.random.default_rng(0).integers(-4, 5, (SIDE * SIDE, KERNELS)).astype(np.float32)
    found = np.empty((len(images), KERNELS), np.float32)
    for k, image in enumerate(images):
        patches = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE)).reshape(-1, SIDE * SIDE)
        inked = patches[patches.any(axis=1)].astype(np.float32)  # nothing adds nothing
        found[k] = np.maximum(inked @ kernels, 0).sum(axis=0, dtype=np.float64)
    return found


def hashed(images: Pixels) -> Floats:
    """32 bytes that tell every image from every other, and nothing of either, `[n, 32]`."""
    words = b"".join(hashlib.blake2b(image.tobytes(), digest_size=32).digest() for image in images)
    return np.frombuffer(words, np.uint8).reshape(len(images), 32).astype(np.float32)
