"""How the values of rows become one number with its interval: a mean over images, or over classes.

Over classes where images have several labels and a row is one of them, as in the pointing game (Zhang et al. 2018).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.statistics import (
    ENDS,
    MIN_IMAGES,
    RESAMPLES,
    mean_over_images,
    percentiles,
    ratio_over_images,
    share_interval,
)

Values = NDArray[np.floating[Any]]  # [N], NaN where undefined


@dataclass(frozen=True)
class OverImages:
    """Every row is an image, and counts alike."""

    seed: int

    def mean(self, values: Values) -> dict[str, Any]:
        """`statistics.mean_over_images`."""
        return mean_over_images(values, seed=self.seed)

    def ratio(self, above: Values, below: Values) -> dict[str, Any] | None:
        """`statistics.ratio_over_images`."""
        return ratio_over_images(above, below, seed=self.seed)

    def share(self, hits: NDArray[np.bool_]) -> list[float] | None:
        """The interval of the share of rows that are hits; None under 10 images."""
        return share_interval(int(hits.sum()), len(hits))

    def part(self, rows: NDArray[np.int64]) -> "OverImages":
        """The same means over some of the rows."""
        return self


@dataclass(frozen=True)
class OverClasses(OverImages):
    """Every row is a label of an image. The mean of each class's rows, and of these the mean; classes count alike.

    Intervals are of resampled images, each with all its rows: a resample leaves out a class of which it drew none.
    """

    images: NDArray[np.int64]  # int64 `[N]`, which image each row is of
    classes: NDArray[np.int64]  # int64 `[N]`, which class
    names: tuple[str, ...]  # of the classes

    def mean(self, values: Values) -> dict[str, Any]:
        """As `mean_over_images`, n counting rows; and under `classes` the same of each class, over its images."""
        drawn = self._drawn(values)
        by_class = {
            self.names[k]: mean_over_images(values[self.classes == k], seed=self.seed) for k in np.unique(self.classes)
        }
        means = [found["mean"] for found in by_class.values() if found["mean"] is not None]
        undefined = int((~np.isfinite(values)).sum())
        return {
            "mean": float(np.mean(means)) if means else None,
            "ci": None if drawn is None else percentiles(drawn),
            "n": len(values) - undefined,
            "undefined": undefined,
            "classes": by_class,
        }

    def ratio(self, above: Values, below: Values) -> dict[str, Any] | None:
        """The ratio of two means over classes, as `ratio_over_images`."""
        known = np.isfinite(above) & np.isfinite(below)
        both = [np.where(known, values, np.nan) for values in (above, below)]
        tops, bottoms = map(self._drawn, both)
        if tops is None or bottoms is None or np.percentile(bottoms, ENDS[0]) <= 0:
            return None
        top, bottom = (self.mean(values)["mean"] for values in both)
        return {"mean": top / bottom, "ci": percentiles(tops[bottoms > 0] / bottoms[bottoms > 0])}

    def share(self, hits: NDArray[np.bool_]) -> list[float] | None:
        """Likewise, of resampled images; where all rows are alike, which resamples are, too, that of the images."""
        image = np.unique(self.images, return_inverse=True)[1]
        rows = np.bincount(image).astype(np.float64)
        if hits.all() or not hits.any():
            return share_interval(len(rows) * int(hits.all()), len(rows))
        right = np.bincount(image[hits], minlength=len(rows)).astype(np.float64)
        found = ratio_over_images(right, rows, seed=self.seed)
        return None if found is None else found["ci"]

    def part(self, rows: NDArray[np.int64]) -> "OverClasses":
        """The same means over some of the rows."""
        return OverClasses(self.seed, self.images[rows], self.classes[rows], self.names)

    def _drawn(self, values: Values) -> NDArray[np.float64] | None:
        """The mean over classes in each resample, `[RESAMPLES]`; None under 10 images."""
        known = np.flatnonzero(np.isfinite(values))
        found, image = np.unique(self.images[known], return_inverse=True)
        if len(found) < MIN_IMAGES:
            return None
        n = len(found)
        counts = np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)[:, image]
        of_class = self.classes[known, None] == np.unique(self.classes[known])
        with np.errstate(invalid="ignore"):
            means = (counts * values[known]) @ of_class / (counts @ of_class)
        drawn: NDArray[np.float64] = np.nanmean(means, axis=1)
        return drawn
