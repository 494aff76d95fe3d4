"""From values of a read-out to a threshold in pixels, with its interval.

*Readable*: the area under the ROC curve of one class over the other at a level, which is the share right in a
two-alternative task with unrelated contexts. *Present*: the share of pairs, alike in all but the class, that are in
the right order. Either is .5 by chance, and grows with the level: the psychometric function

    share = 1/2 + (1/2 - lapse) * Phi((log2 px - mu) / sd)

is fitted by maximum likelihood on a grid (Wichmann & Hill 2001, with weak priors), which makes the fits of all
resamples one matrix product. The threshold is the level at which the share is .75. Of a steep curve all resamples have
nearly one fit, though others are as likely: the interval also holds the thresholds of those (the profile likelihood).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, ndtr, ndtri

from probekit.statistics import ENDS

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Kind = Literal["readable", "present"]

SHARE = 0.75  # right at the threshold: halfway from chance to all
DRAWS = 400  # resamples of pairs, and of seeds
TIE = 1e-4  # of the values' standard deviation: two of a pair that are nearer are in no order
# Of intervals: how much wider than theory has them, found by simulation (docs/exam.md); how far below the highest a log
# likelihood may then be (Wilks 1938); the least dispersion, of answers that hardly vary.
WIDER = 1.1
DROP = WIDER**2 * float(chdtri(1, 0.05)) / 2
STILL = 0.1
STEEP = 0.4  # gaps between levels: a curve whose spread is below was seen rising at no level

# The grid: how it goes on beyond the levels and how fine it is, in octaves; what the lapses may be.
BEYOND, STEP = 1.5, 0.03
SPREADS = np.geomspace(0.1, 2.5, 17)
FINE_STEP, FINE_SPREADS = 0.01, np.geomspace(0.05, 2.5, 17)  # of profiles: steep curves need finer steps
LAPSES = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1)
USUAL_SPREAD = 0.6  # octaves: the median of a log-normal prior whose logarithm has standard deviation 1
LAPSE_PRIOR = 19  # Beta(1, 20)
LEAST = 1e-5  # of a share: a right answer where none is to be has not likelihood 0


@dataclass(frozen=True)
class Fit:
    """Psychometric functions, each field `[..]`: mu and sd in octaves of px, lapse in [0, .1]."""

    mu: Doubles
    sd: Doubles
    lapse: Doubles

    def curve(self, px: ArrayLike) -> Doubles:
        """The share right at levels `[k]` in px: `[.., k]`, in [.5, 1]."""
        z = (np.log2(px) - self.mu[..., None]) / self.sd[..., None]
        share: Doubles = 0.5 + (0.5 - self.lapse[..., None]) * ndtr(z)
        return share

    def octaves(self, share: float = SHARE) -> Doubles:
        """The levels in octaves of px `[..]` at which so many are right; the share is in (.5, .9): all reach it."""
        at: Doubles = self.mu + self.sd * ndtri((share - 0.5) / (0.5 - self.lapse))
        return at

    def threshold(self, share: float = SHARE) -> Doubles:
        """The same in px."""
        px: Doubles = 2.0 ** self.octaves(share)
        return px


class Grid:
    """All psychometric functions that are considered for these levels `[L]` in px, ascending."""

    def __init__(self, levels: ArrayLike, *, fine: bool = False) -> None:
        step, spreads = (FINE_STEP, FINE_SPREADS) if fine else (STEP, SPREADS)
        octaves = np.log2(levels)
        assert octaves.ndim == 1, "expected one row of levels"
        assert (np.diff(octaves) > 0).all(), "expected levels in ascending order"
        mu = np.arange(octaves[0] - BEYOND, octaves[-1] + BEYOND, step)
        axes = np.meshgrid(mu, spreads, LAPSES, indexing="ij")
        self.all = Fit(*(axis.ravel() for axis in axes))
        share = np.clip(self.all.curve(levels), LEAST, 1 - LEAST).T
        self.odds = np.log(share / (1 - share)).astype(np.float32)
        self.wrong = np.log1p(-share)
        self.octaves = self.all.octaves()
        self.lapse_prior = LAPSE_PRIOR * np.log1p(-self.all.lapse)
        self.prior = self.lapse_prior - np.log(self.all.sd / USUAL_SPREAD) ** 2 / 2

    def fit(self, correct: Floats, n: ArrayLike) -> Fit:
        """The likeliest function of each row of `correct` `[.., L]`, shares right in [0, 1]: counted answers, or areas.

        `n`: `[L]` or a number: of how many.
        """
        n = np.broadcast_to(np.asarray(n, np.float64), self.odds.shape[:1])
        likelihood = (correct * n).astype(np.float32) @ self.odds + (n @ self.wrong + self.prior).astype(np.float32)
        best = likelihood.argmax(axis=-1)
        return Fit(self.all.mu[best], self.all.sd[best], self.all.lapse[best])

    def profile(self, correct: Doubles, n: float) -> tuple[float, float]:
        """The least and the largest threshold, in octaves of px, of all functions that are likely by `DROP`.

        `correct`: `[L]`, shares right of n answers at each level. Without the prior on the spread, which would rule out
        steep curves that the answers allow.
        """
        likelihood = n * (correct @ self.odds + self.wrong.sum(axis=0)) + self.lapse_prior
        held = self.octaves[likelihood >= likelihood.max() - DROP]
        return float(held.min()), float(held.max())


@dataclass(frozen=True)
class Threshold:
    """A threshold within the levels that were tested."""

    value: float  # px
    ci: tuple[float, float]  # the 95 % interval in px
    beyond: str  # ">" where the threshold lies above the highest level, which `value` then is; "<" below the lowest
    ci_beyond: tuple[str, str]  # the same of the two ends of the interval
    steep: bool  # whether the curve rises between two levels, so that resamples do not tell where
    log2_draws: Doubles  # `[draws]`, the resampled thresholds in octaves of px, kept within the levels too


def areas(values: Floats) -> Doubles:
    """The area under the ROC curve at every level, `[S, L]`: role 1 over role 0, ties one half.

    `values`: `[S, L, 2n]`; rows 2i and 2i + 1 are roles 0 and 1 of pair i.
    """
    found: Doubles = _readable(values).mean(axis=-1)
    return found


def orders(values: Floats) -> Doubles:
    """The share of pairs in the right order at every level, `[S, L]`, ties one half; `values` as of `areas`."""
    found: Doubles = _present(values).mean(axis=-1)
    return found


def resampled(values: Floats, *, kind: Kind, draws: int = DRAWS, seed: int) -> Doubles:
    """The share at every level in each draw of `means`, `[draws, L]`; `values` as of `areas`.

    An area's draws are those of its projection (Hájek): the mean of what each pair contributes.
    """
    return means(_OF_PAIRS[kind](values), draws=draws, seed=seed)


def means(each: Doubles, *, draws: int = DRAWS, seed: int) -> Doubles:
    """The mean over pairs and over seeds at every level in each draw, `[draws, L]`, within [0, 1].

    Each draw resamples pairs within levels, the same for every seed, and of S seeds S - 1, whose mean then spreads as
    that of S does (S of S spread too little, by a fifth of three; Rao and Wu 1988): all are one product of matrices.
    `each`: `[S, L, n]`, what each pair contributes to a share. With the same seed, the same pairs are drawn.
    """
    seeds, levels, n = each.shape
    few = max(seeds - 1, 1)
    by_seed = _drawn(levels, n, draws, seed) @ each.transpose(1, 2, 0) / n  # [L, draws, S]
    weight = np.random.default_rng([seed, 1]).multinomial(few, np.full(seeds, 1 / seeds), size=draws) / few
    shares: Doubles = np.clip((by_seed * weight).sum(axis=-1).T, 0.0, 1.0)
    return shares


def threshold(
    levels: ArrayLike, values: Floats, *, kind: Kind = "readable", draws: int = DRAWS, seed: int
) -> Threshold:
    """Where the share right passes .75, with an interval over test pairs and, of several, over training seeds.

    The interval holds two, both wider by `WIDER`: that of percentiles of the draws of `resampled`; and that of the
    profile likelihood, of as many counted answers as vary like these shares (quasi-likelihood, Wedderburn 1974).
    `levels`: `[L]` in px, ascending; `values`: `[S, L, 2n]`, of S read-outs that were trained on pairs of other seeds;
    pairs as of `areas`. A ValueError if one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise ValueError(
            "expected finite features of test pairs, found NaN or infinity; type --layers NAME for another"
        )
    px, n = tuple(np.asarray(levels, np.float64).tolist()), values.shape[2] // 2
    assert values.shape[1] == len(px), f"expected values of {len(px)} levels, found {values.shape[1]}"
    shares = _OF_PAIRS[kind](values).mean(axis=(0, 2))
    drawn = resampled(values, kind=kind, draws=draws, seed=seed)
    fits = _grid(px).fit(np.vstack([shares, drawn]), n)
    at, octaves = np.log2(px), fits.octaves()
    value, span = float(octaves[0]), at[[0, -1]]
    dispersion = n * drawn.var(axis=0).sum() / max((shares * (1 - shares)).sum(), LEAST)
    ends = *_ends(value, octaves[1:]), *_grid(px, fine=True).profile(shares, n / max(dispersion, STILL))
    low, high = min(ends), max(ends)
    upper = int(np.searchsorted(at, value))  # the first level above the threshold
    steep = 0 < upper < len(at) and bool(fits.sd[0] < STEEP * (at[upper] - at[upper - 1]))
    (middle, left, right), marks = _kept([value, low, high], span)
    return Threshold(middle, (left, right), marks[0], (marks[1], marks[2]), steep, np.clip(octaves[1:], *span))


def difference(a: Threshold, b: Threshold) -> tuple[float, tuple[float, float]] | None:
    """How many times as large the first threshold is, and its paired 95 % interval.

    Both were drawn with one seed. Where one lies beyond its levels, the ratio is a bound; None where both lie beyond
    them on the same side, of which nothing is known. Where one is steep, the interval is that of unpaired extremes.
    """
    if a.beyond and a.beyond == b.beyond:
        return None
    ratio = a.value / b.value
    if a.steep or b.steep:
        return ratio, (a.ci[0] / b.ci[1], a.ci[1] / b.ci[0])
    low, high = _ends(float(np.log2(ratio)), a.log2_draws - b.log2_draws)
    return ratio, (2**low, 2**high)


def _readable(values: Floats) -> Doubles:
    """What each pair contributes to the area `[S, L, n]`: how its two lie among those of the other role."""
    zero, one = values[..., 0::2], values[..., 1::2]
    right = np.sign(one[..., :, None] - zero[..., None, :]).astype(np.float64) / 2 + 0.5
    each: Doubles = right.mean(axis=-1) + right.mean(axis=-2) - right.mean(axis=(-2, -1))[..., None]
    return each


def _present(values: Floats) -> Doubles:
    """Whether each pair is in order `[S, L, n]`: 1, 0, or one half."""
    apart = (values[..., 1::2] - values[..., 0::2]).astype(np.float64)
    tie = TIE * values.std(axis=-1, keepdims=True, dtype=np.float64)
    return np.where(np.abs(apart) < tie, 0.0, np.sign(apart)) / 2 + 0.5


_OF_PAIRS = {"readable": _readable, "present": _present}


@lru_cache(maxsize=4)
def _drawn(levels: int, n: int, draws: int, seed: int) -> Doubles:
    """How often each pair is in each draw, `[L, draws, n]`."""
    rng = np.random.default_rng([seed, 0])
    return rng.multinomial(n, np.full(n, 1 / n), size=(levels, draws)).astype(np.float64)


_grid = lru_cache(maxsize=16)(Grid)


def _ends(octaves: float, draws: Doubles) -> tuple[float, float]:
    """The ends of the interval in octaves; it holds the value."""
    low, high = np.percentile(draws, ENDS).tolist()
    return octaves - WIDER * max(octaves - low, 0.0), octaves + WIDER * max(high - octaves, 0.0)


def _kept(octaves: list[float], span: Doubles) -> tuple[list[float], list[str]]:
    """Levels in px, kept within the range, and marks of those that were not there."""
    marks = ["<" if each < span[0] else ">" if each > span[1] else "" for each in octaves]
    return [float(2 ** np.clip(each, *span)) for each in octaves], marks
