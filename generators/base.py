"""Generator: factors first, then pixels that are a pure function of them.

Who adds one declares its tables and writes four methods: `labels`, `law`, `outlines` and `ink`, and a fifth, `read`,
where no local statistic is to suffice (`generators.certify`). All else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from generators import photometry, planes, raster
from generators.coverage import Outline, coverage
from generators.factors import Factor, dtype_of, on_grid
from generators.parameters import Parameter, resolve
from generators.planes import Band
from generators.random import Draws
from generators.raster import Axes, Floats, Ints, Layer, Pixels
from generators.shapes import Shape, holes, parts, same

BASE_SIZE = 128  # ConRec paper, figure 4: the published frames
MIN_SIZE, MAX_SIZE = 16, 1024
CHUNK_PIXELS = 3 << 23  # rendered at a time, and at most so many images: 1536 frames of 128 px. Of fewer, each call of
CHUNK_IMAGES = 1536  # NumPy's costs more than what it does; grey edges, in eight bytes a pixel, want an eighth
NOISE_COLUMN = 0  # the laws of the generators begin at column 1
OTHER_NOISE = 0x9E3779B9  # odd, so that its multiples differ: flips bits of the key of a counterfactual's own noise


def frame(size: int) -> int:
    """The side of a frame in px; a ValueError for one that is not whole, or out of range."""
    if not MIN_SIZE <= size <= MAX_SIZE or size != int(size):
        raise ValueError(f"expected a size from {MIN_SIZE} to {MAX_SIZE} px, found {size}; type --size 128")
    return int(size)


@dataclass(frozen=True)
class Rendered:
    """Images uint8 `[n, H, W]` and masks uint8 `[n, H, W]`; bit k is mask_names[k]."""

    images: Pixels
    masks: Pixels


class Generator(ABC):
    """A family of parametrised images.

    Declared by each: its name; what it is about, in one line; the classes; the objects that its outlines are of; the
    factors, one called "angle" and `NOISE_KEY` among them; the parameters, with `COMMON` among them; and how many
    images there are in train and test unless somebody says otherwise.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    objects: ClassVar[tuple[str, ...]]
    factors: ClassVar[tuple[Factor, ...]]
    parameters: ClassVar[tuple[Parameter, ...]]
    default_n: ClassVar[int]
    default_n_test: ClassVar[int]
    together: ClassVar[np.ufunc | None] = None  # what makes the ink of all layers of all objects, if one function does
    draws_as: ClassVar[str] = ""  # whose random numbers it draws, if not those of its own name

    @abstractmethod
    def labels(self, factors: NDArray[np.void]) -> Ints:
        """Class indices `[n]`, a function of the class factors."""

    @abstractmethod
    def law(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """One column `[n]` for each factor but noise_key, from the columns of `draws` that begin at 1.

        Lengths are in px at 128, and what this returns must not depend on `size` without need.
        """

    @abstractmethod
    def outlines(self, factors: NDArray[np.void]) -> Sequence[Shape]:
        """The shape of each object, in pixels of this frame, the turn by "angle" included (`turned`, `placed`).

        For grey edges, objects that are ink do not overlap, and one that is cut out lies within one that is ink.
        """

    @abstractmethod
    def ink(self, objects: Sequence[Pixels]) -> Pixels:
        """Which pixels are ink, given which ones each object holds: a formula of `&`, `|`, `^` and `~` alone.

        It is asked of uint8 arrays of one shape whose every bit is a picture of its own.
        """

    def read(self, images: Pixels) -> dict[str, Ints]:
        """The ideal reader: class factors `[n]` by name, from the pixels alone, without a trained part.

        It knows the settings, and gets images uint8 `[n, H, W]` without noise and blur. A class factor that is not
        named cannot be certified as a whole.
        """
        return {}

    def __init__(self, *, size: int = BASE_SIZE, parameters: Mapping[str, float] = {}) -> None:
        """Check and keep the settings.

        Args:
            size: side of the frame, 16 to 1024 px.
            parameters: by name; those not named keep their defaults. All of them are then in `values`.

        Raises:
            ValueError: a size or parameter that does not exist or is out of range, or ink that cannot be seen.
        """
        self.size = frame(size)
        self.scale = size / BASE_SIZE
        self.values = resolve(self.parameters, parameters, self.name)
        photometry.check_ink(self.values)
        self.class_factors = tuple(f.name for f in self.factors if f.kind == "class")
        self.mask_names = self.objects + tuple(f"evidence:{name}" for name in self.class_factors)

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """What there is to know before a sample is drawn, as plain JSON values."""
        return {
            "name": cls.name,
            "about": cls.about,
            "classes": list(cls.classes),
            "objects": list(cls.objects),
            "factors": [asdict(factor) for factor in cls.factors],
            "parameters": [asdict(parameter) for parameter in cls.parameters],
            "default_n": cls.default_n,
            "default_n_test": cls.default_n_test,
        }

    @classmethod
    def dtype(cls) -> np.dtype[np.void]:
        """The type of the factors: class uint8, key uint32, all others float32."""
        return dtype_of(cls.factors)

    def sample(self, seed: int, split: str, index: NDArray[np.int64]) -> NDArray[np.void]:
        """The factors of samples `index`, a structured array `[n]`.

        Sample i depends on (seed, split, i, size, parameters) alone. No nuisance but `rotation` touches the factors.

        Raises:
            ValueError: a seed outside [0, 2**64) or a negative index.
        """
        draws = Draws(seed, domain=f"{self.draws_as or self.name}/{split}", index=index)
        columns = {**self.law(draws), "noise_key": draws.word(NOISE_COLUMN)}
        factors = np.zeros(len(draws.index), self.dtype())
        for factor in self.factors:
            values = columns[factor.name]
            exact = factor.kind in ("class", "key")
            factors[factor.name] = values if exact else on_grid(values)
        return factors

    def counterfactual(self, factors: NDArray[np.void], name: str, value: int | None = None) -> NDArray[np.void]:
        """Copies of the factors in which one class factor has another value, and all else is as it was.

        Args:
            factors: Factors of the samples, structured `[n]`.
            name: A class factor.
            value: Its new value; None is the other one of two: 0 and 1, 2 and 3.

        Raises:
            ValueError: `name` is not a class factor, or has no such value.
        """
        if name not in self.class_factors:
            raise ValueError(
                f"expected a class factor of {self.name} ({', '.join(self.class_factors)}), found '{name}'"
            )
        values = next(factor.values for factor in self.factors if factor.name == name)
        if value is not None and not 0 <= value < len(values):
            raise ValueError(f"expected a value of {name} from 0 to {len(values) - 1}, found {value}")
        changed = factors.copy()
        changed[name] = factors[name] ^ 1 if value is None else value
        if self.values.get("independent_noise"):
            number = self.class_factors.index(name) + 1
            changed["noise_key"] ^= np.uint32(number * OTHER_NOISE & 0xFFFFFFFF)
        return changed

    def render(self, factors: NDArray[np.void]) -> Rendered:
        """Draw samples: a pure function of the factors and the settings.

        Evidence masks hold the pixels that differ between a sample and its counterfactual before contrast, blur and
        noise. Object masks hold pixel centres, antialiased or not.
        """
        masks = np.empty((len(factors), self.size, self.size), np.uint8)
        return Rendered(self._rendered(factors, masks), masks)

    def render_images(self, factors: NDArray[np.void]) -> Pixels:
        """The images of `render` alone, uint8 `[n, H, W]`, in less time."""
        return self._rendered(factors, None)

    def _rendered(self, factors: NDArray[np.void], masks: Pixels | None) -> Pixels:
        images = np.empty((len(factors), self.size, self.size), np.uint8)
        pixels = CHUNK_PIXELS // 8 if self.values.get("antialias") else CHUNK_PIXELS
        step = max(1, min(CHUNK_IMAGES, pixels // self.size**2))
        for begin in range(0, len(factors), step):
            part = slice(begin, begin + step)
            self._draw(factors[part], images[part], None if masks is None else masks[part])
            photometry.expose(images[part], factors["noise_key"][part], self.values, scale=self.scale)
        return images

    def _draw(self, factors: NDArray[np.void], images: Pixels, masks: Pixels | None) -> None:
        """Bit 0 of what is drawn is the scene itself, bit k the counterfactual of class factor k - 1."""
        scenes = [self.outlines(factors)]
        if masks is not None:
            scenes += [self.outlines(self.counterfactual(factors, name)) for name in self.class_factors]
        grey = [self._grey(scene) for scene in scenes] if self.values.get("antialias") else []
        if grey and masks is None:
            images[...] = grey[0]
            return
        layers = [_layers(shapes, self.size) for shapes in zip(*scenes, strict=True)]
        together = self.together if masks is None else None
        if together:
            layers = [[layer for held in layers for layer in held]]
        rows = planes.band([spans for held in layers for spans, _ in held], len(factors), self.size)
        objects = [self.paint(factors, k, held, len(scenes), rows) for k, held in enumerate(layers)]
        if not grey:
            ink = objects[0] if together else self.ink(objects)
            planes.unpack([(ink[0], 255)], rows, images)
        if masks is None:
            return
        held = [(drawn[0], 1 << k) for k, drawn in enumerate(objects)]
        if grey:
            images[...] = grey[0]
            planes.unpack(held, rows, masks)
            for k, other in enumerate(grey[1:], len(held)):
                masks |= (other != grey[0]).astype(np.uint8) << k
        else:
            ink[1:] ^= ink[0]
            planes.unpack(held + [(changed, 1 << k) for k, changed in enumerate(ink[1:], len(held))], rows, masks)

    def paint(
        self, factors: NDArray[np.void], number: int, layers: Sequence[tuple[Layer, int]], bits: int, rows: Band
    ) -> Pixels:
        """The planes of object `number`, one for each version of the scene (`planes.draw`)."""
        together = self.together or np.bitwise_xor
        return planes.draw(f"object {number}", layers, bits, len(factors), self.size, rows, together)

    def _grey(self, scene: Sequence[Shape]) -> Pixels:
        """The covered share of each pixel, 0 to 255; what is no ink on its own is cut out."""
        outlines = []
        for k, shape in enumerate(scene):
            alone = [np.array([other == k], np.uint8) for other in range(len(scene))]
            sign = 1 if self.ink(alone)[0] & 1 else -1
            outlines += [Outline(part.vertices(self.size), sign) for part in parts(shape)]
            outlines += [Outline(hole.vertices(self.size), -sign) for hole in holes(shape)]
        return np.rint(coverage(outlines, self.size) * 255.0).astype(np.uint8)

    def px(self, lengths: NDArray[Any]) -> Floats:
        """Lengths `[n]` in px at 128, a column of the factors, say, as pixels of this frame."""
        return lengths.astype(np.float64) * self.scale

    def snapped(self, lengths: NDArray[Any]) -> Floats:
        """Lengths `[n]` in px at 128, in whole pixels of this frame: copies of a shape so far apart look alike."""
        rounded: Floats = np.rint(self.px(lengths))
        return rounded

    def turned(self, factors: NDArray[np.void]) -> Axes:
        """The turn of the scene, by "angle" about the middle of the frame."""
        return raster.axes(factors["angle"].astype(np.float64))

    def placed(self, turned: Axes, x: NDArray[Any], y: NDArray[Any]) -> tuple[Floats, Floats]:
        """Points `[n]` of the scene in px at 128, after the turn and in pixels of this frame."""
        middle = self.size / 2.0
        dx, dy = turned.turn(self.px(x) - middle, self.px(y) - middle)
        return middle + dx, middle + dy


def _layers(versions: Sequence[Shape], size: int) -> list[tuple[Layer, int]]:
    """The pixels of each part of an object that is not as another, with bit k set if it is a part of version k."""
    found: list[tuple[Shape, int]] = []
    for k, shape in enumerate(versions):
        earlier = len(found)
        for part in (*parts(shape), *holes(shape)):
            place = next((i for i, (known, _) in enumerate(found[:earlier]) if same(part, known)), len(found))
            found[place:] = [(part, (found[place][1] if place < len(found) else 0) | 1 << k), *found[place + 1 :]]
    return [(spans, bits) for shape, bits in found for spans in shape.layers(size)]
