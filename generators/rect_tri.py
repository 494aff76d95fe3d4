"""rect-tri: a rectangle with round or sharp corners, out of which a triangle is cut.

After the ConRec paper, section 3.1, "Rectangle-Triangle", the fine-grained set, without its flaws. Label = 2 * corner +
triangle. Masks: "rectangle" is its whole outline region, the triangle included; so ink = rectangle and not triangle.

How it differs from the published recipe (`generators/published/rect_tri.py`): the rectangle stays in the frame at
every rotation; a round rectangle is as much larger than the sharp one in its place as its corners lose, in both sides
alike; the triangle keeps 4 px from the true outline, and both kinds have equal area about the same centroid. So the
counterfactuals keep the ink. The areas of rectangle and triangle are drawn once for each block of four samples, one of
each class: all classes have the same ink. Position, sides and triangle follow the same laws in all classes and are
valid for both values of both class factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generators import raster, reading
from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor, off_centre
from generators.parameters import COMMON, Parameter
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels
from generators.shapes import Box, Choice, Shape, Triangle

ROUND, SHARP = 0, 1
EQUILATERAL, RIGHT = 0, 1
MIN_SIDE, MAX_SIDE = 64.0, 88.0  # authors' code: W // 2 and W - 2 * 20
MARGIN = 1.0  # px between the rectangle and the circle in the frame
INNER = 4.0  # px between triangle and outline: the authors' inner padding, on all sides
MIN_LEG = 16.0  # authors' code: W // 8
# Sides of the equilateral triangle. 18: legs of a right triangle of that area can both be 16.
# 38: the largest (even number) whose right triangle fits into the smallest rectangle centred.
MIN_TRIANGLE, MAX_TRIANGLE = 18.0, 38.0
MAX_RATIO = 2.0  # of the legs; the paper's range, 16 to 84, reaches 5 but cannot fit whole here
MAX_REACH = 27.5  # px from centroid to vertex; 28 is half the smallest side less INNER
RIGHT_APEX = 30.0  # degrees between 60 and 90
LOST = 4.0 - np.pi  # area that four rounded corners lose, in radius**2


class RectTri(Generator):
    """Rectangle with round or sharp corners and an equilateral or right triangle cut out."""

    name = "rect-tri"
    about = "fine-grained: round or sharp corners x equilateral or right triangle cut out"
    classes = ("round-equilateral", "round-right", "sharp-equilateral", "sharp-right")
    objects = ("rectangle", "triangle")
    default_n, default_n_test = 1000, 500  # ConRec paper, section 3.2
    factors = (
        Factor("corner", "class", 0, 1, "", "balanced", "corner style", ("round", "sharp")),
        Factor("triangle", "class", 0, 1, "", "balanced", "triangle kind", ("equilateral", "right")),
        ANGLE,
        Factor("width", "real", 64, 88, "px at 128", "from area and aspect", "of the sharp rectangle"),
        Factor("height", "real", 64, 88, "px at 128", "from area and aspect", "of the sharp rectangle"),
        Factor("x", "real", 46, 82, "px at 128", "uniform", "rectangle centre, before the turn"),
        Factor("y", "real", 46, 82, "px at 128", "uniform", "rectangle centre, before the turn"),
        Factor("triangle_x", "real", 16, 112, "px at 128", "uniform where it fits", "centroid, before the turn"),
        Factor("triangle_y", "real", 16, 112, "px at 128", "uniform where it fits", "centroid, before the turn"),
        Factor(
            *("triangle_angle", "circular", -180, 180, "deg", "uniform within +-triangle_rotation"),
            about="turn of the triangle against the rectangle",
        ),
        Factor("triangle_side", "real", 4, 38, "px at 128", "uniform", "if it is equilateral"),
        Factor("leg_x", "real", 4, 41, "px at 128", "from area and ratio", "if it is right"),
        Factor("leg_y", "real", 4, 41, "px at 128", "from area and ratio", "if it is right"),
        NOISE_KEY,
    )
    parameters = (
        Parameter("corner_radius", 20.0, 0.0, 32.0, "px at 128", "difficulty", "of the round corners"),
        Parameter(
            *("apex_angle", RIGHT_APEX, 0.0, RIGHT_APEX, "deg", "difficulty"),
            about="apex of the right triangle minus 60; 0: both kinds are the same",
        ),
        Parameter("triangle_scale", 1.0, 0.25, 1.0, "share", "difficulty", "of the triangle's lengths"),
        # Default: the paper's triangle, whose base lies along a side of the rectangle.
        Parameter("triangle_rotation", 0.0, 0.0, 180.0, "deg", "difficulty", "largest turn against the rectangle"),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        labels: Ints = 2 * factors["corner"].astype(np.int64) + factors["triangle"]
        return labels

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        rectangle, triangle = objects
        return rectangle & ~triangle

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """A box and a triangle."""
        turned = self.turned(factors)
        x, y = self.placed(turned, factors["x"], factors["y"])
        half_x, half_y = self.px(factors["width"]) / 2.0, self.px(factors["height"]) / 2.0
        radius = self.values["corner_radius"] * self.scale
        larger = np.sqrt(1.0 + LOST * radius**2 / (4.0 * half_x * half_y))
        sharp, rounded = Box(x, y, turned, half_x, half_y), Box(x, y, turned, larger * half_x, larger * half_y, radius)
        x, y = self.placed(turned, factors["triangle_x"], factors["triangle_y"])
        corners = turned.turn(*self._local_triangle(factors, factors["triangle"] == RIGHT) * self.scale)
        triangle = Triangle(np.stack((corners[0] + x, corners[1] + y)).transpose(2, 1, 0))
        return [Choice(factors["corner"] == SHARP, sharp, rounded), triangle]

    def read(self, images: Pixels) -> dict[str, Ints]:
        """Corner: how much of the smallest box around it the outline fills. Triangle: how oblong the hole is.

        Always right at the default settings from 128 px on.
        """
        radius = self.values["corner_radius"] * self.scale
        found = [_seen(share > 0.5) for share in reading.ink(images)]
        region, box, length = np.array(found).reshape(-1, 3).T
        # The squared lengths of an isosceles triangle are as 3 tan(apex / 2)**2; halfway in logarithms.
        apex = np.deg2rad(60.0 + self.values["apex_angle"])
        return {
            "corner": (box - region < LOST * radius**2 / 2.0).astype(np.int64),
            "triangle": (length > np.sqrt(3.0) * np.tan(apex / 2.0)).astype(np.int64),
        }

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Areas by blocks of four, then sides, then places where both kinds of both shapes fit."""
        label = draws.balanced(4)
        shared, which = draws.blocks(4)
        radius = self.values["corner_radius"]
        lost = LOST * radius**2
        area = shared.uniform(4, MIN_SIDE**2, MAX_SIDE**2 - lost)[which]
        # The sides of equal length, of the sharp and of the round rectangle of that area.
        sharp, round_ = np.sqrt(area), np.sqrt(area + lost)
        room = np.minimum(np.log(sharp / MIN_SIDE), np.log(MAX_SIDE / round_))
        stretch = np.exp(draws.uniform(1, -1.0, 1.0) * np.maximum(room, 0.0))
        turn = draws.uniform(2, -1.0, 1.0) * self.values["rotation"]
        # The frame holds the larger of the two, so that position does not tell the class.
        reach = np.hypot(round_ * stretch, round_ / stretch) / 2.0
        away = (64.0 - MARGIN - reach) * np.sqrt(draws.uniform(3))
        direction = draws.uniform(4, 0.0, 2.0 * np.pi)
        columns = {
            "corner": label // 2,
            "triangle": label % 2,
            "angle": turn,
            "width": off_centre(sharp * stretch),
            "height": off_centre(sharp / stretch),
            "x": 64.0 + away * np.cos(direction),
            "y": 64.0 + away * np.sin(direction),
            "triangle_angle": draws.uniform(5, -1.0, 1.0) * self.values["triangle_rotation"] + 0.0,  # no -0.0
            **self._triangle_lengths(shared.uniform(5)[which], draws.uniform(6)),
        }
        # And the triangle fits into the smaller of the two.
        half = (sharp * stretch / 2.0 - INNER, sharp / stretch / 2.0 - INNER)
        dx, dy = self._triangle_place(draws, columns, half, max(radius - INNER, 0.0))
        return columns | {"triangle_x": columns["x"] + dx, "triangle_y": columns["y"] + dy}

    def _triangle_lengths(self, u_side: Floats, u_ratio: Floats) -> dict[str, Floats]:
        """Side and legs of triangles of equal area, from two uniform numbers `[n]`."""
        side = MIN_TRIANGLE + (MAX_TRIANGLE - MIN_TRIANGLE) * u_side
        area = np.sqrt(3.0) / 4.0 * side**2
        # Ratio q = leg_x / leg_y >= 1: the short leg is sqrt(2 area / q), and the farthest vertex
        # of a right triangle is sqrt(area (8 q + 2 / q)) / 3 from the centroid.
        bound = 9.0 * MAX_REACH**2 / area
        largest = np.minimum(2.0 * area / MIN_LEG**2, (bound + np.sqrt(bound**2 - 64.0)) / 16.0)
        largest = np.minimum(largest, MAX_RATIO)
        share = self.values["apex_angle"] / RIGHT_APEX  # 0: leg_x = leg_y = side
        ratio = largest ** ((2.0 * u_ratio - 1.0) * share)
        scale = self.values["triangle_scale"]
        product = 2.0 * area / self._apex()[1]
        return {
            "triangle_side": side * scale,
            "leg_x": np.sqrt(product * ratio) * scale,
            "leg_y": np.sqrt(product / ratio) * scale,
        }

    def _apex(self) -> tuple[float, float]:
        """Cosine and sine of the angle between the legs, rounded so that 90 degrees is exact."""
        apex = np.deg2rad(60.0 + self.values["apex_angle"])
        return round(float(np.cos(apex)), 12), round(float(np.sin(apex)), 12)

    def _local_triangle(self, columns: Any, right: NDArray[np.bool_] | bool) -> Floats:
        """Corners `[2, 3, n]`, x before y, about the centroid, turned by triangle_angle; px at 128."""
        side = np.asarray(columns["triangle_side"], np.float64)
        leg_x, leg_y = (np.where(right, columns[name], side) for name in ("leg_x", "leg_y"))
        apex_cos, apex_sin = self._apex()
        local = np.zeros((2, 3, len(side)))
        local[0, 1], local[0, 2] = leg_x, leg_y * np.where(right, apex_cos, 0.5)
        local[1, 2] = leg_y * np.where(right, apex_sin, np.sqrt(0.75))
        local -= local.mean(axis=1, keepdims=True)
        angle = np.asarray(columns["triangle_angle"], np.float64)
        return np.stack(raster.axes(angle).turn(*local)) if angle.any() else local

    def _triangle_place(
        self, draws: Draws, columns: Any, half: tuple[Floats, Floats], radius: float
    ) -> tuple[Floats, Floats]:
        """Centroids about the rectangle's centre, uniform where both kinds of triangle fit.

        Args:
            draws: of the samples.
            columns: triangle lengths and angle.
            half: half sides of the allowed region, the inner rectangle.
            radius: of the corners of that region; 0 if the outline's are less than INNER.
        """
        corners = np.concatenate([self._local_triangle(columns, right) for right in (False, True)], axis=1)  # [2, 6, n]
        room = np.stack(half)
        low, high = -room - corners.min(axis=1), room - corners.max(axis=1)
        wide = high - low

        def centroid(u: Floats, rows: Ints) -> Floats:
            points: Floats = low[:, rows] + u[:2] * wide[:, rows]
            return points  # [2, m]

        def fits(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            if radius <= 0.0:
                return np.ones(len(rows), np.bool_)
            out = abs(centroid(u, rows)[:, None] + corners[:, :, rows])  # [2, 6, m]
            out -= (room - radius)[:, None, rows]
            np.maximum(out, 0.0, out=out)
            out *= out
            inside: NDArray[np.bool_] = (out[0] + out[1] <= radius**2).all(axis=0)
            return inside

        x, y = centroid(draws.first_valid(2, fits), np.arange(room.shape[1]))
        return x, y


def _seen(ink: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Areas of a rectangle and of the smallest box around it, and the ratio of its hole's moments of inertia."""
    _, ground = cv2.connectedComponents((~ink).astype(np.uint8), connectivity=4)
    region = ground != ground[0, 0]
    rows, columns = np.nonzero(region)
    _, (width, height), _ = cv2.minAreaRect(np.stack((columns, rows), axis=1).astype(np.float32))
    spread = np.linalg.eigvalsh(np.cov(np.nonzero(region & ~ink)))
    return float(region.sum()), (width + 0.5) * (height + 0.5), float(spread[1] / spread[0])
