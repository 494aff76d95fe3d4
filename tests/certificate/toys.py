"""Generators of 48 px that tests draw with NumPy: sprites of 3 px, moved by whole pixels. They are in no table.

Where not said otherwise, no patch of 9 px holds pixels of two sprites, and all that hold a sprite's lie in the frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from generators import Factor, Generator
from generators.factors import ANGLE, NOISE_KEY
from generators.parameters import PHOTOMETRY
from generators.random import Draws
from generators.raster import Ints, Pixels
from generators.shapes import Shape

SIZE, FIRST, LAST = 48, 8, 20
HOOK = np.array(((255, 255, 255), (255, 0, 0), (255, 0, 0)), np.uint8)
STAIR = np.array(((255, 0, 0), (255, 255, 0), (0, 255, 255)), np.uint8)  # as much ink, and as wide and high
Sprites = Sequence[tuple[Pixels, int, int]]  # each with the row and the column of its top left


class Toy(Generator):
    """A class factor, a place, and whether there is one sprite more, which is of no class."""

    name = "toy"
    about = "sprites"
    classes: ClassVar[tuple[str, ...]] = ("no", "yes")
    objects = ("sprites",)
    default_n, default_n_test = 100, 50
    factors: ClassVar[tuple[Factor, ...]] = (
        Factor("which", "class", 0, 1, "", "balanced", "what differs", ("no", "yes")),
        ANGLE,
        Factor("x", "ordinal", FIRST, LAST, "px", "uniform", "a place"),
        Factor("y", "ordinal", FIRST, LAST, "px", "uniform", "a place"),
        Factor("more", "ordinal", 0, 1, "", "never", "a sprite more"),
        NOISE_KEY,
    )
    parameters = PHOTOMETRY

    def __init__(self, *, size: int = SIZE, parameters: Mapping[str, float] = {}, wrong: int = 0) -> None:
        """Its reader errs about so many images."""
        super().__init__(size=size, parameters=parameters)
        self.wrong = wrong
        self.known: dict[bytes, int] = {}

    def labels(self, factors: NDArray[np.void]) -> Ints:
        """The class factor, `[n]`."""
        labels: Ints = factors["which"].astype(np.int64)
        return labels

    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """Uniform places."""
        which = draws.balanced(len(self.classes))
        x, y = (draws.integer(column, FIRST, LAST) for column in (1, 2))
        return {"which": which, "angle": 0.0 * which, "x": x, "y": y, "more": self.extra(draws, which)}

    def extra(self, draws: Draws, which: Ints) -> Ints:
        """Whether there is a sprite more, `[n]`."""
        return 0 * which

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """What is drawn."""
        raise NotImplementedError

    def render_images(self, factors: NDArray[np.void]) -> Pixels:
        """Sprites on black."""
        images = np.zeros((len(factors), SIZE, SIZE), np.uint8)
        for image, row in zip(images, factors, strict=True):
            which, x, y, more = (int(row[name]) for name in ("which", "x", "y", "more"))
            for sprite, top, left in [*self.sprites(which, x, y), *[(HOOK, y + 12, x + 6)] * more]:
                image[top : top + 3, left : left + 3] |= sprite
        return images

    def read(self, images: Pixels) -> dict[str, Ints]:
        """Looks the image up among all that it draws."""
        if not self.known:
            places = range(FIRST, LAST + 1)
            rows = [*product(range(len(self.classes)), places, places, (0, 1))]
            every = np.zeros(len(rows), self.dtype())
            for name, column in zip(("which", "x", "y", "more"), zip(*rows, strict=True), strict=True):
                every[name] = column
            drawn = self.render_images(every)
            self.known = {image.tobytes(): row[0] for image, row in zip(drawn, rows, strict=True)}
        found = np.array([self.known[image.tobytes()] for image in images], np.int64)
        found[: self.wrong] ^= 1
        self.wrong = max(0, self.wrong - len(images))
        return {"which": found}

    def outlines(self, factors: NDArray[np.void]) -> list[Shape]:
        """None: it draws pixels."""
        raise NotImplementedError

    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        """None, as above."""
        raise NotImplementedError


class Swap(Toy):
    """Two sprites change places: the whole alone tells."""

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """Side by side."""
        left, right = (STAIR, HOOK) if which else (HOOK, STAIR)
        return [(left, y, x), (right, y, x + 12)]


class Crowd(Swap):
    """The same with a sprite more in 7 of 10 images of one class and in 3 of 10 of the other."""

    def extra(self, draws: Draws, which: Ints) -> Ints:
        """By chance."""
        more: Ints = (draws.uniform(3) < np.where(which == 1, 0.7, 0.3)).astype(np.int64)
        return more


class Near(Swap):
    """The same with sprites so near that patches of 9 px hold both, patches of 5 px one at most."""

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """4 px between them."""
        (left, top, x), (right, _, _) = super().sprites(which, x, y)
        return [(left, top, x), (right, top, x + 7)]


class Apart(Toy):
    """Two like sprites are nearer or farther apart: the bounding box tells, and nothing else."""

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """About one middle."""
        return [(HOOK, y, x + 2 - 2 * which), (HOOK, y, x + 13 + 2 * which)]


class Place(Toy):
    """A sprite is in the left or in the right half: pixels tell, and the bounding box."""

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """Alone."""
        return [(HOOK, y, FIRST + (x - FIRST) // 2 + 16 * which)]


class Thick(Toy):
    """A sprite has a pixel more or less: ink tells, and so does any bag."""

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """Alone."""
        more = np.zeros((3, 3), np.uint8)
        more[2, 2] = 255 * which
        return [(HOOK | more, y, x)]


class Four(Toy):
    """One sprite is above, right of, below or left of another: a factor of four values."""

    classes = ("above", "right", "below", "left")
    factors = (Factor("which", "class", 0, 3, "", "balanced", "where", classes), *Toy.factors[1:])

    def sprites(self, which: int, x: int, y: int) -> Sprites:
        """11 px away."""
        down, right = ((-11, 0), (0, 11), (11, 0), (0, -11))[which]
        x, y = (20 + (place - FIRST) // 2 for place in (x, y))
        return [(HOOK, y, x), (STAIR, y + down, x + right)]
