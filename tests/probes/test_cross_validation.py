"""Cross-validation: folds, kappa against scikit-learn, the authors' decoding in loops, the corrected interval.

Alone: pytest tests/probes/test_cross_validation.py
"""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.multiclass import OneVsRestClassifier

from probekit.probes import cross_validation
from probekit.probes.cross_validation import _Fold, corrected_interval, cross_validate, divide, kappa
from probekit.probes.measurements.cross_validation import CrossValidation
from probekit.probes.protocol import Part
from tests.probes import made

K = 5
CLASSES = ("none", "mild", "moderate", "severe", "proliferative")


def graded(n: int, seed: int, noise: float = 0.6) -> Part:
    """Grades along one direction, as unevenly filled as APTOS 2019."""
    rng = np.random.default_rng(seed)
    y = rng.choice(K, n, p=np.array([1805, 370, 999, 193, 295]) / 3662)
    x = np.stack([y + noise * rng.normal(size=n), *rng.normal(size=(4, n))], axis=1)
    return Part(x.astype(np.float32), y)


def row(part: Part, **more: Any) -> dict[str, Any]:
    options = {"classes": CLASSES, "protocol": "fixed", "seed": 0, "folds": 4, "repeats": 2, **more}
    return cross_validate("row", "encoder", part, **options)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=90), st.integers(2, 7), st.integers(0, 99))
def test_folds_are_stratified_and_even(labels: list[int], folds: int, seed: int) -> None:
    y = np.array(labels)
    if len(y) < folds:
        return
    held = divide(y, folds=folds, seed=seed, repeat=0)
    for counted in (held, *(held[y == label] for label in np.unique(y))):
        sizes = np.bincount(counted, minlength=folds)
        assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(held, divide(y, folds=folds, seed=seed, repeat=0))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=30, max_size=90), st.integers(0, 99))
def test_groups_are_held_out_together(samples: list[tuple[int, int]], seed: int) -> None:
    y, groups = np.array(samples).T
    if len(np.unique(groups)) < 3:
        return
    held = divide(y, folds=3, seed=seed, repeat=1, groups=groups)
    for group in np.unique(groups):
        assert len(np.unique(held[groups == group])) == 1
    assert set(held) == {0, 1, 2}


def test_repeats_divide_anew() -> None:
    y = graded(100, 0).y
    assert (divide(y, folds=5, seed=0, repeat=0) != divide(y, folds=5, seed=0, repeat=1)).any()


@pytest.mark.parametrize("folds", [1, 41])
def test_too_few_or_too_many_folds_are_one_line(folds: int) -> None:
    with pytest.raises(ValueError, match=f"expected 2 to 40 folds for so many samples, found {folds}"):
        row(graded(40, 0), folds=folds)


def test_an_unknown_metric_is_one_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'kappa'"):
        row(graded(40, 0), metric="kapa")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_kappa_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = np.array(pairs).T
    confusion = np.bincount(truth * K + guess, minlength=K * K).reshape(K, K)
    if len({*truth, *guess}) == 1:
        assert np.isnan(kappa(confusion))
    else:
        expected = cohen_kappa_score(truth, guess, weights="quadratic", labels=range(K))
        assert kappa(confusion) == pytest.approx(expected, abs=1e-12)


def test_kappa_of_perfect_constant_and_reversed() -> None:
    assert kappa(np.eye(K) * 7) == 1
    assert kappa(np.eye(K)[::-1] * 7) == pytest.approx(-1)
    assert kappa(np.repeat([[1, 0, 0, 0, 0]], K, axis=0)) == 0


def test_cumulative_decoding_is_the_authors() -> None:
    part = graded(250, 1)
    found = row(part)
    for repeat in range(2):
        held = divide(part.y, folds=4, seed=0, repeat=repeat)
        for fold in range(4):
            out = held == fold
            vectors = np.array([[1] * (grade + 1) + [0] * (K - 1 - grade) for grade in part.y[~out]])
            with pytest.warns(UserWarning, match="present in all training examples"):  # the first column is constant
                model = OneVsRestClassifier(LogisticRegression(tol=1e-8, max_iter=10_000)).fit(part.x[~out], vectors)
            grades = (model.predict_proba(part.x[out]) > 0.5).sum(axis=1) - 1
            ours = np.array(found["predicted"]["cumulative"][repeat])[out]
            assert (ours == grades).mean() > 0.99


def test_plain_decoding_is_multinomial_regression() -> None:
    part = graded(250, 1)
    found = row(part, metric="accuracy")
    held = divide(part.y, folds=4, seed=0, repeat=0)
    for fold in range(4):
        out = held == fold
        model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(part.x[~out], part.y[~out])
        ours = np.array(found["predicted"]["plain"][0])[out]
        assert (ours == model.predict(part.x[out])).mean() > 0.99
    assert found["decodings"].keys() == {"plain"}
    assert found["decodings"]["plain"].keys() == {"accuracy"}


@pytest.mark.parametrize("protocol", ["fixed", "tuned"])
def test_means_of_folds_and_pooled_values(protocol: str) -> None:
    part = graded(200, 2)
    found = row(part, protocol=protocol)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    held = [divide(part.y, folds=4, seed=0, repeat=i) for i in range(2)]
    for decoding, scores in found["decodings"].items():
        guesses = np.array(found["predicted"][decoding])
        by_fold = [
            cohen_kappa_score(part.y[out == fold], guess[out == fold], weights="quadratic", labels=range(K))
            for guess, out in zip(guesses, held, strict=True)
            for fold in range(4)
        ]
        pooled = np.mean([cohen_kappa_score(part.y, guess, weights="quadratic") for guess in guesses])
        np.testing.assert_allclose(scores["kappa"]["folds"], by_fold)
        assert scores["kappa"]["mean"] == pytest.approx(np.mean(by_fold))
        assert scores["kappa"]["pooled"] == pytest.approx(pooled)
        assert scores["accuracy"]["pooled"] == pytest.approx((guesses == part.y).mean())
        low, high = scores["kappa"]["pooled_ci"]
        assert low < pooled < high < low + 0.2
        assert scores["kappa"]["ci"] == pytest.approx(corrected_interval(by_fold, folds=4, low=-1))
    assert found["decodings"]["cumulative"]["kappa"]["pooled"] > 0.8


def test_corrected_interval_by_hand() -> None:
    values = [0.0, 0.1, 0.2, 0.3]
    found = corrected_interval(values, folds=2, low=-1.0)
    variance = sum((v - 0.15) ** 2 for v in values) / 3
    half = 3.182446 * (variance * (1 / 4 + 1 / 1)) ** 0.5  # t of 3 degrees of freedom
    assert found == pytest.approx([0.15 - half, 0.15 + half], abs=1e-6)
    assert corrected_interval([0.5], folds=2, low=0) is None
    assert corrected_interval([0.0, 1.0], folds=2, low=0.0) == [0, 1], "shares end at 0 and 1"


@pytest.mark.parametrize("protocol", ["fixed", "tuned"])
def test_what_is_held_out_is_not_seen(protocol: str) -> None:
    part = graded(120, 3)
    out = divide(part.y, folds=4, seed=0, repeat=0) == 2
    x, y = part.x.copy(), part.y.copy()
    x[out] *= 1000
    y[out] = 0
    clean, spoilt = (_Fold.of(p, ~out, out, protocol=protocol, seed=0) for p in (part, Part(x, y)))
    np.testing.assert_array_equal(clean.z, spoilt.z)
    assert (clean.inner is None) == (protocol == "fixed")
    for ours, theirs in zip(clean.inner or (), spoilt.inner or (), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.abs(spoilt.z_out).mean() > 100 * np.abs(clean.z_out).mean()


@pytest.mark.parametrize("protocol", ["fixed", "tuned"])
def test_labels_that_are_not_known_are_not_seen(protocol: str) -> None:
    """They are scored all the same, so that every share of labels is scored on the same images."""
    part, known = graded(120, 3), np.arange(120) % 3 > 0
    other = Part(part.x, np.where(known, part.y, (part.y + 1) % K))
    held = divide(part.y, folds=4, seed=0, repeat=0)
    ours = row(part, among=known, protocol=protocol, repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "divide", lambda *args, **named: held)  # strata are of the labels
        theirs = row(other, among=known, protocol=protocol, repeats=1)
    assert ours["predicted"] == theirs["predicted"]
    assert ours["predicted"] != row(part, protocol=protocol, repeats=1)["predicted"]
    assert ours["n"] == 120
    alone = np.zeros(120, bool)
    alone[np.flatnonzero(held == 0)] = True
    with pytest.raises(ValueError, match="expected a known label outside each fold, found none; type: --fractions 50"):
        row(part, among=alone, protocol=protocol, repeats=1)


def test_kappa_below_zero_is_kept() -> None:
    """Of noise, where a fold that lacks a grade has the others predict it: nothing is clipped at 0."""
    rng = np.random.default_rng(9)
    part = Part(rng.normal(size=(30, 40)).astype(np.float32), np.arange(30) % 3)
    found = row(part, repeats=1, folds=5)
    kept = found["decodings"]["plain"]["kappa"]
    guess = np.array(found["predicted"]["plain"][0])
    assert kept["pooled"] == pytest.approx(cohen_kappa_score(part.y, guess, weights="quadratic"))
    assert kept["mean"] < 0 > kept["pooled"]
    assert -1 <= kept["ci"][0] < kept["mean"] < kept["ci"][1]
    assert kept["pooled_ci"][0] < kept["pooled"]
    asked = CrossValidation(metric="kappa")
    score = asked.scores(found)["cross-validated kappa, plain"]
    assert score.to_dict() == {"value": kept["mean"], "ci": kept["ci"], "low": -1.0}
    given = made.conditions(asked, classes=CLASSES, train=part)
    cells = asked.tables(made.result(asked, given, found))[0].rows[0]
    assert cells[5].text == f"{kept['mean']:.3f} [{kept['ci'][0]:.3f}, {kept['ci'][1]:.3f}]"


def test_random_labels_have_kappa_zero() -> None:
    part = graded(600, 4)
    shuffled = Part(part.x, np.random.default_rng(0).permutation(part.y))
    scores = row(shuffled)["decodings"]
    for decoding in scores.values():
        assert abs(decoding["kappa"]["pooled"]) < 0.1


def test_a_grade_that_a_fold_lacks_is_no_error() -> None:
    part = graded(40, 5)
    y = np.where(np.arange(40) == 7, 4, np.minimum(part.y, 3))
    assert row(Part(part.x, y))["n"] == 40


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        (CrossValidation(), {"cross-validated accuracy, plain"}),
        (
            CrossValidation(metric="kappa"),
            {f"cross-validated {metric}, {way}" for metric in ("kappa", "accuracy") for way in ("cumulative", "plain")},
        ),
        (CrossValidation(sgd="conrec"), {"cross-validated conrec accuracy, plain"}),
        (
            CrossValidation(metric="kappa", sgd="aptos"),
            {"cross-validated aptos kappa, cumulative", "cross-validated aptos accuracy, cumulative"},
        ),
    ],
)
def test_its_numbers_are_known_by_name_before_it_is_measured(asked: CrossValidation, known: set[str]) -> None:
    """A sweep asks for a score by name, and would train for hours for one that no decoding gives."""
    assert set(asked.named()) == known
    assert not asked.measures("cross-validated aptos kappa, plain")
