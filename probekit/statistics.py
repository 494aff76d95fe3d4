"""Every interval and test, as numbers that fit in JSON: None where undefined, and never an interval of too few.

Over images: Wilson, and the percentile bootstrap, of ROC areas too. Over seeds: Student's t. Of differences: McNemar's
exact test and the bootstrap on the same images, Student's t and sign flips on the same seeds, Holm over a family.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from math import fsum, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import binomtest, permutation_test

MIN_IMAGES = 10  # from which on there are intervals: of fewer, one image moves a share by more than a tenth
MIN_PAIRS = 3  # ours: with 2 the interval is 25 standard errors wide, and no difference that we know would show
RESAMPLES = 1000  # of a bootstrap; ours: its ends then wander by some 3 % of the interval's width
ENDS = (2.5, 97.5)  # per cent
ROUNDING = 1e-9  # an interval that is narrower has no width
DRAWS = 10_000  # of the bootstrap of a difference; ours: its ends then move by less than a tenth of its width
BOOTSTRAP_SEED = 0
MIN_FLIPS = 6  # pairs of seeds from which a two-sided sign-flip test can reach 0.05: 2 / 2^6 = 0.031
EXACT_FLIPS = 16  # pairs up to which all 2^n flips are counted; beyond, so many are drawn
LEVEL = 0.05  # of the tests that give a verdict
UNDECIDED = "not told apart from"
VERDICTS = ("above", UNDECIDED, "below")


def interval(low: float, high: float) -> list[float] | None:
    """[low, high] as it stands in results; None where it has no width.

    Values that are all alike, every image right or every seed the same, do not say how far from them the truth may be.
    """
    return [float(low), float(high)] if high - low > ROUNDING else None


def percentiles(resampled: NDArray[np.floating]) -> list[float] | None:
    """The middle 95 % of what resamples gave, as `interval`."""
    return interval(*np.percentile(resampled, ENDS))


# --- Intervals over images.


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion, within [0, 1]; `n` is at least 1."""
    low, high = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return min(float(low), successes / n), max(float(high), successes / n)  # rounding must not exclude the share


def share_interval(successes: int, n: int) -> list[float] | None:
    """`wilson` as it stands in results; None under 10 images."""
    return list(wilson(successes, n)) if n >= MIN_IMAGES else None


def student(values: NDArray[np.float64], *, low: float) -> list[float] | None:
    """The 95 % Student-t interval of a mean that is at least `low`; None under 10 values."""
    n = len(values)
    if n < MIN_IMAGES:
        return None
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))
    return interval(max(low, float(values.mean()) - half), float(values.mean()) + half)


def bootstrap(values: NDArray[np.float64], *, seed: int) -> list[list[float] | None]:
    """95 % percentile intervals of the means of per-image values, all from the same draws of images.

    `values`: `[N, m]`; a column that is undefined for an image is NaN. Returns [low, high] for each of the m columns;
    None under 10 images, or where the mean is undefined.
    """
    n, columns = values.shape
    if n < MIN_IMAGES:
        return [None] * columns
    rng = np.random.default_rng(seed)
    even = np.full(n, 1 / n)
    means = np.stack([rng.multinomial(n, even) @ values / n for _ in range(RESAMPLES)])
    return [percentiles(column) if np.isfinite(column).all() else None for column in means.T]


def mean_over_images(values: NDArray[np.floating], *, seed: int) -> dict[str, Any]:
    """The mean of per-image values with its 95 % percentile interval; NaN counts as undefined.

    `values`: `[N]`, few enough that a thousand times as many fit in memory. Returns mean, ci (None under 10 defined
    values), n (defined values), undefined.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    found: dict[str, Any] = {"mean": None, "ci": None, "n": len(known), "undefined": len(values) - len(known)}
    if len(known):
        found["mean"] = float(known.mean())
    if len(known) >= MIN_IMAGES:
        means = _resamples(len(known), seed) @ known / len(known)
        found["ci"] = percentiles(means)
    return found


def mean_of_estimates(found: Sequence[tuple[float, Sequence[float] | None]]) -> dict[str, Any]:
    """The mean of independent estimates, each with its 95 % interval or None of one that does not vary.

    Its interval recovers their variances from their ends (MOVER: Zou and Donner 2008), so that it need not be centred.
    Returns mean, ci (None where it has no width).
    """
    mean = fsum(value for value, _ in found) / len(found)
    below, above = (
        sqrt(fsum((ci[end] - value) ** 2 for value, ci in found if ci is not None)) / len(found) for end in (0, 1)
    )
    return {"mean": mean, "ci": interval(mean - below, mean + above)}


def ratio_over_images(above: NDArray[np.floating], below: NDArray[np.floating], *, seed: int) -> dict[str, Any] | None:
    """The ratio of two means over the images where both are defined, with its percentile interval.

    A ratio of means, because single images may have next to nothing below. Takes two times `[N]`. Returns mean (the
    ratio) and ci; None where the mean below is not above 0 by its own interval: over next to nothing, a ratio says
    nothing; None under 10 images.
    """
    known = np.isfinite(above) & np.isfinite(below)
    if known.sum() < MIN_IMAGES:
        return None
    counts = _resamples(int(known.sum()), seed)
    top, bottom = counts @ above[known], counts @ below[known]
    if np.percentile(bottom, ENDS[0]) <= 0:
        return None
    ratios = top[bottom > 0] / bottom[bottom > 0]
    return {"mean": float(above[known].mean() / below[known].mean()), "ci": percentiles(ratios)}


def auc(scores: NDArray[np.floating], y: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of scores `[n]`: the share of pairs, one of y and one not, in order; NaN without any."""
    return float(_areas(scores, y, np.ones((1, len(y))))[0])


def auc_over_images(scores: NDArray[np.floating], y: NDArray[np.bool_], *, seed: int) -> dict[str, Any]:
    """The mean of areas under the ROC curve with its 95 % percentile interval over images.

    Returns mean; ci, None under 10 images; n. `scores`: `[n, k]`, a column for each of k areas; `y`: bool `[n, k]`,
    which images of each column should have the higher scores: some, not all; `seed`: seed of the resampling.
    """
    n, columns = scores.shape
    assert 0 < y.sum(axis=0).min() <= y.sum(axis=0).max() < n
    counts = np.concatenate([np.ones((1, n)), _resamples(n, seed)])
    areas = np.mean([_areas(scores[:, k], y[:, k], counts) for k in range(columns)], axis=0)
    ci = percentiles(areas[1:][np.isfinite(areas[1:])]) if n >= MIN_IMAGES else None
    return {"mean": float(areas[0]), "ci": ci, "n": n}


def _areas(scores: NDArray[np.floating], y: NDArray[np.bool_], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area `[R]` in each resample, which has image i counts[r, i] times."""
    values, place = np.unique(scores, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(values)))  # where each value begins among the ordered
    ordered, of_y = counts[:, order], y[order]
    above, below = (np.add.reduceat(ordered * which, starts, axis=1) for which in (of_y, ~of_y))
    lower = np.cumsum(below, axis=1) - below / 2  # those of the same value count one half
    pairs = above.sum(axis=1) * below.sum(axis=1)
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = (above * lower).sum(axis=1) / pairs
    return areas


@lru_cache(maxsize=2)
def _resamples(n: int, seed: int) -> NDArray[np.float64]:
    """How often each of n values is drawn in each resample, `[RESAMPLES, n]`."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts.astype(np.float64)


# --- Intervals over seeds.


def mean_over_seeds(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> dict[str, Any]:
    """The mean and its 95 % Student-t interval, clipped to what is possible.

    Returns mean; ci, [low, high], or None for one value or several that are alike; n. `values`: one a seed, at least
    one.
    """
    n = len(values)
    assert n > 0
    mean = fsum(values) / n
    if n == 1:
        return {"mean": mean, "ci": None, "n": n}
    error = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.975)) * error
    return {"mean": mean, "ci": interval(max(low, mean - half), min(high, mean + half)), "n": n}


def against(interval: Mapping[str, Any], published: float) -> dict[str, Any]:
    """A mean beside a published number.

    Returns value, the published one; difference, ours minus it; covered: whether the interval holds it, None without an
    interval. It is no test of a difference: published numbers come without their images.
    """
    covered = None
    if interval["ci"] is not None:
        low, high = interval["ci"]
        # Equal numbers must not differ by rounding: means of accuracies are exact to about 1e-16.
        close = 1e-9
        covered = low - close <= published <= high + close
    return {"value": published, "difference": interval["mean"] - published, "covered": covered}


def paired_seeds(a: Mapping[int, float], b: Mapping[int, float], *, span: float = 1.0) -> dict[str, Any]:
    """The mean difference a - b over the seeds that both have.

    Returns mean, None without common seeds; ci, its 95 % Student-t interval, None with fewer than 3 seeds; n, the seeds
    in common; testable, whether they are enough. `span`: the largest possible difference; 1 for proportions.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return {"mean": None, "ci": None, "n": 0, "testable": False}
    found = mean_over_seeds([a[seed] - b[seed] for seed in seeds], low=-span, high=span)
    testable = len(seeds) >= MIN_PAIRS
    return found | {"ci": found["ci"] if testable else None, "testable": testable}


# --- Tests.


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> dict[str, Any]:
    """The exact test of McNemar (1947): are the images that only one of two classifiers gets right split evenly?

    `a` and `b`: `[N]`, which images each gets right. Returns only_a, only_b, counts; p, two-sided and exact (binomial),
    1 where no image divides them.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    divided = only_a + only_b
    p = float(binomtest(only_a, divided, 0.5).pvalue) if divided else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def against_share(hits: int, n: int, share: float) -> float:
    """Two-sided p of the exact binomial test: are `hits` of `n` images what a share in [0, 1] that is known gives?"""
    return float(binomtest(hits, n, share).pvalue)


def paired_bootstrap(a: NDArray[np.bool_], b: NDArray[np.bool_], *, seed: int) -> dict[str, Any]:
    """The difference of two accuracies on the same images, with its 95 % percentile interval over images.

    `a` and `b` as for `mcnemar`. Returns difference, a - b; ci, [low, high], None under 10 images.
    """
    n = len(a)
    difference = float(a.mean() - b.mean())
    if n < MIN_IMAGES:
        return {"difference": difference, "ci": None}
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    shares = [only_a / n, only_b / n, (n - only_a - only_b) / n]
    # An image is one of three kinds, so drawing n images anew is one multinomial draw.
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=DRAWS)
    return {"difference": difference, "ci": percentiles((drawn[:, 0] - drawn[:, 1]) / n)}


def sign_flip(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    """Two-sided p of the sign-flip test on differences by seed; None with fewer than `MIN_FLIPS` seeds in common."""
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < MIN_FLIPS:
        return None
    differences = np.array([a[seed] - b[seed] for seed in seeds])
    zeros = np.zeros_like(differences)
    found = permutation_test(
        (differences, zeros),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_FLIPS,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return float(found.pvalue)


def over_seeds(scores: Iterable[tuple[str, int, float]], *, low: float) -> dict[str, Any] | None:
    """Methods against each other over the seeds that they share.

    `scores`: method, seed and value, at most 1, of each run; of two with the same seed the first counts; `low`: the
    least possible value. Returns methods [{method, seeds, mean, ci, n}]; pairs [{a, b, mean, ci, n, testable, p,
    p_holm: None}]; None where no method has two seeds.
    """
    by_method: dict[str, dict[int, float]] = {}
    for method, seed, value in scores:
        by_method.setdefault(method, {}).setdefault(seed, value)
    if all(len(values) < 2 for values in by_method.values()):
        return None
    pairs = [
        {"a": a, "b": b, **paired_seeds(one, other, span=1.0 - low), "p": sign_flip(one, other), "p_holm": None}
        for (a, one), (b, other) in combinations(by_method.items(), 2)
    ]
    methods = [
        {"method": method, "seeds": sorted(values), **mean_over_seeds(list(values.values()), low=low)}
        for method, values in by_method.items()
    ]
    return {"methods": methods, "pairs": pairs}


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def add_holm(tested: Sequence[dict[str, Any]]) -> None:
    """The adjusted p of each of a family of tests, as `p_holm`."""
    for pair, p in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_holm"] = p


def verdict(difference: float, p: float) -> str:
    """One of `VERDICTS`: the first against the second, at `LEVEL`."""
    if p >= LEVEL:
        return UNDECIDED
    return "above" if difference > 0 else "below"
