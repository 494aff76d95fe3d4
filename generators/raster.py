"""Exact rasteriser: shapes to pixel spans. The coordinate convention is here.

Points are (x, y) in pixels, x to the right, y down, pixel centres at +0.5: pixel (column i,
row j) covers [i, i + 1] x [j, j + 1]. A pixel is set if and only if its centre is inside the
shape or on its outline. Angles are in degrees, counter-clockwise as the picture is seen.

Every shape here but a polygon is convex, so it meets a row of pixel centres in one interval. A shape
function takes arrays `[n]`, one value for each image, and returns a `Spans`: the half-open column range
that is set in each row of a window that holds the shape. Rows cost time, so a small shape has few.
A polygon gives whole frames, as `Rows`.

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

CROSSINGS = 1 << 16  # at a time, of edges and rows: the numbers of more leave the cache
FIXED_BITS = 32  # of a pixel's fraction
FIXED = 1 << FIXED_BITS
FEW = 8  # rows that an edge crosses: one after the other is then faster than all at once
TURN_GRID = 2.0**-24  # of tan(angle / 2); 3e-6 px at the rim of a 128 px frame


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
    turns = quarter.astype(np.int64) % 4
    ux: Floats = np.choose(turns, (cos, -sin, -cos, sin))
    # y points down, so counter-clockwise is -sin.
    uy: Floats = np.choose(turns, (-sin, -cos, sin, cos))
    return Axes(ux, uy)


def row_centres(size: int) -> Floats:
    """The y of the pixel centres of each row, `[size]`."""
    return np.arange(size, dtype=np.float64) + 0.5


def window(top: Floats, bottom: Floats, middle: Floats, size: int) -> tuple[Ints, Floats]:
    """Windows around shapes that reach from `top` to `bottom`, `[n]`, as far as the frame goes.

    All are as high as the highest must be. The row in reserve above takes up what `top` is rounded by.

    Returns:
        The row of all frames that each begins with, `[n]`, and the y of the pixel centres of its rows, from `middle`,
        `[n, h]`.
    """
    begin = np.clip(np.floor(top - 0.5), 0, size)
    end = np.clip(np.ceil(bottom + 0.5), 0, size)
    height = max(int((end - begin).max(initial=0)), 0)
    np.minimum(begin, size - height, out=begin)
    return begin.astype(np.int64) + size * np.arange(len(begin)), (begin + 0.5 - middle)[:, None] + np.arange(height)


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


def polygon(x: Floats, y: Floats, size: int) -> Rows:
    """Simple polygons, corners `[n, V]` clockwise as seen; with holes `[n, L, V]`, the corners of these the other way.

    An edge crosses the rows whose centres lie from its upper end on, its lower end left out. Where it goes down a span
    of pixels ends, where it goes up one begins: from column a up to b that is 2**b - 2**a, and a row is their sum.
    """
    words = -(-size // 64)
    beyond = max(
        -float(min(some.min(initial=0.0) for some in (x, y))),
        float(max(some.max(initial=0.0) for some in (x, y))) + 1.0 - size,
    )
    if beyond > 0.0:  # a frame that holds them; what ends behind the last column would be in the next row
        more = 64 * int(np.ceil(beyond / 64.0))
        pixels = polygon(x + more, y + more, size + 2 * more).pixels
        return Rows(pixels[:, more : more + size, more // 64 : more // 64 + words])
    pixels = np.zeros((len(x), size, words), np.uint64)
    if len(x):
        assert (x[:1] * _ahead(y[:1]) - y[:1] * _ahead(x[:1])).sum() >= 0.0, "not clockwise"
        step = max(1, int(CROSSINGS / (abs(_ahead(y[:1])).sum() + y[0].size)))
        for begin in range(0, len(x), step):
            piece = slice(begin, begin + step)
            _add_crossings(x[piece], y[piece], size, pixels[piece].reshape(-1))
    for k in range(1, words):  # what has not ended in a word goes on in the next
        pixels[..., k] -= pixels[..., k - 1] >> np.uint64(63)
    return Rows(pixels)


def _add_crossings(x: Floats, y: Floats, size: int, found: Words) -> None:
    """Adds what begins and ends at the edges of polygons.

    Pixels are counted on through all rows of all frames, in fixed point, so that an edge is an arithmetic series, and
    all edges are one running sum.
    """
    wide = -(-size // 64) * 64
    y = y - 0.5  # from the first row of pixel centres
    row = np.ceil(y)  # the first below each corner
    down = _ahead(row)
    with np.errstate(divide="ignore", invalid="ignore"):  # of edges that cross no row, or no second one
        slope = _ahead(x)
        slope /= _ahead(y)
        row -= down < 0.0  # that is crossed first
        column = np.subtract(row, y, out=y)
        column *= slope
        column += x
        row += np.arange(0, len(x) * size, size).reshape(-1, *(1,) * (x.ndim - 1))
        down = down.ravel()
        ends, begins = np.flatnonzero(down > 0.0), np.flatnonzero(down < 0.0)
        edge = np.concatenate((ends, begins))
        step = (slope.take(edge) * FIXED).astype(np.int64)
    step += wide * FIXED
    step[len(ends) :] *= -1
    count = abs(down.take(edge).astype(np.int64))
    place = ((column.take(edge) + 0.5) * FIXED).astype(np.int64)
    place += row.take(edge).astype(np.int64) * (wide * FIXED)
    split = len(ends)
    if count.max(initial=0) > FEW:
        _add_bits(found, _series(place, step, count), int(count[:split].sum()))
        return
    while len(place):
        more = np.flatnonzero(count > 1)
        step, count = step.take(more), count.take(more) - 1
        after = place.take(more) + step
        _add_bits(found, place, split)
        place, split = after, int(np.searchsorted(more, split))


def _add_bits(found: Words, place: Ints, split: int) -> None:
    """Adds a bit at each of so many places, which are lost, and subtracts one at the others."""
    word = place >> FIXED_BITS + 6
    place >>= FIXED_BITS
    place &= 63
    bit = np.left_shift(np.uint64(1), place.view(np.uint64))
    np.add.at(found, word[:split], bit[:split])
    np.subtract.at(found, word[split:], bit[split:])


def _series(first: Ints, step: Ints, count: Ints) -> Ints:
    """Arithmetic series one behind the other, each of so many numbers."""
    jump = first.copy()
    jump[1:] -= (first + step * (count - 1))[:-1]
    found = np.repeat(step, count)
    found[np.cumsum(count) - count] = jump
    return np.cumsum(found, out=found)


def _ahead(corners: Floats) -> Floats:
    """From each corner to the next."""
    found = np.empty(corners.shape)
    flat = corners.reshape(-1)
    np.subtract(flat[1:], flat[:-1], out=found.reshape(-1)[:-1])  # also from image to image: longer loops are faster
    np.subtract(corners[..., 0], corners[..., -1], out=found[..., -1])
    return found


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
