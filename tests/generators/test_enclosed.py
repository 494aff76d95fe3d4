"""enclosed: exact, read, free of leaks, and apart.

Run alone: python -m pytest tests/generators/test_enclosed.py
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.stats import ks_2samp

from generators import Enclosed
from tests.generators.whole import check_apart, check_exact, check_leak_free, check_read

GREY = {"antialias": True, "dark": True, "contrast": 0.3, "background": 0.2}
ENDS = ({"margin": 10.0, "lobes": 3}, {"lobes": 2}, {"lobes": 5}, {"depth": 0.0}, {"rotation": 0.0})


@pytest.mark.parametrize("parameters", [{}, GREY, *ENDS])
def test_no_patch_tells_the_classes_apart(parameters: dict[str, float]) -> None:
    check_exact(Enclosed(parameters=parameters), 40)


@pytest.mark.parametrize("parameters", [{}, *ENDS])
def test_marks_keep_9_px_from_the_curve_and_the_border(parameters: dict[str, float]) -> None:
    check_apart(Enclosed(parameters=parameters), ("disc", "ring"), 30)


@pytest.mark.parametrize(("size", "parameters"), [(48, {}), (64, {}), (64, GREY), (128, {}), (128, GREY)])
def test_the_reader_is_right(size: int, parameters: dict[str, float]) -> None:
    check_read(Enclosed(size=size, parameters=parameters))


def test_the_reader_is_right_of_large_frames() -> None:
    check_read(Enclosed(size=512), 4)


def test_ink_places_and_pixels_do_not_tell_the_class() -> None:
    check_leak_free(Enclosed())


def test_a_mark_inside_stands_where_one_outside_does() -> None:
    factors = Enclosed().sample(0, "train", np.arange(1500))
    inside, outside = (np.stack([factors[f"{name}_{k}"] for k in "xy"]) - 64.0 for name in ("inside", "outside"))
    for one, other in zip((*inside, np.hypot(*inside)), (*outside, np.hypot(*outside)), strict=True):
        assert ks_2samp(one, other).pvalue > 1e-3


@pytest.mark.parametrize("size", [48, 128])
@pytest.mark.parametrize("lobes", [2, 5])
def test_the_curve_is_closed_and_simple(size: int, lobes: int) -> None:
    generator = Enclosed(size=size, parameters={"lobes": lobes})
    masks = generator.render(generator.sample(0, "train", np.arange(60))).masks
    for curve in masks & 1:
        assert cv2.connectedComponents(curve, connectivity=8)[0] == 2
        assert cv2.connectedComponents(1 - curve, connectivity=4)[0] == 3  # and number 0
        assert not curve[[0, -1]].any()
        assert not curve[:, [0, -1]].any()
