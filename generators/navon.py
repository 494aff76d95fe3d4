"""navon: a circle or a square made of discs or squares.

After Navon (1977), whose large letters are made of small ones. Label = 2 * whole + element. The whole is a circle or a
superellipse of the same mean radius, with as many elements in equal steps of the angle; its counterfactual moves equal
elements by whole pixels, each so far from the others and from the frame that a patch of 9 x 9 at 128 px sees one of
them: a sample and its counterfactual hold the same patches, each as often (`generators.certify`). So no local statistic
has the whole, and as its size and place vary by more than circle and square differ, a pixel has little of it. Elements
are local. Discs have the area of squares, and with binary edges as many pixels where these are 7 pixels wide or wider
(of fewer, the nearest to a point are a square); smaller ones differ in ink.

Elements stand upright at whole pixels, whatever the turn of the scene. Where there is no room for them so far apart
(large ones, or many), they are as far apart as the frame allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import reading
from generators.base import BASE_SIZE, Generator
from generators.factors import ANGLE, NOISE_KEY, Factor
from generators.parameters import COMMON, Parameter
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Pixels, axes
from generators.shapes import Box, Copied, Disc, Group, Shape, Sprites

CIRCLE, DISC = 0, 0
SIDE = 9.0  # px: of the patches that see one element alone
MOST = 64.0 - SIDE  # px from the middle of the frame to the farthest edge of an element
LARGE = 36.0  # px: mean radius of large wholes; larger ones have less room, and pixels begin to tell what they are
HALF = np.sqrt(np.pi) / 2.0  # half side of the square with the area of the unit disc
LEAST = 7  # pixels; of up to 36 pixels the nearest to a point are, or may be, a square
# Middles of elements are nearly pixel centres or corners, but no two pixels are equally far from them: a disc can hold
# any number of pixels.
ASIDE = np.array((np.sqrt(2.0) / 64.0, np.sqrt(3.0) / 256.0))


class Navon(Generator):
    """A large circle or square made of small discs or squares."""

    name = "navon"
    about = "a circle or a square, which is holistic, made of discs or squares, which are local"
    classes = ("circle-discs", "circle-squares", "square-discs", "square-squares")
    objects = ("elements",)
    default_n, default_n_test = 1000, 500  # own choice: those of rect-tri
    factors = (
        Factor("whole", "class", 0, 1, "", "balanced", "what the elements form", ("circle", "square")),
        Factor("element", "class", 0, 1, "", "balanced", "what they are", ("disc", "square")),
        ANGLE,
        Factor("radius", "real", 8, 56, "px at 128", "uniform where it fits", "mean radius of the whole"),
        Factor("x", "real", 2, 126, "px at 128", "uniform where it fits", "middle of the whole, before the turn"),
        Factor("y", "real", 2, 126, "px at 128", "uniform where it fits", "middle of the whole, before the turn"),
        Factor("start", "real", -18, 18, "deg", "uniform", "of the first element, from a side of the square"),
        NOISE_KEY,
    )
    parameters = (
        Parameter(
            *("squareness", 1.0, 0.0, 1.0, "share", "difficulty"),
            about="of the whole: superellipse |u|^p + |v|^p, p = 2 / (1 - squareness); 0: squares are circles",
        ),
        # Default: at 128 px a square of 7 px, which has 49 as a disc of this radius has.
        Parameter("element_radius", 4.0, 1.5, 8.0, "px at 128", "difficulty", "of discs; squares have their area"),
        Parameter("number", 8, 5, 12, "", "difficulty", "of elements"),
        *COMMON,
    )

    def __init__(self, *, size: int = BASE_SIZE, parameters: Mapping[str, float] = {}) -> None:
        """As of every generator.

        Raises:
            ValueError: Also if so many elements of this size do not fit beside one another.
        """
        super().__init__(size=size, parameters=parameters)
        number, radius = int(self.values["number"]), self.values["element_radius"]
        self.steps: Floats = 360.0 / number * np.arange(number, dtype=np.float64)
        self.mean = float(self._stretch(axes(np.linspace(0.0, 90.0, 4097))).mean())
        starts = np.linspace(-0.25, 0.25, 65) * self.steps[1]
        points = self._both(starts)
        shortest = float(np.hypot(*(points - np.roll(points, 1, axis=2)).swapaxes(0, 1)).min())
        # Squares that do not touch: their middles are 2 radii apart in x or in y.
        fitting = MOST / (1.0 + np.sqrt(8.0) * float(np.hypot(*points.swapaxes(0, 1)).max()) / shortest)
        if radius > fitting:
            raise ValueError(
                f"expected {number} elements beside one another, found them of radius {radius:g} px; "
                f"type --set element_radius={np.floor(fitting * 10.0) / 10.0:g}"
            )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        labels: Ints = 2 * factors["whole"].astype(np.int64) + factors["element"]
        return labels

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Sizes and places at which circle and square fit, wherever in the frame."""
        label = draws.balanced(4)
        angle = draws.uniform(1, -1.0, 1.0) * self.values["rotation"]
        # All of a step would let 8 elements stand equally far from the middle of a square.
        start = draws.uniform(2, -0.25, 0.25) * self.steps[1]
        points = np.stack(axes(angle).turn(*self._both(start).swapaxes(0, 1)))  # [2, shape, number, n]
        reach, room = abs(points).max(axis=(1, 2)), MOST - self.values["element_radius"]
        apart = abs(points - np.roll(points, 1, axis=2)).max(axis=0).min(axis=(0, 1))
        # Elements come nearer by less than a pixel as they are put at whole ones.
        largest = room / reach.max(axis=0)
        smallest = np.minimum((2.0 * self.values["element_radius"] + SIDE + 0.1) / apart, largest)
        radius = draws.uniform(3, smallest, np.maximum(np.minimum(largest, LARGE), smallest))
        across, down = (draws.uniform(4 + k, -1.0, 1.0) * (room - reach[k] * radius) for k in (0, 1))
        x, y = axes(-angle).turn(across, down)
        return {
            "whole": label // 2,
            "element": label % 2,
            "angle": angle,
            "radius": radius,
            "x": 64.0 + x,
            "y": 64.0 + y,
            "start": start,
        }

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """A disc or a square for each element."""
        turned = self.turned(factors)
        circle, square = self._both(factors["start"].astype(np.float64)) * factors["radius"].astype(np.float64)
        x, y = np.where(factors["whole"] == CIRCLE, circle, square)
        places = self.placed(turned, factors["x"] + x, factors["y"] + y)
        element = factors["element"].astype(np.int64)
        return [Group(tuple(Copied(self.sprites, element, *place) for place in zip(*np.rint(places), strict=True)))]

    @cached_property
    def sprites(self) -> Sprites:
        """A disc and a square."""
        radius, half, phase = self._sizes()
        x, y, one = *np.split(phase, 2), np.ones(1)
        square = Box(x, y, Axes(one, 0.0 * one), half * one, half * one)
        return Sprites(Disc(x, y, radius * one), square, size=self.size)

    def _sizes(self) -> tuple[float, float, Floats]:
        """Radius of discs, half side of squares, and their middle from a whole pixel on, in pixels of this frame."""
        radius = self.values["element_radius"] * self.scale
        side = max(1, round(2.0 * HALF * radius))
        phase = side % 2 / 2.0 + ASIDE
        if self.values["antialias"]:
            return radius, HALF * radius, phase
        if side >= LEAST:
            pixel = np.arange(-side, side + 1) + 0.5
            away = np.sort(np.hypot(pixel - phase[0], pixel[:, None] - phase[1]).ravel())
            radius = float(away[side**2 - 1 : side**2 + 1].mean())
        elif side > 2:  # without the corners of the square
            radius = min(radius, (side - 1) / np.sqrt(2.0) - 0.05)
        return radius, side / 2.0, phase

    def _both(self, start: Floats) -> Floats:
        """The elements of circles and of squares of mean radius 1 about the origin, `[2, 2, number, n]`, x before y.

        Args:
            start: `[n]`, of the first element, in degrees.
        """
        steps = axes(self.steps[:, None])
        circle: Floats = np.stack(steps.turn(*axes(start)))
        return np.stack((circle, circle * (self._stretch(Axes(*circle)) / self.mean)))

    def _stretch(self, towards: Axes) -> Floats:
        """How far the superellipse of half side 1 goes in each direction."""
        across, down = abs(towards.ux), abs(towards.uy)
        longer, shorter = np.maximum(across, down), np.minimum(across, down)
        if self.values["squareness"] == 1.0:
            return 1.0 / longer
        power = 2.0 / (1.0 - self.values["squareness"])
        stretch: Floats = (1.0 + (shorter / longer) ** power) ** (-1.0 / power) / longer
        return stretch

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        return objects[0]

    def read(self, images: Pixels) -> dict[str, Ints]:
        """Whole: half as far from a regular polygon as squares are. Element: a square is a row times a column.

        Always right at 128 px and more at the default settings; with grey edges from 64 px on.
        """
        found = [self._seen(share) for share in reading.ink(images)]
        whole, element = np.array(found, np.int64).reshape(-1, 2).T
        return {"whole": whole, "element": element}

    def _seen(self, share: Floats) -> tuple[bool, bool]:
        places, _ = reading.components(share)
        squares = self._both(np.linspace(-0.25, 0.25, 9) * self.steps[1])[1]
        least = min(_irregularity(*square) for square in squares.transpose(2, 0, 1))
        (column, row), reach = np.floor(places[0]).astype(int), int(self.values["element_radius"] * self.scale) + 1
        element = share[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        first, second, *_ = np.linalg.svd(element, compute_uv=False)
        return _irregularity(*places.T) > least / 2.0, bool(second < 0.05 * first)


def _irregularity(x: Floats, y: Floats) -> float:
    """How far points are from the corners of the nearest regular polygon, as a share of its radius."""
    turn = np.argsort(np.arctan2(y - y.mean(), x - x.mean()))
    waves = abs(np.fft.fft((x + 1j * y)[turn]))
    return float(np.sqrt((waves[2:] ** 2).sum()) / waves[1])
