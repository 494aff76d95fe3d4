"""Nested subsets of the training labels, and how a score grows with them.

Stratified, and several draws of them: the papers' code draws one, and ConRec's without stratification.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.measurement import Score
from probekit.probes.average_precision import rarest
from probekit.probes.protocol import Part
from probekit.statistics import ENDS, RESAMPLES, interval, mean_over_seeds

SHARES = (0.9, 0.95)  # of the score with all labels: sample complexity


def fractions(
    train: Part,
    measured: Callable[[NDArray[np.bool_] | None], Mapping[str, Score]],
    *,
    shares: Sequence[float],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Measures on nested subsets of the labels of train.

    `measured`: from a mask `[N]` of the images whose labels are known, None for all, to named scores. `shares`: in (0,
    1], ascending, 1 the last. Draw i takes (seed, i). Gives points, ascending: {fraction, n (mean size), scores {name:
    {value (mean), ci, values (of draws)}}}; and of the first score complexity {share: n} and complexity_ci {share:
    [low, high]}, empty where it is undefined or, with all labels, not above 0.

    Intervals: 95 % Student t over draws; at 1, where all draws are the same, that of the measurement itself;
    complexity_ci: 95 % percentile bootstrap over draws; None with one draw, or where the measurement itself has no
    interval.
    """
    y = train.y if train.y.ndim == 1 else rarest(train.y)
    chosen = [subsets(y, shares=shares, seed=seed, draw=i, groups=train.groups) for i in range(draws)]
    points: list[dict[str, Any]] = []
    for j, share in enumerate(shares):
        masks = [drawn[j] for drawn in chosen] if share < 1 else [None]
        sizes = [len(y) if mask is None else int(mask.sum()) for mask in masks]
        found = [measured(mask) for mask in masks]
        scores = {name: _over_draws([scores[name] for scores in found], whole=share == 1) for name in found[0]}
        points.append({"fraction": share, "n": sum(sizes) / len(sizes), "scores": scores})
    first = next(iter(points[-1]["scores"]))
    curves = [point["scores"][first]["values"] for point in points]
    sizes, last = [point["n"] for point in points], points[-1]["scores"][first]
    known = all(value is not None for curve in curves for value in curve) and last["value"] > 0
    several = draws if last["ci"] else 1
    return {
        "points": points,
        "complexity": complexity(sizes, [float(np.mean(curve)) for curve in curves]) if known else {},
        "complexity_ci": _complexity_intervals(sizes, curves, draws=several, seed=seed) if known else {},
    }


def subsets(
    y: NDArray[np.int64], *, shares: Sequence[float], seed: int, draw: int, groups: NDArray[Any] | None = None
) -> list[NDArray[np.bool_]]:
    """One draw of stratified subsets of classes `y` `[N]`, each inside the next: a mask `[N]` for each share.

    Of each class the rounded share, in (0, 1], of its samples (groups), one at least; whole groups are drawn, each
    counted in the class of its first sample. (seed, draw) decides.
    """
    units = np.arange(len(y)) if groups is None else groups
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    rng = np.random.default_rng([seed, draw])
    position = np.empty(len(first), dtype=np.int64)  # of each unit in its class's order
    members = np.bincount(y[first])[y[first]]
    for label in np.unique(y[first]):
        own = np.flatnonzero(y[first] == label)
        position[rng.permutation(own)] = np.arange(len(own))
    return [(position < np.maximum(1, np.rint(share * members)))[unit] for share in shares]


def complexity(sizes: Sequence[float], means: Sequence[float]) -> dict[str, float]:
    """Sample complexity: the smallest n from which on the mean score stays at a share of that with all labels.

    Whitney et al. 2020 (arXiv 2009.07368): the least n whose expected loss is at most epsilon. Here the loss is 1 - the
    score, epsilon is 1 - share * (the score with all labels), and n is one of the sizes that were tried, ascending:
    nothing is interpolated. Gives n for each of `SHARES`, by their text.
    """
    found = {}
    for share in SHARES:
        below = [i for i, mean in enumerate(means) if mean < share * means[-1]]
        found[f"{share:g}"] = sizes[below[-1] + 1 if below else 0]
    return found


def _complexity_intervals(
    sizes: Sequence[float], curves: Sequence[Sequence[float]], *, draws: int, seed: int
) -> dict[str, list[float] | None]:
    """Percentile intervals of `complexity` over draws of the draws; each is a whole curve, for subsets are nested."""
    if draws < 2:
        return dict.fromkeys((f"{share:g}" for share in SHARES), None)
    rng = np.random.default_rng(seed)
    each = np.array([[*curve] * (draws // len(curve)) for curve in curves])  # with all labels there is one
    means = each[:, rng.integers(draws, size=(RESAMPLES, draws))].mean(axis=-1)
    found = [complexity(sizes, curve) for curve in means.T]
    # Sizes that were tried: an end between two of them would be none.
    ends = {share: np.percentile([n[share] for n in found], ENDS, method="nearest") for share in found[0]}
    return {share: interval(*pair) for share, pair in ends.items()}


def _over_draws(scores: Sequence[Score], *, whole: bool) -> dict[str, Any]:
    """The mean of one score over draws with its interval; undefined in one draw it is undefined."""
    values = [score.value for score in scores]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Score(None, None, scores[0].low).to_dict() | {"values": values}
    found = mean_over_seeds(known, low=scores[0].low)
    few = all(score.ci is None for score in scores)  # images
    ends = scores[0].ci if whole else None if few else found["ci"]
    return Score(found["mean"], ends, scores[0].low).to_dict() | {"values": values}
