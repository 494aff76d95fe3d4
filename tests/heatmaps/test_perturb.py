"""Average Drop, Increase, Gain and the swap curve: by hand, and for models whose curve is known.

Alone: pytest tests/heatmaps/test_perturb.py
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from probekit.heatmaps.perturb import area_below, average_drop, average_gain, average_increase, swap_order


def test_the_hand_case() -> None:
    before, after = np.array([0.8, 0.5]), np.array([0.4, 0.6])
    assert average_drop(before, after).mean() == pytest.approx(25)
    assert average_increase(before, after).mean() == pytest.approx(50)
    assert average_gain(before, after).mean() == pytest.approx(10)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=8))
def test_a_map_of_ones_changes_nothing(probabilities: list[float]) -> None:
    before = np.array(probabilities)
    for score in (average_drop, average_increase, average_gain):
        np.testing.assert_array_equal(score(before, before), 0)


def test_what_cannot_be_divided_is_undefined() -> None:
    assert np.isnan(average_drop(np.array([0.0]), np.array([0.5])))[0]
    assert np.isnan(average_gain(np.array([1.0]), np.array([0.5])))[0]


def swap_of_linear_model(values: NDArray[Any], effect: NDArray[Any], *, steps: int) -> float:
    """Score when each pixel adds `effect` to the target, and none of it is left in the counterfactual."""
    replaced, x = swap_order(values, effect != 0, steps=steps, seed=0)
    y = np.array([effect.sum() - effect.ravel()[pixels].sum() for pixels in replaced])
    return 1 - area_below(x, y) / float(effect.sum())


def planted(size: int = 16) -> NDArray[np.float64]:
    effect = np.zeros((size, size))
    effect[3:7, 5:9] = 1.0
    return effect


def test_the_true_map_reaches_the_ideal() -> None:
    effect = planted()
    ideal = 1 - (effect != 0).sum() / (2 * effect.size)
    assert swap_of_linear_model(effect, effect, steps=16) == pytest.approx(ideal, abs=1e-9)


def test_the_reversed_order_scores_one_minus_it() -> None:
    effect = planted()
    values = np.random.default_rng(0).permutation(effect.size).reshape(effect.shape).astype(float)
    there, back = (swap_of_linear_model(sign * values, effect, steps=16) for sign in (1, -1))
    assert there + back == pytest.approx(1, abs=1e-9)


def test_a_random_order_scores_a_half_on_average() -> None:
    effect = planted()
    rng = np.random.default_rng(1)
    found = [swap_of_linear_model(rng.random(effect.shape), effect, steps=5) for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * float(np.std(found)) / 20)


def test_ties_are_broken_by_the_seed_alone() -> None:
    differs = planted() != 0
    a, b, c = (swap_order(np.ones((16, 16)), differs, steps=4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[1], c[1])


def test_stops_replace_what_differs_and_nothing_else() -> None:
    differs = planted() != 0
    replaced, x = swap_order(np.random.default_rng(2).random((16, 16)), differs, steps=5, seed=0)
    assert [len(pixels) for pixels in replaced] == [0, 4, 7, 10, 13, 16]
    assert set(replaced[-1].tolist()) == set(np.flatnonzero(differs.ravel()).tolist())
    assert (np.diff(x) > 0).all()
    assert x[0] >= 0
    assert x[-1] <= 1


def test_fewer_pixels_than_steps() -> None:
    differs = np.zeros((4, 4), bool)
    differs[1, 2] = True
    replaced, x = swap_order(np.arange(16.0).reshape(4, 4), differs, steps=5, seed=0)
    assert [len(pixels) for pixels in replaced] == [0, 1, 1, 1, 1, 1]
    assert x[0] == 9 / 16  # 9 pixels are higher than number 6
    np.testing.assert_array_equal(x[1:], 10 / 16)


def test_stops_lie_halfway_between_the_pixels_that_differ() -> None:
    differs = np.array([[0, 1, 0, 0, 1, 1, 0, 0]], bool)
    _, x = swap_order(-np.arange(8.0)[None], differs, steps=3, seed=0)
    np.testing.assert_array_equal(8 * x, [1, 3, 5, 6])
