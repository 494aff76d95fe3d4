"""Intervals and scores against scipy and scikit-learn. Alone: pytest tests/probes/test_scores.py."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import binomtest, ttest_1samp
from sklearn import metrics
from sklearn.metrics import top_k_accuracy_score

from probekit.probes.scores import evaluate, top5
from probekit.statistics import bootstrap, wilson


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy_and_contains_the_share(trial: tuple[int, int]) -> None:
    successes, n = trial
    low, high = wilson(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_mirrors_and_narrows(trial: tuple[int, int]) -> None:
    successes, n = trial
    low, high = wilson(successes, n)
    mirrored = wilson(n - successes, n)
    np.testing.assert_allclose([1 - high, 1 - low], mirrored, atol=1e-12)
    more = wilson(4 * successes, 4 * n)
    assert more[1] - more[0] < high - low


def predictions(seed: int, n: int, classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True)), rng.integers(0, classes, n)


@pytest.mark.parametrize(("seed", "n", "classes"), [(0, 200, 4), (1, 57, 2), (2, 9, 3), (3, 500, 50)])
def test_scores_agree_with_scikit_learn(seed: int, n: int, classes: int) -> None:
    log_probability, y = predictions(seed, n, classes)
    predicted = log_probability.argmax(1)
    scores = evaluate(log_probability, y, seed=0)
    every = list(range(classes))
    assert scores["n"] == n
    assert scores["accuracy"] == metrics.accuracy_score(y, predicted)
    assert scores["ci"] == (None if n < 10 else list(wilson(int((predicted == y).sum()), n)))
    assert scores["confusion"] == metrics.confusion_matrix(y, predicted, labels=every).tolist()
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(y, np.exp(log_probability), labels=every))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("predicted_all_the_same", [False, True])
def test_a_class_that_test_lacks(predicted_all_the_same: bool) -> None:
    log_probability, y = predictions(4, 100, 5)
    y[y == 3] = 0
    if not predicted_all_the_same:
        log_probability[:, 3] = -50.0
    predicted = log_probability.argmax(1)
    scores = evaluate(log_probability, y, seed=0)
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert np.array(scores["confusion"]).shape == (5, 5)


def test_an_impossible_class_makes_the_log_loss_undefined_and_json_stays_valid() -> None:
    log_probability, y = predictions(5, 50, 3)
    log_probability[:, 2] = -np.inf
    assert 2 in y
    scores = evaluate(log_probability, y, seed=0)
    assert scores["log_loss"] is None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_top5_counts_the_five_likeliest_first_of_ties() -> None:
    score = np.array([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    y = np.array([4, 5, 4, 5])
    assert top5(score, y) == {"top5": 0.5, "top5_ci": None}
    assert evaluate(score, y, seed=0)["top5"] == 0.5
    assert "top5" not in evaluate(score[:, :5], np.minimum(y, 4), seed=0)


def test_top5_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    score, y = rng.normal(size=(300, 9)), rng.integers(0, 9, 300)
    assert top5(score, y)["top5"] == pytest.approx(top_k_accuracy_score(y, score, k=5, labels=range(9)))


def test_bootstrap_covers_a_known_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        low, high = bootstrap(rng.normal(3, 1, (40, 1)), seed=seed)[0] or (0, 0)
        covered += low < 3 < high
    assert 86 <= covered <= 99
    many = rng.normal(3, 1, (4000, 1))
    low, high = bootstrap(many, seed=0)[0] or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * many.std() / 4000**0.5, rel=0.08)  # of 90 %: a sixth less
    assert bootstrap(np.ones((1, 2)), seed=0) == [None, None]
    found = bootstrap(np.array([[1, np.nan], [2, np.nan]] * 10), seed=0)
    assert (found[0] is None, found[1]) == (False, None)


def test_intervals_of_balanced_accuracy_and_f1_resample_the_images() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 150)
    score = log_softmax(rng.normal(size=(150, 4)) + 2 * np.eye(4)[y], axis=1)
    found = evaluate(score, y, seed=0)
    predicted = score.argmax(axis=1)
    drawn = []
    for _ in range(400):
        index = rng.integers(0, len(y), len(y))
        truth, guess = y[index], predicted[index]
        drawn.append([metrics.balanced_accuracy_score(truth, guess), metrics.f1_score(truth, guess, average="macro")])
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    for i, name in enumerate(("balanced_accuracy", "macro_f1")):
        assert found[f"{name}_ci"] == pytest.approx([low[i], high[i]], abs=0.015)
        assert found[f"{name}_ci"][0] < found[name] < found[f"{name}_ci"][1]
    assert evaluate(score, y, seed=0) == found


def test_interval_of_the_log_loss_is_students() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    score = log_softmax(rng.normal(size=(40, 3)), axis=1)
    losses = -score[np.arange(40), y]
    expected = ttest_1samp(losses, 0).confidence_interval(0.95)
    assert evaluate(score, y, seed=0)["log_loss_ci"] == pytest.approx(list(expected))
    score[0] = [-np.inf, 0, -np.inf]
    y[0] = 0
    assert evaluate(score, y, seed=0)["log_loss_ci"] is None
    assert evaluate(score[1:2], y[1:2], seed=0)["log_loss_ci"] is None


def test_there_is_no_interval_under_ten_images_and_none_outside_what_is_possible() -> None:
    log_probability = np.log(np.array([[0.999, 0.001]] * 9 + [[1e-9, 1 - 1e-9]]))
    y = np.zeros(10, np.int64)
    ends = {key for key in evaluate(log_probability, y, seed=0) if key.endswith("ci")}
    assert ends == {"ci", "balanced_accuracy_ci", "macro_f1_ci", "log_loss_ci"}
    few, enough = (evaluate(log_probability[:n], y[:n], seed=0) for n in (9, 10))
    assert all(few[key] is None for key in ends)
    assert all(enough[key][0] <= enough[key][1] for key in ends)
    assert enough["log_loss_ci"][0] == 0, "Student's interval of this loss begins at -2.6"
    assert bootstrap(np.ones((9, 1)), seed=0) == [None]
    assert bootstrap(np.arange(10.0)[:, None], seed=0) != [None]
