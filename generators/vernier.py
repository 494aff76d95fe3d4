"""vernier: two bars end to end, in one line or the second beside it.

Label = alignment. All is shared but the place of the second bar, which moves sideways by `offset`, to either side; so
both classes have the same ink. `distance`, between the ends of the bars, crosses over from detail to whole: at 2 px
the step is in a patch of a few pixels, at 24 px and more a patch sees one bar alone and cannot tell.

With binary edges the bar moves by whole pixels of the frame in x and in y, the nearest to `offset`, so that it shows
the same pixels in both places. From a distance of some 15 px on, a sample and its counterfactual at 128 px then hold
the same patches of 9 x 9, each as often (`generators.certify`). With `antialias` it moves by `offset` itself, and
fractions of a pixel show; patches that see one bar have no answer then either, but are not the very same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import reading
from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor
from generators.parameters import COMMON, Parameter
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels
from generators.shapes import Box, Shape

ALIGNED, OFFSET = 0, 1
MIN_LENGTH, MAX_LENGTH = 14.0, 22.0  # px; own choice
MARGIN = 10.0  # px between bars and frame: as many 9 x 9 patches see each pixel, wherever it is


class Vernier(Generator):
    """Two bars in one line, or beside one another."""

    name = "vernier"
    about = "whether two bars are in one line: fine-grained where they are near, holistic where they are apart"
    classes = ("aligned", "offset")
    objects = ("first bar", "second bar")
    default_n, default_n_test = 1000, 500  # own choice: those of rect-tri
    factors = (
        Factor("alignment", "class", 0, 1, "", "balanced", "of the bars", classes),
        ANGLE,
        Factor("shift", "real", -16, 16, "px at 128", "+-offset", "of the second bar, to the right, if it is offset"),
        Factor("length", "real", MIN_LENGTH, MAX_LENGTH, "px at 128", "uniform", "of each bar"),
        Factor("x", "real", 22, 106, "px at 128", "uniform in a disc", "middle between the bars, before the turn"),
        Factor("y", "real", 22, 106, "px at 128", "uniform in a disc", "middle between the bars, before the turn"),
        NOISE_KEY,
    )
    parameters = (
        Parameter("offset", 6.0, 0.0, 16.0, "px at 128", "difficulty", "sideways, of bars that are not aligned"),
        Parameter("distance", 2.0, 0.0, 40.0, "px at 128", "difficulty", "between the ends of the bars"),
        Parameter("width", 4.0, 1.0, 8.0, "px at 128", "difficulty", "of the bars"),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        return factors["alignment"].astype(np.int64)

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Places in a disc where the bars are whole, aligned or not."""
        length = draws.uniform(1, MIN_LENGTH, MAX_LENGTH)
        offset, distance, width = (self.values[name] for name in ("offset", "distance", "width"))
        reach = np.hypot(distance / 2.0 + length, width / 2.0 + offset)
        away = (64.0 - MARGIN - reach) * np.sqrt(draws.uniform(2))
        direction = draws.uniform(3, 0.0, 2.0 * np.pi)
        return {
            "alignment": draws.balanced(2),
            "angle": draws.uniform(4, -1.0, 1.0) * self.values["rotation"],
            "shift": np.where(draws.uniform(5) < 0.5, -offset, offset),
            "length": length,
            "x": 64.0 + away * np.cos(direction),
            "y": 64.0 + away * np.sin(direction),
        }

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """A box each."""
        turned = self.turned(factors)
        half_x = np.full(len(factors), self.values["width"] * self.scale / 2.0)
        half_y = self.px(factors["length"]) / 2.0
        apart = (self.values["distance"] + factors["length"].astype(np.float64)) / 2.0
        places = [self.placed(turned, factors["x"], factors["y"] + side * apart) for side in (-1.0, 1.0)]
        first, second = (Box(x, y, turned, half_x, half_y) for x, y in places)
        moved = self.px(factors["shift"]) * (factors["alignment"] == OFFSET)
        dx, dy = turned.turn(moved, 0.0 * moved)
        if not self.values["antialias"]:
            dx, dy = np.rint(dx), np.rint(dy)
        return [first, second._replace(x=second.x + dx, y=second.y + dy)]

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        first, second = objects
        return first | second

    def read(self, images: Pixels) -> dict[str, Ints]:
        """Whether one half of the ink is nearer to `offset` than to 0 beside the other, across the bars' own direction.

        Always right at the default settings from 128 px on, with grey edges from 32 px on; there from offsets of 1 px.
        """
        sideways = np.array([_sideways(share) for share in reading.ink(images)])
        return {"alignment": (sideways > self.values["offset"] * self.scale / 2.0).astype(np.int64)}


def _sideways(share: Floats) -> float:
    """How far the halves of an image's ink are beside one another, in pixels; points are complex numbers."""
    rows, columns = np.nonzero(share)
    weight, point = share[rows, columns], columns + 1j * rows
    point = point - np.average(point, weights=weight)
    squares = point**2
    for _ in range(3):  # the halves of the line through all, then of the line along the bars
        axis = np.sqrt((weight * squares).sum())
        axis /= abs(axis)
        ahead = (point * axis.conjugate()).real > 0.0
        middles = [np.average(point[half], weights=weight[half]) for half in (ahead, ~ahead)]
        squares = (point - np.where(ahead, *middles)) ** 2
    return abs(float(((middles[0] - middles[1]) * axis.conjugate()).imag))
