"""Layers as pixels."""

from __future__ import annotations

from collections.abc import Sequence

from generators import planes
from generators.raster import Layer, Pixels


def painted(layers: Sequence[tuple[Layer, int]], out: Pixels) -> Pixels:
    """`out` `[n, size, size]`, with the values, joined by exclusive or, of the layers that hold each pixel."""
    n, size = out.shape[:2]
    rows = planes.band([spans for spans, _ in layers], n, size)
    bits = max(value for _, value in layers).bit_length()
    drawn = planes.draw("test", layers, bits, n, size, rows)
    planes.unpack([(plane, 1 << k) for k, plane in enumerate(drawn)], rows, out)
    return out
