"""Polygons to pixels: whole frames, by what begins and ends in each row."""

from __future__ import annotations

import numpy as np

from generators.raster import Floats, Ints, Rows, Words

CROSSINGS = 1 << 16  # at a time, of edges and rows: the numbers of more leave the cache
FIXED_BITS = 32  # of a pixel's fraction
FIXED = 1 << FIXED_BITS
FEW = 8  # rows that an edge crosses: one after the other is then faster than all at once


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
