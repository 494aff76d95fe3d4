"""Tests of a difference: paired by image for two runs, by seed for two methods; Holm over a family."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from probekit.probe.paired import holm
from probekit.probe.statistics import MIN_IMAGES
from probekit.sweep.statistics import mean_interval, paired

DRAWS = 10_000  # of the bootstrap; ours: its ends then move by less than a tenth of the interval's width
BOOTSTRAP_SEED = 0
MIN_FLIPS = 6  # pairs of seeds from which a two-sided sign-flip test can reach 0.05: 2 / 2^6 = 0.031
EXACT_FLIPS = 16  # pairs up to which all 2^n flips are counted; beyond, so many are drawn


def paired_bootstrap(a: NDArray[np.bool_], b: NDArray[np.bool_], *, seed: int) -> dict[str, Any]:
    """The difference of two accuracies on the same images, with its 95 % percentile interval over images.

    Args:
        a: `[N]`, which images the first gets right.
        b: `[N]`, which the second gets right.
        seed: Of the draws.

    Returns:
        difference, a - b; ci, [low, high], None under 10 images.
    """
    n = len(a)
    difference = float(a.mean() - b.mean())
    if n < MIN_IMAGES:
        return {"difference": difference, "ci": None}
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    shares = [only_a / n, only_b / n, (n - only_a - only_b) / n]
    # An image is one of three kinds, so drawing n images anew is one multinomial draw.
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return {"difference": difference, "ci": [float(low), float(high)]}


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

    Args:
        scores: Method, seed and value, at most 1, of each run; of two with the same seed the first counts.
        low: The least possible value.

    Returns:
        methods [{method, seeds, mean, ci, n}]; pairs [{a, b, mean, ci, n, testable, p, p_holm: None}]; None where no
        method has two seeds.
    """
    by_method: dict[str, dict[int, float]] = {}
    for method, seed, value in scores:
        by_method.setdefault(method, {}).setdefault(seed, value)
    if all(len(values) < 2 for values in by_method.values()):
        return None
    pairs = [
        {"a": a, "b": b, **paired(one, other, span=1.0 - low), "p": sign_flip(one, other), "p_holm": None}
        for (a, one), (b, other) in combinations(by_method.items(), 2)
    ]
    methods = [
        {"method": method, "seeds": sorted(values), **mean_interval(list(values.values()), low=low, high=1.0)}
        for method, values in by_method.items()
    ]
    return {"methods": methods, "pairs": pairs}


def add_holm(tested: Sequence[dict[str, Any]]) -> None:
    """The adjusted p of each of a family of tests, as `p_holm`."""
    for pair, p in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_holm"] = p
