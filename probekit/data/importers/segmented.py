"""Photographs with a picture of their segments beside them, whose values say what each pixel belongs to."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from probekit.data.importers.base import Broken, file_stamp, read_bytes
from probekit.data.importers.images import File
from probekit.visible import one_line

UNKNOWN = np.uint32(2**32 - 1)
Box = tuple[int, int, int, int]  # x0, y0, x1 and y1 in pixels, the last two outside


@dataclass(frozen=True, slots=True)
class Segments:
    """What the values of a picture mean.

    `name`: what it is called, in messages; `names`: of the masks; `bits`: of the masks `[256]`, for each value;
    `values`: those that there may be, in words; `palette`: whether a picture with a palette is meant, whose numbers are
    the values.
    """

    name: str
    names: tuple[str, ...]
    values: str
    bits: NDArray[np.uint32] = field(compare=False)
    palette: bool = False

    @classmethod
    def of(cls, name: str, names: tuple[str, ...], values: str, known: Mapping[int, int], **how: Any) -> "Segments":
        """`known`: the mask that a value is in by its number; -1 for values in none."""
        bits = np.full(256, UNKNOWN)
        for value, mask in known.items():
            bits[value] = 0 if mask < 0 else 1 << mask
        return cls(name, names, values, bits, **how)

    def read(self, data: bytes) -> NDArray[np.uint8]:
        """The values `[H, W]`; a Broken if it is no such picture."""
        other = f"its {self.name} is no {'image of a palette, or grey one' if self.palette else 'grey image'} of 8 bits"
        try:
            with Image.open(io.BytesIO(data)) as opened:
                if opened.mode not in (("P", "L", "1") if self.palette else ("L", "LA")):
                    raise Broken(other)
                values = np.asarray(opened if self.palette else opened.convert("L"), np.uint8)
        except Broken:
            raise
        except UnidentifiedImageError as error:
            raise Broken(other) from error
        except Exception as error:  # readers of damaged files raise what they felt first
            raise Broken(f"its {self.name} cannot be read: {one_line(error)}") from error
        return values


@dataclass(frozen=True, slots=True)
class Segmented(File):
    """A photograph with segments; without the file of them, `picture`, the masks are empty."""

    picture: str = ""
    segments: Segments | None = None

    def stamp(self) -> str:
        """Changes when either file does."""
        found = file_stamp(self.path)
        return found and f"{found} {file_stamp(self.picture)}"

    def masks(self, shape: tuple[int, int]) -> NDArray[np.uint32]:
        """`[H, W]`, bit k for `segments.names[k]`; a `Broken` if the picture is damaged or of another size."""
        assert self.segments is not None
        path = Path(self.picture)
        if not path.exists():
            return np.zeros(shape, np.uint32)
        try:
            values = self.segments.read(read_bytes(path))
        except Broken:
            raise
        except (OSError, ValueError) as error:
            raise Broken(f"its {self.segments.name} cannot be read: {error}") from error
        if values.shape != shape:
            sizes = " and ".join(f"{width}x{height}" for height, width in (values.shape, shape))
            raise Broken(f"its {self.segments.name} and the image have other sizes, {sizes}")
        masks: NDArray[np.uint32] = self.segments.bits[values]
        if (unknown := masks == UNKNOWN).any():
            raise Broken(f"its {self.segments.name} is not of {self.segments.values}, it has {values[unknown][0]}")
        return masks


@dataclass(frozen=True, slots=True)
class InBox(File):
    """A photograph whose object is known by its box."""

    box: Box = (0, 0, 0, 0)

    def stamp(self) -> str:
        """Changes when the file does, or its box."""
        found = file_stamp(self.path)
        return found and f"{found} {self.box}"

    def masks(self, shape: tuple[int, int]) -> NDArray[np.uint32]:
        """`[H, W]`, 1 in the box; a `Broken` if none of it is in the image."""
        x0, y0, x1, y1 = (max(0, end) for end in self.box)
        masks = np.zeros(shape, np.uint32)
        masks[y0:y1, x0:x1] = 1
        if not masks.any():
            raise Broken(f"its box {self.box} is outside the image of {shape[1]}x{shape[0]}")
        return masks


def numbered(names: tuple[str, ...]) -> Segments:
    """Pictures whose value k is in the k-th mask, and 0 in none; one name takes all that is not 0."""
    known = dict.fromkeys(range(1, 256), 0) if len(names) == 1 else {k + 1: k for k in range(len(names))}
    values = "any value" if len(names) == 1 else f"0 to {len(names)}"
    return Segments.of("mask", names, values, {0: -1, **known}, palette=True)


def with_segments(photo: File, picture: Path, segments: Segments) -> Segmented:
    """A photograph, with its picture of segments, if there is one."""
    return Segmented(photo.key, photo.label, photo.path, photo.banner, str(picture), segments)


def in_box(photo: File, box: Box) -> InBox:
    """A photograph, with the box of its object."""
    return InBox(photo.key, photo.label, photo.path, photo.banner, box)


def notes_on(splits: Mapping[str, Sequence[File]], where: Path, segments: Segments) -> list[str]:
    """A line on what has no masks; `where`: the folder of the pictures."""
    if not where.is_dir():
        return [f"no masks: the {segments.name}s are not in {where}"]
    photos: Iterable[File] = (photo for found in splits.values() for photo in found)
    known = [Path(photo.picture).exists() for photo in photos if isinstance(photo, Segmented)]
    missing = len(known) - sum(known)
    return [f"{missing:,} of {len(known):,} images have no {segments.name}: their masks are empty"] if missing else []
