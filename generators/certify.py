"""Certificates: is the answer in local statistics, or in the whole alone?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from generators.raster import Pixels

Words = NDArray[np.uint64]
_ODD = np.random.default_rng(0).integers(1 << 63, size=(2, 1024), dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def equal_multisets(one: Pixels, other: Pixels, side: int, dilation: int = 1) -> NDArray[np.bool_]:
    """Whether two images hold the same patches, each as often, `[n]`: then no local statistic tells them apart.

    Two unequal ones pass with a chance of 2**-64: patches and their multisets are compared as sums of random words.

    Args:
        one: uint8 `[n, H, W]`.
        other: uint8 `[n, H, W]`.
        side: of the patches, in pixels that are `dilation` apart; only patches that lie in the frame count.
        dilation: 1 for patches without gaps.
    """
    equal: NDArray[np.bool_] = _multisets(one, side, dilation) == _multisets(other, side, dilation)
    return equal


def _multisets(images: Pixels, side: int, dilation: int) -> Words:
    """One word `[n]` for the multiset of patches of each image."""
    reach = (side - 1) * dilation
    height, width = (length - reach for length in images.shape[1:])
    found = np.empty(len(images), np.uint64)
    for k, image in enumerate(images):
        rows = sum(_ODD[0, i] * image[i * dilation : i * dilation + height].astype(np.uint64) for i in range(side))
        patches = sum(_ODD[1, j] * rows[:, j * dilation : j * dilation + width] for j in range(side))
        found[k] = _mixed(patches).sum(dtype=np.uint64)
    return found


def _mixed(words: Words) -> Words:
    """Words that look random, one for each word (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
