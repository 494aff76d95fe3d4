"""bind: exact, read, free of leaks, and apart.

Run alone: python -m pytest tests/generators/test_bind.py
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from generators import Bind
from tests.generators.whole import check_apart, check_exact, check_leak_free, check_read

GREY = {"antialias": True, "dark": True, "contrast": 0.3, "background": 0.2}
ENDS = ({"distance": 15.0, "mark": 5.0}, {"mark": 3.0}, {"rotation": 180.0}, {"rotation": 0.0})


@pytest.mark.parametrize("parameters", [{}, GREY, *ENDS])
def test_no_patch_tells_the_classes_apart(parameters: dict[str, float]) -> None:
    check_exact(Bind(parameters=parameters))


@pytest.mark.parametrize("parameters", [{}, *ENDS])
def test_marks_keep_9_px_from_their_frames_and_the_border(parameters: dict[str, float]) -> None:
    check_apart(Bind(parameters=parameters), ("disc", "bar"), 30)


@pytest.mark.parametrize(("size", "parameters"), [(32, {}), (64, {}), (64, GREY), (128, {}), (128, GREY)])
def test_the_reader_is_right(size: int, parameters: dict[str, float]) -> None:
    check_read(Bind(size=size, parameters=parameters))


def test_the_reader_is_right_of_large_frames() -> None:
    check_read(Bind(size=512), 4)


def test_ink_places_and_pixels_do_not_tell_the_class() -> None:
    check_leak_free(Bind())


def test_ring_and_square_stand_anywhere_alike() -> None:
    factors = Bind().sample(0, "train", np.arange(2000))
    for k in "xy":
        assert ks_2samp(factors[f"ring_{k}"], factors[f"square_{k}"]).pvalue > 1e-3
    away = np.hypot(factors["ring_x"] - factors["square_x"], factors["ring_y"] - factors["square_y"])
    assert away.min() > 50


def test_the_marks_have_the_same_area() -> None:
    masks = Bind(size=512).render(Bind().sample(0, "train", np.arange(20))).masks
    disc, bar = ((masks >> bit & 1).sum() for bit in (2, 3))
    assert disc == pytest.approx(bar, rel=0.01)
