"""Average precision of several labels an image: the VOC forms in loops, scikit-learn, difficult images.

Alone: pytest tests/probes/test_average_precision.py
"""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from probekit.h5 import DIFFICULT
from probekit.probes import AP_FORMS as FORMS
from probekit.probes.average_precision import average_precision, multilabel, rarest, score_logits
from probekit.probes.protocol import Part

K, D = 4, 8
CLASSES = tuple("abcd")


def part(n: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    y = (rng.random((n, K)) < [0.5, 0.3, 0.2, 0.1]).astype(np.uint8)
    x = y @ np.random.default_rng(9).normal(size=(K, D)) + rng.normal(size=(n, D))
    y[rng.random((n, K)) < 0.1] = DIFFICULT
    return Part(x.astype(np.float32), y)  # type: ignore[arg-type]


def row(train: Part, test: Part, **more: Any) -> dict[str, Any]:
    return multilabel("row", "encoder", train, test, **{"classes": CLASSES, "protocol": "fixed", "seed": 0, **more})


def voc_in_loops(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Without ties: after each image, in falling order of scores."""
    points = []
    right = 0
    for rank, i in enumerate(sorted(range(len(score)), key=lambda i: -score[i]), start=1):
        right += bool(truth[i])
        points.append((right / truth.sum(), right / rank))
    eleven = sum(max((p for r, p in points if r >= t / 10), default=0.0) for t in range(11)) / 11
    recalls = [0.0] + [r for r, _ in points] + [1.0]
    precisions = [0.0] + [p for _, p in points] + [0.0]
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    area = sum((recalls[i + 1] - recalls[i]) * precisions[i + 1] for i in range(len(recalls) - 1))
    return {"voc2007": eleven, "voc2010": area}


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any), st.integers(0, 999))
def test_the_voc_forms_are_their_loops(labels: list[bool], seed: int) -> None:
    truth = np.array(labels)
    score = np.random.default_rng(seed).normal(size=len(truth))
    found = average_precision(score, truth)
    for form, expected in voc_in_loops(score, truth).items():
        assert found[form][0] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_the_step_form_is_scikit_learns_ties_too(pairs: list[tuple[bool, int]]) -> None:
    truth, score = np.array([p[0] for p in pairs]), np.array([float(p[1]) for p in pairs])
    if truth.any():
        assert average_precision(score, truth)["step"][0] == pytest.approx(average_precision_score(truth, score))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=30), st.integers(0, 99))
def test_a_resample_is_the_set_with_images_repeated(pairs: list[tuple[bool, int]], seed: int) -> None:
    truth, score = np.array([p[0] for p in pairs]), np.array([float(p[1]) for p in pairs])
    counts = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=3)
    found = average_precision(score, truth, counts)
    for b, drawn in enumerate(counts):
        again = np.repeat(np.arange(len(truth)), drawn)
        if truth[again].any():
            for form, values in average_precision(score[again], truth[again]).items():
                assert found[form][b] == pytest.approx(values[0], abs=1e-12)
        else:
            assert all(np.isnan(found[form][b]) for form in FORMS)


def test_ties_do_not_depend_on_the_order() -> None:
    truth, score = np.array([True, False, True, False]), np.array([1.0, 1.0, 1.0, 0.0])
    for order in ([0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0]):
        found = average_precision(score[order], truth[order])
        assert {form: values[0] for form, values in found.items()} == pytest.approx(dict.fromkeys(FORMS, 2 / 3))


def test_intervals_of_a_class_resample_its_images() -> None:
    train, test = part(300, 1), part(200, 2)
    found = row(train, test)
    own = found["per_class"][0]
    known = test.y[:, 0] != DIFFICULT
    truth, score = test.y[known, 0] == 1, np.array(found["scores"])[known, 0]
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, len(truth), len(truth)) for _ in range(300)]
    expected = np.percentile([average_precision_score(truth[index], score[index]) for index in draws], (2.5, 97.5))
    assert own["ap_ci"]["step"] == pytest.approx(expected, abs=0.03)


def test_the_probe_is_scikit_learns_on_the_images_that_are_not_difficult() -> None:
    train, test = part(300, 1), part(200, 2)
    found = row(train, test)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for k in range(K):
        fitted, scored = train.y[:, k] != DIFFICULT, test.y[:, k] != DIFFICULT
        model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(train.x[fitted], train.y[fitted, k])
        logits = model.decision_function(test.x)
        np.testing.assert_allclose(np.array(found["scores"])[:, k], logits, rtol=1e-3, atol=1e-3)
        own = found["per_class"][k]
        expected = average_precision_score(test.y[scored, k], logits[scored])
        assert own["ap"]["step"] == pytest.approx(expected, abs=1e-3)
        assert (own["n"], own["difficult"]) == (scored.sum(), (~scored).sum())
        assert own["positives"] == (test.y[:, k] == 1).sum()
        for form in FORMS:
            low, high = own["ap_ci"][form]
            assert low < own["ap"][form] < high
    for form in FORMS:
        assert found["map"][form]["value"] == pytest.approx(np.mean([own["ap"][form] for own in found["per_class"]]))
        low, high = found["map"][form]["ci"]
        assert low < found["map"][form]["value"] < high < low + 0.3


def test_difficult_images_change_nothing() -> None:
    train, test = part(200, 1), part(150, 2)
    for p in (train, test):
        p.y[:20] = DIFFICULT
    train.x[:20] -= train.x[:20].mean(axis=0)  # so that the mean of train stays
    plain = row(train, test)["map"]
    far = test.x.copy()
    far[:20] *= 100
    assert row(train, Part(far, test.y))["map"] == plain
    twisted = train.x.copy()
    twisted[:20] *= 3
    found = row(Part(twisted, train.y), test)["map"]
    assert found["step"]["value"] == pytest.approx(plain["step"]["value"], abs=1e-6)


def test_undefined_classes_are_counted_and_left_out() -> None:
    train, test = part(200, 1), part(150, 2)
    train_y, test_y = train.y.copy(), test.y.copy()
    train_y[:, 0] = 0
    test_y[:, 1] = 0
    found = row(Part(train.x, train_y), Part(test.x, test_y))
    assert found["undefined"] == 2
    assert found["per_class"][0]["note"] == "one kind of label only in train"
    assert found["per_class"][1]["note"] == "no image of the class in test"
    assert found["per_class"][0]["ap"]["step"] is None
    left = [own["ap"]["voc2010"] for own in found["per_class"][2:]]
    assert found["map"]["voc2010"]["value"] == pytest.approx(np.mean(left))
    nothing = row(Part(train.x, 0 * train_y), Part(test.x, test_y))
    assert nothing["map"]["step"] == {"value": None, "ci": None}


def test_a_resample_without_any_positive_image_counts_for_nothing() -> None:
    y = np.zeros((20, 2), np.uint8)
    y[0] = 1
    found = score_logits(np.arange(40.0).reshape(20, 2), y, classes=("a", "b"), seed=0)["map"]
    for score in found.values():
        assert 0 < score["ci"][0] <= score["value"] <= score["ci"][1] < 1


def test_features_that_say_nothing_score_the_prevalence() -> None:
    train, test = part(200, 1), part(300, 2)
    found = row(Part(0 * train.x, train.y), Part(0 * test.x, test.y))
    for own in found["per_class"]:
        assert all(value == pytest.approx(own["positives"] / own["n"]) for value in own["ap"].values())


def test_c_is_chosen_on_validation_for_each_class() -> None:
    train, test, val = part(300, 1), part(100, 2), part(150, 3)
    chosen = [own["C"] for own in row(train, test, protocol="tuned")["per_class"]]
    assert chosen == [own["C"] for own in row(train, Part(test.x[::-1].copy(), test.y), protocol="tuned")["per_class"]]
    assert len({*chosen, *(own["C"] for own in row(train, test, protocol="tuned", val=val)["per_class"])}) > 1
    assert {own["C"] for own in row(train, test)["per_class"]} == {1.0}


def test_images_are_stratified_by_their_rarest_class() -> None:
    y = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, DIFFICULT], [1, 0, 1]])
    np.testing.assert_array_equal(rarest(y), [2, 0, 3, 1, 2])


@pytest.mark.parametrize(
    ("y", "message"),
    [(np.full((20, K), 7), "expected labels 0, 1 or 255"), (np.zeros((20, 3)), r"expected labels \[20, 4\]")],
)
def test_other_labels_are_one_line(y: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(Part(np.ones((20, D)), y.astype(np.int64)), part(20, 1))
