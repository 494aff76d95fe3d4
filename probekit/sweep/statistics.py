"""Statistics over seeds, as numbers that fit in JSON: fractions in [0, 1], None where undefined."""

from collections.abc import Mapping, Sequence
from math import fsum, sqrt
from typing import Any

from scipy.special import stdtrit

CONFIDENCE = 0.95
MIN_PAIRS = 3  # ours: with 2 the interval is 25 standard errors wide, and no difference that we know would show


def mean_interval(values: Sequence[float], *, low: float, high: float) -> dict[str, Any]:
    """The mean and its 95 % Student-t interval, clipped to what is possible.

    Args:
        values: One a seed, at least one.
        low: The least possible value.
        high: The largest possible value.

    Returns:
        mean; ci, [low, high], or None for one value; n.
    """
    n = len(values)
    assert n > 0
    mean = fsum(values) / n
    if n == 1:
        return {"mean": mean, "ci": None, "n": n}
    error = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    return {"mean": mean, "ci": [max(low, mean - half), min(high, mean + half)], "n": n}


def proportion_interval(values: Sequence[float]) -> dict[str, Any]:
    """`mean_interval` of proportions."""
    return mean_interval(values, low=0.0, high=1.0)


def against(interval: Mapping[str, Any], published: float) -> dict[str, Any]:
    """A mean beside a published number.

    Returns:
        accuracy, the published one; difference, ours minus it; covered: whether the interval holds it, None without an
        interval. It is no test of a difference: published numbers come without their images.
    """
    covered = None
    if interval["ci"] is not None:
        low, high = interval["ci"]
        # Equal numbers must not differ by rounding: means of accuracies are exact to about 1e-16.
        close = 1e-9
        covered = low - close <= published <= high + close
    return {"accuracy": published, "difference": interval["mean"] - published, "covered": covered}


def paired(a: Mapping[int, float], b: Mapping[int, float], *, span: float = 1.0) -> dict[str, Any]:
    """The mean difference a - b over the seeds that both have.

    Args:
        a: Values by seed.
        b: Values by seed.
        span: The largest possible difference; 1 for proportions.

    Returns:
        mean, None without common seeds; ci, its 95 % Student-t interval, None with fewer than 3 seeds; n, the seeds in
        common; testable, whether there is an interval.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return {"mean": None, "ci": None, "n": 0, "testable": False}
    found = mean_interval([a[seed] - b[seed] for seed in seeds], low=-span, high=span)
    testable = len(seeds) >= MIN_PAIRS
    return found | {"ci": found["ci"] if testable else None, "testable": testable}
