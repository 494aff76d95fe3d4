"""Exact area coverage of pixels by polygons, for antialiased edges.

Each edge is cut at every pixel border. A piece inside one pixel adds the signed area between
itself and the pixel's right side there, and its height to all pixels on its right; a running
sum over each row then gives the covered area (the signed-area method of font rasterisers).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generators.raster import Axes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ARC_ERROR = 1e-3  # px between an arc and its chord; far below 1/255 of a pixel's area


class Outline(NamedTuple):
    """Simple polygons with vertices `[n, V, 2]`, added (sign 1) or cut out (sign -1)."""

    vertices: Floats
    sign: int


class Pieces(NamedTuple):
    """Edge pieces from (x0, y0) to (x1, y1), each inside one pixel row after `_cut_rows`."""

    x0: Floats
    y0: Floats
    x1: Floats
    y1: Floats
    image: Ints
    weight: Floats  # sign * orientation


def coverage(outlines: list[Outline], size: int) -> Floats:
    """The covered fraction of each pixel, `[n, size, size]` in [0, 1].

    Outlines that are added must not overlap; one that is cut out must lie inside an added one.
    """
    n = len(outlines[0].vertices)
    total = np.zeros(n * size * (size + 1))
    for outline in outlines:
        row, column, dy, offset, image = _cut_columns(_cut_rows(_edges(outline), size))
        # Pieces left of the frame cover the whole row; those right of it cover nothing.
        offset = np.where(column < 0, 0.0, np.where(column >= size, 1.0, offset))
        cell = (image * size + row) * (size + 1) + np.clip(column, 0, size - 1)
        total += np.bincount(cell, dy * (1.0 - offset), minlength=len(total))
        total += np.bincount(cell + 1, dy * offset, minlength=len(total))
    summed = np.cumsum(total.reshape(n, size, size + 1), axis=2)
    return np.clip(summed[..., :size], 0.0, 1.0)


def _edges(outline: Outline) -> Pieces:
    """The edges that are not level, one after the other."""
    v, w = outline.vertices, np.roll(outline.vertices, -1, axis=1)
    turn = np.sign((v[..., 0] * w[..., 1] - v[..., 1] * w[..., 0]).sum(axis=1))
    image, _ = slanted = np.nonzero(v[..., 1] != w[..., 1])
    start, end = v[slanted], w[slanted]
    weight = outline.sign * turn[image]
    return Pieces(start[:, 0], start[:, 1], end[:, 0], end[:, 1], image, weight)


def _spread(low: Floats, high: Floats) -> tuple[Ints, Ints]:
    """For each interval the unit cells that it meets: (position of the interval, cell)."""
    first = np.floor(low).astype(np.int64)
    count = np.maximum(np.ceil(high).astype(np.int64) - first, 1)
    which = np.repeat(np.arange(len(low)), count)
    begin = np.repeat(np.cumsum(count) - count, count)
    return which, first[which] + np.arange(len(which)) - begin


def _cut_rows(p: Pieces, size: int) -> tuple[Pieces, Ints]:
    """Cut at every row border and drop what is above or below the frame; also the rows."""
    which, row = _spread(np.minimum(p.y0, p.y1), np.maximum(p.y0, p.y1))
    keep = (row >= 0) & (row < size)
    which, row = which[keep], row[keep]
    x0, y0, x1, y1 = p.x0[which], p.y0[which], p.x1[which], p.y1[which]
    slope = (x1 - x0) / (y1 - y0)
    ya, yb = np.clip(y0, row, row + 1), np.clip(y1, row, row + 1)
    xa, xb = x0 + (ya - y0) * slope, x0 + (yb - y0) * slope
    return Pieces(xa, ya, xb, yb, p.image[which], p.weight[which]), row


def _cut_columns(rows: tuple[Pieces, Ints]) -> tuple[Ints, Ints, Floats, Floats, Ints]:
    """Cut at every column border: row, column, signed height, mean x in the pixel, image."""
    p, row = rows
    low, high = np.minimum(p.x0, p.x1), np.maximum(p.x0, p.x1)
    which, column = _spread(low, high)
    low, high = low[which], high[which]
    xa, xb = np.clip(low, column, column + 1), np.clip(high, column, column + 1)
    share = np.divide(xb - xa, high - low, out=np.ones_like(low), where=high > low)
    # Clockwise on the screen the left sides go up (dy < 0), and they are what adds cover.
    height = (p.weight * (p.y0 - p.y1))[which] * share
    return row[which], column, height, (xa + xb) / 2.0 - column, p.image[which]


def arc_steps(radius: float) -> int:
    """Chords for a quarter circle so that none is farther than ARC_ERROR from the arc."""
    step = np.sqrt(8.0 * ARC_ERROR / max(radius, 1.0))
    return int(np.ceil(np.pi / 2.0 / step))


def superellipse_outline(cx: Floats, cy: Floats, turned: Axes, half: Floats, exponent: float, size: int) -> Floats:
    """Vertices of |u / half|**exponent + |v / half|**exponent = 1 in a frame of `size` px; exponent 2 is the circle.

    As many as the largest one in the frame needs: an image depends on no other that is drawn with it.
    """
    quarter = 4 if exponent > 2.0 else 1  # the corners of a squarer shape need more points
    steps = 4 * quarter * arc_steps(size / 2.0)
    t = 2.0 * np.pi * np.arange(steps) / steps
    u = np.sign(np.cos(t)) * abs(np.cos(t)) ** (2.0 / exponent)
    v = np.sign(np.sin(t)) * abs(np.sin(t)) ** (2.0 / exponent)
    return place(np.stack((u, v), axis=1) * half[:, None, None], cx, cy, turned)


def box_outline(cx: Floats, cy: Floats, turned: Axes, half_x: Floats, half_y: Floats, radius: float) -> Floats:
    """Vertices of rectangles with half sides (half_x, half_y) and corners of that radius."""
    steps = arc_steps(radius) if radius > 0.0 else 0
    t = np.pi / 2.0 * np.linspace(0.0, 1.0, steps + 1)
    corner = np.concatenate([t + k * np.pi / 2.0 for k in range(4)])
    side_x = np.repeat([1.0, -1.0, -1.0, 1.0], steps + 1)
    side_y = np.repeat([1.0, 1.0, -1.0, -1.0], steps + 1)
    x = (half_x - radius)[:, None] * side_x + radius * np.cos(corner)
    y = (half_y - radius)[:, None] * side_y + radius * np.sin(corner)
    return place(np.stack((x, y), axis=2), cx, cy, turned)


def place(local: Floats, cx: Floats, cy: Floats, turned: Axes) -> Floats:
    """Rotate local points `[n, V, 2]` and move the origin to (cx, cy)."""
    turn = Axes(turned.ux[:, None], turned.uy[:, None])
    x, y = turn.turn(local[..., 0], local[..., 1])
    return np.stack((x + cx[:, None], y + cy[:, None]), axis=2)
