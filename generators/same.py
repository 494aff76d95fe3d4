"""same: four discs in two groups, each with a hole: in each group the two holes have the same shape, or in neither.

Two discs have holes of one shape and two of another: in one class AA BB, in the other AB AB, where two of them have
changed places. Discs look alike at both places to the pixel, and every one is 9 px from the next and from the border,
across or down, so that no patch of 9 px sees two: the multiset of patches is the same in both classes. What differs is
in the holes, so that the box around the ink does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import cos, hypot, pi, radians
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor, off_centre
from generators.parameters import COMMON, Parameter
from generators.random import Draws, halves
from generators.raster import Axes, Floats, Ints, Pixels
from generators.reading import Part, inked, parts
from generators.shapes import Disc, Group, Polygon, Shape, Stamp, stamped

SMALLEST, LARGEST = 10.0, 11.0  # px, radius of the discs
WALL = 2.5  # px, at least around a hole
NARROW = 0.3  # of the room for a hole: the nearest that a corner comes to its middle; the farthest is 1
APART = 10.0  # px from disc to disc and to the border across or down: 9, and one that rounding may take
TILT = 25.0  # degrees, at most from a group's direction to level, or of both to upright
ROOM = 32.0  # px, half a frame in which a disc is drawn once for both of its places
UNLIKE = 0.22  # of the room for a hole: between the corners of two unlike shapes, on average
DIRECTIONS: Floats = np.arange(6, dtype=np.float64) * pi / 3.0 + 0.2  # of the corners, from the middle of a hole
PAIRINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))


def _corner(shape: str, k: int) -> Factor:
    return Factor(f"{shape}_{k}", "real", 0.3, 1, "share", "uniform if A and B differ", f"corner {k} of hole {shape}")


def _place(k: int, axis: str) -> Factor:
    about = f"middle of place {k}; 1 and 2 are a group, 3 and 4"
    return Factor(f"{axis}_{k}", "real", 20, 108, "px at 128", "uniform where it fits", about)


class Same(Generator):
    """Two groups of two discs, whose holes are of two shapes."""

    name = "same"
    about = "whole: whether two shapes are the same in each of two groups"
    classes = ("same", "different")
    objects = ("a_disc_1", "a_disc_2", "b_disc_1", "b_disc_2")
    default_n, default_n_test = 1000, 500
    together = np.bitwise_xor
    factors = (
        Factor("groups", "class", 0, 1, "", "balanced", "what they are of", ("same", "different")),
        ANGLE,
        Factor("size", "real", 10, 11, "px at 128", "uniform", "radius of the discs"),
        *(_corner(shape, k) for shape in "ab" for k in range(1, 7)),
        *(_place(k, axis) for k in range(1, 5) for axis in "xy"),
        *(
            Factor(f"{disc}_turn", "ordinal", 0, 3, "quarter turns", "uniform, 0 without `turn`", "of its hole")
            for disc in objects
        ),
        NOISE_KEY,
    )
    parameters = (
        Parameter("difference", 1.0, 0.0, 1.0, "share", "difficulty", "of the shapes; 0: all are the same"),
        Parameter("distance", 32.0, 20.0, 36.0, "px at 128", "difficulty", "at least between discs of two groups"),
        Parameter("turn", False, 0, 1, "bool", "difficulty", "each hole is turned by some quarter turns of its own"),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        return factors["groups"].astype(np.int64)

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Two shapes, then four places."""
        size = draws.uniform(1, SMALLEST, LARGEST)
        turns = draws.integer(3, 0, 255) * int(self.values["turn"])
        columns = {"groups": draws.balanced(2), "angle": draws.uniform(2, -1.0, 1.0) * self.values["rotation"]}
        columns |= {f"{disc}_turn": turns // 4**k % 4 for k, disc in enumerate(self.objects)}
        columns |= {f"{shape}_{k + 1}": values[k] for shape, values in self._shapes(draws).items() for k in range(6)}
        places = 64.0 + self._places(draws, size)
        columns |= {f"{axis}_{k + 1}": places[i, k] for k in range(4) for i, axis in enumerate("xy")}
        return columns | {"size": off_centre(size)}

    def _shapes(self, draws: Draws) -> dict[str, Floats]:
        """From the middle of the hole to its corners, `[6, n]`, as shares of the room for it."""
        first = np.stack([draws.uniform(k, NARROW, 1.0) for k in range(8, 14)])

        def corners(u: Floats) -> Floats:
            return NARROW + (1.0 - NARROW) * halves(u)[:6]

        def unlike(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            far: NDArray[np.bool_] = abs(corners(u) - first[:, rows]).mean(axis=0) >= UNLIKE
            return far

        second = first + self.values["difference"] * (corners(draws.first_valid(4, unlike)) - first)
        swapped = draws.uniform(4) < 0.5  # where they are nearly the same, the second is nearer to the mean
        return {"a": np.where(swapped, second, first), "b": np.where(swapped, first, second)}

    def _places(self, draws: Draws, size: Floats) -> Floats:
        """From the middle of the frame to the middles of the discs, `[2, 4, n]`, uniform where all fit.

        Both groups lie across, or both stand, nearly; apart as far as there is room beside them.
        """
        room = 64.0 - APART - size
        within = (2.0 * size + APART) / cos(radians(TILT)) / 2.0
        apart = 2.0 * size + self.values["distance"]

        def places(u: Floats, rows: Ints) -> Floats:
            u = halves(u)
            tilt = np.deg2rad(TILT) * (2.0 * u[:2] - 1.0)
            turns = np.floor(4.0 * u[2])
            along, beside = within[rows] * np.stack((np.cos(tilt), np.sin(tilt)))  # [group, m]
            middle = (2.0 * u[3:5] - 1.0) * (room[rows] - along)
            free = room[rows] - abs(beside)
            step = apart[rows] + (free.sum(axis=0) - apart[rows]) * u[5]
            first = (free.sum(axis=0) - step) * u[6] - free[0]
            both = np.stack((along, beside)) * np.where(turns < 2.0, 1.0, -1.0)
            middles = np.stack((middle, np.stack((first, first + step))))
            found = np.stack((middles - both, middles + both), axis=2).reshape(2, 4, len(rows))
            return np.where(turns % 2.0 == 0.0, found, found[::-1])

        def fit(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            drawn = places(u, rows)
            away = ((drawn[:, :2, None] - drawn[:, None, 2:]) ** 2).sum(axis=0)
            good: NDArray[np.bool_] = away.min(axis=(0, 1)) >= apart[rows] ** 2
            return good

        return places(draws.first_valid(6, fit), np.arange(len(size)))

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """Discs whose middles are those of pixels; holes turned with the scene, then by quarter turns."""
        places = np.stack(
            [[self.snapped(factors[f"{axis}_{k}"]) + 0.5 for axis in "xy"] for k in range(1, 5)]
        )  # [place, axis, n]
        swapped = factors["groups"] == 1
        middles = (places[0], *np.where(swapped, places[[2, 1]], places[[1, 2]]), places[3])
        radius = self.px(factors["size"])
        corners = {shape: self._corners(factors, shape) for shape in "ab"}
        turns = [factors[f"{disc}_turn"].astype(np.int64) for disc in self.objects]
        if self.values["antialias"] or self.values["turn"] or LARGEST * self.scale > ROOM - 1.0:
            return [
                self._disc(corners[disc[0]], turn, x, y, radius)
                for disc, turn, (x, y) in zip(self.objects, turns, middles, strict=True)
            ]
        middle = np.full(len(factors), ROOM + 0.5)
        discs = {shape: self._disc(corners[shape], turns[0], middle, middle, radius) for shape in "ab"}
        pixels = {shape: stamped(disc, len(factors)) for shape, disc in discs.items()}
        return [
            Stamp(discs[disc[0]], *pixels[disc[0]], x - middle, y - middle)
            for disc, (x, y) in zip(self.objects, middles, strict=True)
        ]

    def _corners(self, factors: NDArray[np.void], shape: str) -> tuple[Floats, Floats]:
        """Corners of a hole `[n, 6]`, x and y, from its middle."""
        shares = np.stack([factors[f"{shape}_{k}"] for k in range(1, 7)], axis=1).astype(np.float64)
        radii = shares * (self.px(factors["size"]) - WALL * self.scale)[:, None]
        turned = self.turned(factors)
        turn = Axes(turned.ux[:, None], turned.uy[:, None])
        return turn.turn(radii * np.cos(DIRECTIONS), radii * np.sin(DIRECTIONS))

    def _disc(self, corners: tuple[Floats, Floats], quarter: Ints, x: Floats, y: Floats, radius: Floats) -> Group:
        """A disc about (x, y) with a hole after so many quarter turns."""
        across, down = corners
        if quarter.any():
            turn = quarter[:, None]
            across, down = (
                np.choose(turn, ways) for ways in ((across, down, -across, -down), (down, -across, -down, across))
            )
        return Group((Disc(x, y, radius),), (Polygon(across + x[:, None], down + y[:, None]),))

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        one, two, three, four = objects
        return one | two | three | four

    def read(self, images: Pixels) -> dict[str, Ints]:
        """By connected parts: whether they are alike within the groups, or across.

        From 32 px on, with `turn` from 64.
        """
        turns = range(4) if self.values["turn"] else range(1)
        return {"groups": np.array([_differ(parts(ink), turns) for ink in inked(images)], np.int64)}


def _differ(discs: list[Part], turns: range) -> bool:
    away, unlike = np.zeros((2, 4, 4))
    for i, j in combinations(range(4), 2):
        one, other = discs[i], discs[j]
        away[i, j] = hypot(*(one.middle - other.middle))
        unlike[i, j] = min(np.sum(one.box != np.rot90(other.box, turn)) for turn in turns)
    near = min(PAIRINGS, key=lambda pairing: sum(away[pair] for pair in pairing))
    alike = min(PAIRINGS, key=lambda pairing: sum(unlike[pair] for pair in pairing))
    return near != alike
