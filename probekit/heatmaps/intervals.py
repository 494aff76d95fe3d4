"""Means over images with 95 % bootstrap intervals: the image is the unit, not the pixel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000  # ours: the ends of an interval then wander by about 2 % of its width
ENDS = (2.5, 97.5)  # per cent


def mean_interval(values: NDArray[np.floating], *, seed: int) -> dict[str, Any]:
    """The mean of per-image values with its percentile interval; NaN counts as undefined.

    Args:
        values: `[N]`.
        seed: Of the resampling.

    Returns:
        mean, ci (None without a defined value), n (defined values), undefined.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    found: dict[str, Any] = {"mean": None, "ci": None, "n": len(known), "undefined": len(values) - len(known)}
    if len(known):
        means = _resamples(len(known), seed) @ known / len(known)
        found |= {"mean": float(known.mean()), "ci": np.percentile(means, ENDS).tolist()}
    return found


def normalised_interval(
    values: NDArray[np.floating], chance: NDArray[np.floating], ceiling: NDArray[np.floating], *, seed: int
) -> dict[str, Any] | None:
    """How far from chance to the ceiling the mean score lies: 0 is chance, 1 the ceiling; may pass both.

    A ratio of means over the images where all three are defined, with its percentile interval.

    Args:
        values: `[N]`.
        chance: `[N]`, what a constant map scores.
        ceiling: `[N]`, what the true mask scores on the map's grid.
        seed: Of the resampling.

    Returns:
        mean and ci; None without such an image, or where the ceiling is chance.
    """
    known = np.isfinite(values) & np.isfinite(chance) & np.isfinite(ceiling)
    gain, room = (values - chance)[known], (ceiling - chance)[known]
    if not known.any() or room.mean() <= 0:
        return None
    counts = _resamples(int(known.sum()), seed)
    below = counts @ room
    ratios = (counts @ gain)[below > 0] / below[below > 0]
    return {"mean": float(gain.mean() / room.mean()), "ci": np.percentile(ratios, ENDS).tolist()}


def _resamples(n: int, seed: int) -> NDArray[np.float64]:
    """How often each of n values is drawn in each resample, `[RESAMPLES, n]`."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts.astype(np.float64)
