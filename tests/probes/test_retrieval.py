"""Retrieval against pytorch-metric-learning and scikit-learn, chance by simulation, ties, galleries, fingerprints.

Alone: pytest tests/probes/test_retrieval.py
"""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from probekit.probes import RETRIEVAL as METRICS
from probekit.probes import retrieval as module
from probekit.probes.protocol import Part
from probekit.probes.retrieval import Factor, chance, fingerprint, rank_all, retrieval

K, D = 5, 16
CLASSES = tuple("abcde")


def part(n: int, seed: int = 0) -> Part:
    rng = np.random.default_rng(seed)
    y = rng.choice(K, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    return Part((rng.normal(size=(K, D))[y] * 0.7 + rng.normal(size=(n, D))).astype(np.float32), y)


def row(p: Part, **more: Any) -> dict[str, Any]:
    return retrieval("row", "encoder", p, **{"classes": CLASSES, "seed": 0, "device": "cpu", **more})


def cosine(x: NDArray[np.floating]) -> NDArray[np.float64]:
    unit = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    found: NDArray[np.float64] = unit @ unit.T
    return found


def test_metrics_agree_with_pytorch_metric_learning() -> None:
    p = part(240)
    scores = row(p)["scores"]
    names = {
        "rank1": "precision_at_1",
        "map": "mean_average_precision",
        "map_at_r": "mean_average_precision_at_r",
        "r_precision": "r_precision",
    }
    calculator = AccuracyCalculator(
        include=tuple(names.values()),
        k=len(p.y) - 1,
        knn_func=CustomKNN(CosineSimilarity(), batch_size=64),
        device=torch.device("cpu"),
    )
    theirs = calculator.get_accuracy(torch.from_numpy(p.x), torch.from_numpy(p.y))
    for ours, name in names.items():
        assert scores[ours]["value"] == pytest.approx(theirs[name], abs=1e-6), name


def test_average_precision_of_each_query_agrees_with_scikit_learn() -> None:
    p = part(150)
    found, similar = row(p), cosine(p.x)
    for i, value in enumerate(found["average_precision"]):
        others = np.arange(len(p.y)) != i
        expected = average_precision_score(p.y[others] == p.y[i], similar[i, others])
        assert value == pytest.approx(expected, abs=1e-6)


def test_each_metric_is_its_definition_in_loops() -> None:
    p = part(60)
    found, similar = rank_all(p.x, p.y, seed=0, device="cpu")[0], cosine(p.x)
    for i in range(60):
        order = [j for j in np.argsort(-similar[i]) if j != i]
        hits = [bool(p.y[j] == p.y[i]) for j in order]
        R = sum(hits)
        at = [k + 1 for k, hit in enumerate(hits) if hit]
        expected = [
            float(hits[0]),
            float(any(hits[:5])),
            sum((r + 1) / k for r, k in enumerate(at)) / R,
            sum((r + 1) / k for r, k in enumerate(at) if k <= R) / R,
            sum(hits[:R]) / R,
            sum(hits[:3]) / 3,
            sum(hits[17:20]) / 3,
        ]
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(0, 99))
def test_chance_is_what_random_rankings_score(sizes: list[int], seed: int) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.bincount(y)[y] > 1
    if not counts.any() or len(y) < 21:
        sizes = [*sizes, 21]
        y = np.repeat(np.arange(len(sizes)), sizes)
        counts = np.bincount(y)[y] > 1
    rng = np.random.default_rng(seed)
    total, rounds = np.zeros(len(METRICS)), 150
    for _ in range(rounds):
        order = np.argsort(rng.random((len(y), len(y) - 1)), axis=1)
        others = np.array([np.delete(y, i) for i in range(len(y))])
        hits = np.take_along_axis(others, order, axis=1) == y[:, None]
        total += np.nanmean(module._metrics(hits)[counts], axis=0)
    expected = chance((np.bincount(y)[y] - 1)[counts], len(y) - 1)
    np.testing.assert_allclose(total / rounds, list(expected.values()), atol=0.04)


def test_chance_of_rank5_is_the_figure_of_the_notes() -> None:
    three = chance(np.full(1, 132), 398)  # Circles-Squares' test set, three classes
    assert three["rank5"] == pytest.approx(0.868, abs=0.002)
    assert chance(np.full(1, 124), 499)["rank5"] == pytest.approx(0.763, abs=0.002)


def test_equal_embeddings_of_a_sorted_file_give_chance() -> None:
    y = np.sort(np.random.default_rng(1).integers(0, K, 400))
    for x in (np.ones((400, D)), np.zeros((400, D)), np.full((400, 3), 0.1)):
        for name, score in row(Part(x, y))["scores"].items():
            assert score["value"] == pytest.approx(score["chance"], abs=0.08), name


def test_ties_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-1, 2, (100, 3)).astype(np.float32), rng.integers(0, K, 100)
    whole = rank_all(x, y, seed=3, device="cpu")
    monkeypatch.setattr(module, "CELLS", 700)
    blocks = rank_all(x, y, seed=3, device="cpu")
    np.testing.assert_array_equal(whole[0], blocks[0])
    np.testing.assert_array_equal(whole[1], blocks[1])


def test_a_query_without_relevant_images_is_skipped_and_counted() -> None:
    p = part(80)
    lonely = Part(p.x, np.where(np.arange(80) == 5, 4, np.minimum(p.y, 3)))
    found = row(lonely)
    assert (found["n"], found["skipped"]) == (79, 1)
    assert found["average_precision"][5] is None
    known = [value for value in found["average_precision"] if value is not None]
    assert found["scores"]["map"]["value"] == pytest.approx(np.mean(known))
    nothing = row(Part(p.x[:5], np.arange(5)))
    assert nothing["n"] == 0
    assert nothing["scores"]["map"] == {"value": None, "ci": None, "chance": None}
    json.dumps(nothing, allow_nan=False)


def test_galleries_are_the_first_three_and_ranks_18_to_20() -> None:
    p = part(90)
    similar = cosine(p.x)
    found = row(p)
    assert len(found["gallery"]) == 8
    for shown in found["gallery"]:
        order = [j for j in np.argsort(-similar[shown["query"]]) if j != shown["query"]]
        assert (shown["positive"], shown["negative"]) == (order[:3], order[17:20])
    assert found["predicted"] == [int(p.y[np.argsort(-line)[1]]) for line in similar]


def test_short_rankings_leave_the_negative_gallery_out() -> None:
    found = row(part(12))
    assert found["scores"]["precision18_20"] == {"value": None, "ci": None, "chance": None}
    assert all(shown["negative"] == [] for shown in found["gallery"])
    assert row(part(3))["scores"]["precision3"] == {"value": None, "ci": None, "chance": None}


def test_intervals_hold_the_value_and_the_row_is_json() -> None:
    found = row(part(200), factors={"f": Factor(np.arange(200) % 3, "class")})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for score in found["scores"].values():
        assert score["ci"][0] <= score["value"] <= score["ci"][1]
        assert score["ci"][1] - score["ci"][0] < 0.2


def test_one_image_is_one_line() -> None:
    with pytest.raises(ValueError, match="expected two images or more"):
        row(Part(np.ones((1, 3)), np.zeros(1, dtype=np.int64)))


def test_fingerprint_tells_what_neighbours_share() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    angle = rng.uniform(-180, 180, n)
    width, kind = rng.uniform(0, 5, n), rng.integers(0, 4, n)
    seen = np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], axis=1)
    gap = np.abs(np.subtract.outer(angle, angle)) % 360
    nearest = (np.minimum(gap, 360 - gap) + 999 * np.eye(n)).argmin(axis=1)
    factors = {
        "angle": Factor(angle, "circular"),
        "width": Factor(width, "real"),
        "kind": Factor(kind, "class"),
        "flat": Factor(0 * width, "real"),
        "one": Factor(0 * kind, "class"),
    }
    found = fingerprint(factors, nearest, seed=0)
    assert found["angle"]["value"] > 0.99
    assert found["width"]["value"] == pytest.approx(0, abs=0.1)
    assert found["kind"]["value"] == pytest.approx(found["kind"]["chance"], abs=0.05)
    assert found["kind"]["chance"] == pytest.approx(0.25, abs=0.01)
    assert found["flat"]["value"] is None
    assert found["one"]["value"] is None
    same = int((kind[nearest] == kind).sum())
    assert found["kind"]["ci"] == pytest.approx(list(binomtest(same, n).proportion_ci(method="wilson")))
    low, high = found["width"]["ci"]
    assert low < found["width"]["value"] < high < low + 0.2
    assert found["flat"]["ci"] is None
    # The cosine ranking of (cos, sin) finds the same neighbours.
    top = rank_all(seen, kind, seed=0, device="cpu")[1][:, 0]
    assert fingerprint(factors, top, seed=0)["angle"]["value"] > 0.99


def test_the_interval_of_what_is_shared_covers_it() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = rng.uniform(0, 1, 60)
        found = fingerprint({"a": Factor(values, "real")}, rng.permutation(60), seed=seed)["a"]
        covered += found["ci"][0] <= 0 <= found["ci"][1]  # random neighbours share nothing
    assert 180 <= covered <= 200
    few = fingerprint({"a": Factor(values[:4], "real")}, np.array([1, 0, 3, 2]), seed=0)["a"]
    assert few["ci"] is None
    assert few["value"] is not None


def test_a_circular_factor_knows_its_period() -> None:
    values = np.array([179.0, -179.0, 0.0, 90.0])
    found = fingerprint({"a": Factor(values, "circular")}, np.array([1, 0, 3, 2]), seed=0)["a"]["value"]
    assert found is not None
    assert found > fingerprint({"a": Factor(values, "real")}, np.array([1, 0, 3, 2]), seed=0)["a"]["value"]
