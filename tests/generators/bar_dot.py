"""bar-dot: what somebody who adds a generator writes. It is in no table but the tests'.

A bar, upright or level, and a dot on one side of it or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import GENERATORS, Factor, Generator, Parameter
from generators.factors import ANGLE, NOISE_KEY
from generators.parameters import COMMON
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels
from generators.shapes import Box, Choice, Disc, Shape


class BarDot(Generator):
    """A bar that is upright or level, and a dot on one side of it."""

    name = "bar-dot"
    about = "how a bar lies, and on which side of it a dot is"
    classes = ("upright-left", "upright-right", "level-left", "level-right")
    objects = ("bar", "dot")
    default_n, default_n_test = 100, 50
    factors = (
        Factor("bar", "class", 0, 1, "", "balanced", "how it lies", ("upright", "level")),
        Factor("side", "class", 0, 1, "", "balanced", "of the dot", ("left", "right")),
        ANGLE,
        Factor("length", "real", 20, 40, "px at 128", "uniform", "of the bar"),
        Factor("away", "real", 36, 48, "px at 128", "uniform", "from the middle of the bar to that of the dot"),
        NOISE_KEY,
    )
    parameters = (Parameter("dot", 6.0, 2.0, 10.0, "px at 128", "difficulty", "radius of the dot"), *COMMON)

    def labels(self, factors: NDArray[np.void]) -> Ints:
        """2 * bar + side, `[n]`."""
        labels: Ints = 2 * factors["bar"].astype(np.int64) + factors["side"]
        return labels

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Lengths are uniform."""
        label = draws.balanced(4)
        return {
            "bar": label // 2,
            "side": label % 2,
            "angle": draws.uniform(1, -1.0, 1.0) * self.values["rotation"],
            "length": draws.uniform(2, 20.0, 40.0),
            "away": draws.uniform(3, 36.0, 48.0),
        }

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """A box and a disc."""
        turned = self.turned(factors)
        centre: Floats = np.full(len(factors), 64.0)
        x, y = self.placed(turned, centre, centre)
        long, short = self.px(factors["length"]) / 2.0, self.px(np.full(len(factors), 3.0))
        level = factors["bar"] == 1
        bar = Choice(level, Box(x, y, turned, long, short), Box(x, y, turned, short, long))
        away = np.where(factors["side"] == 1, 1.0, -1.0) * factors["away"]
        x, y = self.placed(turned, 64.0 + away, centre)
        return [bar, Disc(x, y, self.px(np.full(len(factors), self.values["dot"])))]

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        """Both."""
        bar, dot = objects
        return bar | dot


TABLE: dict[str, type[Generator]] = GENERATORS | {BarDot.name: BarDot}
