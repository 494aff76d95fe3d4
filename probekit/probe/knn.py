"""Weighted k-nearest-neighbour classification (Wu et al. 2018, InstDisc): nothing is fitted.

Neighbours by cosine; each votes for its class with weight exp(cosine / T). k and T are chosen on a validation part of
train, then all of train votes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.probe.neighbours import nearest
from probekit.probe.protocol import Part, check_part, validation_part
from probekit.probe.scores import evaluate
from probekit.statistics import share_interval

K_GRID = (1, 5, 20, 200)  # ours; 200 is the papers'
T_GRID = (0.02, 0.07, 0.1, 0.5)  # .07 InstDisc, .1 MoCo's and lightly's code; the outer two are ours
MONITOR_K = 200  # XCorr, section 3.1; InstDisc's, MoCo's and lightly's code
MONITOR_T = (0.1, 0.07)
BLOCK = 4096  # queries that vote at a time; bounds the memory


def knn(
    name: str,
    kind: str,
    train: Part,
    test: Part,
    *,
    classes: Sequence[str],
    seed: int,
    device: str,
    val: Part | None = None,
) -> dict[str, Any]:
    """Classifies test by its neighbours in train.

    Args:
        kind: "encoder" or "baseline".
        train: Who votes.
        test: What is scored, once.
        classes: Names of the K classes.
        seed: Draws the validation part when `val` is None: the same as of the linear probe.
        device: Where cosines are computed.
        val: Chooses k and T in place of a part of train.

    Returns:
        One row, valid JSON: name, kind, the scores of `scores.evaluate` (probabilities are shares of the votes), k,
        temperature, note, sweep [{k, temperature, accuracy}] on validation, monitor [{k, temperature, accuracy, ci}] on
        test with nothing chosen, classes, n_train, dim; for an encoder also labels and predicted, `[n]` class numbers.

    Raises:
        ValueError: If shapes, labels or features are not as described.
    """
    for part, where in ((train, "train"), (test, "test"), (val, "val")):
        if part is not None:
            check_part(part, f"{where}, {name}", train.x.shape[1:], len(classes))
    n, total = len(classes), len(train.y)
    sweep = _sweep(train, val, classes=n, seed=seed, device=device)
    best = max(sweep, key=lambda tried: float(tried["accuracy"]), default=None)
    k, temperature = (min(K_GRID[-1], total), MONITOR_T[0]) if best is None else (best["k"], best["temperature"])
    cosine, rows = nearest(train.x, test.x, k=max(k, min(MONITOR_K, total)), device=device)
    voters = train.y[rows]
    votes = vote(cosine, voters, k=k, temperature=temperature, classes=n)
    with np.errstate(divide="ignore"):
        scores = evaluate(np.log(votes), test.y, seed=seed)
    return {
        "name": name,
        "kind": kind,
        **scores,
        "k": k,
        "temperature": temperature,
        "note": "" if best is not None else "too few samples to choose k and T on held-out data",
        "sweep": sweep,
        "monitor": [_monitor(cosine, voters, test.y, min(MONITOR_K, total), t, n) for t in MONITOR_T],
        "classes": list(classes),
        "n_train": total,
        "dim": train.x.shape[1],
        **({"labels": test.y.tolist(), "predicted": votes.argmax(1).tolist()} if kind == "encoder" else {}),
    }


def _monitor(
    cosine: NDArray[np.floating], voters: NDArray[np.int64], y: NDArray[np.int64], k: int, T: float, classes: int
) -> dict[str, Any]:
    """The accuracy with k and T as the papers have them."""
    hits = vote(cosine, voters, k=k, temperature=T, classes=classes).argmax(axis=1) == y
    ends = share_interval(int(hits.sum()), len(hits))
    return {"k": k, "temperature": T, "accuracy": float(hits.mean()), "ci": ends}


def vote(
    cosine: NDArray[np.floating], voters: NDArray[np.int64], *, k: int, temperature: float, classes: int
) -> NDArray[np.float64]:
    """Shares of the votes, each of the k nearest with weight exp(cosine / T).

    Args:
        cosine: `[M, n]`, n >= k, the highest first.
        voters: int64 `[M, n]`, the classes of these neighbours.
        k: How many of them vote.
        temperature: T > 0.
        classes: K.

    Returns:
        float64 `[M, K]`; rows sum to 1.
    """
    shares = np.empty((len(cosine), classes))
    for start in range(0, len(cosine), BLOCK):
        near = cosine[start : start + BLOCK, :k].astype(np.float64)
        weight = np.exp((near - near[:, :1]) / temperature)  # relative to the nearest: it cannot overflow
        cells = np.arange(len(near))[:, None] * classes + voters[start : start + BLOCK, :k]
        sums = np.bincount(cells.ravel(), weight.ravel(), minlength=len(near) * classes).reshape(-1, classes)
        shares[start : start + BLOCK] = sums / sums.sum(axis=1, keepdims=True)
    return shares


def largest_k(y: NDArray[np.int64]) -> int:
    """The median class size: more neighbours than that must bring in other classes, whatever the embedding."""
    return max(1, int(np.median(np.unique(y, return_counts=True)[1])))


def _sweep(train: Part, val: Part | None, *, classes: int, seed: int, device: str) -> list[dict[str, Any]]:
    """Accuracy on held-out data at each k and T; of equal ones the first, with the smallest k, is best."""
    among = None
    asked = val
    if asked is None:
        held = validation_part(train.y, seed=seed, groups=train.groups)
        among, asked = ~held, Part(train.x[held], train.y[held])
    voters = train.y if among is None else train.y[among]
    if len(voters) == 0 or len(asked.y) == 0:
        return []
    grid = sorted({min(k, largest_k(voters)) for k in K_GRID})
    cosine, rows = nearest(train.x, asked.x, k=grid[-1], device=device, among=among)
    return [
        {"k": k, "temperature": t, "accuracy": float((shares.argmax(1) == asked.y).mean())}
        for k in grid
        for t in (T_GRID if k > 1 else T_GRID[:1])  # one voter needs no weight
        for shares in [vote(cosine, train.y[rows], k=k, temperature=t, classes=classes)]
    ]


def majority(train: NDArray[np.int64], test: NDArray[np.int64], *, classes: Sequence[str], seed: int) -> dict[str, Any]:
    """The row of kind "baseline" that is chance: the most frequent class of train for every test image."""
    shares = np.zeros((len(test), len(classes)))
    shares[:] = np.bincount(train, minlength=len(classes)) / len(train)
    with np.errstate(divide="ignore"):
        scores = evaluate(np.log(shares), test, seed=seed)
    missing: dict[str, Any] = {"k": None, "temperature": None, "note": "", "sweep": [], "monitor": []}
    return {
        "name": "chance",
        "kind": "baseline",
        **scores,
        **missing,
        "classes": list(classes),
        "n_train": len(train),
        "dim": 0,
    }
