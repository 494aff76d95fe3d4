"""Exact rasteriser: shapes to pixel spans, spans to pixels. The coordinate convention is here.

Points are (x, y) in pixels, x to the right, y down, pixel centres at +0.5: pixel (column i,
row j) covers [i, i + 1] x [j, j + 1]. A pixel is set if and only if its centre is inside the
shape or on its outline. Angles are in degrees, counter-clockwise as the picture is seen.

Every shape here but a polygon is convex, so it meets a row of pixel centres in one interval. A shape
function takes arrays `[n]`, one value for each image, and returns a `Spans`: the half-open column range
that is set in each row of a window that holds the shape. Rows cost time, so a small shape has few.

Only +, -, *, / and sqrt follow after the angle has become a rotation on a grid, and IEEE 754
rounds these alike everywhere: the last bit of a sine cannot move a pixel.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

TURN_GRID = 2.0**-24  # of tan(angle / 2); 3e-6 px at the rim of a 128 px frame
NOWHERE = -(2.0**40)  # an end of no pixel
UNPACKED = 1 << 18  # pixels at a time, which stay in the cache


class Spans(NamedTuple):
    """Columns [start, stop) that are set in rows of the frames; what lies beyond a frame is none.

    `start <= stop`, int `[m, h]` each. `first`, `[m]`, is the row that each window of h rows begins with, the rows of
    all frames being counted on: row j of image i is i * size + j. No two windows share a row. None: the windows are
    the frames.
    """

    start: Ints
    stop: Ints
    first: Ints | None = None


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


def window(top: Floats, bottom: Floats, size: int) -> tuple[Ints, Floats]:
    """Windows around shapes that reach from `top` to `bottom`, `[n]`, as far as the frame goes.

    All are as high as the highest must be. The row in reserve above takes up what `top` is rounded by.

    Returns:
        The row of all frames that each begins with, `[n]`, and the y of the pixel centres of its rows, `[n, h]`.
    """
    begin = np.clip(np.floor(top - 0.5), 0, size).astype(np.int64)
    end = np.clip(np.ceil(bottom + 0.5), 0, size).astype(np.int64)
    height = max(int((end - begin).max(initial=0)), 0)
    np.minimum(begin, size - height, out=begin)
    return begin + size * np.arange(len(begin)), begin[:, None] + row_centres(height)


def to_spans(left: Floats, right: Floats, first: Ints | None) -> Spans:
    """The pixels whose centres lie in [left, right]; both are overwritten."""
    left -= 0.5
    start = np.ceil(left, out=left).astype(np.int64)
    right += 0.5
    stop = right.astype(np.int64)  # rounds to 0, which is down within the frame
    np.maximum(start, stop, out=stop)
    return Spans(start, stop, first)


def of_images(spans: Spans, image: Ints, size: int) -> Spans:
    """Spans of some images: image k among them is number `image[k]` of all, `[m]`."""
    first = np.arange(0, len(image) * size, size) if spans.first is None else spans.first
    return Spans(spans.start, spans.stop, image[first // size] * size + first % size)


def shared(one: Spans, other: Spans, size: int) -> Spans:
    """The pixels that two shapes of each image both hold."""
    assert one.first is not None, "shapes of windows"
    assert other.first is not None, "shapes of windows"
    ends = np.zeros((2, len(one.first) * size), np.int64)
    ends[:, other.first[:, None] + np.arange(other.start.shape[1])] = other.start, other.stop
    start, stop = ends[:, one.first[:, None] + np.arange(one.start.shape[1])]
    start = np.maximum(start, one.start)
    return Spans(start, np.maximum(start, np.minimum(stop, one.stop)), one.first)


def disc(cx: Floats, cy: Floats, radius: Floats, size: int) -> Spans:
    """Discs with centres (cx, cy)."""
    first, y = window(cy - radius, cy + radius, size)
    y -= cy[:, None]
    y *= y
    half = np.subtract((radius * radius)[:, None], y, out=y)
    none = half < 0.0
    np.sqrt(np.maximum(half, 0.0, out=half), out=half)
    np.copyto(half, NOWHERE, where=none)
    return to_spans(cx[:, None] - half, cx[:, None] + half, first)


def box(cx: Floats, cy: Floats, turned: Axes, half_x: Floats, half_y: Floats, size: int) -> Spans:
    """Rotated rectangles with half sides (half_x, half_y) and sharp corners.

    Where two slabs meet: |c x - s y| <= a bounds x in every row, and so does |s x + c y| <= b.
    """
    c, s, a, b = _first_quadrant(turned, half_x, half_y)
    reach = s * a + c * b
    first, y = window(cy - reach, cy + reach, size)
    s = np.maximum(s, 1e-12)  # level sides: the second slab then bounds the rows only
    y -= cy[:, None]
    left_1 = (-s / c)[:, None] * y
    left_1 += cx[:, None]
    left_2 = np.multiply((c / s)[:, None], y, out=y)
    left_2 += cx[:, None]
    reach_1, reach_2 = (a / c)[:, None], (b / s)[:, None]
    right = np.minimum(left_1 + reach_1, left_2 + reach_2)
    left_1 -= reach_1
    left_2 -= reach_2
    return to_spans(np.maximum(left_1, left_2, out=left_1), right, first)


def round_box(cx: Floats, cy: Floats, turned: Axes, half_x: Floats, half_y: Floats, radius: Floats, size: int) -> Spans:
    """Rotated rectangles with half sides (half_x, half_y) and corners rounded by `radius`.

    A rounded rectangle is a disc whose centre runs over an inner rectangle; its left side is its
    right side turned by half a turn.
    """
    c, s, a, b = _first_quadrant(turned, half_x, half_y)
    a, b = a - radius, b - radius
    reach = s * a + c * b + radius
    first, y = window(cy - reach, cy + reach, size)
    y -= cy[:, None]
    right = _right_side(y, c, s, a, b, radius)
    left = _right_side(-y, c, s, a, b, radius)
    np.subtract(cx[:, None], left, out=left)
    right += cx[:, None]
    np.copyto(right, NOWHERE, where=abs(y) > reach[:, None])
    return to_spans(left, right, first)


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
    below *= below
    reach = np.subtract((radius * radius)[:, None], below, out=below)
    np.sqrt(np.maximum(reach, 0.0, out=reach), out=reach)
    # s == 0: the upper edge is level, down_1 is 0, and its slope is never used.
    down_1 *= np.divide(c, s, out=np.zeros_like(c), where=s > 0.0)[:, None]
    down_2 *= (s / c)[:, None]
    down_1 += corner_x[:, None]
    down_1 -= down_2
    down_1 += reach
    return down_1


def triangle(vertices: Floats, size: int) -> Spans:
    """Triangles, vertices `[n, 3, 2]`.

    From top to bottom one side is the long edge; the other turns at the middle vertex.
    """
    order = np.argsort(vertices[..., 1], axis=1)[..., None]
    (x0, y0), (x1, y1), (x2, y2) = np.take_along_axis(vertices, order, axis=1).transpose(1, 2, 0)
    first, y = window(y0, y2, size)
    long_slope = (x2 - x0) / (y2 - y0)
    long = long_slope[:, None] * y
    long += (x0 - long_slope * y0)[:, None]
    below = y - y1[:, None]
    # A level edge has no rows of its own, and its slope is never used.
    upper = np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 > y0)
    lower = np.divide(x2 - x1, y2 - y1, out=np.zeros_like(x0), where=y2 > y1)
    bent = np.minimum(below, 0.0)
    bent *= upper[:, None]
    np.maximum(below, 0.0, out=below)
    below *= lower[:, None]
    bent += below
    bent += x1[:, None]
    right = np.maximum(long, bent)
    np.copyto(right, NOWHERE, where=(y < y0[:, None]) | (y > y2[:, None]))
    return to_spans(np.minimum(long, bent, out=long), right, first)


def polygon(vertices: Floats, size: int) -> list[Spans]:
    """Simple polygons, vertices `[n, V, 2]`, by the even-odd rule: the k-th interval of each row.

    An edge crosses the rows whose centres lie from its upper end on, its lower end left out; so each row is crossed an
    even number of times.
    """
    start, end = np.roll(vertices, 1, axis=1), vertices
    low, high = np.minimum(start[..., 1], end[..., 1]), np.maximum(start[..., 1], end[..., 1])
    # The rows whose centres are in [low, high).
    begin, stop = (np.clip(np.ceil(y - 0.5), 0, size).astype(np.int64) for y in (low, high))
    image, edge = np.nonzero(begin < stop)
    begin, count = begin[image, edge], (stop - begin)[image, edge]
    (x0, y0), (x1, y1) = start[image, edge].T, end[image, edge].T
    which = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(which)) + (begin - np.cumsum(count) + count)[which]
    x = ((x1 - x0) / (y1 - y0))[which] * (row + 0.5 - y0[which]) + x0[which]
    column = np.clip(np.ceil(x - 0.5), 0, size).astype(np.int64)
    crossings = (image[which] * size + row) * (size + 1) + column
    crossings.sort()
    row = crossings[::2] // (size + 1)
    both = (crossings - np.repeat(row, 2) * (size + 1)).reshape(-1, 2, 1)
    fresh = np.diff(row, prepend=-1) > 0  # the first interval of a row
    turn = np.arange(len(row)) - np.maximum.accumulate(np.where(fresh, np.arange(len(row)), 0))
    return [Spans(both[of, 0], both[of, 1], row[of]) for of in (turn == k for k in range(turn.max(initial=-1) + 1))]


def superellipse(cx: Floats, cy: Floats, turned: Axes, half: Floats, exponent: float, size: int) -> Spans:
    """Rotated superellipses |u / half|**exponent + |v / half|**exponent <= 1.

    No closed form for a row of a rotated one: the implicit function is evaluated at every pixel
    centre of a window around the shape. About ten times slower than the other shapes.
    """
    reach = half * 2.0 ** (0.5 - 1.0 / exponent)  # the farthest point lies on the diagonal
    width = int(np.ceil(2.0 * reach.max())) + 2
    x0 = np.floor(cx - reach).astype(np.int64)
    dx = (x0[:, None] + np.arange(width) + 0.5 - cx[:, None])[:, None, :]
    first, y = window(cy - reach, cy + reach, size)
    dy = (y - cy[:, None])[:, :, None]
    ux, uy, scale = (v[:, None, None] for v in (turned.ux, turned.uy, half))
    with np.errstate(over="ignore", under="ignore"):
        value = abs((ux * dx + uy * dy) / scale) ** exponent
        value += abs((ux * dy - uy * dx) / scale) ** exponent
    inside = value <= 1.0  # [n, row of the window, column of the window]
    start = x0[:, None] + inside.argmax(axis=2)
    return Spans(start, start + inside.sum(axis=2), first)


def paint(layers: Sequence[tuple[Spans, int]], out: Pixels) -> None:
    """Exclusive-or the value of each layer into the pixels of its spans; `out` [n, size, size]."""
    n, size = out.shape[:2]
    bits = max(value for _, value in layers).bit_length()
    unpack([(plane, 1 << k) for k, plane in enumerate(planes("paint", layers, bits, n, size))], out)


def planes(use: str, layers: Sequence[tuple[Spans, int]], bits: int, n: int, size: int) -> Pixels:
    """As `paint`, but each bit of the values has a plane of its own, in which 8 pixels of a row are a byte.

    Returns:
        uint8 `[bits, n, size, row bytes]`, in a buffer for this use (`scratch`). What follows the last pixel of a row
        has no meaning.
    """
    table = _from_column(size)
    drawn = scratch(use, (bits, n, size, table.itemsize))
    drawn[...] = 0
    for spans, value in layers:
        inside = np.take(table, spans.start, mode="clip").view(np.uint8)
        inside ^= np.take(table, spans.stop, mode="clip").view(np.uint8)
        height, wide = spans.start.shape[1], inside.shape[1]
        if not height:
            continue
        first = np.arange(0, n * size, size) if spans.first is None else spans.first
        for plane in (drawn[k] for k in range(bits) if value >> k & 1):
            # A window's rows lie one behind another: element j holds those of the window that begins with row j.
            windows: NDArray[np.void] = np.ndarray(
                (n * size - height + 1,), f"V{wide}", buffer=plane.data, strides=(table.itemsize,)
            )
            held = windows[first]
            held.view(np.uint8).reshape(inside.shape)[...] ^= inside
            windows[first] = held
    return drawn


def unpack(parts: Sequence[tuple[Pixels, int]], out: Pixels) -> None:
    """The values, joined by or, of the planes `[n, size, row bytes]` that each pixel is in; `out` `[n, size, size]`."""
    n, size = out.shape[:2]
    wide = parts[0][0].shape[-1]
    step = max(1, UNPACKED // (8 * wide))
    rows = [plane.reshape(n * size, wide) for plane, _ in parts]
    flat = out.reshape(n * size, size)
    for begin in range(0, n * size, step):
        piece = flat[begin : begin + step]
        drawn = piece if size == 8 * wide else scratch("unpack", (len(piece), 8 * wide))
        spare = scratch("unpack more", drawn.shape)
        for k, (plane, (_, value)) in enumerate(zip(rows, parts, strict=True)):
            target = spare if k else drawn
            cv2.LUT(plane[begin : begin + step], _pixels_of_byte(value), dst=target.view(np.float64))
            if k:
                np.bitwise_or(drawn, spare, out=drawn)
        if drawn is not piece:
            piece[...] = drawn[:, :size]


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
def _from_column(size: int) -> NDArray[np.void]:
    """Packed rows `[size + 1]`: number k has the pixels from column k on."""
    inside = np.arange(size) >= np.arange(size + 1)[:, None]
    packed = np.packbits(inside, axis=1, bitorder="little")
    return packed.view(f"V{packed.shape[1]}")[:, 0]


@lru_cache(maxsize=16)
def _pixels_of_byte(value: int) -> Floats:
    """Packed byte to eight pixels of that value or 0, `[1, 256]`: as floats, the widest that `cv2.LUT` copies."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return (bits * np.uint8(value)).view(np.float64).reshape(1, 256)
