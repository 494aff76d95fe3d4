"""scenes: several shapes of rect-tri, landolt and navon on one canvas, with the box and the mask of each.

For detection and segmentation: an image has from one to `most` objects, which do not overlap, each drawn by its own
generator in a frame of its own and put at whole pixels. Mask of an object: the first mask of its generator (the whole
rectangle with its triangle, the ring, the elements); box: the smallest around that. As a set it is no generator of
`GENERATORS`: an image has several objects and so no counterfactual, and no certificate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from generators import photometry
from generators.base import BASE_SIZE, MIN_SIZE, Generator, frame
from generators.landolt import Landolt
from generators.navon import Navon
from generators.parameters import PHOTOMETRY, Parameter, resolve
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels
from generators.rect_tri import RectTri

KINDS: tuple[type[Generator], ...] = (RectTri, Landolt, Navon)
# Of each kind: px a side of its frame for a px of the shape, and settings that let the shape fill it. Shapes of one
# size differ by up to two fifths, as their generators draw them.
FILLED: dict[str, tuple[float, dict[str, float]]] = {
    RectTri.name: (1.3, {}),
    Landolt.name: (1.6, {"gap": 16.0}),
    Navon.name: (1.9, {"element_radius": 6.0}),
}
MOST = 12  # objects
STEP = 4  # px: frames are multiples of it, so that few are made
TRIES = 24  # places that an object is tried at; it is left out if others are at each
APART = 2  # px between the boxes of two objects


@dataclass(frozen=True)
class Placed:
    """An object of an image: its class, the place of the upper left pixel of its mask, and the mask, `[h, w]`."""

    label: int
    x: int
    y: int
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), the smallest around the mask."""
        return self.x, self.y, self.x + self.mask.shape[1], self.y + self.mask.shape[0]


@dataclass(frozen=True)
class Drawn:
    """Images uint8 `[n, H, W]`, and the objects of each."""

    images: Pixels
    objects: list[list[Placed]]


class Scenes:
    """Several shapes on one canvas."""

    name: ClassVar[str] = "scenes"
    about: ClassVar[str] = "several shapes of rect-tri, landolt and navon, with boxes and masks: for detection"
    default_n: ClassVar[int] = 1000
    default_n_test: ClassVar[int] = 200
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("most", 5, 1, MOST, "", "difficulty", "objects of an image; from 1 to so many are drawn"),
        Parameter("smallest", 20.0, 12.0, 64.0, "px at 128", "difficulty", "size of the smallest objects, about"),
        Parameter("largest", 48.0, 12.0, 64.0, "px at 128", "difficulty", "size of the largest objects, about"),
        Parameter("fine", False, 0, 1, "bool", "difficulty", "12 classes, those of each kind, in place of 3 kinds"),
        *(parameter for parameter in PHOTOMETRY if parameter.name != "independent_noise"),  # no counterfactuals
    )

    def __init__(self, *, size: int = BASE_SIZE, parameters: Mapping[str, float] = {}) -> None:
        """As of a `Generator`; a ValueError also if the smallest objects would be larger than the largest."""
        self.size, self.scale = frame(size), size / BASE_SIZE
        self.values = resolve(self.parameters, parameters, self.name)
        smallest, largest = self.values["smallest"], self.values["largest"]
        if smallest > largest:
            raise ValueError(
                f"expected smallest of at most largest, {largest:g}, found {smallest:g}; "
                f"type --set smallest={largest:g}"
            )
        photometry.check_ink(self.values)
        self.mask_names = tuple(kind.name for kind in KINDS)
        self._frames: dict[tuple[int, int], Generator] = {}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of objects."""
        if not self.values["fine"]:
            return self.mask_names
        return tuple(f"{kind.name}, {name}" for kind in KINDS for name in kind.classes)

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """What there is to know before a sample is drawn, as plain JSON values; as of a generator."""
        return {
            "name": cls.name,
            "about": cls.about,
            "classes": [kind.name for kind in KINDS],
            "objects": [kind.name for kind in KINDS],
            "factors": [],
            "parameters": [asdict(parameter) for parameter in cls.parameters],
            "default_n": cls.default_n,
            "default_n_test": cls.default_n_test,
        }

    def kind_of(self, label: int) -> int:
        """The kind of a class, its place in `KINDS`."""
        if not self.values["fine"]:
            return label
        ends = np.cumsum([len(kind.classes) for kind in KINDS])
        return int(np.searchsorted(ends, label, side="right"))

    def draw(self, seed: int, split: str, index: Ints) -> Drawn:
        """The samples `index`: sample i depends on (seed, split, i, size, parameters) alone.

        Raises:
            ValueError: a seed outside [0, 2**64) or a negative index.
        """
        index = np.asarray(index, np.int64)
        images = np.zeros((len(index), self.size, self.size), np.uint8)
        objects: list[list[Placed]] = [[] for _ in index]
        scenes = Draws(seed, domain=f"{self.name}/{split}", index=index)
        wanted = scenes.integer(1, 1, int(self.values["most"]))
        row = np.repeat(np.arange(len(index)), wanted)
        number = np.concatenate([np.arange(n) for n in wanted]) if len(index) else np.empty(0, np.int64)
        own = Draws(seed, domain=f"{self.name}/{split}/object", index=index[row] * MOST + number)
        places = np.stack([np.stack((own.uniform(2 + 2 * t), own.uniform(3 + 2 * t))) for t in range(TRIES)])
        for k, (label, ink, mask) in enumerate(self._shapes(seed, split, own)):
            found = self._place(places[:, :, k], mask, objects[row[k]])
            if found is not None:
                x, y = found
                objects[row[k]].append(Placed(label, x, y, mask))
                images[row[k], y : y + mask.shape[0], x : x + mask.shape[1]] |= ink
        photometry.expose(images, scenes.word(0).astype(np.uint32), self.values, scale=self.scale)
        return Drawn(images, objects)

    def masks(self, objects: list[Placed]) -> Pixels:
        """Which kinds each pixel is of, uint8 `[H, W]`: bit k is `mask_names[k]`."""
        masks = np.zeros((self.size, self.size), np.uint8)
        for each in objects:
            x0, y0, x1, y1 = each.box
            masks[y0:y1, x0:x1] |= np.where(each.mask, 1 << self.kind_of(each.label), 0).astype(np.uint8)
        return masks

    def _shapes(self, seed: int, split: str, own: Draws) -> Iterator[tuple[int, Pixels, NDArray[np.bool_]]]:
        """Label, ink `[h, w]` and mask `[h, w]` of each object, cut to the smallest box around the mask."""
        kinds = own.integer(0, 0, len(KINDS) - 1)
        frames = self._sides(kinds, own.uniform(1))
        found: list[tuple[int, Pixels, NDArray[np.bool_]]] = [(0, _NOTHING, _NOTHING > 0)] * len(kinds)
        for kind, side in sorted(set(zip(kinds.tolist(), frames.tolist(), strict=True))):
            rows = np.flatnonzero((kinds == kind) & (frames == side))
            drawer = self._drawer(kind, side)
            factors = drawer.sample(seed, f"{self.name}/{split}", own.index[rows])
            drawn, labels = drawer.render(factors), drawer.labels(factors)
            first = sum(len(each.classes) for each in KINDS[:kind])
            for place, image, mask, label in zip(rows, drawn.images, drawn.masks & 1, labels, strict=True):
                box = _around(mask)
                found[place] = (first + int(label) if self.values["fine"] else kind, image[box], mask[box] > 0)
        yield from found

    def _sides(self, kinds: Ints, uniform: Floats) -> Ints:
        """Px a side of the frame of each object: sizes are uniform in their logarithm."""
        smallest, largest = self.values["smallest"], self.values["largest"]
        sizes = smallest * (largest / smallest) ** uniform * self.scale
        ratio = np.array([FILLED[kind.name][0] for kind in KINDS])
        frames = np.rint(sizes * ratio[kinds] / STEP) * STEP
        sides: Ints = np.clip(frames, MIN_SIZE, self.size).astype(np.int64)
        return sides

    def _drawer(self, kind: int, side: int) -> Generator:
        if (kind, side) not in self._frames:
            self._frames[kind, side] = KINDS[kind](size=side, parameters=FILLED[KINDS[kind].name][1])
        return self._frames[kind, side]

    def _place(self, tries: Floats, mask: NDArray[np.bool_], others: list[Placed]) -> tuple[int, int] | None:
        """The first of some places `[t, 2]`, uniform in (0, 1), where an object is clear of others, or None."""
        height, width = mask.shape
        for across, down in tries:
            x, y = int(across * (self.size - width + 1)), int(down * (self.size - height + 1))
            if all(_apart((x, y, x + width, y + height), other.box) for other in others):
                return x, y
        return None


_NOTHING = np.empty((0, 0), np.uint8)


def _around(mask: Pixels) -> tuple[slice, slice]:
    """The rows and columns of the smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _apart(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Whether two boxes are `APART` pixels apart."""
    return (
        one[0] - APART >= other[2]
        or other[0] - APART >= one[2]
        or one[1] - APART >= other[3]
        or other[1] - APART >= one[3]
    )
