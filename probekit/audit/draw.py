"""A few images and their views, the evidence of each class factor outlined, a line for each recipe."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from probekit.audit.asked import Chosen
from probekit.audit.geometry import carried
from probekit.audit.measure import Scenes, by_crops, scenes_of, seen_in
from probekit.data.split import shrunk
from probekit.data.truth import Truth
from probekit.output.pictures import Mosaic, save_png
from probekit.views.recipes import ViewMaker, Views

IMAGES, VIEWS = 3, 2  # in a line: so many images, each with so many views
OUTLINES = {"pink": "#e7298a", "green": "#1b9e77", "orange": "#d95f02", "violet": "#7570b3"}  # of class factors
NAMES, CELL = 0.9, 0.9  # inches: before the cells, and of a cell
DPI = 150

Column = tuple[Tensor, dict[str, Tensor]]  # pictures [n, h, w] and masks [n, h, w] by class factor


def draw_audit(truth: Truth, recipes: Sequence[Chosen], *, seed: int, out: Path) -> Path:
    """Draws views of the first images, as the encoder sees them.

    Raises:
        ValueError: As `save_png`.
        OSError: If it cannot be written.
    """
    lines = [line for each in recipes for line in _lines(_first(scenes_of(truth, each.max_size)), each, seed)]
    keys = ", ".join(f"{colour}: {name}" for colour, name in zip(OUTLINES, truth.counterfactuals, strict=False))
    title = f"{truth.info.path}: images and views of them; outlined is the evidence that is left, {keys}"
    n = len(lines[0][1][0][0])
    mosaic = Mosaic(len(lines), n * (1 + VIEWS), cell=CELL, title=title, head=0.2, left=NAMES)
    for row, (name, columns) in enumerate(lines):
        mosaic.write(-0.05, row + 0.5, name, size=7, ha="right", va="center")
        for place, column in enumerate(columns):
            for i in range(n):
                _show(mosaic, row, i * (1 + VIEWS) + place, column, i)
    for i in range(n):
        mosaic.write(i * (1 + VIEWS) + 0.5, 0, "image", size=7)
        mosaic.write(i * (1 + VIEWS) + 1 + VIEWS / 2, 0, "views", size=7)
    return save_png(mosaic.figure, out, dpi=DPI)


def _first(scenes: Scenes) -> Scenes:
    others, evidence = ({name: of[:IMAGES] for name, of in each.items()} for each in (scenes.others, scenes.evidence))
    return Scenes(scenes.images[:IMAGES], others, evidence, scenes.shrink)


def _lines(scenes: Scenes, asked: Chosen, seed: int) -> list[tuple[str, list[Column]]]:
    """For each size of crops of a recipe its name, then the images and some views of each."""
    maker = ViewMaker(asked.recipe, scenes.images.shape[1:], size=shrunk(scenes.images, asked.views.max_size))
    generator = torch.Generator().manual_seed(seed)
    own: Column = (scenes.images[:, 0] / 255, scenes.evidence)
    found: dict[str, list[Column]] = {}
    for _ in range(-(-VIEWS // asked.recipe.views)):
        drawn = maker.draw(len(scenes.images), generator)
        for crops, views in by_crops(maker(scenes.images, drawn)).items():
            seen = seen_in(views, maker, drawn).view(-1, *views.inputs.shape[1:2], *views.inputs.shape[3:])
            columns = [_column(views, v, seen[v], scenes.evidence) for v in range(len(seen))]
            name = f"{asked.name}\n{crops}, {views.inputs.shape[4]}x{views.inputs.shape[3]}"
            found.setdefault(name, [own]).extend(columns)
    return [(name, columns[: 1 + VIEWS]) for name, columns in found.items()]


def _column(views: Views, v: int, seen: Tensor, evidence: dict[str, Tensor]) -> Column:
    size = (seen.shape[1], seen.shape[2])
    left = {name: carried(mask, views.boxes[v], views.flipped[v], size) * seen for name, mask in evidence.items()}
    return views.inputs[v, :, 0], left


def _show(mosaic: Mosaic, row: int, place: int, column: Column, i: int) -> None:
    pictures, masks = column
    height, width = pictures.shape[1:]
    left, right, bottom, top = mosaic.extent(row, place, (height, width))
    mosaic.show(row, place, pictures[i].numpy(), (height, width), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    mosaic.frame(row, place, (height, width), "0.8", 0.8)
    x = left + (np.arange(width) + 0.5) * (right - left) / width
    y = top + (np.arange(height) + 0.5) * (bottom - top) / height
    for colour, mask in zip(OUTLINES.values(), masks.values(), strict=False):
        shown = mask[i].numpy()
        if shown.min() < 0.5 < shown.max():
            mosaic.axes.contour(x, y, shown, levels=[0.5], colors=colour, linewidths=0.7)
