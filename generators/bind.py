"""bind: a ring and a square with round corners, a disc in one of them and a bar in the other.

Both classes hold the same four shapes at the same two places: only which mark is in which frame tells them apart.
What changes places, the marks, looks alike at both to the pixel, and is `distance` away from its frame, so that no
patch of 9 px sees a mark and a frame: the multiset of patches is the same in both classes. Ring and square stand
anywhere alike, so where a mark is does not tell either.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor, off_centre
from generators.parameters import COMMON, Parameter
from generators.random import Draws
from generators.raster import Ints, Pixels
from generators.reading import inked, parts
from generators.shapes import Box, Disc, Group, Shape

STROKE = 4.0  # px, of the frames: a whole pixel in a frame of 32
LONG, SHORT = 1.5, pi / 6.0  # half sides of the bar with the area of the disc, in its radii
REACH = hypot(LONG, SHORT)
MARGIN = 2.0  # px between a frame, which stays where it is, and the border
GAP = 9.0  # px between the two frames
ROUND = 10.0  # px, radius of the square's outer corners: without them two frames have little choice of place


class Bind(Generator):
    """A disc and a bar, one in a ring and the other in a square."""

    name = "bind"
    about = "whole: which of two marks is in which of two frames"
    classes = ("disc-in-ring", "bar-in-ring")
    objects = ("ring", "square", "disc", "bar")
    default_n, default_n_test = 1000, 500
    together = np.bitwise_xor
    factors = (
        Factor(
            "in_ring", "class", 0, 1, "", "balanced", "mark in the ring; the square holds the other", ("disc", "bar")
        ),
        ANGLE,
        Factor("radius", "real", 2, 5, "px at 128", "uniform", "of the disc; the bar has its area"),
        Factor("ring_x", "real", 27, 101, "px at 128", "where both have room", "middle of the ring"),
        Factor("ring_y", "real", 27, 101, "px at 128", "where both have room", "middle of the ring"),
        Factor("square_x", "real", 27, 101, "px at 128", "where both have room", "middle of the square"),
        Factor("square_y", "real", 27, 101, "px at 128", "where both have room", "middle of the square"),
        NOISE_KEY,
    )
    parameters = (
        # 13: along a diagonal, too, 9 px across and down, and a pixel that is grey at either edge.
        Parameter("distance", 13.0, 13.0, 15.0, "px at 128", "difficulty", "between a mark and the frame around it"),
        Parameter(
            "mark", 5.0, 3.0, 5.0, "px at 128", "difficulty", "largest radius of the disc; the least is 0.8 of it"
        ),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        return factors["in_ring"].astype(np.int64)

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Two frames, in some direction so far apart as there is room, and then wherever there is some."""
        radius = self.values["mark"] * draws.uniform(1, 0.8, 1.0)
        half = REACH * radius + self.values["distance"] + STROKE
        reach = sqrt(2.0) * (half - ROUND) + ROUND  # of the square; the ring keeps as far from the border
        room = 2.0 * (64.0 - MARGIN - reach)  # from one side to the other
        apart = half + reach + GAP
        # From level to upright, as long as the frame holds two that are so far apart in this direction.
        least = np.arccos(np.minimum(room / apart, 1.0))
        direction = least + (np.pi / 2.0 - 2.0 * least) * draws.uniform(3)
        steps = np.stack((np.cos(direction), np.sin(direction)))
        steps *= draws.uniform(4, apart, np.maximum(room / steps.max(axis=0), apart))
        first = [
            draws.uniform(5 + k, -0.5, 0.5) * np.maximum(room - step, 0.0) - step / 2.0 for k, step in enumerate(steps)
        ]
        quarter = draws.integer(7, 0, 3)
        signs = np.where(quarter & [[1], [2]], -1.0, 1.0)
        ring, square = 64.0 + signs * first, 64.0 + signs * (first + steps)
        return {
            "in_ring": draws.balanced(2),
            "angle": draws.uniform(2, -1.0, 1.0) * self.values["rotation"],
            "radius": off_centre(radius),
            **{
                f"{name}_{axis}": place[k]
                for name, place in (("ring", ring), ("square", square))
                for k, axis in enumerate("xy")
            },
        }

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """Two frames with holes; each mark in one of them. All middles are those of pixels."""
        ring, square = (
            np.stack([self.snapped(factors[f"{name}_{axis}"]) + 0.5 for axis in "xy"]) for name in ("ring", "square")
        )
        swapped = factors["in_ring"] == 1
        (disc_x, disc_y), (bar_x, bar_y) = np.where(swapped, square, ring), np.where(swapped, ring, square)
        turned = self.turned(factors)
        radius = self.px(factors["radius"])
        inner = REACH * radius + self.values["distance"] * self.scale
        outer = inner + STROKE * self.scale
        outer_square = Box(square[0], square[1], turned, outer, outer, ROUND * self.scale)
        inner_square = Box(square[0], square[1], turned, inner, inner, (ROUND - STROKE) * self.scale)
        return [
            Group((Disc(ring[0], ring[1], outer),), (Disc(ring[0], ring[1], inner),)),
            Group((outer_square,), (inner_square,)),
            Disc(disc_x, disc_y, radius),
            Box(bar_x, bar_y, turned, LONG * radius, SHORT * radius),
        ]

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        ring, square, disc, bar = objects
        return ring | square | disc | bar

    def read(self, images: Pixels) -> dict[str, Ints]:
        """By connected parts: the rounder frame, the longer mark, and which is nearer to which.

        From 32 px on, with grey edges from 64.
        """
        return {"in_ring": np.array([_bar_in_ring(ink) for ink in inked(images)], np.int64)}


def _bar_in_ring(ink: NDArray[np.bool_]) -> bool:
    ring, square = sorted(parts(ink)[:2], key=lambda part: part.hollowness)
    bar = max(parts(ink)[2:], key=lambda part: part.elongation)
    to_ring, to_square = (hypot(*(bar.middle - frame.middle)) for frame in (ring, square))
    return to_ring < to_square
