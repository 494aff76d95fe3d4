"""From spans to pixels, by way of planes: an object, or a scene, in which 8 pixels of a row are a byte.

Where many versions of many objects are drawn and joined, an eighth of the bytes is moved. In a plane the lowest bit of
a byte is its first pixel, and what follows the last pixel of a row has no meaning.
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

from generators.raster import Copies, Floats, Ints, Layer, Pixels, Rows

UNPACKED = 1 << 20  # pixels at a time, which stay in the cache
MOST = 0.4  # of the frame's rows: to clear the frame and to copy them costs as much as to unpack the others


class Band(NamedTuple):
    """As many rows of each image: `height`, from `first` `[n]` on, which is as of `Spans`; None: the whole frames."""

    first: Ints | None
    height: int


def band(layers: Sequence[Layer], n: int, size: int) -> Band:
    """The rows that hold all layers, or whole frames where these are no more or a layer has these."""
    if not n or any(isinstance(spans, Rows) or spans.height > MOST * size for spans in layers):
        return Band(None, size)
    frames = np.arange(0, n * size, size)
    begin, end = frames + size, frames.copy()
    for spans in layers:
        if isinstance(spans, Rows) or spans.first is None:
            return Band(None, size)
        if not (spans.height and len(spans.first)):
            continue
        held = slice(None) if len(spans.first) == n else spans.first // size
        begin[held] = np.minimum(begin[held], spans.first)
        end[held] = np.maximum(end[held], spans.first + spans.height)
    height = max(int((end - begin).max()), 1)
    if height > MOST * size:
        return Band(None, size)
    return Band(np.minimum(begin, frames + (size - height)), height)


def draw(
    use: str,
    layers: Sequence[tuple[Layer, int]],
    bits: int,
    n: int,
    size: int,
    rows: Band,
    together: np.ufunc = np.bitwise_xor,
) -> Pixels:
    """Join each layer to the planes whose bits its value has, of the lowest `bits`, or cut it out.

    Returns:
        uint8 `[bits, n, height, row bytes]`, of these rows, in a buffer for this use (`scratch`). What follows the last
        pixel of a row has no meaning.
    """
    table = _from_column(size)
    drawn = scratch(use, (bits, n, rows.height, table.itemsize))
    drawn[...] = 0
    for spans, value in layers:
        planes = [drawn[k] for k in range(bits) if value >> k & 1]
        if isinstance(spans, Rows):
            whole = spans.pixels.view(np.uint8)[..., : table.itemsize]
            for plane in planes:
                if spans.image is None:
                    together(plane, whole, out=plane)
                else:
                    plane[spans.image] = together(plane[spans.image], whole)
            continue
        if isinstance(spans, Copies):
            inside = spans.table.take(spans.which).view(np.uint8).reshape(len(spans.which), -1)
        else:
            inside = table.take(spans.start, mode="clip").view(np.uint8)
            inside ^= table.take(spans.stop, mode="clip").view(np.uint8)
        join: np.ufunc = np.bitwise_and if spans.cut else together
        if spans.cut:
            np.invert(inside, out=inside)
        height, wide = spans.height, inside.shape[1]
        if _are(rows, spans.first, height):
            for plane in planes:
                join(plane, inside.reshape(plane.shape), out=plane)
        elif height:
            first = _within(rows, spans.first, n, size)
            for plane in planes:
                # A window's rows lie one behind another: element j holds those of the window that begins with row j.
                windows: NDArray[np.void] = np.ndarray(
                    (n * rows.height - height + 1,), f"V{wide}", buffer=plane.data, strides=(table.itemsize,)
                )
                held = windows[first]
                pixels = held.view(np.uint8).reshape(inside.shape)
                join(pixels, inside, out=pixels)
                windows[first] = held
    return drawn


def _are(rows: Band, first: Ints | None, height: int) -> bool:
    """Whether the windows are the bands."""
    if first is None or rows.first is None:
        return first is rows.first
    return height == rows.height and np.array_equal(first, rows.first)


def _within(rows: Band, first: Ints | None, n: int, size: int) -> Ints:
    """The rows of the frames `[m]` as rows of the bands."""
    if first is None:
        return np.arange(0, n * size, size)
    if rows.first is None:
        return first
    return first - (rows.first - rows.height * np.arange(n))[first // size]


def unpack(parts: Sequence[tuple[Pixels, int]], rows: Band, out: Pixels) -> None:
    """The values, joined by or, of the planes `[n, height, row bytes]` of these rows that each pixel is in.

    `out` `[n, size, size]`.
    """
    n, size = out.shape[:2]
    height, wide = parts[0][0].shape[-2:]
    step = max(1, UNPACKED // (8 * wide * height))
    if rows.first is not None:
        windows: NDArray[np.void] = np.ndarray(
            (n * size - height + 1,), f"V{height * size}", buffer=out.data, strides=(size,)
        )
    for begin in range(0, n, step):
        images = slice(begin, min(begin + step, n))
        piece = out[images]
        straight = rows.first is None and size == 8 * wide
        drawn = piece if straight else scratch("unpack", (len(piece), height, 8 * wide))
        spare = scratch("unpack more", drawn.shape)
        for k, (plane, value) in enumerate(parts):
            target = spare if k else drawn
            cv2.LUT(
                plane[images].reshape(-1, wide), _pixels_of_byte(value), dst=target.view(np.float64).reshape(-1, wide)
            )
            if k:
                np.bitwise_or(drawn, spare, out=drawn)
        if rows.first is not None:
            piece[...] = 0
            held = np.ascontiguousarray(drawn[..., :size]).reshape(len(piece), -1)
            windows[rows.first[images]] = held.view(windows.dtype)[:, 0]
        elif not straight:
            piece[...] = drawn[..., :size]


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
