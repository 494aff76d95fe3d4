"""same: exact, read, free of leaks, and apart.

Run alone: python -m pytest tests/generators/test_same.py
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import ks_2samp

from generators import Same
from tests.generators.whole import check_apart, check_exact, check_leak_free, check_read

GREY = {"antialias": True, "dark": True, "contrast": 0.3, "background": 0.2}
ENDS = ({"turn": True}, {"distance": 20.0}, {"distance": 36.0}, {"rotation": 0.0, "difference": 0.3})


@pytest.mark.parametrize("parameters", [{}, GREY, *ENDS])
def test_no_patch_tells_the_classes_apart(parameters: dict[str, float]) -> None:
    check_exact(Same(parameters=parameters))


@pytest.mark.parametrize("parameters", [{}, *ENDS])
def test_discs_keep_9_px_from_the_next_and_the_border(parameters: dict[str, float]) -> None:
    check_apart(Same(parameters=parameters), Same.objects, 25)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [(32, {}), (32, GREY), (64, {"turn": True}), (64, {}), (64, GREY), (128, {}), *((128, end) for end in ENDS)],
)
def test_the_reader_is_right(size: int, parameters: dict[str, float]) -> None:
    check_read(Same(size=size, parameters=parameters))


def test_the_reader_is_right_of_large_frames() -> None:
    check_read(Same(size=512), 4)


def test_ink_places_and_pixels_do_not_tell_the_class() -> None:
    check_leak_free(Same())


def test_groups_are_nearer_than_discs_of_two_groups() -> None:
    for distance in (20.0, 36.0):
        factors = Same(parameters={"distance": distance}).sample(0, "train", np.arange(1000))
        places = {k: np.stack([factors[f"x_{k}"], factors[f"y_{k}"]]).astype(float) for k in range(1, 5)}
        within = np.maximum(*(np.hypot(*(places[a] - places[b])) for a, b in ((1, 2), (3, 4))))
        across = np.min([np.hypot(*(places[a] - places[b])) for a, b in product((1, 2), (3, 4))], axis=0)
        assert (across - 2.0 * factors["size"]).min() > distance - 0.01
        assert (across - within).min() > distance - 16.0


def test_a_and_b_are_alike_in_law_at_any_difference_and_the_same_at_none() -> None:
    corners = {
        difference: [
            np.stack([factors[f"{shape}_{k}"] for k in range(1, 7)]).astype(float)
            for factors in [Same(parameters={"difference": difference}).sample(0, "train", np.arange(2000))]
            for shape in "ab"
        ]
        for difference in (0.0, 0.5, 1.0)
    }
    a, b = corners[0.0]
    assert np.array_equal(a, b)
    for difference in (0.5, 1.0):
        a, b = corners[difference]
        assert abs(a - b).mean(axis=0).min() > 0.21 * difference
        for one, other in ((a[0], b[0]), (a.max(axis=0), b.max(axis=0)), (a.mean(axis=0), b.mean(axis=0))):
            assert ks_2samp(one, other).pvalue > 1e-3


def test_turns_are_all_there_or_none() -> None:
    for turn in (False, True):
        factors = Same(parameters={"turn": turn}).sample(0, "train", np.arange(400))
        drawn = np.stack([factors[f"{disc}_turn"] for disc in Same.objects])
        assert set(drawn.ravel()) == ({0, 1, 2, 3} if turn else {0})
    assert abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.2
