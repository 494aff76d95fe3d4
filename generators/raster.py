"""Exact rasteriser: shapes to pixel spans, spans to pixels. The coordinate convention is here.

Points are (x, y) in pixels, x to the right, y down, pixel centres at +0.5: pixel (column i,
row j) covers [i, i + 1] x [j, j + 1]. A pixel is set if and only if its centre is inside the
shape or on its outline. Angles are in degrees, counter-clockwise as the picture is seen.

Every shape here but a polygon is convex, so it meets a row of pixel centres in one interval. A shape
function takes arrays `[n]`, one value for each image, and returns a `Spans`: `start`, `stop`
int `[n, size]`, the half-open column range that is set in each row (start == stop: none).

Only +, -, *, / and sqrt follow after the angle has become a rotation on a grid, and IEEE 754
rounds these alike everywhere: the last bit of a sine cannot move a pixel.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

TURN_GRID = 2.0**-24  # of tan(angle / 2); 3e-6 px at the rim of a 128 px frame
TABLE_SIZE = 128  # px; up to here a table of all row patterns takes 2.1 MB or less


class Spans(NamedTuple):
    """Columns [start, stop) that are set in each row, int `[n, size]` each."""

    start: Ints
    stop: Ints


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


def to_spans(left: Floats, right: Floats, rows: NDArray[np.bool_], size: int) -> Spans:
    """The pixels whose centres lie in [left, right], where `rows` says that there are any."""
    start = np.clip(np.ceil(left - 0.5), 0, size).astype(np.int64)
    stop = np.clip(np.floor(right + 0.5), 0, size).astype(np.int64)
    return Spans(start, np.where(rows, np.maximum(start, stop), start))


def disc(cx: Floats, cy: Floats, radius: Floats, size: int) -> Spans:
    """Discs with centres (cx, cy)."""
    dy = row_centres(size) - cy[:, None]
    square = (radius * radius)[:, None] - dy * dy
    half = np.sqrt(np.maximum(square, 0.0))
    return to_spans(cx[:, None] - half, cx[:, None] + half, square >= 0.0, size)


def box(cx: Floats, cy: Floats, turned: Axes, half_x: Floats, half_y: Floats, size: int) -> Spans:
    """Rotated rectangles with half sides (half_x, half_y) and sharp corners.

    Where two slabs meet: |c x - s y| <= a bounds x in every row, and so does |s x + c y| <= b.
    """
    c, s, a, b = _first_quadrant(turned, half_x, half_y)
    s = np.maximum(s, 1e-12)  # level sides: the second slab then bounds the rows only
    y = row_centres(size) - cy[:, None]
    across_1 = (-s / c)[:, None] * y + cx[:, None]
    across_2 = (c / s)[:, None] * y + cx[:, None]
    reach_1, reach_2 = (a / c)[:, None], (b / s)[:, None]
    left = np.maximum(across_1 - reach_1, across_2 - reach_2)
    right = np.minimum(across_1 + reach_1, across_2 + reach_2)
    return to_spans(left, right, left <= right, size)


def round_box(cx: Floats, cy: Floats, turned: Axes, half_x: Floats, half_y: Floats, radius: Floats, size: int) -> Spans:
    """Rotated rectangles with half sides (half_x, half_y) and corners rounded by `radius`.

    A rounded rectangle is a disc whose centre runs over an inner rectangle; its left side is its
    right side turned by half a turn.
    """
    c, s, a, b = _first_quadrant(turned, half_x, half_y)
    a, b = a - radius, b - radius
    y = row_centres(size) - cy[:, None]
    right = _right_side(y, c, s, a, b, radius)
    left = _right_side(-y, c, s, a, b, radius)
    rows = abs(y) <= (s * a + c * b + radius)[:, None]
    return to_spans(cx[:, None] - left, cx[:, None] + right, rows, size)


def _first_quadrant(turned: Axes, half_x: Floats, half_y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The same rectangle as (c, s, a, b): half side a along (c, s), c > 0, s >= 0, b across."""
    swap = (turned.ux * turned.uy < 0.0) | (turned.ux == 0.0)
    c = np.where(swap, abs(turned.uy), abs(turned.ux))
    s = np.where(swap, abs(turned.ux), abs(turned.uy))
    return c, s, np.where(swap, half_y, half_x), np.where(swap, half_x, half_y)


def _right_side(y: Floats, c: Floats, s: Floats, a: Floats, b: Floats, radius: Floats) -> Floats:
    """The x of the right side of a rounded rectangle about the origin at heights y `[n, size]`.

    The disc that touches the side at height y has its centre `down_1 + down_2` below the right
    inner corner: on the upper inner edge (down_1 < 0), at the corner, or on the lower one.
    """
    corner_x, corner_y = c * a + s * b, s * a - c * b
    below = y - corner_y[:, None]
    down_1 = np.minimum(below + (radius * c)[:, None], 0.0)
    np.maximum(down_1, (-2.0 * s * a)[:, None], out=down_1)
    down_2 = np.maximum(below - (radius * s)[:, None], 0.0)
    np.minimum(down_2, (2.0 * c * b)[:, None], out=down_2)
    below -= down_1
    below -= down_2
    reach = np.maximum((radius * radius)[:, None] - below * below, 0.0)
    np.sqrt(reach, out=reach)
    # s == 0: the upper edge is level, down_1 is 0, and its slope is never used.
    down_1 *= np.divide(c, s, out=np.zeros_like(c), where=s > 0.0)[:, None]
    down_2 *= (s / c)[:, None]
    side: Floats = corner_x[:, None] + down_1 - down_2 + reach
    return side


def triangle(vertices: Floats, size: int) -> Spans:
    """Triangles, vertices `[n, 3, 2]`.

    From top to bottom one side is the long edge; the other turns at the middle vertex.
    """
    order = np.argsort(vertices[..., 1], axis=1)[..., None]
    (x0, y0), (x1, y1), (x2, y2) = np.take_along_axis(vertices, order, axis=1).transpose(1, 2, 0)
    y = row_centres(size)
    long_slope = (x2 - x0) / (y2 - y0)
    long = long_slope[:, None] * y + (x0 - long_slope * y0)[:, None]
    below = y - y1[:, None]
    # A level edge has no rows of its own, and its slope is never used.
    upper = np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 > y0)
    lower = np.divide(x2 - x1, y2 - y1, out=np.zeros_like(x0), where=y2 > y1)
    bent = upper[:, None] * np.minimum(below, 0.0)
    bent += lower[:, None] * np.maximum(below, 0.0)
    bent += x1[:, None]
    rows = (y >= y0[:, None]) & (y <= y2[:, None])
    return to_spans(np.minimum(long, bent), np.maximum(long, bent), rows, size)


def polygon(vertices: Floats, size: int) -> list[Spans]:
    """Simple polygons, vertices `[n, V, 2]`: in each row from the first edge to the second, from the third on, ...

    An edge has the rows whose centres lie from its upper end on, its lower end left out.
    """
    y = row_centres(size)
    met = np.full((len(vertices), size, vertices.shape[1]), size, np.int16)
    for k in range(vertices.shape[1]):
        (x0, y0), (x1, y1) = vertices[:, k - 1].T, vertices[:, k].T
        slope = np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 != y0)
        image, row = np.nonzero((y >= np.minimum(y0, y1)[:, None]) & (y < np.maximum(y0, y1)[:, None]))
        x = slope[image] * (y[row] - y0[image]) + x0[image]
        met[image, row, k] = np.clip(np.ceil(x - 0.5), 0, size)
    met.sort(axis=2)
    most = max(1, int((met < size).sum(axis=2).max(initial=0)))
    edges = met.astype(np.int64)
    return [Spans(edges[..., k], edges[..., k + 1]) for k in range(0, most, 2)]


def superellipse(cx: Floats, cy: Floats, turned: Axes, half: Floats, exponent: float, size: int) -> Spans:
    """Rotated superellipses |u / half|**exponent + |v / half|**exponent <= 1.

    No closed form for a row of a rotated one: the implicit function is evaluated at every pixel
    centre of a window around the shape. About ten times slower than the other shapes.
    """
    reach = half * 2.0 ** (0.5 - 1.0 / exponent)  # the farthest point lies on the diagonal
    width = int(np.ceil(2.0 * reach.max())) + 2
    x0, y0 = np.floor(cx - reach).astype(np.int64), np.floor(cy - reach).astype(np.int64)
    steps = np.arange(width)
    dx = (x0[:, None] + steps + 0.5 - cx[:, None])[:, None, :]
    dy = (y0[:, None] + steps + 0.5 - cy[:, None])[:, :, None]
    ux, uy, scale = (v[:, None, None] for v in (turned.ux, turned.uy, half))
    with np.errstate(over="ignore", under="ignore"):
        value = abs((ux * dx + uy * dy) / scale) ** exponent
        value += abs((ux * dy - uy * dx) / scale) ** exponent
    inside = value <= 1.0  # [n, row of the window, column of the window]
    first = np.clip(x0[:, None] + inside.argmax(axis=2), 0, size)
    last = np.clip(x0[:, None] + inside.argmax(axis=2) + inside.sum(axis=2), 0, size)
    start = np.zeros((len(cx), size), np.int64)
    stop = np.zeros_like(start)
    image, line = np.nonzero((y0[:, None] + steps >= 0) & (y0[:, None] + steps < size))
    start[image, y0[image] + line] = first[image, line]
    stop[image, y0[image] + line] = last[image, line]
    return Spans(start, stop)


def paint(layers: Sequence[tuple[Spans, int]], out: Pixels) -> None:
    """Exclusive-or the value of each layer into the pixels of its spans; `out` [n, size, size]."""
    size = out.shape[-1]
    flat = out.reshape(-1, size)
    spare = scratch("paint", flat.shape)
    for k, (spans, value) in enumerate(layers):
        target = flat if k == 0 else spare
        start, stop = spans.start.reshape(-1), spans.stop.reshape(-1)
        if size <= TABLE_SIZE:
            np.take(
                _row_patterns(size, value),
                start * (size + 1) + stop,
                axis=0,
                out=target,
                mode="clip",
            )
        else:
            columns = np.arange(size)
            inside = (columns >= start[:, None]) & (columns < stop[:, None])
            np.multiply(inside, np.uint8(value), out=target)
        if k > 0:
            np.bitwise_xor(flat, spare, out=flat)


def scratch(use: str, shape: tuple[int, ...]) -> Pixels:
    """A uint8 buffer with any content, which this thread keeps for the next call.

    Fresh memory of this size comes from the system page by page, which costs more than to draw
    in it.
    """
    buffers: dict[str, Pixels] = _kept.__dict__
    size = math.prod(shape)
    if use not in buffers or buffers[use].size < size:
        buffers[use] = np.empty(size, np.uint8)
    return buffers[use][:size].reshape(shape)


_kept = threading.local()


@lru_cache(maxsize=16)
def _row_patterns(size: int, value: int) -> Pixels:
    """Row number start * (size + 1) + stop has `value` in columns [start, stop), else 0."""
    edge, columns = np.arange(size + 1), np.arange(size)
    inside = (columns >= edge[:, None, None]) & (columns < edge[:, None])
    return (inside * np.uint8(value)).reshape(-1, size)
