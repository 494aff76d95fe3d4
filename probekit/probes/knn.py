"""Neighbours by cosine, and weighted k-nearest-neighbour classification (Wu et al. 2018, InstDisc): nothing is fitted.

Each neighbour votes for its class with weight exp(cosine / T). k and T are chosen on a validation part of train, then
all of train votes. A bank of 268,000 x 2048 in float32 is 2.2 GB; on a CPU it is used as it lies, a memory map too, and
not copied; cosines are computed for a block of queries at a time: no table of all by all.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.probes.protocol import Part, check_parts, validation_part
from probekit.probes.scores import evaluate
from probekit.statistics import share_interval

CELLS = 2**25  # ours, cosines at a time: 128 MiB in float32; of 268,000 embeddings 125 queries
QUERIES = 256  # ours, at most: more made the matrix product no faster on a CPU

Floats = NDArray[np.floating]

K_GRID = (1, 5, 20, 200)  # ours; 200 is the papers'
T_GRID = (0.02, 0.07, 0.1, 0.5)  # .07 InstDisc, .1 MoCo's and lightly's code; the outer two are ours
MONITOR_K = 200  # XCorr, section 3.1; InstDisc's, MoCo's and lightly's code
MONITOR_T = (0.1, 0.07)
BLOCK = 4096  # queries that vote at a time; bounds the memory


class Bank:
    """Embeddings `[N, D]` that are searched; float32 in C order is not copied on a CPU."""

    def __init__(self, x: Floats, device: str) -> None:
        self.rows = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(device)
        self.scale = 1 / _length(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def cosines(self, queries: Tensor) -> Tensor:
        """Cosines float32 `[Q, N]` with rows `[Q, D]` of any length; those with a row of zeros are 0."""
        return (queries / _length(queries)[:, None] @ self.rows.T).mul_(self.scale)

    def blocks(self, queries: int, cells: int) -> Iterator[slice]:
        """Blocks of so many queries whose table of cosines has at most so many cells, or one row."""
        step = max(1, min(QUERIES, cells // len(self)))
        return (slice(start, min(start + step, queries)) for start in range(0, queries, step))


def nearest(
    bank: Floats, queries: Floats, *, k: int, device: str, among: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows of a bank `[N, D]` with the highest cosines to each query `[M, D]`, the highest first.

    `among` `[N]`: the rows that may be found; None is all. (A copy of a part of the bank would cost memory.) Which of
    equal cosines are taken at the k-th place is left to the library. Gives cosines float32 `[M, k]`, rows int64 `[M,
    k]`.
    """
    rows_left = len(bank) if among is None else int(among.sum())
    assert 1 <= k <= rows_left, (k, rows_left)
    hidden = None if among is None else torch.from_numpy(~among).to(device)
    found, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    searched = Bank(bank, device)
    for block in searched.blocks(len(queries), CELLS):
        asked = torch.from_numpy(np.ascontiguousarray(queries[block], dtype=np.float32)).to(device)
        cosines = searched.cosines(asked)
        if hidden is not None:
            cosines[:, hidden] = -torch.inf
        best = cosines.topk(k, dim=1)
        found[block], rows[block] = best.values.cpu().numpy(), best.indices.cpu().numpy()
    return found, rows


def _length(rows: Tensor) -> Tensor:
    """The length of each row, `[n]`; 1 where it is zero, so that dividing by it leaves zeros."""
    length = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(length > 0, length, 1.0)


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
    """Classifies test by its neighbours in train; one row, valid JSON.

    `val` chooses k and T in place of a part of train, which the seed draws as for the linear probe. Gives what
    `measurements.knn.KNNRow` has (probabilities are shares of the votes; monitor: on test with nothing chosen), and
    sweep [{k, temperature, accuracy}] on validation, classes, n_train, dim; for an encoder labels and predicted, `[n]`
    class numbers. A ValueError if shapes, labels or features are not as described.
    """
    check_parts(name, train, test, val, len(classes))
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
    """Shares of the votes `[M, K]`, each of the k nearest with weight exp(cosine / T); rows sum to 1.

    `cosine` `[M, n]`, n >= k, the highest first; `voters` int64 `[M, n]`, the classes of these neighbours.
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
