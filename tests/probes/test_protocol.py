"""From features to a row: chance, ceilings, selection, errors. Alone: pytest tests/probes/test_protocol.py."""

import json
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from probekit.probes import PROTOCOLS
from probekit.probes.linear import Space, fit
from probekit.probes.protocol import GRID, Part, choose, probe, validation_part
from probekit.probes.scores import evaluate
from probekit.statistics import wilson
from probekit.train.evaluate import linear

CLASSES = ("a", "b", "c", "d")


def parts(n: int = 200, n_test: int = 120, noise: float = 1.0) -> tuple[Part, Part]:
    """Four classes of two binary factors; "easy" is a feature by itself, "hard" is drowned in noise."""
    rng = np.random.default_rng(n + n_test)

    def one(count: int) -> Part:
        y = rng.permutation(np.arange(count) % 4)
        easy, hard = y // 2, y % 2
        x = np.stack([easy + 0.1 * rng.normal(size=count), hard + noise * rng.normal(size=count)], axis=1)
        return Part(x.astype(np.float32), y, {"easy": easy, "hard": hard})

    return one(n), one(n_test)


def run(train: Part, test: Part, protocol: str = "tuned", **more: Any) -> dict[str, Any]:
    return probe("row", "encoder", train, test, **{"classes": CLASSES, "protocol": protocol, "seed": 0, **more})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_row_has_the_promised_shape_and_is_json(protocol: str) -> None:
    row = run(*parts(), protocol)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    promised = {"name", "kind", "accuracy", "ci", "n", "balanced_accuracy", "macro_f1", "log_loss", "confusion"}
    assert promised | {"C", "protocol", "solver", "n_iter", "classes", "factors"} <= row.keys()
    assert (row["name"], row["kind"], row["n"], row["n_train"], row["dim"]) == ("row", "encoder", 120, 200, 2)
    for scores in (row, *row["factors"].values()):
        assert 0 <= scores["ci"][0] <= scores["accuracy"] <= scores["ci"][1] <= 1
    assert row["C"] == 1 if protocol == "fixed" else row["C"] in GRID


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_factor_that_is_the_label_is_fitted_with_it(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And has the same numbers; one that differs in a single test image has its own."""
    train, test = parts()
    train, test = (replace(part, y=part.factors["hard"]) for part in (train, test))
    counted = Mock(side_effect=fit)
    monkeypatch.setattr("probekit.probes.protocol.fit", counted)
    row = run(train, test, protocol, classes=("a", "b"))
    assert counted.call_count == 2
    right = [guess == label for guess, label in zip(row["predicted"], row["labels"], strict=True)]
    assert row["factors"]["hard"] == {key: row[key] for key in ("accuracy", "ci", "n", "C", "note")} | {"right": right}
    assert row["factors"]["easy"]["accuracy"] > row["accuracy"]
    flipped = test.factors["hard"].copy()
    flipped[0] = 1 - flipped[0]
    other = replace(test, factors={**test.factors, "hard": flipped})
    assert run(train, other, protocol, classes=("a", "b"))["factors"]["hard"]["accuracy"] != row["accuracy"]


def test_each_prediction_of_an_encoder_is_kept() -> None:
    train, test = parts()
    row = run(train, test)
    assert row["labels"] == test.y.tolist()
    hits = [guess == label for guess, label in zip(row["predicted"], row["labels"], strict=True)]
    assert sum(hits) / 120 == row["accuracy"] < 1
    assert {"labels", "predicted"} <= probe(
        "f", "baseline", train, test, classes=CLASSES, protocol="tuned", seed=0
    ).keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_identity_features_are_perfect(protocol: str) -> None:
    train, test = parts()
    row = run(replace(train, x=np.eye(4)[train.y]), replace(test, x=np.eye(4)[test.y]), protocol)
    assert row["accuracy"] == row["balanced_accuracy"] == row["macro_f1"] == 1.0
    assert row["factors"]["hard"]["accuracy"] == 1.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_constant_features_give_the_most_frequent_training_class(protocol: str) -> None:
    train = Part(np.ones((100, 3)), np.repeat([0, 2, 3], [30, 60, 10]))
    test = Part(np.ones((50, 3)), np.repeat([0, 1, 2], [20, 10, 20]))
    row = run(train, test, protocol)
    assert row["accuracy"] == 20 / 50
    assert [sum(column) for column in zip(*row["confusion"], strict=True)] == [0, 0, 50, 0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shuffled_labels_are_chance(protocol: str) -> None:
    train, test = parts(200, 1000)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(5):
        shuffled = [replace(part, y=rng.permutation(part.y), factors={}) for part in (train, test)]
        hits += round(1000 * run(shuffled[0], shuffled[1], protocol)["accuracy"])
    low, high = wilson(hits, 5000)
    assert low < 0.25 < high


def test_each_factor_has_its_own_probe() -> None:
    train, test = parts()
    row = run(train, test)
    easy, hard = row["factors"]["easy"], row["factors"]["hard"]
    assert easy["accuracy"] > 0.98
    assert 0.55 < hard["accuracy"] < 0.85
    assert [sum(found["right"]) / 120 for found in (easy, hard)] == [easy["accuracy"], hard["accuracy"]]
    alone = probe(
        "row", "encoder", Part(train.x, train.factors["hard"]), Part(test.x, test.factors["hard"]),
        classes=("0", "1"), protocol="fixed", seed=0,
    )  # fmt: skip
    assert run(train, test, "fixed")["factors"]["hard"]["accuracy"] == alone["accuracy"]


def test_factor_values_may_be_anything_that_sorts() -> None:
    train, test = parts()
    names = np.array(["left", "right"])
    words = [replace(part, factors={"easy": names[part.factors["easy"]]}) for part in (train, test)]
    assert run(words[0], words[1])["factors"]["easy"] == run(train, test)["factors"]["easy"]


def test_a_factor_with_one_value_is_undefined_not_an_error() -> None:
    train, test = parts()
    row = run(replace(train, factors={"flat": 0 * train.y}), replace(test, factors={"flat": test.y % 2}))
    assert row["factors"]["flat"]["accuracy"] is None
    assert row["factors"]["flat"]["note"]
    assert row["factors"]["flat"]["right"] == []
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_classes_absent_from_train_or_test(protocol: str) -> None:
    train, test = parts()
    no_one, no_three = train.y != 1, test.y != 3
    row = run(Part(train.x[no_one], train.y[no_one]), Part(test.x[no_three], test.y[no_three]), protocol)
    assert row["log_loss"] is None
    assert "log-loss" in row["note"]
    assert row["confusion"][3] == [0, 0, 0, 0]
    assert [counts[1] for counts in row["confusion"]] == [0, 0, 0, 0]
    json.dumps(row, allow_nan=False)


def test_selection_never_sees_the_test_split() -> None:
    train, test = parts()
    other = replace(test, x=np.random.default_rng(0).normal(size=test.x.shape))
    assert run(train, test)["C"] == run(train, other)["C"]


def test_a_validation_split_chooses_c_and_is_not_fitted() -> None:
    train, test = parts()
    val, _ = parts(80)
    row = run(train, test, val=val)
    space = Space.of(train.x, standardise=True)
    best = choose(space.z, train.y, space.project(val.x), val.y)
    log_probability = fit(space.z, train.y, C=best).log_probability(space.project(test.x), classes=4)
    assert row["C"] == best
    assert row["accuracy"] == (log_probability.argmax(1) == test.y).mean()


def test_choose_takes_the_lowest_held_out_loss() -> None:
    train, held = parts(100, 80)
    space = Space.of(train.x, standardise=True)
    z_held = space.project(held.x)
    losses = []
    for C in GRID:
        log_probability = fit(space.z, train.y, C=C).log_probability(z_held, classes=4)
        losses.append(-log_probability[np.arange(80), held.y].mean())
    assert choose(space.z, train.y, z_held, held.y) == GRID[int(np.argmin(losses))]


@pytest.mark.parametrize("y", [[0, 1], [0, 0, 1], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_tiny_classes_still_give_a_row(y: list[int]) -> None:
    labels = np.array(y)
    row = run(Part(np.eye(4)[labels], labels), Part(np.eye(4)[labels], labels))
    assert row["n"] == len(y)
    assert (row["C"] == 1.0) == bool(row["note"])


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(0, 2**32 - 1))
def test_validation_part_is_stratified_and_leaves_every_class(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    held = validation_part(y, seed=seed)
    np.testing.assert_array_equal(held, validation_part(y, seed=seed))
    for label, count in zip(*np.unique(y, return_counts=True), strict=True):
        drawn = int(held[y == label].sum())
        assert (count > 1) <= drawn < count
        assert abs(drawn - 0.2 * count) <= (0.5 if count > 2 else 0.6)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60), st.integers(0, 99))
def test_validation_part_keeps_groups_together(samples: list[tuple[int, int]], seed: int) -> None:
    y, groups = np.array(samples).T
    held = validation_part(y, seed=seed, groups=groups)
    for group in np.unique(groups):
        assert len(np.unique(held[groups == group])) == 1


def test_probe_uses_the_groups_of_train() -> None:
    train, test = parts(40)
    twins = replace(train, groups=np.arange(40) // 2)

    def best(seed: int, part: Part) -> float:
        held = validation_part(part.y, seed=seed, groups=part.groups)
        space = Space.of(part.x[~held], standardise=True)
        return choose(space.z, part.y[~held], space.project(part.x[held]), part.y[held])

    found = [run(twins, test, seed=seed)["C"] for seed in range(8)]
    assert found == [best(seed, twins) for seed in range(8)]
    assert found != [best(seed, train) for seed in range(8)]


def test_a_validation_split_of_unknown_classes_chooses_nothing() -> None:
    train, test = parts()
    few = train.y < 2
    row = run(Part(train.x[few], train.y[few]), test, val=Part(test.x[test.y > 1], test.y[test.y > 1]))
    assert row["C"] == 1.0
    assert "too few" in row["note"]


def test_paper_protocol_takes_features_as_they_are() -> None:
    train, test = parts()
    small = [replace(part, x=part.x / 10) for part in (train, test)]
    space = Space.of(small[0].x, standardise=False)
    log_probability = fit(space.z, train.y, C=1.0).log_probability(space.project(small[1].x), classes=4)
    expected = evaluate(log_probability, test.y, seed=0)
    row = run(small[0], small[1], "fixed")
    assert {key: row[key] for key in expected} == expected
    assert row["log_loss"] > 1.1 * run(train, test, "fixed")["log_loss"]
    assert linear(small[0].x, train.y, small[1].x, test.y) == row["accuracy"]


def broken(x: NDArray[np.float32]) -> NDArray[np.float32]:
    x = x.copy()
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: (replace(a, x=broken(a.x)), b), "nan or inf in 1 of 200"),
        (lambda a, b: (a, replace(b, x=broken(b.x))), "nan or inf in 1 of 120"),
        (lambda a, b: (replace(a, y=a.y + 1), b), "labels 0 to 3 in train"),
        (lambda a, b: (a, replace(b, y=b.y - 1)), "labels 0 to 3 in test"),
        (lambda a, b: (replace(a, y=0 * a.y), b), "at least two classes"),
        (lambda a, b: (a, replace(b, x=b.x[:, :1])), "features"),
        (lambda a, b: (a, Part(b.x[:0], b.y[:0])), "features"),
        (lambda a, b: (a, replace(b, y=b.y[1:])), "expected 120 labels"),
    ],
)
def test_mistakes_are_one_line(change: Any, message: str) -> None:
    train, test = change(*parts())
    with pytest.raises(ValueError, match=message) as caught:
        run(train, test)
    assert "\n" not in str(caught.value)


def test_probe_accuracy_refuses_features_that_are_not_numbers() -> None:
    train, test = parts()
    with pytest.raises(ValueError, match="nan or inf in 1 of 200"):
        linear(broken(train.x), train.y, test.x, test.y)


def test_a_factor_may_be_called_label() -> None:
    train, test = (replace(part, factors={"label": part.factors["easy"]}) for part in parts())
    assert run(train, test)["factors"]["label"]["accuracy"] > 0.98


def test_unknown_protocol_lists_the_known() -> None:
    with pytest.raises(ValueError, match="known: fixed, tuned"):
        run(*parts(), "papper")
