"""Whether neighbours in a plane are neighbours in the embedding, which a scatter alone does not tell.

Trustworthiness and continuity: Venna and Kaski 2001. n images, D dimensions, k neighbours.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.draw.patches import unit
from probekit.statistics import mean_over_images, share_interval

BLOCK = 256  # images that are compared with all at a time: bounds the memory

Floats = NDArray[np.floating]


def agreement(x: Floats, plane: Floats, y: NDArray[np.int64] | None, *, k: int, seed: int) -> dict[str, Any]:
    """How far the neighbours of embeddings `[n, D]`, by cosine, are those in a plane `[n, 2]`, by distance.

    Gives k; kept (mean and ci: the share of the k nearest in the embedding that are among the k nearest in the plane)
    and its chance; trustworthiness and continuity, 1 at best, about 0.5 by chance, None where n is below 3 k / 2 + 1;
    and knn, None without classes `y` `[n]`: the share whose class the k nearest of the others vote for, in the
    embedding and in the plane, each with ci, and chance, the share of the largest class. Of equally near
    ones the plane takes the last in the file and the embedding the first: a collapse keeps none. `seed`: of the
    bootstrap. `k` is at most n - 1.
    """
    n = len(x)
    assert 1 <= k < n
    x, plane = unit(x), np.asarray(plane, np.float64)
    classes = None if y is None else np.unique(y, return_inverse=True)[1]
    kept, far, lost = np.empty(n), 0.0, 0.0
    hits = np.empty((2, n), bool)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        own = np.arange(n)[rows]
        by_cosine = _ranked(-(x[rows] @ x.T), own)
        by_distance = n - 1 - _ranked(((plane[rows, None] - plane[::-1]) ** 2).sum(axis=2), n - 1 - own)
        ranks = [_ranks(ranked) for ranked in (by_cosine, by_distance)]
        near = [ranked[:, :k] for ranked in (by_cosine, by_distance)]
        places = [np.take_along_axis(ranks[0], near[1], axis=1), np.take_along_axis(ranks[1], near[0], axis=1)]
        kept[rows] = (places[1] <= k).mean(axis=1)
        far += float(np.maximum(0, places[0] - k).sum())
        lost += float(np.maximum(0, places[1] - k).sum())
        if classes is not None:
            for space in range(2):
                hits[space, rows] = _voted(classes[near[space]]) == classes[rows]
    scale = n * k * (2 * n - 3 * k - 1) / 2
    found = mean_over_images(kept, seed=seed)
    return {
        "k": k,
        "n": n,
        "kept": {"mean": found["mean"], "ci": found["ci"], "chance": k / (n - 1)},
        "trustworthiness": 1 - far / scale if scale > 0 else None,
        "continuity": 1 - lost / scale if scale > 0 else None,
        "knn": None if classes is None else _scored(hits, classes),
    }


def _scored(hits: NDArray[np.bool_], classes: NDArray[np.int64]) -> dict[str, Any]:
    n = len(classes)
    scores = {
        name: {"accuracy": float(hit.mean()), "ci": share_interval(int(hit.sum()), n)}
        for name, hit in zip(("embedding", "plane"), hits, strict=True)
    }
    return {**scores, "chance": float(np.bincount(classes).max() / n)}


def _ranked(distances: Floats, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """The others of each image, the nearest first, `[m, n - 1]`; equal ones in the order of their columns."""
    distances[np.arange(len(own)), own] = -np.inf
    return np.argsort(distances, axis=1, kind="stable")[:, 1:]


def _ranks(ranked: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each image, from 1, `[m, n]`; 0 for itself."""
    ranks = np.zeros((len(ranked), ranked.shape[1] + 1), np.int64)
    np.put_along_axis(ranks, ranked, np.arange(1, ranked.shape[1] + 1)[None], axis=1)
    return ranks


def _voted(near: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class that most of the nearest `[m, k]` have, of equal ones that of the nearest voter."""
    votes = np.zeros((len(near), int(near.max()) + 1))
    for place in range(near.shape[1]):  # one vote each, and beside it what all together make less than one
        votes[np.arange(len(near)), near[:, place]] += 1 + 0.5 ** (place + 2)
    winners: NDArray[np.int64] = votes.argmax(axis=1)
    return winners
