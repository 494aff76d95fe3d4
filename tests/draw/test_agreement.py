"""The numbers beside pictures: scikit-learn's trustworthiness and voters, loops, and what must hold by construction.

Alone: pytest tests/draw/test_agreement.py
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from probekit.draw import agreement as measured
from probekit.draw.agreement import agreement
from probekit.draw.patches import components, match, spread, unit

Floats = NDArray[np.floating]


def clouds(n: int = 60, dim: int = 8) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Embeddings of three classes, a plane that keeps some of them, and the classes."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = rng.normal(size=(n, dim)) + 1.5 * np.eye(3, dim)[y]
    return x, (x @ rng.normal(size=(dim, 2)) + 0.5 * rng.normal(size=(n, 2))), y


def cosine_distance(x: Floats) -> Floats:
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    found: Floats = 1 - z @ z.T
    return found


@pytest.mark.parametrize("k", [1, 5, 10])
@pytest.mark.parametrize("block", [7, 256])
def test_trustworthiness_is_scikit_learns_and_continuity_the_same_turned_round(
    k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "BLOCK", block)
    x, plane, y = clouds()
    found = agreement(x, plane, y, k=k, seed=0)
    expected = trustworthiness(x, plane, n_neighbors=k, metric="cosine")
    assert found["trustworthiness"] == pytest.approx(expected, abs=1e-9)
    z = x / np.linalg.norm(x, axis=1, keepdims=True)  # among which Euclid has the order of the cosine
    assert found["continuity"] == pytest.approx(trustworthiness(plane, z, n_neighbors=k), abs=1e-9)


def test_kept_neighbours_are_counted_as_in_loops() -> None:
    x, plane, y = clouds()
    k, n = 7, len(x)
    spaces = [cosine_distance(x), np.linalg.norm(plane[:, None] - plane[None], axis=2)]
    shares = []
    for d in spaces:
        np.fill_diagonal(d, np.inf)
    for i in range(n):
        sets = [set(sorted(range(n), key=d[i].tolist().__getitem__)[:k]) for d in spaces]
        shares.append(len(sets[0] & sets[1]) / k)
    kept = agreement(x, plane, y, k=k, seed=0)["kept"]
    assert kept["mean"] == pytest.approx(np.mean(shares))
    assert kept["ci"][0] < kept["mean"] < kept["ci"][1]
    assert kept["chance"] == k / (n - 1)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_voters_are_scikit_learns(k: int) -> None:
    """Leave-one-out; where classes tie, theirs takes the lower class, so that these images are left out."""
    x, plane, y = clouds()
    found = agreement(x, plane, y, k=k, seed=3)["knn"]
    for space, values, metric in (("embedding", x, "cosine"), ("plane", plane, "euclidean")):
        hits, ties = 0, 0
        for i in range(len(x)):
            rest = np.delete(np.arange(len(x)), i)
            shares = KNeighborsClassifier(k, metric=metric).fit(values[rest], y[rest]).predict_proba(values[[i]])[0]
            ties += (shares == shares.max()).sum() > 1
            hits += (shares == shares.max()).sum() == 1 and shares.argmax() == y[i]
        assert hits <= round(found[space]["accuracy"] * len(x)) <= hits + ties
    assert found["chance"] == pytest.approx(1 / 3)


def test_of_equal_votes_the_nearer_class_wins() -> None:
    assert measured._voted(np.array([[2, 0, 0, 2], [0, 2, 2, 0], [1, 2, 2, 0], [5, 3, 1, 0]])).tolist() == [2, 0, 2, 5]


def test_the_embedding_itself_is_kept_whole_and_chance_is_chance() -> None:
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 0.5 * np.pi, 400)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    same = agreement(x, x, None, k=10, seed=0)
    assert (same["kept"]["mean"], same["trustworthiness"], same["continuity"]) == (1, 1, 1)
    assert same["knn"] is None
    other = agreement(rng.normal(size=(400, 5)), rng.normal(size=(400, 2)), np.arange(400) % 4, k=10, seed=0)
    assert other["kept"]["mean"] == pytest.approx(10 / 399, abs=0.01)
    assert other["trustworthiness"] == pytest.approx(0.5, abs=0.03)
    assert other["knn"]["plane"]["accuracy"] == pytest.approx(0.25, abs=0.08)


def test_a_collapsed_embedding_and_plane_keep_no_neighbours_and_read_no_class() -> None:
    y = np.repeat(np.arange(4), 50)  # sorted by class
    found = agreement(np.ones((200, 6)), np.zeros((200, 2)), y, k=5, seed=0)
    assert found["kept"]["mean"] == 0
    assert found["trustworthiness"] < 0.5
    assert [found["knn"][space]["accuracy"] for space in ("embedding", "plane")] == pytest.approx([0.25, 0.25])


def test_components_are_scikit_learns_and_hold_for_all_images_at_once() -> None:
    features = np.random.default_rng(0).normal(size=(3, 4, 5, 12)) * np.arange(1, 13)
    found = components(features)
    model = PCA(3).fit(features.reshape(-1, 12))
    assert found.shares == pytest.approx(model.explained_variance_ratio_)
    scores = model.transform(features.reshape(-1, 12))
    turn = np.sign(model.components_[np.arange(3), np.abs(model.components_).argmax(axis=1)])
    low, high = np.percentile(scores * turn, (1, 99), axis=0)
    expected = np.clip((scores * turn - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found.colours.reshape(-1, 3), expected, atol=1e-9)


def test_colours_do_not_depend_on_the_order_of_images_nor_on_a_common_offset() -> None:
    features = np.random.default_rng(0).normal(size=(4, 3, 3, 6)) * np.arange(1, 7)
    found = components(features).colours
    np.testing.assert_allclose(components(features[::-1] + 7).colours, found[::-1], atol=1e-6)
    flat = components(np.ones((2, 3, 3, 6)))
    assert np.isfinite(flat.colours).all()
    assert flat.shares == [0, 0, 0]
    assert components(features[..., :2]).shares[2] == 0  # fewer dimensions than colours


def test_matches_are_the_nearest_in_loops() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    found = match(a, b)
    one, two = a.reshape(-1, 5), b.reshape(-1, 5)
    for i in range(12):
        cosines = [one[i] @ v / np.linalg.norm(one[i]) / np.linalg.norm(v) for v in two]
        assert found.nearest[i] == int(np.argmax(cosines))
        assert found.cosines[i] == pytest.approx(max(cosines))
        back = [two[found.nearest[i]] @ u / np.linalg.norm(u) for u in one]
        assert found.mutual[i] == (int(np.argmax(back)) == i)
    same = match(a, 3 * a)
    assert same.nearest.tolist() == list(range(12))
    assert same.mutual.all()
    chance = np.mean([match(rng.normal(size=(4, 4, 99)), rng.normal(size=(4, 4, 99))).mutual.mean() for _ in range(60)])
    assert chance == pytest.approx(16 / 31, abs=0.04)  # docs/draw.md


def test_spread_cells_are_the_least_alike() -> None:
    features = np.repeat(np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]], float), [9, 3, 2, 2], axis=0)
    chosen = unit(features)[spread(features.reshape(4, 4, 3), 3)]
    assert sorted(chosen.round(3).tolist()) == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert len(spread(features.reshape(4, 4, 3), 99)) == len(set(spread(features.reshape(4, 4, 3), 99))) == 16
