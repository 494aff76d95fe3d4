"""Factor, Dial, Generator: factors first, then pixels that are a pure function of them.

Lengths and positions among the factors are in px at 128: pixels of a 128 px frame, with the
middle of the frame at (64, 64); a frame of another size scales them. Real factors are stored as
float32 multiples of 1/4096, so that what is stored is exactly what is drawn.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from generators import photometry
from generators.coverage import Outline, coverage
from generators.random import Draws
from generators.raster import Floats, Ints, Pixels

BASE_SIZE = 128  # ConRec paper, figure 4: the published frames
MIN_SIZE, MAX_SIZE = 16, 1024
STYLES = ("clean", "paper")
GRID = 4096.0  # steps per px at 128 of stored lengths
CHUNK_PIXELS = 1 << 21  # rendered at a time: 128 frames of 128 px stay in the cache
NOISE_COLUMN = 0  # the laws of the generators begin at column 1


@dataclass(frozen=True)
class Factor:
    """A number that is stored for each sample.

    kind: class (what labels are made of), real, circular (degrees; low and high are the same
    point only if they are 360 apart), ordinal, or key (a random word: not a thing to predict).
    low, high: the range at 128 px, both included. The paper's integers at other sizes may
    pass it by one pixel of that frame. values: the names of the values of a class factor.
    """

    name: str
    kind: str
    low: float
    high: float
    unit: str
    law: str
    about: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dial:
    """A setting that holds for a whole data set.

    role: difficulty (geometry of the classes), nuisance, or drawing. bool dials are 0 or 1.
    """

    name: str
    default: float | bool
    low: float
    high: float
    unit: str
    role: str
    about: str


@dataclass(frozen=True)
class Rendered:
    """Images uint8 `[n, H, W]` and masks uint8 `[n, H, W]`; bit k is mask_names[k]."""

    images: Pixels
    masks: Pixels


COMMON_DIALS = (
    # Defaults: the published recipe, white on black, rotated by up to 90 degrees, nothing else.
    Dial("rotation", 90.0, 0.0, 180.0, "deg", "nuisance", "largest turn of the scene; style paper: whole degrees"),
    Dial("contrast", 1.0, 0.01, 1.0, "share", "nuisance", "ink: how far from background to white"),
    Dial("background", 0.0, 0.0, 0.95, "grey 0-1", "nuisance", "grey level of the background"),
    Dial("noise_sd", 0.0, 0.0, 0.5, "grey 0-1", "nuisance", "sd of Gaussian noise per pixel"),
    Dial("blur_sd", 0.0, 0.0, 8.0, "px at 128", "nuisance", "sd of Gaussian blur"),
    Dial("antialias", False, 0, 1, "bool", "drawing", "grey edges: exact area coverage"),
)
ANGLE = Factor("angle", "circular", -180.0, 180.0, "deg", "uniform within +-rotation", "turn of the scene")
NOISE_KEY = Factor("noise_key", "key", 0, 2**32 - 1, "", "uniform", "key of the pixel noise, if there is any")


class Generator(ABC):
    """A family of parametrised images. Subclasses give the tables, the laws and the drawing."""

    name: ClassVar[str]
    about: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    objects: ClassVar[tuple[str, ...]]
    factors: ClassVar[tuple[Factor, ...]]
    dials: ClassVar[tuple[Dial, ...]]
    default_n: ClassVar[int]
    default_n_test: ClassVar[int]
    class_factors: tuple[str, ...]
    mask_names: tuple[str, ...]
    params: dict[str, float | bool]

    def __init__(
        self,
        *,
        size: int = BASE_SIZE,
        style: str = "clean",
        params: Mapping[str, float | bool] = {},
    ) -> None:
        """Check and keep the settings.

        Args:
            size: side of the frame, 16 to 1024 px.
            style: "clean", or "paper" for the published recipe with its flaws.
            params: dials by name; those not named keep their defaults.

        Raises:
            ValueError: a size, style or dial that does not exist or is out of range, or a dial
                of geometry in style "paper", whose geometry is fixed.
        """
        if not MIN_SIZE <= size <= MAX_SIZE or size != int(size):
            raise ValueError(f"expected a size from {MIN_SIZE} to {MAX_SIZE} px, found {size}; type --size 128")
        if style not in STYLES:
            raise ValueError(f"expected style {' or '.join(STYLES)}, found '{style}'; type --style clean")
        self.size = int(size)
        self.style = style
        self.scale = size / BASE_SIZE
        self.params = {dial.name: dial.default for dial in self.dials}
        for name, value in params.items():
            self.params[name] = self._checked(name, value)
        self.class_factors = tuple(f.name for f in self.factors if f.kind == "class")
        self.mask_names = self.objects + tuple(f"evidence:{name}" for name in self.class_factors)

    def _checked(self, name: str, value: float | bool) -> float | bool:
        dials = {dial.name: dial for dial in self.dials}
        if name not in dials:
            near = difflib.get_close_matches(name, dials, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown dial '{name}' of {self.name}; known: {', '.join(dials)}; did you mean '{near}'?")
        dial = dials[name]
        known = f"expected {name} from {dial.low:g} to {dial.high:g} {dial.unit}"
        example = f"type --set {name}={str(dial.default).lower()}"
        if isinstance(dial.default, bool):
            if value not in (0, 1):
                raise ValueError(f"expected {name} true or false, found {value!r}; {example}")
            value = bool(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{known}, found {value!r}; {example}")
        elif not dial.low <= value <= dial.high:  # nan neither
            raise ValueError(f"{known}, found {value}; {example}")
        if self.style == "paper" and dial.role != "nuisance" and value != dial.default:
            raise ValueError(
                f"style paper draws the published geometry, so {name} stays at {dial.default};"
                " type --style clean to set it"
            )
        if self.style == "paper" and name == "rotation" and value % 1:
            raise ValueError(
                f"style paper turns by whole degrees: expected a whole rotation, found {value};"
                f" type --set rotation={round(value)}"
            )
        return value

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """What there is to know before a sample is drawn, as plain JSON values."""
        return {
            "name": cls.name,
            "about": cls.about,
            "classes": list(cls.classes),
            "objects": list(cls.objects),
            "factors": [asdict(factor) for factor in cls.factors],
            "dials": [asdict(dial) for dial in cls.dials],
            "styles": list(STYLES),
            "default_n": cls.default_n,
            "default_n_test": cls.default_n_test,
        }

    def sample(self, seed: int, split: str, index: NDArray[np.int64]) -> NDArray[np.void]:
        """The factors of samples `index`, a structured array `[n]`.

        Sample i depends on (seed, split, i, style, size, params) alone. In style "clean" no
        nuisance dial but `rotation` touches the factors, nor does size, but for what the text of
        a dial says of small frames.

        Raises:
            ValueError: a seed outside [0, 2**64) or a negative index.
        """
        draws = Draws(seed, domain=f"{self.name}/{split}", index=index)
        law = self._sample_paper if self.style == "paper" else self._sample_clean
        columns = law(draws)
        columns["noise_key"] = draws.word(NOISE_COLUMN)
        factors = np.zeros(len(draws.index), self.dtype())
        for factor in self.factors:
            values = columns[factor.name]
            exact = factor.kind in ("class", "key")
            factors[factor.name] = values if exact else on_grid(values)
        return factors

    @classmethod
    def dtype(cls) -> np.dtype[np.void]:
        """The type of the factors: class uint8, key uint32, all others float32."""
        kinds = {"class": "u1", "key": "u4"}
        return np.dtype([(f.name, kinds.get(f.kind, "f4")) for f in cls.factors])

    def render(self, factors: NDArray[np.void]) -> Rendered:
        """Draw samples: a pure function of the factors and the settings.

        Evidence masks hold the pixels that differ between a sample and its minimal pair before
        contrast, blur and noise. Object masks hold pixel centres, antialiased or not.
        """
        shape = (len(factors), self.size, self.size)
        images, masks = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        step = max(1, min(BASE_SIZE, CHUNK_PIXELS // self.size**2))
        for begin in range(0, len(factors), step):
            part = slice(begin, begin + step)
            self._render_chunk(factors[part], images[part], masks[part])
        return Rendered(images, masks)

    def _render_chunk(self, factors: NDArray[np.void], images: Pixels, masks: Pixels) -> None:
        if self.style == "paper":
            self._masks_paper(factors, masks)
        else:
            self._masks_clean(factors, masks)
        if self.params["antialias"]:
            self._antialias(factors, images, masks)
        else:
            self._ink(masks, images)
        background, contrast = float(self.params["background"]), float(self.params["contrast"])
        if (background, contrast) != (0.0, 1.0):
            photometry.set_levels(images, background=background, contrast=contrast)
        if self.params["blur_sd"]:
            photometry.blur(images, sd_px=float(self.params["blur_sd"]) * self.scale)
        if self.params["noise_sd"]:
            sd = float(self.params["noise_sd"])
            photometry.add_noise(images, factors["noise_key"], sd=sd)

    def _antialias(self, factors: NDArray[np.void], images: Pixels, masks: Pixels) -> None:
        """Replace images by grey coverage and the evidence bits by what differs in it."""
        images[...] = self._coverage(factors)
        masks &= np.uint8((1 << len(self.objects)) - 1)
        for bit, name in enumerate(self.class_factors, start=len(self.objects)):
            sibling = self._coverage(self.flip(factors, name))
            masks |= (images != sibling).astype(np.uint8) << np.uint8(bit)

    def _coverage(self, factors: NDArray[np.void]) -> Pixels:
        return np.rint(coverage(self._outlines(factors), self.size) * 255.0).astype(np.uint8)

    def flip(self, factors: NDArray[np.void], name: str) -> NDArray[np.void]:
        """The minimal pairs: copies of the factors in which one class factor is the other one.

        Raises:
            ValueError: `name` is not a class factor.
        """
        if name not in self.class_factors:
            raise ValueError(
                f"expected a class factor of {self.name} ({', '.join(self.class_factors)}), found '{name}'"
            )
        flipped = factors.copy()
        flipped[name] = 1 - factors[name]
        return flipped

    def px(self, factors: NDArray[np.void], name: str) -> Floats:
        """A factor in px at 128 as pixels of this frame, `[n]`."""
        return factors[name].astype(np.float64) * self.scale

    @abstractmethod
    def labels(self, factors: NDArray[np.void]) -> Ints:
        """Class indices `[n]`, a function of the class factors."""

    @abstractmethod
    def _sample_clean(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """One column `[n]` for each factor but noise_key."""

    @abstractmethod
    def _sample_paper(self, draws: Draws) -> dict[str, NDArray[Any]]:
        """The same by the published recipe."""

    @abstractmethod
    def _masks_clean(self, factors: NDArray[np.void], masks: Pixels) -> None:
        """Fill object and evidence bits of a chunk."""

    @abstractmethod
    def _masks_paper(self, factors: NDArray[np.void], masks: Pixels) -> None:
        """The same by the published recipe."""

    @abstractmethod
    def _ink(self, masks: Pixels, images: Pixels) -> None:
        """Set images to 255 where the object bits say ink, else 0."""

    @abstractmethod
    def _outlines(self, factors: NDArray[np.void]) -> list[Outline]:
        """The shapes of style "clean" as polygons, for antialiasing."""


def on_grid(values: NDArray[Any]) -> NDArray[np.float32]:
    """Round to multiples of 1/4096; float32 holds these exactly up to 4096."""
    return (np.rint(values * GRID) / GRID).astype(np.float32)


def whole(values: Floats) -> Ints:
    """Stored whole pixels of style "paper" back to integers."""
    return np.rint(values).astype(np.int64)


def off_centre(lengths: Floats) -> Floats:
    """Round lengths to odd multiples of 1/4096.

    Centres lie on multiples of 1/4096. So no side of an unrotated shape runs through pixel
    centres, where the last bit of a number would decide.
    """
    return (2.0 * np.floor(lengths * GRID / 2.0) + 1.0) / GRID
