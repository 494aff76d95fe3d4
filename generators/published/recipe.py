"""What both published recipes are: shapes in whole pixels of the frame, drawn level, then the picture turned."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generators import planes
from generators.base import Generator
from generators.parameters import PHOTOMETRY, Parameter
from generators.planes import Band
from generators.published import pillow
from generators.random import Draws
from generators.raster import Floats, Ints, Layer, Pixels, Spans

WHOLE_DEGREES = Parameter("rotation", 90, 0, 180, "deg", "nuisance", "largest turn of the scene, by whole degrees")


class Published(Generator):
    """A recipe as it was published; lengths are whole pixels of the frame at hand, stored in px at 128.

    Its geometry is fixed. At sizes other than 128 px a factor may pass its range by one pixel of that frame.
    """

    parameters = (WHOLE_DEGREES, *PHOTOMETRY)

    @abstractmethod
    def box(self, factors: NDArray[np.void], number: int) -> Floats:
        """A level box that holds object `number`: x and y of its middle, width and height, `[4, n]` in pixels."""

    def paint(
        self, factors: NDArray[np.void], number: int, layers: Sequence[tuple[Layer, int]], bits: int, rows: Band
    ) -> Pixels:
        """As of any generator; then the picture is turned."""
        drawn = super().paint(factors, number, layers, bits, rows)
        level, turned = (planes.scratch(use, (len(factors), self.size, self.size)) for use in ("level", "turned"))
        planes.unpack([(plane, 1 << k) for k, plane in enumerate(drawn)], rows, level)
        pillow.rotate(level, factors["angle"], self.box(factors, number), turned)
        for k, plane in enumerate(drawn):
            plane[...] = np.packbits(turned & np.uint8(1 << k), axis=-1, bitorder="little")
        return drawn

    def turn(self, draws: Draws, column: int) -> Ints:
        """Whole degrees `[n]`, uniform within +-rotation."""
        most = int(self.values["rotation"])
        return draws.integer(column, -most, most)

    def whole(self, factors: NDArray[np.void], *names: str) -> list[Ints]:
        """Lengths of these names in whole pixels of this frame, `[n]` each."""
        return [np.rint(self.px(factors[name])).astype(np.int64) for name in names]


class Drawn(NamedTuple):
    """A level shape of whole pixels: columns [start, stop) of each row, int `[n, size]`."""

    start: Ints
    stop: Ints

    def layers(self, size: int) -> list[Layer]:
        return [Spans(self.start, self.stop)]

    def vertices(self, size: int) -> Floats:
        raise AssertionError("the published recipes have no grey edges")


def choose(which: NDArray[np.bool_], yes: Spans, no: Spans) -> Drawn:
    """For each image `[n]` one shape or the other."""
    w = which[:, None]
    return Drawn(np.where(w, yes.start, no.start), np.where(w, yes.stop, no.stop))


def within(inner: Drawn, outer: Drawn) -> Drawn:
    """What both shapes hold."""
    start = np.clip(inner.start, outer.start, outer.stop)
    return Drawn(start, np.clip(inner.stop, start, outer.stop))
