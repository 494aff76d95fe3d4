"""enclosed: a closed curve with lobes, a disc and a small ring, one of them inside and the other outside.

Both classes hold the same three shapes, and the two marks change places: only inside and outside tell them apart. Marks
look alike at both places to the pixel and keep `margin` from the curve and the border across and down, so that no patch
of 9 px sees a mark and anything else: the multiset of patches is the same in both classes. A mark's place does not tell
whether it is inside: turned round by half a turn about the middle between the marks, every scene is as likely, and then
the other place is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import pi
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor
from generators.parameters import COMMON, Parameter
from generators.random import Draws, halves
from generators.raster import Floats, Ints, Pixels
from generators.reading import inked, parts
from generators.shapes import Copied, Disc, Group, Polygon, Shape, Sprites

STROKE = 3.0  # px, of the curve
RADIUS, HOLE = 4.0, 1.6  # px, of both marks, and of the hole in one: the box around the ink is alike in both classes
CLEAR = RADIUS + STROKE / 2.0 + 1.5  # px from a mark's middle to corners of the curve's, less `margin`
SMALLEST, LARGEST = 26.0, 30.0  # px, mean radius of the curve
MARGIN = 2.0  # px between the curve, which stays where it is, and the border
OFF = 6.0  # px, at most from the middle of the curve to the mark inside, across and down
AWAY = 0.55  # of the room: the middle of the curve is so far from that of the frame, across and down
SHIFT = 3.0  # px, of the middle between the marks from the middle of the frame
DIRECTIONS: Floats = np.arange(96, dtype=np.float64) * (
    2.0 * pi / 96.0
)  # of the corners of the polygon that the curve is
WAVE_GRID, BASIS_GRID = 2.0**-16, 2.0**-20  # px of waves, and what corners are made of them


class Enclosed(Generator):
    """A disc and a small ring, one of them inside a closed curve."""

    name = "enclosed"
    about = "whole: which of two marks is inside a closed curve"
    classes = ("disc-inside", "ring-inside")
    objects = ("curve", "disc", "ring")
    default_n, default_n_test = 1000, 500
    together = np.bitwise_xor
    factors = (
        Factor(
            "inside", "class", 0, 1, "", "balanced", "mark inside the curve; the other is outside", ("disc", "ring")
        ),
        ANGLE,
        Factor("size", "real", 26, 30, "px at 128", "uniform", "mean radius of the curve"),
        Factor("regularity", "real", 0.5, 1, "share", "uniform", "of the depth: lobes alike; the rest: one lobe less"),
        Factor("phase", "circular", -180, 180, "deg", "uniform", "of the lobes, before the turn"),
        Factor("second_phase", "circular", -180, 180, "deg", "uniform", "of the lobes that are one less"),
        Factor("x", "real", 20, 108, "px at 128", "uniform where it fits", "middle of the curve"),
        Factor("y", "real", 20, 108, "px at 128", "uniform where it fits", "middle of the curve"),
        Factor("inside_x", "real", 12, 116, "px at 128", "uniform where it fits", "middle of the mark inside"),
        Factor("inside_y", "real", 12, 116, "px at 128", "uniform where it fits", "middle of the mark inside"),
        Factor("outside_x", "real", 12, 116, "px at 128", "uniform where it fits", "middle of the mark outside"),
        Factor("outside_y", "real", 12, 116, "px at 128", "uniform where it fits", "middle of the mark outside"),
        NOISE_KEY,
    )
    parameters = (
        Parameter("lobes", 4, 2, 5, "lobes", "difficulty", "of the curve"),
        Parameter("depth", 0.25, 0.0, 0.25, "share", "difficulty", "of the lobes, of the curve's radius"),
        Parameter("margin", 9.0, 9.0, 10.0, "px at 128", "difficulty", "between a mark and all else, across or down"),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        return factors["inside"].astype(np.int64)

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """A curve and two places with room for a mark, one on each side of it; what fits is uniform."""
        middle = SHIFT * np.stack([draws.uniform(k, -1.0, 1.0) for k in (2, 3)])
        angle = draws.uniform(1, -1.0, 1.0) * self.values["rotation"]
        depth, lobes = self.values["depth"], int(self.values["lobes"])
        clear = CLEAR + self.values["margin"]

        def places(u: Floats, rows: Ints) -> dict[str, Floats]:
            """The curve and the mark inside, `[m]`, seen from the middle between the marks."""
            u = halves(u)
            size = SMALLEST + (LARGEST - SMALLEST) * u[0]
            # The frame holds the curve, and also the curve turned round.
            room = 64.0 - MARGIN - STROKE - (1.0 + depth) * size - abs(middle[:, rows])
            x, y = (2.0 * u[1:3] - 1.0) * (1.0 - AWAY) * room
            x, y = x + np.copysign(AWAY * room[0], x), y + np.copysign(AWAY * room[1], y)
            inside_x, inside_y = (2.0 * u[3:5] - 1.0) * OFF + (x, y)
            return {"size": size, "x": x, "y": y, "inside_x": inside_x, "inside_y": inside_y}

        def scene(u: Floats, rows: Ints) -> dict[str, Floats]:
            """All but the class."""
            regularity, phase, second_phase = halves(u)[5:]
            return places(u, rows) | {
                "angle": angle[rows],
                "regularity": 0.5 + 0.5 * regularity,
                "phase": 360.0 * phase - 180.0,
                "second_phase": 360.0 * second_phase - 180.0,
            }

        def far(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            drawn = places(u, rows)
            good: NDArray[np.bool_] = np.hypot(*_marks(drawn)[1]) >= drawn["size"] * (1.0 - depth) + clear
            return good

        def free(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            """Whether both marks are on their sides of the curve and far from its corners."""
            drawn = scene(u, rows)
            waves, marks = self._waves(drawn), _marks(drawn)
            left = np.arange(len(rows))
            for every in (8, 1):  # of the corners: most are refused by a few
                for mark in marks:
                    seen = np.concatenate((waves, -mark.T), axis=1).take(left, axis=0)
                    away = abs(seen @ np.concatenate(_corners(lobes)[:2, :, : len(DIRECTIONS) : every], axis=1))
                    count = away.shape[1] // 2
                    left = left[np.maximum(away[:, :count], away[:, count:]).min(axis=1) >= clear]
            waves = waves.take(left, axis=0).T
            inside, outside = (
                np.hypot(x, y) < (waves * _basis(lobes, np.arctan2(y, x))).sum(axis=0)
                for x, y in (mark[:, left] for mark in marks)
            )
            good = np.zeros(len(rows), np.bool_)
            good[left] = inside & ~outside
            return good

        found = draws.first_valid(1, far, free, at_first=4)
        columns = scene(found, np.arange(len(angle)))
        for axis, shift in zip("xy", 64.0 + middle, strict=True):
            columns[f"outside_{axis}"] = shift - columns[f"inside_{axis}"]
            columns[f"inside_{axis}"] += shift
            columns[axis] += shift
        return columns | {"inside": draws.balanced(2)}

    def _waves(self, columns: Any) -> Floats:
        """The curve's radius as a sum of waves, `[n, 5]`: of each of `_basis` so much, px at 128."""
        deep = self.values["depth"] * columns["size"]
        waves = [columns["size"]]
        for number, phase, share in ((0, "phase", 0.0), (1, "second_phase", 1.0)):
            turn = np.deg2rad((self.values["lobes"] - number) * columns["angle"] + columns[phase])
            most = deep * abs(columns["regularity"] - share)
            waves += [most * np.cos(turn), -most * np.sin(turn)]
        return np.stack(waves, axis=1)

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """A curve with a hole, and two marks."""
        inside, outside = (
            np.stack([self.snapped(factors[f"{name}_{axis}"]) for axis in "xy"]) for name in ("inside", "outside")
        )
        swapped = factors["inside"] == 1
        disc, ring = np.where(swapped, outside, inside), np.where(swapped, inside, outside)
        none = np.zeros(len(factors), np.int64)
        full, hole = self.sprites
        return [
            Polygon(*self._edges(factors)),
            Copied(full, none, *disc),
            Group((Copied(full, none, *ring),), (Copied(hole, none, *ring),)),
        ]

    @cached_property
    def sprites(self) -> list[Sprites]:
        """A mark and the hole in it; their middles are those of pixels."""
        half, radii = np.array([0.5]), np.array([[RADIUS], [HOLE]]) * self.scale
        return [Sprites(Disc(half, half, radius), size=self.size) for radius in radii]

    def _edges(self, factors: NDArray[np.void]) -> tuple[Floats, Floats]:
        """Corners (x, y) of the outer and the inner edge of the curve, `[n, 2, 96]` each, in pixels of this frame.

        Sums of numbers on grids are exact: the last bit of a sine and the order do not count, which machines differ in.
        """
        columns = {name: factors[name].astype(np.float64) for name in factors.dtype.names or ()}
        middle = np.stack([columns[axis] * self.scale + 0.5 for axis in "xy"], axis=1)
        made_of = np.rint(np.concatenate((self._waves(columns) * self.scale, middle), axis=1) / WAVE_GRID) * WAVE_GRID
        x, y, along_x, along_y = (made_of @ table for table in _corners(int(self.values["lobes"])))
        half = STROKE / 2.0 * self.scale / np.sqrt(along_x * along_x + along_y * along_y)
        along_x *= half
        along_y *= half
        x += along_y
        y -= along_x
        return x.reshape(-1, 2, len(DIRECTIONS)), y.reshape(-1, 2, len(DIRECTIONS))

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        curve, disc, ring = objects
        return curve | disc | ring

    def read(self, images: Pixels) -> dict[str, Ints]:
        """By filling: whether the mark with a hole is where the ground does not reach from the border.

        From 48 px on, with grey edges from 64.
        """
        return {"inside": np.array([_ring_inside(ink) for ink in inked(images)], np.int64)}


def _basis(lobes: int, direction: Floats) -> Floats:
    """The waves that a curve is made of, `[5, ...]`, in each direction: in radians, y down, after the turn."""
    one, other = lobes * direction, (lobes - 1) * direction
    return np.stack((np.ones_like(direction), np.cos(one), np.sin(one), np.cos(other), np.sin(other)))


@lru_cache(maxsize=4)
def _corners(lobes: int) -> Floats:
    """What waves and the middle make of x and y of corners and of their neighbours' distance, `[4, 7, 2 * 96]`.

    The second time the other way round.
    """
    places = np.stack([_basis(lobes, DIRECTIONS) * of(DIRECTIONS) for of in (np.cos, np.sin)])
    places = np.rint(places / BASIS_GRID) * BASIS_GRID
    places = np.concatenate((places, np.repeat(np.eye(2)[..., None], len(DIRECTIONS), axis=2)), axis=1)
    steps = np.roll(places, -1, axis=2) - np.roll(places, 1, axis=2)
    there, back = (np.concatenate((places, way * steps)) for way in (1.0, -1.0))
    return np.concatenate((there, back[..., ::-1]), axis=2)


def _marks(drawn: dict[str, Floats]) -> tuple[Floats, Floats]:
    """From the middle of the curve to the mark inside, and to the one outside, `[2, m]` each, x before y."""
    inside, curve = (np.stack((drawn[f"{of}x"], drawn[f"{of}y"])) for of in ("inside_", ""))
    return inside - curve, -inside - curve


def _ring_inside(ink: NDArray[np.bool_]) -> bool:
    curve, *marks = parts(ink)
    ring = min(marks, key=lambda part: float(part.box.mean()))
    ground = np.ones(ink.shape, np.uint8)
    x, y = curve.points.T.astype(np.int64)
    ground[y, x] = 0
    regions = cv2.connectedComponents(ground, connectivity=4)[1]
    x, y = ring.points[0].astype(np.int64)
    return bool(regions[y, x] != regions[0, 0])
