"""Linear read-outs of embeddings: ridge regression to the two classes of a pair, learned from pairs of images.

Rows 2i and 2i + 1 are a pair, of classes 0 and 1. Features are standardised; the strength of the penalty is chosen by
the area under the ROC curve on a quarter of the pairs. Products are of float32, what decides is of float64.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from probekit.exams.psychometric import areas

Features = NDArray[np.float32] | NDArray[np.float16]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

STRENGTHS = tuple(
    10.0 ** np.arange(3, -5, -1)
)  # of the penalty, in mean squares of a feature; the first of equal ones wins
FLOOR = 1e-3  # of the largest standard deviation: a feature that hardly varies is not blown up
QUARTER = 4  # every fourth pair chooses the strength
ROUNDING = 1e-6  # of the trace: a smaller penalty is lost in products of float32, which need not be positive then


@dataclass(frozen=True)
class Readout:
    """A direction in feature space."""

    mean: Floats  # `[D]`, of the features that it was fitted on
    weights: Floats  # `[D]`, exactly 0 of a feature that was constant there

    def values(self, x: Features) -> Floats:
        """The value of each row of `[m, D]`: `[m]`, above 0 for class 1. Equal rows have equal values, bit for bit."""
        # No matrix product: there, how a row is summed depends on where it stands.
        found: Floats = np.einsum("md,d->m", np.subtract(x, self.mean, order="C"), self.weights)
        return found


@dataclass(frozen=True)
class Trained:
    """The read-out of an item, and what it was learned from."""

    readout: Readout  # fitted on all pairs of its regimen
    half: Readout  # fitted on half of them: where it reads clearly less, more pairs would help
    regimen: str  # "easy", pairs of the easy levels alone; "all", equally many of each level; "one", of the only level
    held_auc: float  # the area on the held pairs, the mean over their levels; NaN where none are held


def ridge(x: Features, *, strengths: Sequence[float] = STRENGTHS) -> Readout:
    """The read-out that is fitted on pairs `[2p, D]`, p at least 4; a ValueError if a feature is NaN or infinite.

    `strengths`: of the penalty, in mean squares of a feature; of equally good ones the first is taken.
    """
    table, pairs = _Table(x), np.arange(len(x) // 2)
    return table.fit(pairs, table.strength(pairs, strengths))


def train(x: Features, level: Ints, held: NDArray[np.bool_], easy: Collection[int]) -> Trained:
    """The read-out of the better of two regimens, by its area on held pairs; "easy" where they are equal.

    `x`: `[2p, D]`, pairs as of `ridge`, which refuses the same; `level`: `[p]`, that of each pair, at least 0; `held`:
    `[p]`, pairs that choose the regimen and are not fitted, none where there is one level; `easy`: the levels whose
    pairs make the regimen "easy".
    """
    pairs = np.flatnonzero(~held)
    pairs = pairs[np.argsort(level[pairs], kind="stable")]  # so that every fourth, too, is of all levels
    at = level[pairs]
    place = np.arange(len(at)) - np.searchsorted(at, at)  # within the level
    counts = np.unique(at, return_counts=True)[1]
    regimens = {"one": place >= 0}
    if len(counts) > 1:
        regimens = {"easy": np.isin(at, list(easy)), "all": place < counts.min()}
    table = _Table(x[_rows(pairs)])
    strengths = {name: table.strength(np.flatnonzero(those)) for name, those in regimens.items()}
    readouts = {name: table.fit(np.flatnonzero(those), strengths[name]) for name, those in regimens.items()}
    found = {name: _area(readout, x, level, held) for name, readout in readouts.items()}
    best = max(found, key=lambda name: found[name])
    chosen = np.flatnonzero(regimens[best])
    halved = chosen[place[chosen] < np.bincount(at[chosen])[at[chosen]] / 2]
    return Trained(readouts[best], table.fit(halved, strengths[best]), best, found[best])


class _Table:
    """Standardised features `[2p, D]`, whose products with each other all fits share."""

    def __init__(self, x: Features) -> None:
        self.mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        if not np.isfinite(self.mean).all():
            raise ValueError("expected finite features, found NaN or infinity; type --layers NAME for another layer")
        self.z = x - self.mean
        spread = np.sqrt(np.square(self.z).mean(axis=0, dtype=np.float64))
        self.scale = np.maximum(spread, FLOOR * spread.max() or 1.0).astype(np.float32)
        self.z /= self.scale

    @cached_property
    def products(self) -> Floats:
        """The products of all rows with all rows, `[2p, 2p]`."""
        products: Floats = self.z @ self.z.T
        return products

    def strength(self, pairs: Ints, strengths: Sequence[float] = STRENGTHS) -> float:
        """The one with which three quarters of the pairs read the last quarter best."""
        assert len(pairs) >= QUARTER, f"expected at least {QUARTER} pairs, found {len(pairs)}"
        chooses = np.arange(len(pairs)) % QUARTER == QUARTER - 1
        tried = self._weights(_rows(pairs[~chooses]), strengths)
        return strengths[int(areas((self.z[_rows(pairs[chooses])] @ tried).T[:, None])[:, 0].argmax())]

    def fit(self, pairs: Ints, strength: float) -> Readout:
        """The read-out of some of the pairs."""
        rows = _rows(pairs)
        weights = self._weights(rows, [strength])[:, 0]
        return Readout(self.mean + self.scale * self.z[rows].mean(axis=0), weights / self.scale)

    def _weights(self, rows: Ints, strengths: Sequence[float]) -> Floats:
        """The weights `[D, k]` for each strength: w of least |z w - y|^2 / n + strength |w|^2 about the rows' mean."""
        z, y = self.z[rows], np.tile([-1.0, 1.0], len(rows) // 2)
        wide = z.shape[1] > len(z)
        if wide:
            square, side = _centred(self.products[np.ix_(rows, rows)].astype(np.float64)), y
        else:
            z = z - z.mean(axis=0)
            square, side = (z.T @ z).astype(np.float64), z.T @ y
        # Not from eigenvectors: for so few strengths, solving for each takes half the time.
        penalties = np.maximum(len(z) * np.asarray(strengths), ROUNDING * np.trace(square))
        each = [solve(square + penalty * np.eye(len(square)), side, assume_a="pos") for penalty in penalties]
        weights: Floats = np.stack(each, axis=1).astype(np.float32)
        return z.T @ weights if wide else weights


def _centred(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The products `[n, n]` of rows, from their mean."""
    mean = products.mean(axis=0)
    centred: NDArray[np.float64] = products - mean - mean[:, None] + mean.mean()
    return centred


def _rows(pairs: Ints) -> Ints:
    """The rows of pairs, in their order."""
    return (2 * pairs[:, None] + np.arange(2)).ravel()


def _area(readout: Readout, x: Features, level: Ints, held: NDArray[np.bool_]) -> float:
    """The area on the held pairs, the mean over their levels."""
    if not held.any():
        return float("nan")
    values = readout.values(x[_rows(np.flatnonzero(held))]).reshape(-1, 2)
    at = level[held]
    return float(np.mean([areas(values[at == each].reshape(1, 1, -1))[0, 0] for each in np.unique(at)]))
