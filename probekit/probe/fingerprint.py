"""What nearest neighbours have in common: for each factor, how much more than two images drawn at random.

An embedding in which neighbours share the class but not the position has thrown the position away, or holds it in
directions of small variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRANGERS = 20  # ours: random others that each image is compared with


@dataclass(frozen=True)
class Factor:
    """A factor of a split.

    Attributes:
        values: `[N]`.
        kind: "class", "real", "ordinal" or "circular"; see `generators.base.Factor`.
        period: Of a circular factor, in its unit.
    """

    values: NDArray[Any]
    kind: str
    period: float = 360.0


def fingerprint(factors: Mapping[str, Factor], nearest: NDArray[np.int64], *, seed: int) -> dict[str, dict[str, Any]]:
    """Compares each image with its nearest.

    Args:
        factors: By name.
        nearest: int64 `[N]`, the image nearest to each.
        seed: Of the random others.

    Returns:
        For each factor kind, value and chance. class: value is the share of images whose nearest has the same value,
        chance that of all pairs. Others: value is 1 - the median distance to the nearest / the median distance to a
        random other: 1 if they are equal, 0 if nothing is shared; chance is 0. Value is None if the factor does not
        vary.
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
        return {"kind": factor.kind, "value": same if len(counts) > 1 else None, "chance": pairs}
    usual = float(np.median(_distance(factor, values[others], values[:, None])))
    near = float(np.median(_distance(factor, values[nearest], values)))
    return {"kind": factor.kind, "value": 1 - near / usual if usual > 0 else None, "chance": 0.0}


def _distance(factor: Factor, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    if factor.kind != "circular":
        return apart
    turned = apart % factor.period
    return np.minimum(turned, factor.period - turned)
