"""What nearest neighbours have in common: for each factor, how much more than two images drawn at random.

An embedding in which neighbours share the class but not the position has thrown the position away, or holds it in
directions of small variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import quantile_test

from probekit.statistics import MIN_IMAGES, share_interval

STRANGERS = 20  # ours: random others that each image is compared with


@dataclass(frozen=True)
class Factor:
    """A factor of a split.

    Attributes:
        values: `[N]`.
        kind: "class", "real", "ordinal" or "circular"; see `generators.base.Factor`.
        period: Period of a circular factor, in its unit.
    """

    values: NDArray[Any]
    kind: str
    period: float = 360.0


def fingerprint(factors: Mapping[str, Factor], nearest: NDArray[np.int64], *, seed: int) -> dict[str, dict[str, Any]]:
    """Compares each image with its nearest.

    Args:
        factors: By name.
        nearest: int64 `[N]`, the image nearest to each.
        seed: Decides the random others.

    Returns:
        For each factor kind, value, ci and chance. class: value is the share of images whose nearest has the same
        value, chance that of all pairs; ci: 95 % Wilson over images, None under 10.
        Others: value is 1 - the median distance to the
        nearest / the median distance to a random other: 1 if they are equal, 0 if nothing is shared; chance is 0; ci:
        from the 95 % interval of the median distance to the nearest by order statistics, the other distance taken as
        known; None under 10 images. Value and ci are None if the factor does not vary.
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
