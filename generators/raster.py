"""Exact rasteriser: shapes to pixel spans. The coordinate convention is here.

Points are (x, y) in pixels, x to the right, y down, pixel centres at +0.5: pixel (column i,
row j) covers [i, i + 1] x [j, j + 1]. A pixel is set if and only if its centre is inside the
shape or on its outline. Angles are in degrees, counter-clockwise as the picture is seen.

Every shape here but a polygon is convex, so it meets a row of pixel centres in one interval. A shape
function takes arrays `[n]`, one value for each image, and returns a `Spans`: the half-open column range
that is set in each row of a window that holds the shape. Rows cost time, so a small shape has few.
Polygons are in `generators.polygons`.

Only +, -, *, / and sqrt follow after the angle has become a rotation on a grid, and IEEE 754
rounds these alike everywhere: the last bit of a sine cannot move a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Words = NDArray[np.uint64]

TURN_GRID = 2.0**-24  # of tan(angle / 2); 3e-6 px at the rim of a 128 px frame
COSINES, SINES = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])  # of quarter turns


class Spans(NamedTuple):
    """Columns [start, stop) that are set in rows of the frames; what lies beyond a frame is none.

    `start <= stop`, int `[m, h]` each. `first`, `[m]`, is the row that each window of h rows begins with, the rows of
    all frames being counted on: row j of image i is i * size + j. No two windows share a row. None: the windows are
    the frames. `cut`: what is drawn before loses these pixels.
    """

    start: Ints
    stop: Ints
    first: Ints | None = None
    cut: bool = False

    @property
    def height(self) -> int:
        """Rows of a window."""
        return int(self.start.shape[1])


class Rows(NamedTuple):
    """Whole frames, uint64 `[m, size, words]`, of images `[m]` or of all; a word is 64 pixels, its lowest bit first."""

    pixels: Words
    image: Ints | None = None


class Copies(NamedTuple):
    """Windows of `height` whole rows, from row `first` on as of `Spans`: number `which` of those in `table`."""

    which: Ints
    table: NDArray[np.void]
    height: int
    first: Ints
    cut: bool = False


Layer = Spans | Rows | Copies


class Axes(NamedTuple):
    """A rotation: the local x axis points along (ux, uy), the local y axis along (-uy, ux)."""

    ux: Floats
    uy: Floats

    def turn(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rotate the vectors (x, y) about the origin."""
        return self.ux * x - self.uy * y, self.uy * x + self.ux * y

    def quarters(self, number: Ints) -> Axes:
        """So many quarter turns farther, 0 to 3, counter-clockwise as seen; exact."""
        cos, sin = COSINES.take(number), SINES.take(number)
        return Axes(cos * self.ux + sin * self.uy, cos * self.uy - sin * self.ux)  # y points down


def axes(angle_deg: Floats) -> Axes:
    """The rotation by an angle in degrees, counter-clockwise as seen; exact at quarter turns.

    What is left of the nearest quarter turn goes through t = tan(angle / 2), rounded to a grid;
    ((1 - t*t), 2t) / (1 + t*t) then has length 1 up to the last bit.
    """
    quarter = np.rint(angle_deg / 90.0)
    half = np.deg2rad((angle_deg - 90.0 * quarter) / 2.0)
    t: Floats = np.rint(np.tan(half) / TURN_GRID) * TURN_GRID
    cos: Floats = (1.0 - t * t) / (1.0 + t * t)
    sin: Floats = 2.0 * t / (1.0 + t * t)
    return Axes(cos, -sin).quarters(quarter.astype(np.int64) % 4)  # y points down


def window(top: Floats, bottom: Floats, middle: Floats, size: int) -> tuple[Ints, Floats]:
    """Windows around shapes that reach from `top` to `bottom`, `[n]`, as far as the frame goes.

    All are as high as the highest must be. The row in reserve above takes up what `top` is rounded by.

    Returns:
        The row of all frames that each begins with, `[n]`, and the y of the pixel centres of its rows, from `middle`,
        `[n, h]`.
    """
    begin = np.floor(top - 0.5).clip(0, size)
    end = np.ceil(bottom + 0.5).clip(0, size)
    height = max(int((end - begin).max(initial=0)), 0)
    np.minimum(begin, size - height, out=begin)
    first = begin.astype(np.int64) + np.arange(0, size * len(begin), size)
    return first, (begin + 0.5 - middle)[:, None] + np.arange(height)


def to_spans(before: Floats, after: Floats, first: Ints | None) -> Spans:
    """The columns of pixels whose centres lie in [before + 0.5, after - 0.5]; `before` is overwritten."""
    start = np.ceil(before, out=before).astype(np.int64)
    stop = after.astype(np.int64)  # rounds to 0, which is down within the frame
    np.maximum(start, stop, out=stop)
    return Spans(start, stop, first)


def of_images(spans: Layer, image: Ints, size: int) -> Layer:
    """Spans of some images: image k among them is number `image[k]` of all, `[m]`."""
    if isinstance(spans, Rows):
        return spans._replace(image=image if spans.image is None else image[spans.image])
    first = np.arange(0, len(image) * size, size) if spans.first is None else spans.first
    return spans._replace(first=image[first // size] * size + first % size)


def disc(cx: Floats, cy: Floats, radius: Floats, size: int) -> Spans:
    """Discs with centres (cx, cy)."""
    first, y = window(cy - radius, cy + radius, cy, size)
    y *= y
    half = np.subtract((radius * radius)[:, None], y, out=y)
    with np.errstate(invalid="ignore"):  # no number: a row that the disc does not meet
        np.sqrt(half, out=half)
        start = np.ceil((cx - 0.5)[:, None] - half).astype(np.int64)
        half += (cx + 0.5)[:, None]
        return Spans(start, half.astype(np.int64), first)


def box(
    cx: Floats,
    cy: Floats,
    turned: Axes,
    half_x: Floats,
    half_y: Floats,
    size: int,
    ends: tuple[Floats, Floats] | None = None,
) -> Spans:
    """Rotated rectangles with half sides (half_x, half_y) and sharp corners; of them, what is between the `ends` in y.

    Where two slabs meet: |c x - s y| <= a bounds x in every row, and so does |s x + c y| <= b.
    """
    c, s, a, b = _first_quadrant(turned, half_x, half_y)
    reach = s * a + c * b
    first, y = window(*(ends or (cy - reach, cy + reach)), cy, size)
    s = np.maximum(s, 1e-12)  # level sides: the second slab then bounds the rows only
    across_1 = (-s / c)[:, None] * y
    across_2 = np.multiply((c / s)[:, None], y, out=y)
    reach_1, reach_2 = a / c, b / s
    before, after = cx - 0.5, cx + 0.5
    right = across_1 + (after + reach_1)[:, None]
    np.minimum(right, across_2 + (after + reach_2)[:, None], out=right)
    across_1 += (before - reach_1)[:, None]
    across_2 += (before - reach_2)[:, None]
    return to_spans(np.maximum(across_1, across_2, out=across_1), right, first)


def round_box(cx: Floats, cy: Floats, turned: Axes, half_x: Floats, half_y: Floats, radius: Floats, size: int) -> Spans:
    """Rotated rectangles with half sides (half_x, half_y) and corners rounded by `radius`.

    A rounded rectangle is a disc whose centre runs over an inner rectangle; its left side is its
    right side turned by half a turn.
    """
    c, s, a, b = _first_quadrant(turned, half_x, half_y)
    s = np.maximum(s, 1e-12)  # level: of a level edge only the ends count
    a, b = a - radius, b - radius
    reach = s * a + c * b + radius
    first, y = window(cy - reach, cy + reach, cy, size)
    right = _right_side(y, c, s, a, b, radius, 0.5 + cx)
    left = _right_side(np.negative(y, out=y), c, s, a, b, radius, 0.5 - cx)
    return to_spans(np.negative(left, out=left), right, first)


def _first_quadrant(turned: Axes, half_x: Floats, half_y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The same rectangle as (c, s, a, b): half side a along (c, s), c > 0, s >= 0, b across."""
    swap = (turned.ux * turned.uy < 0.0) | (turned.ux == 0.0)
    c = np.where(swap, abs(turned.uy), abs(turned.ux))
    s = np.where(swap, abs(turned.ux), abs(turned.uy))
    return c, s, np.where(swap, half_y, half_x), np.where(swap, half_x, half_y)


def _right_side(y: Floats, c: Floats, s: Floats, a: Floats, b: Floats, radius: Floats, x: Floats) -> Floats:
    """The right side, at heights y `[n, h]` from the middle, of a rounded rectangle about `x`.

    The disc that touches the side at height y has its centre `down_1 + down_2` below the right
    inner corner: on the upper inner edge (down_1 < 0), at the corner, or on the lower one.
    """
    corner_x, corner_y = c * a + s * b, s * a - c * b
    below = y - corner_y[:, None]
    down_1 = below + (radius * c)[:, None]
    np.minimum(down_1, 0.0, out=down_1)
    np.maximum(down_1, (-2.0 * s * a)[:, None], out=down_1)
    down_2 = below - (radius * s)[:, None]
    np.maximum(down_2, 0.0, out=down_2)
    np.minimum(down_2, (2.0 * c * b)[:, None], out=down_2)
    below -= down_1
    below -= down_2
    below *= below
    square = np.subtract((radius * radius)[:, None], below, out=below)
    reach = np.sqrt(abs(square))
    np.copysign(reach, square, out=reach)  # below 0: a row that the disc does not meet
    down_1 *= (c / s)[:, None]
    down_2 *= (s / c)[:, None]
    down_1 += (x + corner_x)[:, None]
    down_1 -= down_2
    down_1 += reach
    return down_1


def triangle(vertices: Floats, size: int) -> Spans:
    """Triangles, vertices `[n, 3, 2]`.

    From top to bottom one side is the long edge; the other turns at the middle vertex. Beyond their ends the two sides
    have changed places, and there is nothing between them.
    """
    corners = [*vertices.transpose(1, 2, 0)]
    for k in (0, 1, 0):
        upper, lower = corners[k : k + 2]
        swapped = upper[1] > lower[1]
        corners[k : k + 2] = np.where(swapped, lower, upper), np.where(swapped, upper, lower)
    (x0, y0), (x1, y1), (x2, y2) = corners
    long = (x2 - x0) / (y2 - y0)
    middle = x0 + long * (y1 - y0)
    # A level edge leads far away at once.
    upper, lower = ((x1 - x0) / np.maximum(y1 - y0, 1e-12), (x2 - x1) / np.maximum(y2 - y1, 1e-12))
    bent = x1 > middle  # whether the right side is
    first, below = window(y0, y2, y1, size)
    above = np.minimum(below, 0.0)
    np.maximum(below, 0.0, out=below)
    left, right = (
        above * np.where(turns, upper, long)[:, None] + below * np.where(turns, lower, long)[:, None]
        for turns in (~bent, bent)
    )
    left += (np.minimum(x1, middle) - 0.5)[:, None]
    right += (np.maximum(x1, middle) + 0.5)[:, None]
    return to_spans(left, right, first)


def superellipse(cx: Floats, cy: Floats, turned: Axes, half: Floats, exponent: float, size: int) -> Spans:
    """Rotated superellipses |u / half|**exponent + |v / half|**exponent <= 1.

    No closed form for a row of a rotated one: the implicit function is evaluated at every pixel
    centre of a window around the shape. About ten times slower than the other shapes.
    """
    reach = half * 2.0 ** (0.5 - 1.0 / exponent)  # the farthest point lies on the diagonal
    width = int(np.ceil(2.0 * reach.max())) + 2
    x0 = np.floor(cx - reach).astype(np.int64)
    dx = (x0[:, None] + np.arange(width) + 0.5 - cx[:, None])[:, None, :]
    first, y = window(cy - reach, cy + reach, cy, size)
    dy = y[:, :, None]
    ux, uy, scale = (v[:, None, None] for v in (turned.ux, turned.uy, half))
    with np.errstate(over="ignore", under="ignore"):
        value = abs((ux * dx + uy * dy) / scale) ** exponent
        value += abs((ux * dy - uy * dx) / scale) ** exponent
    inside = value <= 1.0  # [n, row of the window, column of the window]
    start = x0[:, None] + inside.argmax(axis=2)
    return Spans(start, start + inside.sum(axis=2), first)
