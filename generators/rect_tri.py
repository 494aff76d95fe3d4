"""rect-tri: a rectangle with round or sharp corners, out of which a triangle is cut.

ConRec paper, section 3.1, "Rectangle-Triangle": the fine-grained set. Label = 2 * corner +
triangle. Masks: "rectangle" is its whole outline region, the triangle included; "triangle" is
the part of the triangle that lies in it; so ink = rectangle and not triangle.

How style "clean" differs from the paper: the rectangle stays in the frame at every rotation;
the triangle keeps 4 px from the true outline, and both kinds have equal
area about the same centroid, so that flipping `triangle` keeps the ink. The areas of rectangle
and triangle are drawn once for each block of four samples, one of each class, and the
sides follow from them: all classes have the same ink. Position, aspect and triangle follow the
same laws in all classes and are valid for both values of both class factors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import paper, raster
from generators.base import ANGLE, COMMON_DIALS, NOISE_KEY, Dial, Factor, Generator, off_centre, whole
from generators.coverage import Outline, box_outline, place
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Pixels

ROUND, SHARP = 0, 1
EQUILATERAL, RIGHT = 0, 1
MIN_SIDE, MAX_SIDE = 64.0, 88.0  # authors' code: W // 2 and W - 2 * 20
PAPER_RADIUS, PAPER_PADDING, PAPER_INNER = 20, 20, 4  # authors' code
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
        Factor("width", "real", 64, 89, "px at 128", "from area and aspect", "of the rectangle"),
        Factor("height", "real", 64, 89, "px at 128", "from area and aspect", "of the rectangle"),
        Factor("x", "real", 46, 82, "px at 128", "uniform", "rectangle centre, before the turn"),
        Factor("y", "real", 46, 82, "px at 128", "uniform", "rectangle centre, before the turn"),
        Factor(
            "triangle_x",
            "real",
            16,
            112,
            "px at 128",
            "uniform where it fits",
            "centroid (paper: corner), before the turn",
        ),
        Factor(
            "triangle_y",
            "real",
            16,
            112,
            "px at 128",
            "uniform where it fits",
            "centroid (paper: corner), before the turn",
        ),
        Factor(
            "triangle_angle",
            "circular",
            -180,
            180,
            "deg",
            "uniform within +-triangle_rotation",
            "turn of the triangle against the rectangle",
        ),
        Factor("triangle_side", "real", 4, 84, "px at 128", "uniform", "if it is equilateral"),
        Factor("leg_x", "real", 4, 84, "px at 128", "from area and ratio", "if it is right"),
        Factor("leg_y", "real", 4, 84, "px at 128", "from area and ratio", "if it is right"),
        NOISE_KEY,
    )
    dials = (
        Dial("corner_radius", 20.0, 0.0, 32.0, "px at 128", "difficulty", "of the round corners"),
        Dial(
            "apex_angle",
            RIGHT_APEX,
            0.0,
            RIGHT_APEX,
            "deg",
            "difficulty",
            "apex of the right triangle minus 60; 0: both kinds are the same",
        ),
        Dial("triangle_scale", 1.0, 0.25, 1.0, "share", "difficulty", "of the triangle's lengths"),
        # Default: the paper's triangle, whose base lies along a side of the rectangle.
        Dial("triangle_rotation", 0.0, 0.0, 180.0, "deg", "difficulty", "largest turn against the rectangle"),
        *COMMON_DIALS,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        """2 * corner + triangle, `[n]`."""
        labels: Ints = 2 * factors["corner"].astype(np.int64) + factors["triangle"]
        return labels

    def _ink(self, masks: Pixels, images: Pixels) -> None:
        """Ink is in the rectangle (bit 0) and not in the triangle (bit 1)."""
        np.bitwise_and(masks, np.uint8(3), out=images)
        np.equal(images, 1, out=images.view(np.bool_))
        np.negative(images, out=images)  # 1 -> 255

    # Style "clean".

    def _sample_clean(self, draws: Draws) -> dict[str, NDArray[Any]]:
        label = draws.balanced(4)
        shared = draws.blocks(4)
        corner, kind = label // 2, label % 2
        radius = float(self.params["corner_radius"])
        lost = LOST * radius**2
        area = shared.uniform(4, MIN_SIDE**2, MAX_SIDE**2 - lost)
        # The sides of equal length, of the sharp and of the round rectangle of that area.
        sharp, round_ = np.sqrt(area), np.sqrt(area + lost)
        room = np.minimum(np.log(sharp / MIN_SIDE), np.log(MAX_SIDE / round_))
        stretch = np.exp(draws.uniform(1, -1.0, 1.0) * np.maximum(room, 0.0))
        side = np.where(corner == ROUND, round_, sharp)
        turn = draws.uniform(2, -1.0, 1.0) * float(self.params["rotation"])
        # The frame holds the larger of the two, so that position does not tell the class.
        reach = np.hypot(round_ * stretch, round_ / stretch) / 2.0
        away = (64.0 - MARGIN - reach) * np.sqrt(draws.uniform(3))
        direction = draws.uniform(4, 0.0, 2.0 * np.pi)
        columns = {
            "corner": corner,
            "triangle": kind,
            "angle": turn,
            "width": off_centre(side * stretch),
            "height": off_centre(side / stretch),
            "x": 64.0 + away * np.cos(direction),
            "y": 64.0 + away * np.sin(direction),
            "triangle_angle": draws.uniform(5, -1.0, 1.0) * float(self.params["triangle_rotation"]) + 0.0,  # no -0.0
            **self._triangle_lengths(shared.uniform(5), draws.uniform(6)),
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
        share = float(self.params["apex_angle"]) / RIGHT_APEX  # 0: leg_x = leg_y = side
        ratio = largest ** ((2.0 * u_ratio - 1.0) * share)
        scale = float(self.params["triangle_scale"])
        product = 2.0 * area / self._apex()[1]
        return {
            "triangle_side": side * scale,
            "leg_x": np.sqrt(product * ratio) * scale,
            "leg_y": np.sqrt(product / ratio) * scale,
        }

    def _apex(self) -> tuple[float, float]:
        """Cosine and sine of the angle between the legs, rounded so that 90 degrees is exact."""
        apex = np.deg2rad(60.0 + float(self.params["apex_angle"]))
        return round(float(np.cos(apex)), 12), round(float(np.sin(apex)), 12)

    def _local_triangle(self, columns: Any, *, right: NDArray[np.bool_] | bool) -> Floats:
        """Vertices `[n, 3, 2]` about the centroid, turned by triangle_angle; px at 128."""
        side = np.asarray(columns["triangle_side"], np.float64)
        leg_x = np.where(right, columns["leg_x"], side)
        leg_y = np.where(right, columns["leg_y"], side)
        apex_cos, apex_sin = self._apex()
        cos, sin = np.where(right, apex_cos, 0.5), np.where(right, apex_sin, np.sqrt(0.75))
        x = np.stack((0.0 * leg_x, leg_x, leg_y * cos), axis=1)
        y = np.stack((0.0 * leg_x, 0.0 * leg_x, leg_y * sin), axis=1)
        local = np.stack((x, y), axis=2)
        local -= local.mean(axis=1, keepdims=True)
        turned = raster.axes(np.asarray(columns["triangle_angle"], np.float64))
        return place(local, 0.0 * side, 0.0 * side, turned)

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
        kinds = [self._local_triangle(columns, right=right) for right in (False, True)]
        vertices = np.concatenate(kinds, axis=1)  # [n, 6, 2]
        low = [-half[k] - vertices[..., k].min(axis=1) for k in (0, 1)]
        high = [half[k] - vertices[..., k].max(axis=1) for k in (0, 1)]

        def centroid(u: Floats, rows: Ints) -> Floats:
            start, end = (np.stack([v[k][rows] for k in (0, 1)]) for v in (low, high))
            points: Floats = start[..., None] + u[:2] * (end - start)[..., None]
            return points  # [2, m, tries]

        def fits(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            points = centroid(u, rows)[..., None] + vertices[rows].transpose(2, 0, 1)[:, :, None]
            inner = np.stack([half[k][rows] - radius for k in (0, 1)])[..., None, None]
            out = np.maximum(abs(points) - inner, 0.0)
            inside: NDArray[np.bool_] = ((out**2).sum(axis=0) <= radius**2).all(axis=-1)
            return inside if radius > 0.0 else np.ones_like(inside)

        found = centroid(draws.first_valid(2, fits)[:, :, None], np.arange(len(half[0])))
        return found[0, :, 0], found[1, :, 0]

    def _scene(self, factors: NDArray[np.void], x: str, y: str) -> tuple[Axes, Floats, Floats]:
        """The turn of the scene, and a point after it, in pixels."""
        turned = raster.axes(factors["angle"].astype(np.float64))
        middle = self.size / 2.0
        dx, dy = turned.turn(self.px(factors, x) - middle, self.px(factors, y) - middle)
        return turned, middle + dx, middle + dy

    def _triangle_vertices(self, factors: NDArray[np.void], right: NDArray[np.bool_] | bool) -> Floats:
        """Vertices `[n, 3, 2]` in the picture, in pixels."""
        turned, x, y = self._scene(factors, "triangle_x", "triangle_y")
        return place(self._local_triangle(factors, right=right) * self.scale, x, y, turned)

    def _masks_clean(self, factors: NDArray[np.void], masks: Pixels) -> None:
        turned, x, y = self._scene(factors, "x", "y")
        half_x, half_y = self.px(factors, "width") / 2.0, self.px(factors, "height") / 2.0
        radius = np.full(len(factors), float(self.params["corner_radius"]) * self.scale)
        rounded = raster.round_box(x, y, turned, half_x, half_y, radius, self.size)
        square = raster.box(x, y, turned, half_x, half_y, self.size)
        equilateral = raster.triangle(self._triangle_vertices(factors, False), self.size)
        right = raster.triangle(self._triangle_vertices(factors, True), self.size)
        sharp, is_right = factors["corner"] == SHARP, factors["triangle"] == RIGHT
        # Both triangles lie inside both rectangles, so evidence is what is in one but not in the
        # other of two layers, and exclusive-or of the layers is enough.
        layers = [
            (raster.choose(sharp, square, rounded), 1 + 4),
            (raster.choose(sharp, rounded, square), 4),
            (raster.choose(is_right, right, equilateral), 2 + 8),
            (raster.choose(is_right, equilateral, right), 8),
        ]
        raster.paint(layers, masks)

    def _outlines(self, factors: NDArray[np.void]) -> list[Outline]:
        turned, x, y = self._scene(factors, "x", "y")
        half_x, half_y = self.px(factors, "width") / 2.0, self.px(factors, "height") / 2.0
        radius = float(self.params["corner_radius"]) * self.scale
        corners = np.where(factors["corner"] == ROUND, radius, 0.0)
        rectangle = box_outline(x, y, turned, half_x, half_y, corners)
        vertices = self._triangle_vertices(factors, factors["triangle"] == RIGHT)
        return [Outline(rectangle, 1), Outline(vertices, -1)]

    # Style "paper": whole pixels of the frame at hand, stored in px at 128.

    def _sample_paper(self, draws: Draws) -> dict[str, NDArray[Any]]:
        label = draws.balanced(4)
        size = self.size
        shortest, longest = size // 2, int(MAX_SIDE) * size // 128
        padding, inner = PAPER_PADDING * size // 128, PAPER_INNER * size // 128
        length_x = draws.integer(1, shortest, longest)
        length_y = draws.integer(2, shortest, longest)
        start_x = draws.integer(3, padding, size - length_x - padding)
        start_y = draws.integer(4, padding, size - length_y - padding)
        corner_x = draws.integer(5, start_x + inner, start_x + length_x // 2)
        corner_y = draws.integer(6, start_y + inner, start_y + length_y // 2)
        room_x, room_y = length_x - (corner_x - start_x), length_y - (corner_y - start_y)
        turn = int(self.params["rotation"])
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
        return {name: value / self.scale for name, value in pixels.items()} | {
            "corner": label // 2,
            "triangle": label % 2,
            "angle": draws.integer(10, -turn, turn),
            "triangle_angle": np.zeros(len(label)),
        }

    def _masks_paper(self, factors: NDArray[np.void], masks: Pixels) -> None:
        x, y, width, height = (self.px(factors, name) for name in ("x", "y", "width", "height"))
        x0, y0 = whole(x - width / 2.0), whole(y - height / 2.0)
        x1, y1 = x0 + whole(width) - 1, y0 + whole(height) - 1
        names = ("triangle_x", "triangle_y", "triangle_side", "leg_x", "leg_y")
        tx, ty, side, leg_x, leg_y = (whole(self.px(factors, name)) for name in names)
        rounded = paper.round_box(x0, y0, x1, y1, PAPER_RADIUS * self.size // 128, self.size)
        square = paper.box(x0, y0, x1, y1, self.size)
        apex_y = np.floor(ty + side * np.sqrt(3.0) / 2.0).astype(np.int64)
        equilateral = paper.triangle(tx, ty, tx + side, tx + side // 2, apex_y, self.size)
        right = paper.triangle(tx, ty, tx + leg_x, tx, ty + leg_y, self.size)
        sharp, is_right = factors["corner"] == SHARP, factors["triangle"] == RIGHT
        layers = [
            (raster.choose(sharp, square, rounded), 1 + 4),
            (raster.choose(sharp, rounded, square), 4),
            (raster.choose(is_right, right, equilateral), 2 + 8),
            (raster.choose(is_right, equilateral, right), 8),
        ]
        drawn = raster.scratch("drawn", masks.shape)
        raster.paint(layers, drawn)
        for k in np.flatnonzero(raster.leaves(equilateral, rounded) | raster.leaves(right, rounded)):
            paper.relabel(drawn[k], PAPER_BITS)
        paper.rotate(drawn, factors["angle"], np.array([[x, y, width, height]]), masks)


def _paper_bits(code: int) -> int:
    """Mask bits of a pixel with these bits by exclusive-or, as the paper's triangle may leave the rectangle."""
    box, cut, changes_box, changes_cut = (bool(code >> k & 1) for k in range(4))
    return box + 2 * (box and cut) + 4 * (changes_box and not cut) + 8 * (changes_cut and box)


PAPER_BITS = np.array([_paper_bits(code) for code in range(16)], np.uint8)
