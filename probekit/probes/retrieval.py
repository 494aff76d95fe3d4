"""Leave-one-out retrieval by cosine: each image of a split asks all others; those of its class are relevant.

Ties: all images are put on a circle, in an order drawn from the seed; of equal cosines those rank higher that come
sooner after the query. So a collapsed encoder scores chance, in whatever order the file is.

Definitions: LCR's code (rank-1, rank-5, mAP over the complete ranking); Musgrave et al. 2020 (MAP@R,
R-precision).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import quantile_test
from torch import Tensor

from probekit.probes import RETRIEVAL as METRICS
from probekit.probes.knn import Bank
from probekit.probes.protocol import Part, check_part
from probekit.statistics import MIN_IMAGES, bootstrap, share_interval

STRANGERS = 20  # ours: random others that each image is compared with

TOP, FAR = 3, slice(17, 20)  # XCorr, supplement, section 1.5: the 3 nearest, and the 3 least similar of the 20 nearest
ANCHORS = 8  # ours: images whose galleries are kept
CELLS = 2**24  # ours, cosines at a time: 128 MiB of keys; of 268,000 images 62 queries
# What is sorted, in one int64: 1 - cosine in steps of 2^-28 (finer than float32), 31 bits of place after the query, and
# 1 bit of relevance. Sorting such keys takes a tenth of the time of an argsort, measured on a CPU.
STEPS, LOW, LAST = 2.0**28, 2**32 - 1, 2**63 - 1


@dataclass(frozen=True)
class Factor:
    """A factor of a split."""

    values: NDArray[Any]  # `[N]`
    kind: str  # "class", "real", "ordinal" or "circular"; see `generators.base.Factor`
    period: float = 360.0  # of a circular factor, in its unit


def fingerprint(factors: Mapping[str, Factor], nearest: NDArray[np.int64], *, seed: int) -> dict[str, dict[str, Any]]:
    """For each factor, how much more an image and its nearest, int64 `[N]`, share than two drawn at random.

    An embedding in which neighbours share the class but not the position has thrown the position away, or holds it in
    directions of small variance.

    Gives kind, value, ci and chance. class: value is the share of images whose nearest has the same value, chance that
    of all pairs; ci: 95 % Wilson over images. Others: value is 1 - the median distance to the nearest / the median
    distance to a random other: 1 if they are equal, 0 if nothing is shared; chance is 0; ci: from the 95 % interval of
    the median distance to the nearest by order statistics, the other distance taken as known. ci is None under 10
    images; value and ci if the factor does not vary.
    """
    rng = np.random.default_rng(seed)
    n = len(nearest)
    others = (np.arange(n)[:, None] + rng.integers(1, n, (n, STRANGERS))) % n  # never itself
    return {name: _compare(factor, nearest, others) for name, factor in factors.items()}


def _compare(factor: Factor, nearest: NDArray[np.int64], others: NDArray[np.int64]) -> dict[str, Any]:
    values, n = factor.values, len(nearest)
    if factor.kind == "class":
        counts = np.unique(values, return_counts=True)[1]
        same = float((values[nearest] == values).mean())
        pairs = float((counts * (counts - 1)).sum() / (n * (n - 1)))
        varies = len(counts) > 1
        ends = share_interval(round(same * n), n) if varies else None
        return {"kind": factor.kind, "value": same if varies else None, "ci": ends, "chance": pairs}
    usual = float(np.median(_distance(factor, values[others], values[:, None])))
    if usual == 0:
        return {"kind": factor.kind, "value": None, "ci": None, "chance": 0.0}
    near = _distance(factor, values[nearest], values)
    low, high = quantile_test(near, p=0.5).confidence_interval(0.95)
    ends = (
        [1 - float(high) / usual, 1 - float(low) / usual]
        if n >= MIN_IMAGES and np.isfinite([low, high]).all()
        else None
    )
    return {"kind": factor.kind, "value": 1 - float(np.median(near)) / usual, "ci": ends, "chance": 0.0}


def _distance(factor: Factor, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    if factor.kind != "circular":
        return apart
    turned = apart % factor.period
    return np.minimum(turned, factor.period - turned)


def retrieval(
    name: str,
    kind: str,
    part: Part,
    *,
    classes: Sequence[str],
    seed: int,
    device: str,
    factors: Mapping[str, Factor] | None = None,
) -> dict[str, Any]:
    """Scores a ranking by cosine of each image of a split, N > 1, against all others; one row, valid JSON.

    The seed decides the order of ties, the bootstrap and the anchors. Gives what `measurements.retrieval.RetrievalRow`
    has: scores of `METRICS` (None where no query counts), n (queries that count), skipped (those without a relevant
    image), gallery [{query, positive, negative}] as numbers of images, `fingerprint` of the factors; and classes, dim;
    for an encoder labels, predicted (the class of the nearest image) and average_precision (None where skipped), `[N]`.
    A ValueError if shapes, labels or features are not as described, or there is one image only.
    """
    check_part(part, name, part.x.shape[1:], len(classes))
    if len(part.y) < 2:
        raise ValueError("expected two images or more to retrieve one by another, found 1; type: probekit show PATH")
    per_query, top = rank_all(part.x, part.y, seed=seed, device=device)
    relevant = np.bincount(part.y)[part.y] - 1
    counts = relevant > 0
    values, expected = per_query[counts], chance(relevant[counts], len(part.y) - 1)
    found = values.mean(axis=0) if counts.any() else np.full(len(METRICS), np.nan)
    ends = bootstrap(values, seed=seed)
    scores = {
        metric: {"value": _known(found[i]), "ci": ends[i], "chance": _known(expected[metric])}
        for i, metric in enumerate(METRICS)
    }
    precision = [_known(value) for value in per_query[:, list(METRICS).index("map")]]
    return {
        "name": name,
        "kind": kind,
        "scores": scores,
        "n": int(counts.sum()),
        "skipped": int((~counts).sum()),
        "gallery": _gallery(top, seed),
        "fingerprint": fingerprint(factors or {}, top[:, 0], seed=seed),
        "classes": list(classes),
        "dim": part.x.shape[1],
        **(
            {"labels": part.y.tolist(), "predicted": part.y[top[:, 0]].tolist(), "average_precision": precision}
            if kind == "encoder"
            else {}
        ),
    }


def by_chance(y: NDArray[np.int64]) -> dict[str, Any]:
    """The row of kind "baseline" that a random ranking of images with these labels `[N]` is expected to have."""
    relevant = np.bincount(y)[y] - 1
    counts = relevant > 0
    expected = {metric: _known(value) for metric, value in chance(relevant[counts], len(y) - 1).items()}
    return {
        "name": "chance",
        "kind": "baseline",
        "scores": {metric: {"value": value, "ci": None, "chance": value} for metric, value in expected.items()},
        "n": int(counts.sum()),
        "skipped": int((~counts).sum()),
        "gallery": [],
        "fingerprint": {},
        "dim": 0,
    }


def rank_all(
    x: NDArray[np.floating], y: NDArray[np.int64], *, seed: int, device: str, queries: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ranks all other images of `x` `[N, D]`, N > 1, for each image, or for the first so many as `queries`.

    Gives the metrics of each query in the order of `METRICS`, float64 `[Q, 7]`, NaN for one without a relevant image;
    and the images at its first ranks, int64 `[Q, min(20, N - 1)]`. The seed decides the order of ties.
    """
    n = len(y)
    bank = Bank(x, device)
    labels = torch.from_numpy(y).to(device)
    place = torch.from_numpy(np.random.default_rng(seed).permutation(n)).to(device)  # of each image on the circle
    image = torch.argsort(place)
    asked = n if queries is None else queries
    metrics = np.empty((asked, len(METRICS)))
    top = np.empty((asked, min(FAR.stop, n - 1)), dtype=np.int64)
    for block in bank.blocks(asked, CELLS):
        own = torch.arange(block.start, block.stop, device=device)
        relevant = labels == labels[own][:, None]
        after = (place - place[own][:, None]).remainder_(n)
        keys = _keys(bank.cosines(bank.rows[block]), after.bitwise_left_shift_(1).bitwise_or_(relevant))
        keys[own - block.start, own] = LAST
        ranked = _sorted(keys)[:, :-1]
        metrics[block] = _metrics((ranked & 1 == 1).cpu().numpy())
        first = (ranked[:, : top.shape[1]] & LOW) >> 1
        top[block] = image[(first + place[own][:, None]) % n].cpu().numpy()
    return metrics, top


def chance(relevant: NDArray[np.int64], others: int) -> dict[str, float]:
    """What a random ranking is expected to score by each of `METRICS`: exact, the mean over queries; NaN without any.

    `relevant` `[Q]`: how many of the `others` that a query ranks are relevant to it, at least 1.
    """
    if len(relevant) == 0:
        return dict.fromkeys(METRICS, float("nan"))
    R, each = np.unique(relevant, return_inverse=True)
    share = R / others
    after = (R - 1) / max(1, others - 1)  # relevant share of the other ranks, given that one is relevant
    harmonic = np.cumsum(1 / np.arange(1, others + 1))
    missing, unknown = np.ones(len(R)), np.full(len(R), np.nan)
    for k in range(min(5, others)):
        missing *= np.maximum(0, others - R - k) / (others - k)
    found = {
        "rank1": share,
        "rank5": 1 - missing,
        "map": (after * (others - harmonic[-1]) + harmonic[-1]) / others,
        "map_at_r": (after * (R - harmonic[R - 1]) + harmonic[R - 1]) / others,
        "r_precision": share,
        "precision3": share if others >= TOP else unknown,
        "precision18_20": share if others >= FAR.stop else unknown,
    }
    return {metric: float(values[each].mean()) for metric, values in found.items()}


def _keys(cosines: Tensor, low: Tensor) -> Tensor:
    """Ascending keys: the highest cosine first, then by `low`."""
    steps = cosines.neg_().add_(1).clamp_min_(0).mul_(STEPS).to(torch.int64)
    return steps.bitwise_left_shift_(32).bitwise_or_(low)


def _sorted(keys: Tensor) -> Tensor:
    """Each row ascending, in place on a CPU, where NumPy's sort is 8 times as fast as torch's."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    keys.numpy().sort(axis=1)
    return keys


def _metrics(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`METRICS` of rankings, `[Q, 7]`, from whether the image at each rank is relevant, `[Q, n]`; NaN without a hit."""
    queries, ranks = np.nonzero(hits)
    relevant = hits.sum(axis=1)
    nth = np.arange(len(queries)) - (np.cumsum(relevant) - relevant)[queries] + 1  # first, second, ... of its query
    precision = nth / (ranks + 1)
    early = ranks < relevant[queries]
    sums = [np.bincount(queries, weights, len(hits)) for weights in (precision, precision * early, early * 1.0)]
    with np.errstate(invalid="ignore"):
        over_relevant = np.stack(sums, axis=1) / relevant[:, None]
    firsts = np.stack([hits[:, 0], hits[:, :5].any(axis=1)], axis=1)
    galleries = np.stack([_share(hits[:, :TOP]), _share(hits[:, FAR])], axis=1)
    found = np.concatenate([firsts, over_relevant, galleries], axis=1)
    found[relevant == 0] = np.nan
    return found


def _share(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of true cells in each row; NaN where the ranking is too short."""
    return hits.mean(axis=1) if hits.shape[1] == TOP else np.full(len(hits), np.nan)


def _gallery(top: NDArray[np.int64], seed: int) -> list[dict[str, Any]]:
    """The galleries of a few images, drawn from the seed: numbers of images."""
    anchors = np.sort(np.random.default_rng(seed).permutation(len(top))[:ANCHORS])
    return [{"query": int(i), "positive": top[i, :TOP].tolist(), "negative": top[i, FAR].tolist()} for i in anchors]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
