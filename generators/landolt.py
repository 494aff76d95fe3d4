"""landolt: a ring with an opening to the right, the top, the left or the bottom.

The Landolt ring of ISO 8596: the outer diameter is 5 gaps, the stroke is 1 gap, and the opening has parallel sides 1
gap apart. Label = opening. All openings are one ring in quarter turns about its middle, so all have the same ink on
average; place and gap follow the same laws in all classes. The counterfactual goes from right to up and from left to
down, and back: mirror images (right and left) would ask whether an encoder was trained under flips
(`counterfactual(..., value)` makes them). Local: a patch at the opening has the answer. Fractions of a pixel show
with `antialias` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generators import raster, reading
from generators.base import Generator
from generators.coverage import arc_steps, place
from generators.factors import ANGLE, NOISE_KEY, Factor
from generators.parameters import ANTIALIAS, PHOTOMETRY, Parameter
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Layer, Pixels, axes
from generators.shapes import Shape

OUTER, INNER, HALF = 2.5, 1.5, 0.5  # radii of the ring and half the opening, in gaps (ISO 8596)
OPENING, MOMENT = 1.01149, 2.0  # area that the opening takes, in gaps**2, and its moment about the middle, in gaps**3
MARGIN = 1.0  # px between ring and frame


class Ring(NamedTuple):
    """Rings about (x, y) that are open towards `turned`, with openings `gap` wide."""

    x: Floats
    y: Floats
    turned: Axes
    gap: Floats

    def layers(self, size: int) -> list[Layer]:
        """As of every `Shape`: outer and inner disc, and the strip that the opening is of."""
        outer, inner = (raster.disc(self.x, self.y, radius * self.gap, size) for radius in (OUTER, INNER))
        along, half = OUTER * self.gap, HALF * self.gap  # half the strip: it is longer than need be
        down, aside = along * self.turned.uy, half * abs(self.turned.ux)
        ends = self.y + np.minimum(down, 0.0) - aside, self.y + np.maximum(down, 0.0) + aside
        x = self.x + along * self.turned.ux
        return [outer, inner, raster.box(x, self.y + down, self.turned, along, half, size, ends)._replace(cut=True)]

    def vertices(self, size: int) -> Floats:
        """As of every `Shape`: round the outside, and back round the inside."""
        steps = np.linspace(-1.0, 1.0, 8 * arc_steps(size / 2.0))
        arcs = []
        for radius, way in ((OUTER, 1.0), (INNER, -1.0)):
            angle = np.pi + (np.pi - np.arcsin(HALF / radius)) * way * steps
            arcs.append(radius * np.stack((np.cos(angle), np.sin(angle)), axis=1))
        return place(np.concatenate(arcs) * self.gap[:, None, None], self.x, self.y, self.turned)


class Landolt(Generator):
    """A ring that is open on one of four sides."""

    name = "landolt"
    about = "fine-grained: the side on which a Landolt ring is open"
    classes = ("right", "up", "left", "down")
    objects = ("ring",)
    default_n, default_n_test = 1000, 500  # own choice: those of rect-tri
    factors = (
        Factor("opening", "class", 0, 3, "", "balanced", "side of the opening", classes),
        ANGLE,
        Factor("gap", "real", 0.7, 22.7, "px at 128", "log-uniform about the parameter", "width of opening and stroke"),
        Factor("x", "real", 4, 124, "px at 128", "uniform in a disc", "middle of the ring, before the turn"),
        Factor("y", "real", 4, 124, "px at 128", "uniform in a disc", "middle of the ring, before the turn"),
        NOISE_KEY,
    )
    parameters = (
        Parameter(
            "gap", 6.0, 1.0, 16.0, "px at 128", "difficulty", "width of the opening; the ring is 5 times as wide"
        ),
        Parameter("gap_ratio", 1.0, 1.0, 2.0, "ratio", "nuisance", "of the widest opening to the narrowest"),
        Parameter("place", 30.0, 0.0, 60.0, "px at 128", "nuisance", "farthest from the middle, if the frame holds it"),
        # A turn by 45 degrees would stand between two answers.
        Parameter("rotation", 0.0, 0.0, 20.0, "deg", "nuisance", "largest turn of the scene"),
        *PHOTOMETRY,
        ANTIALIAS,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        return factors["opening"].astype(np.int64)

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Places in a disc, so that a turn of the scene keeps their law."""
        gap = self.values["gap"] * self.values["gap_ratio"] ** draws.uniform(1, -0.5, 0.5)
        away = np.minimum(self.values["place"], 64.0 - MARGIN - OUTER * gap) * np.sqrt(draws.uniform(2))
        direction = draws.uniform(3, 0.0, 2.0 * np.pi)
        return {
            "opening": draws.balanced(4),
            "angle": draws.uniform(4, -1.0, 1.0) * self.values["rotation"],
            "gap": gap,
            "x": 64.0 + away * np.cos(direction),
            "y": 64.0 + away * np.sin(direction),
        }

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """The ring."""
        turned = self.turned(factors)
        x, y = self.placed(turned, factors["x"], factors["y"])
        return [Ring(x, y, turned.quarters(factors["opening"]), self.px(factors["gap"]))]

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        return objects[0]

    def read(self, images: Pixels) -> dict[str, Ints]:
        """The opening whose ring of this ink and centre of mass is nearest.

        Always right from gaps of 2 pixels of the frame on, of 1 pixel with grey edges.
        """
        share = reading.ink(images)
        gap = np.sqrt(share.sum(axis=(1, 2)) / (np.pi * (OUTER**2 - INNER**2) - OPENING))
        x, y = reading.middle(share)
        turns = axes(90.0 * np.arange(4.0))
        off = MOMENT / (np.pi * (OUTER**2 - INNER**2) - OPENING) * gap
        apart = [
            ((share - _ring(x + off * ux, y + off * uy, gap, ux, uy, self.size)) ** 2).sum(axis=(1, 2))
            for ux, uy in zip(*turns, strict=True)
        ]
        return {"opening": np.argmin(apart, axis=0)}


def _ring(x: Floats, y: Floats, gap: Floats, ux: float, uy: float, size: int) -> Floats:
    """About how much of each pixel a ring about (x, y) covers that is open towards (ux, uy), `[n, size, size]`."""
    pixel = np.arange(size) + 0.5
    dx, dy = (pixel - x[:, None])[:, None, :], (pixel - y[:, None])[:, :, None]
    width = gap[:, None, None]
    stroke = abs(np.hypot(dx, dy) - 2.0 * width) - HALF * width
    opening = np.maximum(abs(ux * dy - uy * dx) - HALF * width, -ux * dx - uy * dy)
    return np.clip(0.5 - np.maximum(stroke, -opening), 0.0, 1.0)
