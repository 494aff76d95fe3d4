"""From spans to pixels, by way of planes: an object, or a scene, in which 8 pixels of a row are a byte.

Where many versions of many objects are drawn and joined, an eighth of the bytes is moved. In a plane the lowest bit of
a byte is its first pixel, and what follows the last pixel of a row has no meaning.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from generators.raster import Floats, Pixels, Spans

UNPACKED = 1 << 18  # pixels at a time, which stay in the cache


def paint(layers: Sequence[tuple[Spans, int]], out: Pixels) -> None:
    """Exclusive-or the value of each layer into the pixels of its spans; `out` [n, size, size]."""
    n, size = out.shape[:2]
    bits = max(value for _, value in layers).bit_length()
    unpack([(plane, 1 << k) for k, plane in enumerate(draw("paint", layers, bits, n, size))], out)


def draw(use: str, layers: Sequence[tuple[Spans, int]], bits: int, n: int, size: int) -> Pixels:
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
