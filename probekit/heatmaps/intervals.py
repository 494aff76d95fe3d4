"""Means over images with 95 % bootstrap intervals: the image is the unit, not the pixel."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.probe.statistics import ENDS, MIN_IMAGES, RESAMPLES


def mean_interval(values: NDArray[np.floating], *, seed: int) -> dict[str, Any]:
    """The mean of per-image values with its percentile interval; NaN counts as undefined.

    Args:
        values: `[N]`.
        seed: Of the resampling.

    Returns:
        mean, ci (None under 10 defined values), n (defined values), undefined.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    found: dict[str, Any] = {"mean": None, "ci": None, "n": len(known), "undefined": len(values) - len(known)}
    if len(known):
        found["mean"] = float(known.mean())
    if len(known) >= MIN_IMAGES:
        means = _resamples(len(known), seed) @ known / len(known)
        found["ci"] = np.percentile(means, ENDS).tolist()
    return found


def ratio_interval(above: NDArray[np.floating], below: NDArray[np.floating], *, seed: int) -> dict[str, Any] | None:
    """The ratio of two means over the images where both are defined, with its percentile interval.

    A ratio of means, because single images may have next to nothing below.

    Args:
        above: `[N]`.
        below: `[N]`.
        seed: Of the resampling.

    Returns:
        mean (the ratio) and ci; None where the mean below is not above 0 by its own interval: over next to nothing, a
        ratio says nothing; None under 10 images.
    """
    known = np.isfinite(above) & np.isfinite(below)
    if known.sum() < MIN_IMAGES:
        return None
    counts = _resamples(int(known.sum()), seed)
    top, bottom = counts @ above[known], counts @ below[known]
    if np.percentile(bottom, ENDS[0]) <= 0:
        return None
    ratios = top[bottom > 0] / bottom[bottom > 0]
    return {"mean": float(above[known].mean() / below[known].mean()), "ci": np.percentile(ratios, ENDS).tolist()}


@lru_cache(maxsize=2)
def _resamples(n: int, seed: int) -> NDArray[np.float64]:
    """How often each of n values is drawn in each resample, `[RESAMPLES, n]`."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts.astype(np.float64)
