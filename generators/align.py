"""align: whether three large marks are in a line, and whether small ones are mirrored at it.

Label = 2 * line + mirror. Three large marks stand on a line, or the middle one `offset` px beside it; pairs of small
marks are mirror images at the line through the outer two, or one of each pair is `offset` px away from its image. So a
counterfactual moves marks by whole pixels, each so far from the others and from the frame that a patch of 9 x 9 at
128 px sees one of them: both images hold the same patches, each as often (`generators.certify`), and no local statistic
has either answer. Places follow the same laws in all classes and are valid in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import reading
from generators.base import Generator
from generators.factors import ANGLE, NOISE_KEY, Factor
from generators.parameters import COMMON, Parameter
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Pixels, axes
from generators.shapes import Copied, Disc, Group, Shape, Sprites

STRAIGHT, MIRRORED = 0, 0
LARGE, SMALL = 4.1, 2.4  # px, radii of the marks: 49 and 21 pixels at 128 px, and within as many with grey edges
SIDE = 9.1  # px: of the patches that see one mark alone, and for the rounding of factors
NEAR, FAR = 34.0, 46.0  # px from the middle of the line to its ends
ACROSS, ALONG = 18.0, 10.0  # px from the middle of the frame to the line and, along it, to the middle mark, at most
PAIRS = 2  # a third may find no room beside them
TRIES = 2  # for a pair: most need no more


def _pair_factors(number: int) -> tuple[Factor, ...]:
    where = "uniform where it fits"
    return (
        Factor(f"across_{number}", "real", -64, 64, "px at 128", where, "from the line to one mark of a pair"),
        Factor(f"along_{number}", "real", -64, 64, "px at 128", where, "from the middle of the line to the pair"),
        Factor(f"towards_{number}", "circular", -180, 180, "deg", where, "where the other is moved if not mirrored"),
    )


class Align(Generator):
    """Marks that are in a line or not, mirrored or not."""

    name = "align"
    about = "holistic: whether three large marks are in a line, and small ones mirrored at it"
    classes = ("straight-mirrored", "straight-unlike", "bent-mirrored", "bent-unlike")
    objects = ("line", "pairs")
    default_n, default_n_test = 1000, 500  # own choice: those of rect-tri
    together = np.bitwise_xor
    factors = (
        Factor("line", "class", 0, 1, "", "balanced", "of the three large marks", ("straight", "bent")),
        Factor("mirror", "class", 0, 1, "", "balanced", "pairs of small marks", ("mirrored", "unlike")),
        ANGLE,
        Factor("x", "real", 46, 82, "px at 128", "uniform", "of the line, before the turn"),
        Factor("first", "real", -FAR, -NEAR, "px at 128", "uniform", "large mark along the line"),
        Factor("middle", "real", -ALONG, ALONG, "px at 128", "uniform", "large mark along the line"),
        Factor("last", "real", NEAR, FAR, "px at 128", "uniform", "large mark along the line"),
        Factor("shift", "real", -12, 12, "px at 128", "+-offset", "of the middle mark, across the line if it is bent"),
        *(factor for number in range(1, PAIRS + 1) for factor in _pair_factors(number)),
        NOISE_KEY,
    )
    parameters = (
        Parameter("offset", 8.0, 0.0, 12.0, "px at 128", "difficulty", "from the line, or from the mirror image"),
        Parameter("number", 2, 1, PAIRS, "", "difficulty", "of pairs"),
        *COMMON,
    )

    def labels(self, factors: NDArray[np.void]) -> Ints:
        labels: Ints = 2 * factors["line"].astype(np.int64) + factors["mirror"]
        return labels

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """The line, then one pair after the other where all its places are free."""
        label = draws.balanced(4)
        offset = self.values["offset"]
        angle = draws.uniform(1, -1.0, 1.0) * self.values["rotation"]
        columns = {
            "line": label // 2,
            "mirror": label % 2,
            "angle": angle,
            "x": draws.uniform(2, 64.0 - ACROSS, 64.0 + ACROSS),
            "first": draws.uniform(3, -FAR, -NEAR),
            "middle": draws.uniform(4, -ALONG, ALONG),
            "last": draws.uniform(5, NEAR, FAR),
            "shift": np.where(draws.uniform(6) < 0.5, -offset, offset),
        }
        zero = np.zeros(len(angle))
        taken = [(zero, columns[name], LARGE) for name in ("first", "middle", "last")]
        taken.append((columns["shift"], columns["middle"], LARGE))
        for number in range(1, PAIRS + 1):
            if number <= self.values["number"]:
                pair = self._pair(draws, number + 1, columns["x"] - 64.0, axes(angle), taken)
            else:
                pair = (zero, zero, zero)
            columns |= dict(zip((f.name for f in _pair_factors(number)), pair, strict=True))
            taken += [(across, along, SMALL) for across, along in _places(*pair, offset)]
        return columns

    def _pair(
        self, draws: Draws, group: int, middle: Floats, turned: Axes, taken: list[tuple[Floats, Floats, float]]
    ) -> tuple[Floats, Floats, Floats]:
        """Factors of a pair whose places, mirrored and moved, are in the frame and free.

        Args:
            draws: of the samples.
            group: of four columns.
            middle: of the line, `[n]` from that of the frame.
            turned: the turn of the scene.
            taken: places across and along the line, and radii of marks.
        """
        most, least = 64.0 - SIDE - SMALL, LARGE + SMALL + SIDE
        beside = abs(middle)
        longest = np.sqrt(most**2 - (least + beside) ** 2)
        x, y, radii = (np.stack(column) for column in zip(*taken, strict=True))
        seen = np.stack(turned.turn(x, y))  # [2, taken, n]
        gap = (radii + SMALL + SIDE)[:, None]

        def pair(u: Floats, rows: Ints) -> tuple[Floats, Floats, Floats]:
            along = (2.0 * u[0] - 1.0) * longest[rows]
            across = 2.0 * u[1] - 1.0  # there is room on both sides of the line
            across *= np.sqrt(most**2 - along**2) - beside[rows] - least
            return across + np.copysign(least, across), along, (2.0 * u[2] - 1.0) * 180.0

        def free(u: Floats, rows: Ints) -> NDArray[np.bool_]:
            places = np.stack(_places(*pair(u, rows), self.values["offset"]), axis=1)  # [2, 3, m]
            good: NDArray[np.bool_] = (places[0, 2] + middle[rows]) ** 2 + places[1, 2] ** 2 <= most**2
            turn = Axes(turned.ux[rows], turned.uy[rows])
            places = np.stack(turn.turn(*places))
            good &= (abs(places[:, 1:] - places[:, :1]).max(axis=0) >= 2.0 * SMALL + SIDE).all(axis=0)
            for k in range(3):  # of those that are left
                left = np.flatnonzero(good)
                away = abs(places[:, k].take(left, axis=1)[:, None] - seen.take(rows[left], axis=2))
                good[left] = (np.maximum(*away) >= gap).all(axis=0)
            return good

        return pair(draws.first_valid(group, free, at_first=TRIES), np.arange(len(middle)))

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """A group of large discs and one of small ones."""
        turned = self.turned(factors)
        zero = np.zeros(len(factors))
        shift = factors["shift"] * (factors["line"] != STRAIGHT)
        large_disc, small_disc = self.sprites
        line = (("first", zero), ("middle", shift), ("last", zero))
        large = [self._mark(factors, turned, across, factors[name], large_disc) for name, across in line]
        small = []
        for number in range(1, int(self.values["number"]) + 1):
            across, along, towards = (factors[f.name].astype(np.float64) for f in _pair_factors(number))
            one, image, moved = _places(across, along, towards, self.values["offset"])
            x, y = np.where(factors["mirror"] == MIRRORED, image, moved)
            small += [self._mark(factors, turned, *one, small_disc), self._mark(factors, turned, x, y, small_disc)]
        return [Group(tuple(large)), Group(tuple(small))]

    @cached_property
    def sprites(self) -> list[Sprites]:
        """The large disc and the small one."""
        half, radii = np.array([0.5]), np.array([[LARGE], [SMALL]]) * self.scale
        return [Sprites(Disc(half, half, radius), size=self.size) for radius in radii]

    def _mark(self, factors: NDArray[np.void], turned: Axes, across: Floats, along: Floats, sprites: Sprites) -> Copied:
        x, y = (np.floor(place) for place in self.placed(turned, factors["x"] + across, 64.0 + along))
        return Copied(sprites, np.zeros(len(x), np.int64), x, y)

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        line, pairs = objects
        return line | pairs

    def read(self, images: Pixels) -> dict[str, Ints]:
        """How far the middle of the three largest marks is from the line of the others, and small ones from images.

        Always right at 64 px and more for offsets of 4 pixels and more.
        """
        found = np.array([self._seen(share) for share in reading.ink(images)]).reshape(-1, 2)
        line, mirror = (found > self.values["offset"] * self.scale / 2.0).astype(np.int64).T
        return {"line": line, "mirror": mirror}

    def _seen(self, share: Floats) -> tuple[float, float]:
        places, amounts = reading.components(share)
        points = (places @ (1.0, 1.0j))[np.argsort(-amounts)]
        large, small = points[:3], points[3:]
        lengths = abs(large - np.roll(large, 1))
        middle = (lengths.argmax() + 1) % 3
        start, end = np.delete(large, middle)
        towards = (end - start) / abs(end - start)
        within = (points - start) / towards  # the line is the real axis
        small = within[3:]
        images = abs(small - small.conj()[:, None]).min(axis=0)
        return abs(float(within[middle].imag)), float(images.max(initial=0.0))


def _places(
    across: Floats, along: Floats, towards: Floats, offset: float
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], tuple[Floats, Floats]]:
    """The places of a pair: one mark, its mirror image, and where that is moved, across and along the line."""
    turn = axes(towards)
    return (across, along), (-across, along), (offset * turn.ux - across, along + offset * turn.uy)
