"""Rows of images, some with outlines of their evidence; and pairs of images that differ in one class factor."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from generators import GENERATORS, Generator
from generators.certificates import shipped
from probekit.h5 import DatasetInfo, read_images
from probekit.output.mosaic import Mosaic
from probekit.output.pictures import save
from probekit.output.style import LETTERS, OUTLINES

Pixels = NDArray[np.uint8]

LARGEST = 256  # px a side: larger images are shrunk before they are drawn
NAME_LENGTH = 22  # letters of the name of a row; Chinese ones count twice
LISTED = 3  # images of each class factor in the picture of all generators
LOOKED_AT = 16  # images of a class, of which those are shown that differ most
THUMB = 12  # px a side of what is compared for that
EVIDENCE_IS = "Evidence: the pixels that change when this one class factor changes and all else stays."
MASKS_ARE = "Outlined: the masks of the file."


@dataclass(frozen=True)
class Shown:
    """An image uint8 `[h, w]` or `[h, w, 3]`, and masks bool `[h, w]` by the colour of their outlines."""

    image: Pixels
    outlines: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def shrunk(image: Pixels, how: int = cv2.INTER_AREA) -> Pixels:
    """An image, if need be shrunk to LARGEST by a method of OpenCV's."""
    longest = max(image.shape[:2])
    if longest <= LARGEST:
        return image
    size = (max(1, image.shape[1] * LARGEST // longest), max(1, image.shape[0] * LARGEST // longest))
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=how), np.uint8)


def differing(images: Iterable[Pixels], most: int) -> list[int]:
    """Places of the first image, then again and again of the one that is least like any chosen one."""
    thumbs = np.stack([_thumb(image) for image in images])
    chosen = [0]
    while len(chosen) < min(most, len(thumbs)):
        away = np.abs(thumbs[:, None] - thumbs[None, chosen]).mean(axis=2).min(axis=1)
        away[chosen] = -1
        chosen.append(int(away.argmax()))
    return chosen


def _thumb(image: Pixels) -> NDArray[np.float32]:
    return cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()


def compose(
    lines: Sequence[tuple[str, Sequence[Shown]]],
    *,
    title: str,
    keys: Mapping[str, str],
    heads: Sequence[str] = (),
    width: int,
) -> Figure:
    """Draws rows of images under their names, and how long some pixels are, of images `width` pixels wide.

    `keys`: what the outlines of a colour are of; `heads`: above the columns. A name may have several lines.
    """
    columns = max(len(images) for _, images in lines)
    longest = max(min(NAME_LENGTH, cell_len(part)) for name, _ in lines for part in name.split("\n"))
    left = longest / LETTERS + 0.1 if longest else 0.0
    named = {colour: short(name, NAME_LENGTH) for colour, name in keys.items()}
    title = "\n".join(map(printable, title.splitlines()))
    mosaic = Mosaic(len(lines), columns, title=title, keys=named, heads=bool(heads), left=left, tail=1.3)
    for column, head in enumerate(heads):
        mosaic.head(column + 0.5, head)
    for row, (name, images) in enumerate(lines):
        mosaic.name(row, "\n".join(short(line, NAME_LENGTH) for line in name.split("\n")))
        for column, shown in enumerate(images):
            mosaic.image(row, column, shown.image)
            for colour, mask in shown.outlines.items():
                mosaic.outline(row, column, mask, colour)
    size = (lines[-1][1][0].image.shape[0], lines[-1][1][0].image.shape[1])
    mosaic.scale_bar(len(lines) - 1, 0, size, shrunk=width / size[1])
    return mosaic.figure


def short(text: str, length: int) -> str:
    """As much of a text as fits, without control characters."""
    clean = printable(text)
    return clean if cell_len(clean) <= length else f"{set_cell_size(clean, length - 1).rstrip()}…"


def printable(text: str) -> str:
    """Without line breaks and control characters, which would spoil a terminal or a label."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def pair_rows(info: DatasetInfo, split: str, columns: int) -> list[tuple[str, list[Pixels]]]:
    """For each class factor its name and pairs of the file's first images: an image, its counterfactual, and so on.

    None of files that no generator drew, or whose images it does not draw any more.
    """
    kind = GENERATORS.get(info.generator)
    n = min(columns // 2, info.splits[split].n)
    if kind is None or not n:
        return []
    try:
        generator = kind(size=info.first.height, parameters=info.parameters)
    except ValueError:  # settings that it does not take any more
        return []
    rows = _pairs(generator, info.seed, split, n)
    drawn = next(iter(rows.values()))[::2]
    if not np.array_equal(drawn, read_images(info.path, split, range(n)).images):
        return []
    return [(f"pairs that differ\nin {name}", [shrunk(image) for image in images]) for name, images in rows.items()]


def draw_generators(out: Path) -> Path:
    """Draws pairs of every class factor of every generator, with what its certificate says.

    A ValueError if `out` is no picture that may be replaced; an OSError if it cannot be written.
    """
    colour = next(iter(OUTLINES.values()))
    rows = []
    for kind in GENERATORS.values():
        for name, images in _pairs(kind(), 0, "train", LISTED).items():
            shown = []
            for image, other in zip(images[::2], images[1::2], strict=True):
                shown += [Shown(image), Shown(image, {colour: image != other}), Shown(other)]
            rows.append((f"{kind.name}\n{name}\n{verdict(kind, name)}", shown))
    title = "What decides each class factor of each generator\nEvidence: where an image differs from the same scene "
    title += "with one factor changed. Under each name: what is proved."
    heads = ("image", "evidence", "changed") * LISTED
    figure = compose(rows, title=title, keys={colour: "evidence"}, heads=heads, width=rows[0][1][0].image.shape[1])
    return save(figure, out)


def verdict(kind: type[Generator], factor: str) -> str:
    """What the certificate of a class factor says in a word, or that there is none."""
    certificate = shipped(kind())
    if certificate is None:
        return "no certificate"
    found = certificate["factors"][factor]
    return found["verdict"] if found["r"] is None else f"{found['verdict']}, {found['r']} px"


def _pairs(generator: Generator, seed: int, split: str, n: int) -> dict[str, NDArray[np.uint8]]:
    """By class factor: images `[2 n, H, W]`, each before its counterfactual."""
    factors = generator.sample(seed, split, np.arange(n))
    images = generator.render_images(factors)
    found = {}
    for name in generator.class_factors:
        others = generator.render_images(generator.counterfactual(factors, name))
        found[name] = np.stack((images, others), axis=1).reshape(-1, *images.shape[1:])
    return found
