"""Pairs of images that differ in one class factor: in the picture of a file, and one of each generator."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from generators import GENERATORS, Generator
from generators.certificates import shipped
from probekit.h5 import DatasetInfo, read_images
from probekit.output.pictures import save_png

Pixels = NDArray[np.uint8]

CELL = 128  # px a side of an image in the grid, about: images are enlarged by whole factors
GAP = 6  # px between images
LABEL = 190  # px for the names of rows
TITLE = 44  # px for the title and the legend
NAME_LENGTH = 22  # letters of a name that fit LABEL; Chinese ones count twice
BACKGROUND = 247  # grey: images, black or white, stand out from it

LISTED = 3  # pairs of each class factor in the picture of all generators


def cell(image: Pixels) -> Pixels:
    """An image as it stands in the grid, RGB `[h, w, 3]`."""
    return resized(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2), cv2.INTER_AREA)


def resized(image: Pixels, shrink: int) -> Pixels:
    """Enlarged by the whole factor that comes nearest to CELL, or shrunk to CELL by the given method."""
    longest = max(image.shape[:2])
    if longest <= CELL * 3 // 2:
        factor = max(1, round(CELL / longest))
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (max(1, image.shape[1] * CELL // longest), max(1, image.shape[0] * CELL // longest))
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=shrink), np.uint8)


def compose(
    out: Path,
    cells: list[list[Pixels]],
    names: Sequence[str],
    *,
    title: str,
    legend: dict[str, tuple[int, int, int]],
    columns: int,
) -> None:
    """Puts the cells on one canvas, pixel for pixel, and the texts beside them; a name may have several lines."""
    height, width = cells[0][0].shape[:2]
    columns = min(columns, max(map(len, cells)))
    left = (LABEL if any(names) else 0) + GAP
    total = (TITLE + len(cells) * (height + GAP), max(left + columns * (width + GAP), LABEL * (3 + len(legend))))
    canvas = np.full((*total, 3), BACKGROUND, np.uint8)
    for row, images in enumerate(cells):
        for column, image in enumerate(images):
            top, begin = TITLE + row * (height + GAP), left + column * (width + GAP)
            canvas[top : top + height, begin : begin + width] = image
    dpi = 100
    figure = Figure(figsize=(total[1] / dpi, total[0] / dpi), dpi=dpi)
    figure.figimage(canvas, resize=False)
    at: dict[str, Any] = {
        "transform": None,
        "parse_math": False,
        "va": "center",
    }  # no transform: pixels from below left
    figure.text(2 * GAP, total[0] - TITLE / 2, short(title, 72), fontsize=9, weight="bold", **at)
    for row, name in enumerate(names):
        middle = total[0] - TITLE - row * (height + GAP) - height / 2
        lines = "\n".join(short(line, NAME_LENGTH) for line in name.split("\n"))
        figure.text(left - 2 * GAP, middle, lines, fontsize=9, ha="right", **at)
    if legend:
        patches = [
            Patch(color=f"#{bytes(colour).hex()}", label=f"evidence: {short(name, 20)}")
            for name, colour in legend.items()
        ]
        figure.legend(handles=patches, loc="upper right", ncols=len(patches), fontsize=8, frameon=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        save_png(figure, out, dpi=dpi)


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
    return [(f"pairs: {name}", [cell(image) for image in images]) for name, images in rows.items()]


def draw_generators(out: Path) -> Path:
    """Draws pairs of every class factor of every generator, with what its certificate says.

    A ValueError if `out` is no picture that may be replaced; an OSError if it cannot be written.
    """
    rows: dict[str, list[Pixels]] = {}
    for kind in GENERATORS.values():
        for name, images in _pairs(kind(), 0, "train", LISTED).items():
            rows[f"{kind.name}\n{name}\n{verdict(kind, name)}"] = [cell(image) for image in images]
    title = "image | counterfactual, which differs in one class factor alone"
    compose(out, list(rows.values()), list(rows), title=title, legend={}, columns=2 * LISTED)
    return out


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
