"""rect-tri-published: the ConRec paper's "Rectangle-Triangle" by the authors' recipe, section 3.1.

Rectangles may leave the frame when they are turned, triangles may leave round corners, and ink tells the class. Label =
2 * corner + triangle. Masks: "rectangle" is its whole region, "triangle" the part of the triangle that lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.factors import NOISE_KEY, Factor
from generators.published import pillow
from generators.published.recipe import Drawn, Published, choose, within
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels
from generators.rect_tri import RectTri

RIGHT, SHARP = 1, 1
MAX_SIDE = 88  # authors' code: W - 2 * 20
RADIUS, PADDING, INNER = 20, 20, 4  # authors' code


class RectTriPublished(Published):
    """Rectangle with round or sharp corners and an equilateral or right triangle cut out, as published."""

    name = "rect-tri-published"
    about = "rect-tri by the authors' recipe, flaws included"
    draws_as = "rect-tri"
    classes, objects = RectTri.classes, RectTri.objects
    default_n, default_n_test = RectTri.default_n, RectTri.default_n_test
    factors = (
        *RectTri.factors[:3],  # the class factors, and the turn
        Factor("width", "real", 65, 89, "px at 128", "uniform", "of the rectangle"),
        Factor("height", "real", 65, 89, "px at 128", "uniform", "of the rectangle"),
        Factor("x", "real", 52.5, 76.5, "px at 128", "uniform where it fits", "rectangle centre, before the turn"),
        Factor("y", "real", 52.5, 76.5, "px at 128", "uniform where it fits", "rectangle centre, before the turn"),
        Factor("triangle_x", "real", 24, 76, "px at 128", "uniform", "left upper corner, before the turn"),
        Factor("triangle_y", "real", 24, 76, "px at 128", "uniform", "left upper corner, before the turn"),
        Factor("triangle_angle", "circular", -180, 180, "deg", "0", "turn of the triangle against the rectangle"),
        Factor("triangle_side", "real", 16, 84, "px at 128", "uniform", "if it is equilateral"),
        Factor("leg_x", "real", 16, 84, "px at 128", "uniform", "if it is right"),
        Factor("leg_y", "real", 16, 84, "px at 128", "uniform", "if it is right"),
        NOISE_KEY,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        labels: Ints = 2 * factors["corner"].astype(np.int64) + factors["triangle"]
        return labels

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """As the authors' code draws them, in whole pixels."""
        label = draws.balanced(4)
        size = self.size
        shortest, longest = size // 2, MAX_SIDE * size // 128
        padding, inner = PADDING * size // 128, INNER * size // 128
        length_x = draws.integer(1, shortest, longest)
        length_y = draws.integer(2, shortest, longest)
        start_x = draws.integer(3, padding, size - length_x - padding)
        start_y = draws.integer(4, padding, size - length_y - padding)
        corner_x = draws.integer(5, start_x + inner, start_x + length_x // 2)
        corner_y = draws.integer(6, start_y + inner, start_y + length_y // 2)
        room_x, room_y = length_x - (corner_x - start_x), length_y - (corner_y - start_y)
        pixels = {
            # A box from start to start + length, both included, is length + 1 wide.
            "width": length_x + 1,
            "height": length_y + 1,
            "x": start_x + (length_x + 1) / 2.0,
            "y": start_y + (length_y + 1) / 2.0,
            "triangle_x": corner_x,
            "triangle_y": corner_y,
            "triangle_side": draws.integer(7, size // 8, np.minimum(room_x, room_y)),
            "leg_x": draws.integer(8, size // 8, room_x),
            "leg_y": draws.integer(9, size // 8, room_y),
        }
        classes = {"corner": label // 2, "triangle": label % 2}
        angles = {"angle": self.turn(draws, 10), "triangle_angle": 0 * label}
        return classes | angles | {name: value / self.scale for name, value in pixels.items()}

    def outlines(self, factors: NDArray[np.void]) -> list[Drawn]:
        """Pillow's shapes, level; the triangle where it lies in the rectangle."""
        x, y, width, height = self.box(factors, 0)
        x0, y0 = (np.rint(start).astype(np.int64) for start in (x - width / 2.0, y - height / 2.0))
        x1, y1 = (start + np.rint(side).astype(np.int64) - 1 for start, side in ((x0, width), (y0, height)))
        rounded = pillow.round_box(x0, y0, x1, y1, RADIUS * self.size // 128, self.size)
        square = pillow.box(x0, y0, x1, y1, self.size)
        names = ("triangle_x", "triangle_y", "triangle_side", "leg_x", "leg_y")
        x, y, side, leg_x, leg_y = self.whole(factors, *names)
        apex_y = np.floor(y + side * np.sqrt(3.0) / 2.0).astype(np.int64)
        equilateral = pillow.triangle(x, y, x + side, x + side // 2, apex_y, self.size)
        right = pillow.triangle(x, y, x + leg_x, x, y + leg_y, self.size)
        rectangle = choose(factors["corner"] == SHARP, square, rounded)
        return [rectangle, within(choose(factors["triangle"] == RIGHT, right, equilateral), rectangle)]

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        rectangle, triangle = objects
        return rectangle & ~triangle

    def box(self, factors: NDArray[np.void], number: int) -> Floats:
        """Place and size of the rectangle, px, which holds the triangle too."""
        return np.stack([self.px(factors[name]) for name in ("x", "y", "width", "height")])
