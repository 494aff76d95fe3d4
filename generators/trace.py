"""trace: two curves that wind in and out of each other, and two beads, on the same curve or one on each.

Rows, whole pixels apart, are joined at their ends to two open curves (`generators.meander`). In the counterfactual the
second bead is at the same place of another row, where all that a patch of 9 px can see is the same: its row and itself.
Rows and curves are drawn so that either row is as likely to be the one on the first bead's curve: where beads are does
not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor, off_centre
from generators.meander import Meanders, meanders
from generators.parameters import COMMON, Parameter
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Pixels
from generators.reading import inked
from generators.shapes import Disc, Polygon, Shape

STROKE = 2.5  # px, of the curves
GAP = 6.0  # px from the ends of rows to joints, and from those to joints around them
BEAD = 3.5 + 1 / 4096  # px, radius of the beads
ENDS = BEAD + 9.0 * sqrt(2.0) + 1.0  # px, from beads to the ends of rows: 9 across or down, with grey edges, too
SHORTEST = 2.0 * ENDS + 4.0  # px, of the part of a row between the joints
MARGIN = 1.0  # px between the curves, which stay where they are, and the circle in the frame


Steps = tuple[Axes, tuple[Floats, Floats]]  # the turn of the rows, and from row to row


class Trace(Generator):
    """Two beads on two curves."""

    name = "trace"
    about = "whole: whether two beads are on the same of two curves"
    classes = ("same-curve", "other-curve")
    objects = ("curve_1", "curve_2", "bead_1", "bead_2")
    default_n, default_n_test = 1000, 500
    together = np.bitwise_or
    factors = (
        Factor("curve", "class", 0, 1, "", "balanced", "that bead 2 is on, as seen from bead 1", ("same", "other")),
        ANGLE,
        Factor("x", "real", 32, 96, "px at 128", "uniform in a disc", "middle of the rows"),
        Factor("y", "real", 32, 96, "px at 128", "uniform in a disc", "middle of the rows"),
        Factor("length", "real", 36, 90, "px at 128", "uniform", "of the rows between the joints"),
        Factor("meander", "ordinal", 0, 713, "", "uniform", "how the rows are joined (generators/meander.py)"),
        Factor("row", "ordinal", 0, 5, "", "uniform", "of bead 1, whose curve is curve_1"),
        Factor("row_same", "ordinal", 0, 5, "", "uniform", "of bead 2, if it is on the same curve"),
        Factor("row_other", "ordinal", 0, 5, "", "uniform", "of bead 2, if it is on the other curve"),
        Factor("along", "real", -28, 28, "px at 128", "uniform", "from the middle of its row to bead 1"),
        Factor("along_2", "real", -28, 28, "px at 128", "uniform", "from the middle of its row to bead 2"),
        NOISE_KEY,
    )
    parameters = (
        Parameter("rows", 6, 5, 6, "rows", "difficulty", "of both curves together"),
        Parameter("turns", 2, 1, 3, "turns", "difficulty", "of the curve between two beads on it"),
        # 18: at 45 degrees, too, a patch of 9 px sees a bead and its row, and no other row.
        Parameter(
            "pitch", 18.0, 18.0, 20.0, "px at 128", "difficulty", "from row to row, in whole pixels of the frame"
        ),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        return factors["curve"].astype(np.int64)

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """A row and two others, a meander in which one of the two is on its curve, and all where it has room."""
        known = self._meanders()
        triple = draws.integer(1, 0, len(known.triples) - 1)
        member = known.firsts[triple] + draws.integer(2, 0, known.counts[triple] - 1)
        # The steps between rows are whole pixels: not longer than this.
        high = ((self.values["rows"] - 1) * (self.values["pitch"] + sqrt(0.5)) + STROKE) / 2.0
        beside = 2.0 * GAP + STROKE / 2.0
        longest = 2.0 * (sqrt((64.0 - MARGIN) ** 2 - high**2) - beside)
        length = draws.uniform(3, max(SHORTEST, 0.7 * longest), longest)
        away = (64.0 - MARGIN - np.hypot(high, length / 2.0 + beside)) * np.sqrt(draws.uniform(4))
        direction = draws.uniform(5, 0.0, 2.0 * np.pi)
        room = length / 2.0 - ENDS
        row, same, other = known.triples[triple].T
        return {
            "curve": draws.balanced(2),
            "angle": draws.uniform(6, -1.0, 1.0) * self.values["rotation"],
            "x": off_centre(64.0 + away * np.cos(direction)),
            "y": off_centre(64.0 + away * np.sin(direction)),
            "length": length,
            "meander": known.members[member],
            "row": row,
            "row_same": same,
            "row_other": other,
            "along": draws.uniform(7, -room, room),
            "along_2": draws.uniform(8, -room, room),
        }

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """Two polygons that wind, and two discs."""
        first, same, other = (factors[name].astype(np.int64) for name in ("row", "row_same", "row_other"))
        steps = self._steps(factors)
        second = np.where(factors["curve"] == 1, other, same)
        beads = ((first, factors["along"]), (second, factors["along_2"]))
        radius = np.full(len(factors), BEAD * self.scale)
        return [
            *(Polygon(*self._corners(factors, row, steps)) for row in (first, other)),
            *(Disc(*self._on_row(factors, row, self.px(along), steps), radius) for row, along in beads),
        ]

    def _meanders(self) -> Meanders:
        return meanders(int(self.values["rows"]), int(self.values["turns"]))

    def _corners(self, factors: NDArray[np.void], row: Ints, steps: Steps) -> tuple[Floats, Floats]:
        """The outline `[n, V]` of the curve that a row is on."""
        table = self._meanders().corners
        curve = factors["meander"].astype(np.int64) * table.shape[2] + row
        corners = (column.reshape(-1, table.shape[3]).take(curve, axis=0) for column in table)
        along, joints, beside, row, edge = corners
        thick = STROKE / 2.0 * self.scale
        turned, (step_x, step_y) = steps
        pitch = step_y * turned.ux - step_x * turned.uy  # from row to row, square to them
        along *= self.px(factors["length"])[:, None] / 2.0
        along += joints * (GAP * self.scale) + beside * thick
        row += edge * (thick / pitch)[:, None]
        return self._on_row(
            factors[:, None],
            row,
            along,
            (Axes(*(turn[:, None] for turn in turned)), (step_x[:, None], step_y[:, None])),
        )

    def _on_row(
        self, factors: NDArray[np.void], row: NDArray[Any], along: Floats, steps: Steps
    ) -> tuple[Floats, Floats]:
        """Points at so many pixels from the middle of a row."""
        turned, (step_x, step_y) = steps
        number = row - (self.values["rows"] - 1.0) / 2.0
        x = self.px(factors["x"]) + along * turned.ux + number * step_x
        y = self.px(factors["y"]) + along * turned.uy + number * step_y
        return x, y

    def _steps(self, factors: NDArray[np.void]) -> Steps:
        """The turn of the rows, and the step from row to row, in whole pixels of this frame."""
        turned = self.turned(factors)
        pitch = self.values["pitch"]
        return turned, (self.snapped(-pitch * turned.uy), self.snapped(pitch * turned.ux))

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        curve, other, bead, second = objects
        return curve | other | bead | second

    def read(self, images: Pixels) -> dict[str, Ints]:
        """By connected parts: whether the two thickest places are on one. From 72 px on."""
        radius = BEAD * self.scale + 0.25
        side = np.arange(-int(radius), int(radius) + 1)
        disc = (np.hypot(side, side[:, None]) <= radius).astype(np.float32)
        return {"curve": np.array([_on_two_curves(ink, disc) for ink in inked(images)], np.int64)}


def _on_two_curves(ink: NDArray[np.bool_], disc: NDArray[np.float32]) -> bool:
    curves = cv2.connectedComponents(ink.astype(np.uint8), connectivity=8)[1]
    thick = cv2.filter2D(ink.astype(np.float32), -1, disc, borderType=cv2.BORDER_CONSTANT)
    found = []
    for _ in range(2):
        y, x = np.unravel_index(np.argmax(thick), thick.shape)
        found.append(curves[y, x])
        reach = len(disc)
        thick[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1] = 0.0
    return bool(found[0] != found[1])
