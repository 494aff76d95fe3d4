"""Label fractions: nested stratified subsets, scikit-learn on the same subsets, sample complexity.

Alone: pytest tests/probe/test_fractions.py
"""

import json
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from probekit.probe.fractions import FRACTIONS, complexity, fractions, subsets
from probekit.probe.protocol import Part
from probekit.statistics import mean_over_seeds, wilson

K, D = 4, 10
CLASSES = tuple("abcd")


def part(n: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % K)
    return Part((np.eye(K, D)[y] * 1.5 + rng.normal(size=(n, D))).astype(np.float32), y)


def row(train: Part, test: Part, **more: Any) -> dict[str, Any]:
    return fractions("row", "encoder", train, test, **{"classes": CLASSES, "protocol": "paper", "seed": 0, **more})


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.integers(0, 99), st.integers(0, 4))
def test_subsets_are_nested_stratified_and_leave_no_class_out(labels: list[int], seed: int, draw: int) -> None:
    y = np.array(labels)
    masks = subsets(y, shares=FRACTIONS, seed=seed, draw=draw)
    for smaller, larger in pairwise(masks):
        assert not (smaller & ~larger).any()
    assert masks[-1].all()
    for share, mask in zip(FRACTIONS, masks, strict=True):
        for label, count in zip(*np.unique(y, return_counts=True), strict=True):
            assert mask[y == label].sum() == max(1, round(share * count))
    np.testing.assert_array_equal(masks, subsets(y, shares=FRACTIONS, seed=seed, draw=draw))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=90), st.integers(0, 99))
def test_groups_stay_together_and_subsets_nested(samples: list[tuple[int, int]], seed: int) -> None:
    y, groups = np.array(samples).T
    masks = subsets(y, shares=FRACTIONS, seed=seed, draw=0, groups=groups)
    for smaller, larger in pairwise(masks):
        assert not (smaller & ~larger).any()
    for mask in masks:
        for group in np.unique(groups):
            assert len(np.unique(mask[groups == group])) == 1


def test_draws_differ() -> None:
    y = part(200, 1).y
    first, second = (subsets(y, shares=[0.2], seed=0, draw=i)[0] for i in (0, 1))
    assert (first != second).any()


def test_scikit_learn_gives_the_same_accuracies() -> None:
    train, test = part(300, 1), part(400, 2)
    found = row(train, test)
    for j, point in enumerate(found["points"]):
        draws = 5 if point["fraction"] < 1 else 1
        for draw in range(draws):
            mask = subsets(train.y, shares=FRACTIONS, seed=0, draw=draw)[j]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(train.x[mask], train.y[mask])
            assert point["accuracies"][draw] == pytest.approx((model.predict(test.x) == test.y).mean(), abs=1 / 400)


def test_points_have_means_intervals_sizes_and_predictions() -> None:
    train, test = part(300, 1), part(100, 2)
    found = row(train, test, protocol="val")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [point["fraction"] for point in found["points"]] == list(FRACTIONS)
    assert [point["n"] for point in found["points"]] == [4, 8, 16, 32, 60, 152, 300]
    for point in found["points"][:-1]:
        expected = mean_over_seeds(point["accuracies"])
        assert (point["accuracy"], point["ci"]) == (expected["mean"], expected["ci"])
        guesses = np.array(found["predicted"][f"{point['fraction']:g}"])
        np.testing.assert_allclose((guesses == test.y).mean(axis=1), point["accuracies"])
    hits = round(found["points"][-1]["accuracy"] * len(test.y))
    assert found["points"][-1]["ci"] == list(wilson(hits, len(test.y)))
    assert len(found["points"][-1]["accuracies"]) == 1
    assert found["points"][0]["C"] == [1.0] * 5  # one sample a class: nothing is held out
    assert found["points"][0]["accuracy"] < found["points"][-1]["accuracy"]


def test_more_labels_than_classes_are_not_needed_where_classes_are_clear() -> None:
    y = np.arange(400) % K
    found = row(Part(np.eye(K)[y], y), Part(np.eye(K)[y[:50]], y[:50]))
    assert found["points"][0]["accuracy"] == 1.0
    assert found["complexity"] == {"0.9": 4, "0.95": 4}


def test_interval_of_sample_complexity_draws_whole_curves_anew() -> None:
    train, test = part(300, 1), part(400, 2)
    found = row(train, test)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(1000):
        chosen = rng.integers(0, 5, 5)
        curve = []
        for point in found["points"]:
            each = np.array(point["accuracies"] if len(point["accuracies"]) > 1 else 5 * point["accuracies"])
            curve.append({"n": point["n"], "accuracy": each[chosen].mean()})
        drawn.append(complexity(curve))
    sizes = [point["n"] for point in found["points"]]
    for share, (low, high) in found["complexity_ci"].items():
        ends = np.percentile([curve[share] for curve in drawn], (2.5, 97.5), method="nearest")
        assert abs(sizes.index(low) - sizes.index(ends[0])) <= 1
        assert abs(sizes.index(high) - sizes.index(ends[1])) <= 1
        assert low <= found["complexity"][share] <= high
    assert any(low < high for low, high in found["complexity_ci"].values())
    assert row(train, test, draws=1)["complexity_ci"] == {"0.9": None, "0.95": None}
    assert row(train, part(9, 2))["complexity_ci"] == {"0.9": None, "0.95": None}, "fewer than ten images"


def test_sample_complexity_is_where_the_curve_stays_above() -> None:
    def points(*accuracies: float) -> list[dict[str, Any]]:
        return [{"n": 10.0 * (i + 1), "accuracy": accuracy} for i, accuracy in enumerate(accuracies)]

    assert complexity(points(0.2, 0.73, 0.7, 0.76, 0.8)) == {"0.9": 40, "0.95": 40}
    assert complexity(points(0.2, 0.73, 0.75, 0.75, 0.8)) == {"0.9": 20, "0.95": 50}


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_fraction_out_of_range_is_one_line(share: float) -> None:
    with pytest.raises(ValueError, match="expected fractions above 0 and up to 100 %"):
        row(part(40, 1), part(20, 2), shares=[share])


def test_all_labels_are_always_among_the_fractions() -> None:
    found = row(part(80, 1), part(20, 2), shares=[0.5, 0.1], draws=2)
    assert [point["fraction"] for point in found["points"]] == [0.1, 0.5, 1.0]
