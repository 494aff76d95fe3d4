"""Intervals over seeds against scipy.stats; what is not testable is said to be so.

Alone: pytest tests/test_statistics.py
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from probekit.probes.scores import evaluate
from probekit.statistics import (
    against,
    bootstrap,
    mean_of_estimates,
    mean_over_images,
    mean_over_seeds,
    paired_seeds,
    student,
    wilson,
)

SHARES = st.floats(0, 1, allow_subnormal=False)


@given(st.lists(SHARES, min_size=2, max_size=12))
@settings(max_examples=200)
def test_the_interval_is_students(values: list[float]) -> None:
    found = mean_over_seeds(values)
    assert found["n"] == len(values)
    assert found["mean"] == pytest.approx(math.fsum(values) / len(values))
    if found["ci"] is None:
        assert max(values) - min(values) < 1e-8
        return
    low, high = found["ci"]
    assert 0 <= low <= found["mean"] + 1e-12
    assert found["mean"] - 1e-12 <= high <= 1
    if max(values) - min(values) > 1e-6:  # scipy loses precision for nearly equal values, and gives nan for equal ones
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert low == pytest.approx(max(0, expected.low), abs=1e-9)
        assert high == pytest.approx(min(1, expected.high), abs=1e-9)


def test_known_numbers() -> None:
    """0.90, 0.92, 0.94: deviation 0.02, t(2) = 4.302653, half width 0.0496828."""
    found = mean_over_seeds([0.90, 0.92, 0.94])
    assert found["mean"] == pytest.approx(0.92)
    assert found["ci"] == pytest.approx([0.92 - 0.0496828, 0.92 + 0.0496828], abs=1e-6)


def test_values_that_are_alike_have_no_interval() -> None:
    """An interval without width would say that the truth is known."""
    assert mean_over_seeds([0.5]) == {"mean": 0.5, "ci": None, "n": 1}
    assert mean_over_seeds([0.1 + 0.2] * 3)["ci"] is None
    assert mean_over_images(np.ones(50), seed=0)["ci"] is None
    assert bootstrap(np.ones((50, 1)), seed=0) == [None]
    assert student(np.full(50, 0.3), low=0) is None
    assert paired_seeds({0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.4, 1: 0.4, 2: 0.4})["ci"] is None
    found = evaluate(np.log(np.tile([0.98, 0.01, 0.01], (20, 1))), np.zeros(20, np.int64), seed=0)
    assert found["accuracy"] == found["balanced_accuracy"] == 1
    assert found["ci"] == pytest.approx([0.8389, 1], abs=1e-4), "Wilson's has a width where all are right"
    assert (found["balanced_accuracy_ci"], found["macro_f1_ci"], found["log_loss_ci"]) == (None, None, None)


@pytest.mark.parametrize(
    ("ci", "covered"),
    [([0.80, 0.90], True), ([0.90, 0.95], False), ([0.70, 0.80], False), (None, None)],
)
def test_the_papers_number(ci: list[float] | None, covered: bool | None) -> None:
    found = against({"mean": 0.87, "ci": ci, "n": 3}, 0.856)
    assert found["covered"] == covered
    assert found["difference"] == pytest.approx(0.014)


def test_an_equal_number_is_covered_in_spite_of_rounding() -> None:
    assert against({"mean": 0.1 + 0.2, "ci": [0.1 + 0.2, 0.4], "n": 3}, 0.3)["covered"]


PAIRS = st.dictionaries(st.integers(0, 20), st.tuples(SHARES, SHARES), min_size=3, max_size=10)


@given(PAIRS)
@settings(max_examples=200)
def test_the_paired_interval_is_the_paired_t_tests(values: dict[int, tuple[float, float]]) -> None:
    a = {seed: pair[0] for seed, pair in values.items()}
    b = {seed: pair[1] for seed, pair in values.items()}
    found = paired_seeds(a | {99: 0.5}, b | {98: 0.1})
    assert (found["n"], found["testable"]) == (len(values), True)
    differences = [a[seed] - b[seed] for seed in values]
    if max(differences) - min(differences) > 1e-6:
        expected = stats.ttest_rel(list(a.values()), list(b.values())).confidence_interval(0.95)
        assert found["ci"][0] == pytest.approx(max(-1, expected.low), abs=1e-9)
        assert found["ci"][1] == pytest.approx(min(1, expected.high), abs=1e-9)
    back = paired_seeds(b, a)
    assert back["mean"] == pytest.approx(-found["mean"])


def test_too_few_seeds_are_not_testable() -> None:
    assert paired_seeds({0: 0.5}, {1: 0.5}) == {"mean": None, "ci": None, "n": 0, "testable": False}
    two = paired_seeds({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.4})
    assert (two["n"], two["testable"], two["ci"]) == (2, False, None)
    assert two["mean"] == pytest.approx(0.2)
    three = paired_seeds({0: 0.5, 1: 0.7, 2: 0.6}, {0: 0.4, 1: 0.4, 2: 0.4})
    assert three["testable"]
    assert three["ci"] is not None


def test_the_interval_of_a_mean_of_estimates_is_that_of_the_normal_law() -> None:
    errors = np.array([0.02, 0.05, 0.01])
    found = mean_of_estimates([(each, [each - 1.96 * error, each + 1.96 * error]) for each, error in enumerate(errors)])
    half = 1.96 * math.sqrt((errors**2).sum()) / 3
    assert found["mean"] == 1.0
    assert found["ci"] == pytest.approx([1 - half, 1 + half])
    assert mean_of_estimates([(0.5, None), (1.0, None)]) == {"mean": 0.75, "ci": None}


def test_the_interval_of_a_mean_of_estimates_covers_it_where_theirs_are_not_centred() -> None:
    """Shares near 1 with Wilson's intervals: about 95 of 100 hold the mean of the true ones."""
    rng, true, n = np.random.default_rng(0), np.array([0.97, 0.9, 0.6]), 60
    held = 0
    for _ in range(400):
        hits = rng.binomial(n, true)
        low, high = mean_of_estimates([(hit / n, wilson(int(hit), n)) for hit in hits])["ci"]
        held += low <= true.mean() <= high
    assert 0.92 < held / 400 < 0.98
