"""Certificates against counts of patches in plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from generators.certify import equal_multisets
from generators.raster import Pixels


def counted(image: Pixels, side: int, dilation: int) -> Counter[bytes]:
    reach = (side - 1) * dilation
    height, width = (length - reach for length in image.shape)
    places = [(i, j) for i in range(height) for j in range(width)]
    return Counter(image[i : i + reach + 1 : dilation, j : j + reach + 1 : dilation].tobytes() for i, j in places)


def dots(*places: tuple[int, int]) -> Pixels:
    image = np.zeros((24, 24), np.uint8)
    for i, j in places:
        image[i - 1 : i + 2, j - 1 : j + 2] = ((0, 255, 0), (255, 7, 255), (0, 255, 255))
    return image


@pytest.mark.parametrize(("side", "dilation"), [(3, 1), (3, 2), (5, 1), (9, 1)])
def test_multisets_of_patches_are_those_that_a_loop_counts(side: int, dilation: int) -> None:
    pairs = [
        (dots((6, 6), (14, 15)), dots((6, 15), (16, 6))),  # moved by whole pixels: equal while patches see one dot
        (dots((10, 10), (16, 16)), dots((10, 10), (15, 16))),
        (dots((1, 6), (16, 15)), dots((6, 6), (16, 15))),  # near the border a dot is in fewer patches
        (dots((12, 12)), dots((12, 12)) // 255 * 254),
    ]
    one, other = (np.stack(images) for images in zip(*pairs, strict=True))
    expected = [counted(a, side, dilation) == counted(b, side, dilation) for a, b in pairs]
    assert equal_multisets(one, other, side, dilation).tolist() == expected


def test_a_loop_finds_some_equal_and_some_not() -> None:
    assert equal_multisets(dots((6, 6))[None], dots((15, 14))[None], 5).all()
    assert not equal_multisets(dots((6, 6))[None], dots((1, 14))[None], 5).any()
