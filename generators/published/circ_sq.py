"""circ-sq-published: the ConRec paper's "Circle-Square" by the authors' recipe, section 3.1.

Objects may leave the frame when they are turned, squares may overlap, circles have less ink than squares. Label =
number of squares; the circle of class 1 is always drawn first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.circ_sq import CircSq
from generators.factors import NOISE_KEY, Factor
from generators.published import pillow
from generators.published.recipe import Drawn, Published, choose
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels

SQUARE = 1
GAP = 10  # authors' code


def _object_factors(number: int) -> tuple[Factor, ...]:
    where = "uniform" if number == 1 else "uniform where it fits"
    return (
        Factor(f"x_{number}", "real", 8.5, 120.5, "px at 128", where, "object centre, before the turn"),
        Factor(f"y_{number}", "real", 8.5, 120.5, "px at 128", where, "object centre, before the turn"),
        Factor(f"size_{number}", "real", 17, 43, "px at 128", "uniform", "side of the square, width of the circle"),
    )


class CircSqPublished(Published):
    """Two objects that are circles or squares, as published."""

    name = "circ-sq-published"
    about = "circ-sq by the authors' recipe, flaws included"
    draws_as = "circ-sq"
    classes, objects = CircSq.classes, CircSq.objects
    default_n, default_n_test = CircSq.default_n, CircSq.default_n_test
    factors = (
        *CircSq.factors[:3],  # the class factors, and the turn
        *_object_factors(1),
        *_object_factors(2),
        NOISE_KEY,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        labels: Ints = factors["shape_1"].astype(np.int64) + factors["shape_2"]
        return labels

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """As the authors' code draws them, in whole pixels."""
        squares = draws.balanced(3)
        size = self.size
        radii = [draws.integer(k, size // 8, size // 3) // 2 for k in (1, 2)]
        x_1 = draws.integer(3, radii[0], size - radii[0])
        y_1 = draws.integer(4, radii[0], size - radii[0])
        gap = GAP * size // 128

        def place(u: Floats, rows: Ints) -> tuple[Floats, Floats]:
            radius = radii[1][rows]
            steps = size - 2 * radius + 1
            return radius + np.floor(u[0] * steps), radius + np.floor(u[1] * steps)

        def fits(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            x, y = place(u, rows)
            square = (x - x_1[rows]) ** 2 + (y - y_1[rows]) ** 2
            apart: NDArray[np.bool_] = square >= (radii[0] + radii[1] + gap)[rows] ** 2
            return apart

        x_2, y_2 = place(draws.first_valid(2, fits), np.arange(len(x_1)))
        pixels = {
            # The pixel (x, y) has its middle at +0.5, and the box is 2 radius + 1 wide.
            "x_1": x_1 + 0.5,
            "y_1": y_1 + 0.5,
            "size_1": 2 * radii[0] + 1,
            "x_2": x_2 + 0.5,
            "y_2": y_2 + 0.5,
            "size_2": 2 * radii[1] + 1,
        }
        classes = {"shape_1": squares // 2, "shape_2": (squares + 1) // 2, "angle": self.turn(draws, 5)}
        return classes | {name: value / self.scale for name, value in pixels.items()}

    def outlines(self, factors: NDArray[np.void]) -> list[Drawn]:
        """Pillow's shapes, level."""
        return [self._outline(factors, number) for number in (1, 2)]

    def _outline(self, factors: NDArray[np.void], number: int) -> Drawn:
        x, y = (np.rint(self.px(factors[f"{axis}_{number}"]) - 0.5).astype(np.int64) for axis in "xy")
        radius = self.whole(factors, f"size_{number}")[0] // 2
        circle = pillow.circle(x, y, radius, self.size)
        square = pillow.box(x - radius, y - radius, x + radius, y + radius, self.size)
        return choose(factors[f"shape_{number}"] == SQUARE, square, circle)

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        one, two = objects
        return one | two

    def box(self, factors: NDArray[np.void], number: int) -> Floats:
        """Place and size of the square, px."""
        return np.stack([self.px(factors[f"{name}_{number + 1}"]) for name in ("x", "y", "size", "size")])
