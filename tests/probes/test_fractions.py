"""Label fractions: nested stratified subsets, scikit-learn on the same subsets, sample complexity, of any measurement.

Alone: pytest tests/probes/test_fractions.py
"""

import json
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from probekit.measurement import Score, read_result
from probekit.probes.cross_validation import divide
from probekit.probes.fractions import complexity, fractions, subsets
from probekit.probes.measurements.cross_validation import CrossValidation
from probekit.probes.measurements.fractions import FRACTIONS, Fractions
from probekit.probes.measurements.knn import KNN
from probekit.probes.measurements.linear import Linear
from probekit.probes.protocol import GRID, Part
from probekit.statistics import mean_over_seeds, wilson
from tests.probes import made

K, D = 4, 10
CLASSES = tuple("abcd")


def part(n: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % K)
    return Part((np.eye(K, D)[y] * 1.5 + rng.normal(size=(n, D))).astype(np.float32), y)


def row(
    train: Part, test: Part, asked: Fractions | None = None, *others: Any, seed: int = 0, **more: Any
) -> dict[str, Any]:
    """The row of an encoder whose features are those of the parts."""
    chosen = asked or Fractions()
    given = made.conditions(chosen, *others, classes=CLASSES, seed=seed, train=train, test=test, **more)
    return chosen.row(made.source(train=train, test=test), given)


def first(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The first score at each share."""
    return [next(iter(point["scores"].values())) for point in found["points"]]


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
    one, two = (subsets(y, shares=[0.2], seed=0, draw=i)[0] for i in (0, 1))
    assert (one != two).any()


def fitted(x: NDArray[Any], y: NDArray[Any]) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(tol=1e-8, max_iter=10_000).fit(x, y)


def test_scikit_learn_gives_the_same_accuracies() -> None:
    train, test = part(300, 1), part(400, 2)
    for j, score in enumerate(first(row(train, test))):
        assert len(score["values"]) == (5 if FRACTIONS[j] < 1 else 1)
        for draw, value in enumerate(score["values"]):
            mask = subsets(train.y, shares=FRACTIONS, seed=0, draw=draw)[j]
            model = fitted(train.x[mask], train.y[mask])
            assert value == pytest.approx((model.predict(test.x) == test.y).mean(), abs=1 / 400)


def test_points_have_means_intervals_and_sizes() -> None:
    train, test = part(300, 1), part(100, 2)
    found = row(train, test, protocol="tuned")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["of"], found["n_test"]) == ("linear", 100)
    assert [point["fraction"] for point in found["points"]] == list(FRACTIONS)
    assert [point["n"] for point in found["points"]] == [4, 8, 16, 32, 60, 152, 300]
    *scores, last = first(found)
    for score in scores:
        expected = mean_over_seeds(score["values"])
        assert (score["value"], score["ci"]) == (expected["mean"], expected["ci"])
    assert last["ci"] == list(wilson(round(last["value"] * len(test.y)), len(test.y)))
    assert len(last["values"]) == 1
    assert scores[0]["value"] < last["value"]


def test_few_labels_choose_c_among_themselves_and_never_on_a_validation_split() -> None:
    """It would be labels beyond the budget; with all labels the curve ends at the linear probe, which takes it."""
    train, test, val = part(80, 1), part(60, 2), part(60, 3)
    wrong = Part(val.x, (val.y + 1) % K)  # of which the smallest C is the best
    asked = Fractions((0.5,), draws=2)
    given = made.conditions(asked, classes=CLASSES, protocol="tuned", train=train, test=test, val=wrong)
    *some, whole = first(asked.row(made.source(train=train, test=test, val=wrong), given))
    assert some == first(row(train, test, asked, protocol="tuned"))[:-1]
    linear = Linear().row(made.source(train=train, test=test, val=wrong), given)
    assert (whole["value"], linear["C"]) == (linear["accuracy"], min(GRID))


def test_more_labels_than_classes_are_not_needed_where_classes_are_clear() -> None:
    y = np.arange(400) % K
    found = row(Part(np.eye(K)[y], y), Part(np.eye(K)[y[:50]], y[:50]))
    assert first(found)[0]["value"] == 1.0
    assert found["complexity"] == {"0.9": 4, "0.95": 4}


def test_interval_of_sample_complexity_draws_whole_curves_anew() -> None:
    train, test = part(300, 1), part(400, 2)
    found = row(train, test)
    rng = np.random.default_rng(1)
    drawn = []
    sizes = [point["n"] for point in found["points"]]
    curves = [score["values"] if len(score["values"]) > 1 else 5 * score["values"] for score in first(found)]
    for _ in range(1000):
        chosen = rng.integers(0, 5, 5)
        drawn.append(complexity(sizes, [np.array(curve)[chosen].mean() for curve in curves]))
    for share, (low, high) in found["complexity_ci"].items():
        ends = np.percentile([curve[share] for curve in drawn], (2.5, 97.5), method="nearest")
        assert abs(sizes.index(low) - sizes.index(ends[0])) <= 1
        assert abs(sizes.index(high) - sizes.index(ends[1])) <= 1
        assert low <= found["complexity"][share] <= high
    assert any(low < high for low, high in found["complexity_ci"].values())
    assert row(train, test, Fractions(draws=1))["complexity_ci"] == {"0.9": None, "0.95": None}
    assert row(train, part(9, 2))["complexity_ci"] == {"0.9": None, "0.95": None}, "fewer than ten images"


def test_sample_complexity_is_where_the_curve_stays_above() -> None:
    sizes = [10.0, 20, 30, 40, 50]
    assert complexity(sizes, [0.2, 0.73, 0.7, 0.76, 0.8]) == {"0.9": 40, "0.95": 40}
    assert complexity(sizes, [0.2, 0.73, 0.75, 0.75, 0.8]) == {"0.9": 20, "0.95": 50}


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_fraction_out_of_range_is_one_line(share: float) -> None:
    with pytest.raises(ValueError, match="expected fractions above 0 and up to 100 %"):
        Fractions((share,))


def test_all_labels_are_always_among_the_fractions() -> None:
    found = row(part(80, 1), part(20, 2), Fractions((0.5, 0.1, 0.5), draws=2))
    assert [point["fraction"] for point in found["points"]] == [0.1, 0.5, 1.0]


def graded(n: int, seed: int, sign: float = 1.0) -> Part:
    """Grades along one direction."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % K)
    return Part(np.stack([sign * y + 0.6 * rng.normal(size=n), rng.normal(size=n)], axis=1).astype(np.float32), y)


def kappa_by_hand(train: Part, known: NDArray[np.bool_]) -> float:
    """Each fold by one logistic regression a threshold of scikit-learn's on the known labels of the other folds."""
    held = divide(train.y, folds=3, seed=0, repeat=0)
    values = []
    for fold in range(3):
        used, out = (held != fold) & known, held == fold
        passed = [fitted(train.x[used], train.y[used] >= k).predict(train.x[out]) for k in range(1, K)]
        grades = np.sum(passed, axis=0)
        values.append(cohen_kappa_score(train.y[out], grades, weights="quadratic", labels=range(K)))
    return float(np.mean(values))


def test_kappa_by_share_of_labels_is_scikit_learns() -> None:
    """ConRec paper, Figure 2, APTOS: each image is scored by a probe of known labels that never saw it."""
    train = graded(120, 1)
    asked = Fractions((0.25,), draws=2, of="cv")
    folds = CrossValidation(3, "kappa", 1)
    given = made.conditions(asked, folds, classes=CLASSES, train=train)
    found = asked.row(made.source(train=train), given)
    assert next(iter(found["points"][0]["scores"])) == "cross-validated kappa, cumulative"
    some, whole = first(found)
    masks = [subsets(train.y, shares=(0.25,), seed=0, draw=draw)[0] for draw in (0, 1)]
    assert some["values"] == pytest.approx([kappa_by_hand(train, mask) for mask in masks], abs=0.02)
    assert whole["value"] == pytest.approx(kappa_by_hand(train, np.ones(120, bool)), abs=0.01)
    alone = folds.scores(folds.row(made.source(train=train), given))["cross-validated kappa, cumulative"]
    assert (whole["value"], whole["ci"], whole["low"]) == (alone.value, alone.ci, -1.0)
    assert found["n_test"] == 120, "cross-validation scores train"
    made_result = made.result(asked, given, found)
    assert read_result(json.loads(json.dumps(made_result))) == Fractions()
    assert asked.tables(made_result)[0].title == ("cross-validated kappa, cumulative, on fractions of the labels")


def test_nearest_neighbours_by_share_vote_among_the_known_labels_alone() -> None:
    """One image a class is known: the nearest of four, by cosine."""
    train, test = part(200, 1), part(100, 2)
    asked = Fractions((0.02,), draws=3, of="knn")
    found = row(train, test, asked)
    some, whole = first(found)
    for draw, value in enumerate(some["values"]):
        known = subsets(train.y, shares=(0.02,), seed=0, draw=draw)[0]
        assert known.sum() == K
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (test.x, train.x[known])]
        nearest = train.y[known][(unit[0] @ unit[1].T).argmax(axis=1)]
        assert value == (nearest == test.y).mean()
    given = made.conditions(asked, classes=CLASSES, train=train, test=test)
    assert whole["value"] == KNN().row(made.source(train=train, test=test), given)["accuracy"]


def curve(at: Callable[[NDArray[np.bool_] | None], float], low: float, ci: Sequence[float] | None) -> dict[str, Any]:
    def measured(mask: NDArray[np.bool_] | None) -> dict[str, Score]:
        return {"kappa": Score(at(mask), ci, low)}

    return fractions(part(40, 0), measured, shares=(0.5, 1.0), draws=4, seed=0)


def test_a_score_below_zero_is_not_clipped_where_it_may_be() -> None:
    """Draws of -0.2, 0, 0.2 and 0: mean 0, Student t of 3.18 sd / 2, so [-0.26, 0.26]; a share stays above 0."""
    drawn = [-0.2, 0.0, 0.2, 0.0]
    for low, end in ((-1.0, -0.2598), (0.0, 0.0)):
        left = iter(drawn)
        found = curve(lambda mask, left=left: 0.5 if mask is None else next(left), low, [0.4, 0.6])  # type: ignore[misc]
        score = found["points"][0]["scores"]["kappa"]
        assert (score["value"], score.get("low", 0.0)) == (pytest.approx(0), low)
        assert score["ci"] == pytest.approx([end, 0.2598], abs=1e-4)


@pytest.mark.parametrize("last", [-0.3, 0.0])
def test_what_is_no_better_than_nothing_with_all_labels_has_no_sample_complexity(last: float) -> None:
    found = curve(lambda mask: last, -1.0, [-0.5, 0.1])
    assert (found["complexity"], found["complexity_ci"]) == ({}, {})
    assert found["points"][1]["scores"]["kappa"]["value"] == last


def test_an_interval_over_draws_does_not_hang_on_the_first() -> None:
    """A draw whose folds are all alike has no interval of its own; the draws together have one."""
    drawn = iter([Score(0.5, None), Score(0.6, [0.5, 0.7]), Score(0.7, [0.6, 0.8]), Score(0.9, [0.8, 1.0])])
    found = fractions(part(40, 0), lambda _: {"s": next(drawn)}, shares=(0.5, 1.0), draws=3, seed=0)
    assert found["points"][0]["scores"]["s"]["ci"] == mean_over_seeds([0.5, 0.6, 0.7])["ci"]


def test_baselines_and_needs_are_of_what_is_measured() -> None:
    """Raw pixels have no head by SGD, and 25 fits of them for each subset take minutes."""
    beside = {of: Fractions(of=of).baselines for of in ("linear", "knn", "cv", "sgd")}
    plain = ("random weights", "chance")
    assert beside == {"linear": (*plain, "raw pixels", "patch bag"), "knn": (*plain, "raw pixels", "patch bag")} | (
        dict.fromkeys(("cv", "sgd"), plain)
    )
    assert [Fractions(of=of).needs for of in ("linear", "cv")] == [("train", "test"), ("train",)]
