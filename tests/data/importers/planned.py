"""What a miniature copy of an official dataset is made of: small photographs, drawn arrays, and the plan of them all.

A photograph has its own colour above and is dark below, so that its place in the dataset file, its colour channels and
its orientation can be told from its pixels. Images in arrays are drawn likewise, and brighter on the left.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 40, 30
DARK = 12
KINDS = ("plain", "grey", "cmyk", "exif", "broken")
Colour = tuple[int, int, int]


@dataclass
class Shot:
    """A planned image: its label in the dataset file, and the colour of its upper half."""

    label: Any
    colour: Colour


@dataclass
class Plan:
    """What the dataset file must hold."""

    root: Path  # the archive's top folder
    above: tuple[Path, ...]  # other folders that must do as ROOT
    splits: dict[str, list[Shot]]
    names: dict[int, str]  # of some classes
    broken: str  # the path of the broken image; empty where images lie in arrays
    n_classes: int
    pixels: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)  # of each image in an array, as drawn
    beside: dict[str, list[Shot]] = field(default_factory=dict)  # images that an option takes


class Camera:
    """Takes photographs: each call writes a file, and plans it if it can be read."""

    def __init__(self, *, banner: int = 0, png: bool = False) -> None:
        self.banner, self.png = banner, png
        self.taken = 0
        self.broken = ""

    def shoot(self, path: Path, label: Any, split: list[Shot], key: str = "") -> None:
        number, kind = self.taken, KINDS[self.taken] if self.taken < len(KINDS) else "plain"
        self.taken += 1
        colour = (30 + number * 37 % 200, 30 + number * 91 % 200, 30 + number * 53 % 200)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "grey":
            colour = (colour[0],) * 3
        picture = Image.fromarray(scene(colour, self.banner))
        if kind == "broken":
            path.write_bytes(b"\xff\xd8 this was a photograph")
            self.broken = key or path.name
            return
        if kind == "grey":
            picture = picture.convert("L")
        if self.png:
            picture.save(path, format="png")
        elif kind == "cmyk":
            picture.convert("CMYK").save(path, format="jpeg", quality=95)
        elif kind == "exif":
            exif = Image.Exif()
            exif[0x0112] = 6  # to be turned clockwise
            picture.transpose(Image.Transpose.ROTATE_90).save(path, format="jpeg", quality=95, exif=exif.tobytes())
        else:
            picture.save(path, format="jpeg", quality=95)
        split.append(Shot(label, colour))


def scene(colour: Colour, banner: int) -> NDArray[np.uint8]:
    """uint8 `[H + banner, W, 3]`; a banner is white."""
    pixels = np.full((HEIGHT + banner, WIDTH, 3), DARK, np.uint8)
    pixels[: HEIGHT // 2] = colour
    pixels[HEIGHT:] = 255
    return pixels


class Drawer:
    """Draws images for arrays, `[side, side]` or RGB `[side, side, 3]`, and plans them."""

    def __init__(self, side: int, *, grey: bool = False) -> None:
        self.side, self.grey = side, grey
        self.splits: dict[str, list[Shot]] = {}
        self.pixels: dict[str, list[NDArray[np.uint8]]] = {}

    def draw(self, split: str, labels: list[Any]) -> NDArray[np.uint8]:
        """An image for each label, added to a split."""
        drawn = []
        for label in labels:
            number = sum(map(len, self.splits.values()))
            red = 40 + number * 37 % 180
            colour = (red,) * 3 if self.grey else (red, 40 + number * 91 % 180, 40 + number * 53 % 180)
            image = np.full((self.side, self.side, 3), DARK, np.int64)
            image[: self.side // 2] = colour
            image += np.where(np.arange(self.side) < self.side // 2, 9, -9)[None, :, None]
            pixels = image.astype(np.uint8)[..., 0] if self.grey else image.astype(np.uint8)
            self.splits.setdefault(split, []).append(Shot(label, colour))
            self.pixels.setdefault(split, []).append(pixels)
            drawn.append(pixels)
        return np.stack(drawn)

    def plan(self, root: Path, n_classes: int, names: dict[int, str], above: tuple[Path, ...] = ()) -> Plan:
        return Plan(root, above, self.splits, names, "", n_classes, self.pixels)


def cells(texts: list[str]) -> NDArray[Any]:
    """A MATLAB cell array, one text a row."""
    array = np.empty((len(texts), 1), object)
    array[:, 0] = texts
    return array


def structs(rows: list[dict[str, Any]]) -> NDArray[Any]:
    """A MATLAB structure array, 1 x N."""
    array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row.values())
    return array
