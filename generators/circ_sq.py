"""circ-sq: two objects, each a circle or a square.

ConRec paper, section 3.1, "Circle-Square": the holistic set. Label = number of squares. Masks:
"object_1" and "object_2".

How style "clean" differs from the paper: objects stay in the frame at every rotation and keep
`gap` px between their true outlines, in a small frame at least 1.5 of its pixels; a circle has the
area of the square that it would be flipped to; sizes are drawn once for each block of three
samples, one of each class, so all classes have the same ink; the square of class 1 is either
object. Positions follow the same law in all classes and are valid for circles and squares alike.
"""

from __future__ import annotations

from math import gamma, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import paper, raster
from generators.base import ANGLE, COMMON_DIALS, NOISE_KEY, Dial, Factor, Generator, off_centre, whole
from generators.coverage import Outline, box_outline, superellipse_outline
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Pixels, Spans

CIRCLE, SQUARE = 0, 1
# Sides of the squares: the paper's boxes are 17 to 43 px (authors' code); 16 and 40 make the
# circles of equal area 18 to 45 px wide.
MIN_SIDE, MAX_SIDE = 16.0, 40.0
MARGIN = 1.0  # px between the objects and the circle in the frame
PAPER_GAP = 10  # authors' code
RADIUS = 1.0 / sqrt(pi)  # of the circle with the area of the unit square
MIN_GAP = 1.5  # pixels of the frame at hand: above sqrt(2), so not even diagonal neighbours are of both objects


def _object_factors(number: int) -> tuple[Factor, ...]:
    middle = "object centre, before the turn"
    return (
        Factor(f"x_{number}", "real", 8, 120.5, "px at 128", "uniform where it fits", middle),
        Factor(f"y_{number}", "real", 8, 120.5, "px at 128", "uniform where it fits", middle),
        Factor(
            f"size_{number}",
            "real",
            16,
            43,
            "px at 128",
            "uniform",
            "side of the square; the circle has its area (paper: its width)",
        ),
    )


class CircSq(Generator):
    """Two objects that are circles or squares."""

    name = "circ-sq"
    about = "holistic: how many of two objects are squares, the others being circles"
    classes = ("circle-circle", "circle-square", "square-square")
    objects = ("object_1", "object_2")
    default_n, default_n_test = 600, 399  # the published file; the paper, section 3.2, says 600/400
    factors = (
        Factor("shape_1", "class", 0, 1, "", "balanced", "of object 1", ("circle", "square")),
        Factor("shape_2", "class", 0, 1, "", "balanced", "of object 2", ("circle", "square")),
        ANGLE,
        *_object_factors(1),
        *_object_factors(2),
        NOISE_KEY,
    )
    dials = (
        Dial(
            "squareness",
            1.0,
            0.0,
            1.0,
            "share",
            "difficulty",
            "superellipse |u|^p + |v|^p, p = 2 / (1 - squareness); 0: squares are circles",
        ),
        Dial(
            "size_ratio",
            2.5,  # 40 / 16: no limit
            1.0,
            2.5,
            "ratio",
            "difficulty",
            "at most between the sides of the two objects",
        ),
        Dial(
            "gap",
            10.0,
            2.0,
            16.0,
            "px at 128",
            "difficulty",
            "at least between the objects, and at least 1.5 pixels of the frame",
        ),
        *COMMON_DIALS,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        """The number of squares, `[n]`."""
        labels: Ints = factors["shape_1"].astype(np.int64) + factors["shape_2"]
        return labels

    def _ink(self, masks: Pixels, images: Pixels) -> None:
        """Ink is in either object (bits 0 and 1)."""
        np.bitwise_and(masks, np.uint8(3), out=images)
        np.not_equal(images, 0, out=images.view(np.bool_))
        np.negative(images, out=images)  # 1 -> 255

    # Style "clean".

    def _sample_clean(self, draws: Draws) -> dict[str, NDArray[Any]]:
        squares = draws.balanced(3)
        first = np.where(draws.word(1) & np.uint64(1), 1, 0)  # of class 1: which is the square
        shared = draws.blocks(3)
        size_1 = shared.uniform(4, MIN_SIDE, MAX_SIDE)
        ratio = float(self.params["size_ratio"])
        smallest, largest = np.maximum(MIN_SIDE, size_1 / ratio), np.minimum(MAX_SIDE, size_1 * ratio)
        size_2 = shared.uniform(5, smallest, largest)
        x_1, y_1, x_2, y_2 = self._places(draws, size_1, size_2)
        return {
            "shape_1": np.where(squares == 1, first, squares // 2),
            "shape_2": np.where(squares == 1, 1 - first, squares // 2),
            "angle": draws.uniform(2, -1.0, 1.0) * float(self.params["rotation"]),
            "x_1": 64.0 + x_1,
            "y_1": 64.0 + y_1,
            "size_1": off_centre(size_1),
            "x_2": 64.0 + x_2,
            "y_2": 64.0 + y_2,
            "size_2": off_centre(size_2),
        }

    def _places(self, draws: Draws, size_1: Floats, size_2: Floats) -> Floats:
        """Centres x_1, y_1, x_2, y_2 about the middle, `[4, n]`: uniform where all pairs fit.

        Whole in the circle of the frame and apart, be they circles or squares. A superellipse is
        taken as the box around it, of half side `box * size`.
        """
        box = self._half_side()
        gap, reach = max(float(self.params["gap"]), MIN_GAP / self.scale), 64.0 - MARGIN
        # The middle of a circle cannot be farther out than this.
        room = np.stack([reach - RADIUS * size for size in (size_1, size_1, size_2, size_2)])

        def centres(u: Floats, rows: Ints) -> Floats:
            return (2.0 * u - 1.0) * room[:, rows, None]

        def fits(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            x_1, y_1, x_2, y_2 = abs(centres(u, rows))
            s_1, s_2 = size_1[rows, None], size_2[rows, None]
            whole = _far_corner(x_1, y_1, box * s_1) <= reach
            whole &= _far_corner(x_2, y_2, box * s_2) <= reach
            whole &= np.hypot(x_1, y_1) <= reach - RADIUS * s_1
            whole &= np.hypot(x_2, y_2) <= reach - RADIUS * s_2
            x_1, y_1, x_2, y_2 = centres(u, rows)
            dx, dy = abs(x_2 - x_1), abs(y_2 - y_1)
            both = np.hypot(dx, dy) - RADIUS * (s_1 + s_2)
            boxes = _box_distance(dx, dy, box * (s_1 + s_2))
            mixed_1 = _box_distance(dx, dy, box * s_1) - RADIUS * s_2
            mixed_2 = _box_distance(dx, dy, box * s_2) - RADIUS * s_1
            distance = np.minimum(np.minimum(both, boxes), np.minimum(mixed_1, mixed_2))
            apart: NDArray[np.bool_] = whole & (distance >= gap)
            return apart

        found = draws.first_valid(2, fits)
        return centres(found[:, :, None], np.arange(len(size_1)))[:, :, 0]

    def _exponent(self) -> float:
        """The exponent of the superellipse; only for squareness below 1."""
        return 2.0 / (1.0 - float(self.params["squareness"]))

    def _half_side(self) -> float:
        """Half side of the box around a superellipse with the area of the unit square."""
        if self.params["squareness"] == 1.0:
            return 0.5
        p = self._exponent()
        return 0.5 * sqrt(gamma(1.0 + 2.0 / p)) / gamma(1.0 + 1.0 / p)

    def _scene(self, factors: NDArray[np.void], number: int) -> tuple[Axes, Floats, Floats, Floats]:
        """The turn of the scene, and object `number`'s centre after it and side, in pixels."""
        turned = raster.axes(factors["angle"].astype(np.float64))
        middle = self.size / 2.0
        x, y = self.px(factors, f"x_{number}"), self.px(factors, f"y_{number}")
        dx, dy = turned.turn(x - middle, y - middle)
        return turned, middle + dx, middle + dy, self.px(factors, f"size_{number}")

    def _square_spans(self, turned: Axes, x: Floats, y: Floats, side: Floats) -> Spans:
        half = self._half_side() * side
        if self.params["squareness"] == 1.0:
            return raster.box(x, y, turned, half, half, self.size)
        return raster.superellipse(x, y, turned, half, self._exponent(), self.size)

    def _masks_clean(self, factors: NDArray[np.void], masks: Pixels) -> None:
        layers = []
        for number in (1, 2):
            turned, x, y, side = self._scene(factors, number)
            circle = raster.disc(x, y, RADIUS * side, self.size)
            square = self._square_spans(turned, x, y, side)
            is_square = factors[f"shape_{number}"] == SQUARE
            evidence = 2 << number
            layers += [
                (raster.choose(is_square, square, circle), number + evidence),
                (raster.choose(is_square, circle, square), evidence),
            ]
        # The objects are apart whatever they are, so exclusive-or of the layers is enough.
        raster.paint(layers, masks)

    def _outlines(self, factors: NDArray[np.void]) -> list[Outline]:
        outlines = []
        for number in (1, 2):
            turned, x, y, side = self._scene(factors, number)
            circle = superellipse_outline(x, y, turned, RADIUS * side, 2.0)
            half = self._half_side() * side
            if self.params["squareness"] == 1.0:
                square = box_outline(x, y, turned, half, half, 0.0 * half)
            else:
                square = superellipse_outline(x, y, turned, half, self._exponent())
            square = _repeat_last(square, circle.shape[1])
            circle = _repeat_last(circle, square.shape[1])
            is_square = (factors[f"shape_{number}"] == SQUARE)[:, None, None]
            outlines.append(Outline(np.where(is_square, square, circle), 1))
        return outlines

    # Style "paper": whole pixels of the frame at hand, stored in px at 128.

    def _sample_paper(self, draws: Draws) -> dict[str, NDArray[Any]]:
        squares = draws.balanced(3)
        size = self.size
        radii = [draws.integer(k, size // 8, size // 3) // 2 for k in (1, 2)]
        x_1 = draws.integer(3, radii[0], size - radii[0])
        y_1 = draws.integer(4, radii[0], size - radii[0])
        gap = PAPER_GAP * size // 128

        def place(u: Floats, rows: Ints) -> tuple[Floats, Floats]:
            radius = radii[1][rows, None]
            steps = size - 2 * radius + 1
            return radius + np.floor(u[0] * steps), radius + np.floor(u[1] * steps)

        def fits(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            x, y = place(u, rows)
            square = (x - x_1[rows, None]) ** 2 + (y - y_1[rows, None]) ** 2
            apart: NDArray[np.bool_] = square >= (radii[0] + radii[1] + gap)[rows, None] ** 2
            return apart

        x_2, y_2 = place(draws.first_valid(2, fits)[:, :, None], np.arange(len(x_1)))
        turn = int(self.params["rotation"])
        pixels = {
            # The pixel (x, y) has its middle at +0.5, and the box is 2 radius + 1 wide.
            "x_1": x_1 + 0.5,
            "y_1": y_1 + 0.5,
            "size_1": 2 * radii[0] + 1,
            "x_2": x_2[:, 0] + 0.5,
            "y_2": y_2[:, 0] + 0.5,
            "size_2": 2 * radii[1] + 1,
        }
        return {name: value / self.scale for name, value in pixels.items()} | {
            "shape_1": squares // 2,  # the circle of class 1 is drawn first
            "shape_2": (squares + 1) // 2,
            "angle": draws.integer(5, -turn, turn),
        }

    def _masks_paper(self, factors: NDArray[np.void], masks: Pixels) -> None:
        layers, boxes = [], []
        for number in (1, 2):
            middle_x, middle_y, side = (self.px(factors, f"{name}_{number}") for name in ("x", "y", "size"))
            boxes.append((middle_x, middle_y, side, side))
            x, y, radius = whole(middle_x - 0.5), whole(middle_y - 0.5), whole(side) // 2
            circle = paper.circle(x, y, radius, self.size)
            square = paper.box(x - radius, y - radius, x + radius, y + radius, self.size)
            is_square = factors[f"shape_{number}"] == SQUARE
            evidence = 2 << number
            layers += [
                (raster.choose(is_square, square, circle), number + evidence),
                (raster.choose(is_square, circle, square), evidence),
            ]
        drawn = raster.scratch("drawn", masks.shape)
        raster.paint(layers, drawn)
        (x_1, y_1, side_1, _), (x_2, y_2, side_2, _) = boxes
        squares_meet = np.maximum(abs(x_1 - x_2), abs(y_1 - y_2)) < (side_1 + side_2) / 2.0
        for k in np.flatnonzero(squares_meet):
            paper.relabel(drawn[k], PAPER_BITS)
        paper.rotate(drawn, factors["angle"], np.array(boxes), masks)


def _far_corner(x: Floats, y: Floats, half: Floats) -> Floats:
    """Distance from the origin to the far corner of boxes with centres (x, y) >= 0."""
    return np.hypot(x + half, y + half)


def _box_distance(dx: Floats, dy: Floats, half: Floats) -> Floats:
    """Distance from (dx, dy) >= 0 to the box [-half, half]**2; 0 inside."""
    return np.hypot(np.maximum(dx - half, 0.0), np.maximum(dy - half, 0.0))


def _repeat_last(vertices: Floats, count: int) -> Floats:
    """Repeat the last vertex until there are `count`; a polygon does not mind."""
    missing = max(count - vertices.shape[1], 0)
    return np.concatenate((vertices, np.repeat(vertices[:, -1:], missing, axis=1)), axis=1)


def _paper_bits(code: int) -> int:
    """Mask bits of a pixel with these bits by exclusive-or, as one object hides the evidence of the other."""
    one, two, changes_1, changes_2 = (bool(code >> k & 1) for k in range(4))
    return one + 2 * two + 4 * (changes_1 and not two) + 8 * (changes_2 and not one)


PAPER_BITS = np.array([_paper_bits(code) for code in range(16)], np.uint8)
