"""kNN against lightly's and scikit-learn's; what chooses k and T; memory. Alone: pytest tests/probes/test_knn.py."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from probekit.probes import knn as neighbours
from probekit.probes.knn import K_GRID, MONITOR_T, knn, largest_k, nearest, vote
from probekit.probes.protocol import Part, validation_part

K, D = 7, 24
CLASSES = tuple("abcdefg")


def part(n: int, seed: int, noise: float = 1.0) -> Part:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, n)
    means = np.random.default_rng(0).normal(size=(K, D))
    return Part((means[y] + noise * rng.normal(size=(n, D)) * 1.5).astype(np.float32), y)


def row(train: Part, test: Part, **more: Any) -> dict[str, Any]:
    return knn("row", "encoder", train, test, **{"classes": CLASSES, "seed": 0, "device": "cpu", **more})


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.02), (20, 0.07), (200, 0.1), (300, 0.5)])
def test_votes_agree_with_lightly_and_scikit_learn(k: int, temperature: float) -> None:
    from lightly.utils.benchmarking.knn import knn_predict  # and Lightning: a second and a half

    train, test = part(300, 1), part(120, 2)
    cosine, rows = nearest(train.x, test.x, k=k, device="cpu")
    shares = vote(cosine, train.y[rows], k=k, temperature=temperature, classes=K)

    unit = [torch.nn.functional.normalize(torch.from_numpy(p.x).double(), dim=1) for p in (train, test)]
    labels = torch.from_numpy(train.y)
    theirs = knn_predict(unit[1], unit[0].T.contiguous(), labels, K, knn_k=k, knn_t=temperature)
    np.testing.assert_array_equal(shares.argmax(axis=1), theirs[:, 0].numpy())

    def weights(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.exp((1 - distance) / temperature)
        return found

    model = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute").fit(unit[0], train.y)
    np.testing.assert_allclose(shares, model.predict_proba(unit[1]), atol=2e-5 / temperature)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = part(200, 1), part(90, 2)
    whole = nearest(train.x, test.x, k=9, device="cpu")
    monkeypatch.setattr(neighbours, "CELLS", 1400)  # 7 queries
    parts = nearest(train.x, test.x, k=9, device="cpu")
    np.testing.assert_array_equal(whole[1], parts[1])
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-6)


def test_only_rows_among_are_found() -> None:
    train, test = part(100, 1), part(50, 2)
    among = np.arange(100) % 3 > 0
    _, rows = nearest(train.x, test.x, k=4, device="cpu", among=among)
    _, kept = nearest(train.x[among], test.x, k=4, device="cpu")
    np.testing.assert_array_equal(rows, np.flatnonzero(among)[kept])


def test_k_and_temperature_come_from_validation_alone() -> None:
    train, test = part(300, 1, 1.5), part(200, 2, 1.5)
    found = row(train, test)
    held = validation_part(train.y, seed=0)
    best = max(found["sweep"], key=lambda tried: tried["accuracy"])
    assert (found["k"], found["temperature"]) == (best["k"], best["temperature"])
    cosine, rows = nearest(train.x[~held], train.x[held], k=best["k"], device="cpu")
    votes = vote(cosine, train.y[~held][rows], k=best["k"], temperature=best["temperature"], classes=K)
    assert best["accuracy"] == (votes.argmax(1) == train.y[held]).mean()
    other = row(train, Part(test.x[::-1].copy(), test.y))  # the labels of test no longer fit
    assert [other[key] for key in ("k", "temperature", "sweep")] == [
        found[key] for key in ("k", "temperature", "sweep")
    ]
    assert other["accuracy"] < found["accuracy"] - 0.2
    # All of train votes in the end.
    cosine, rows = nearest(train.x, test.x, k=best["k"], device="cpu")
    votes = vote(cosine, train.y[rows], k=best["k"], temperature=best["temperature"], classes=K)
    assert found["accuracy"] == (votes.argmax(1) == test.y).mean()
    assert found["predicted"] == votes.argmax(1).tolist()


def test_a_validation_split_takes_the_place_of_the_part() -> None:
    train, test, val = part(150, 1), part(80, 2), part(60, 3)
    found = row(train, test, val=val)
    _cosine, rows = nearest(train.x, val.x, k=1, device="cpu")
    assert found["sweep"][0]["accuracy"] == (train.y[rows[:, 0]] == val.y).mean()


def test_k_is_capped_at_the_class_size_and_the_monitor_at_train() -> None:
    train, test = part(90, 1), part(40, 2)
    found = row(train, test)
    held = validation_part(train.y, seed=0)
    cap = largest_k(train.y[~held])
    assert cap == int(np.median(np.bincount(train.y[~held])))
    assert {tried["k"] for tried in found["sweep"]} == {min(k, cap) for k in K_GRID}
    assert [(m["k"], m["temperature"]) for m in found["monitor"]] == [(90, t) for t in MONITOR_T]


def test_the_row_is_json_with_intervals_and_top5() -> None:
    found = row(part(150, 1), part(80, 2))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for score, ci in (("accuracy", "ci"), ("top5", "top5_ci")):
        assert found[ci][0] <= found[score] <= found[ci][1]
    assert found["top5"] > found["accuracy"]
    assert "predicted" not in knn("f", "baseline", part(50, 1), part(20, 2), classes=CLASSES, seed=0, device="cpu")


@pytest.mark.parametrize("y", [[0, 1], [0, 0, 0, 0]])
def test_tiny_sets_still_give_a_row(y: list[int]) -> None:
    labels = np.array(y)
    found = row(Part(np.eye(4)[labels], labels), Part(np.eye(4)[labels], labels))
    assert found["accuracy"] == 1.0
    assert bool(found["note"]) == (len(found["sweep"]) == 0)


def test_rows_of_zeros_are_far_from_all_but_no_error() -> None:
    train = part(40, 1)
    found = row(Part(0 * train.x, train.y), Part(0 * train.x, train.y))
    assert 0 <= found["accuracy"] <= 1


def test_broken_features_are_one_line() -> None:
    train = part(40, 1)
    train.x[3, 1] = np.nan
    with pytest.raises(ValueError, match="found nan or inf in 1 of 40 rows"):
        row(train, part(20, 2))
