"""A few images and their views, the evidence of each class factor outlined, a line for each recipe."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from probekit.audit.asked import Chosen
from probekit.audit.geometry import carried
from probekit.audit.measure import Scenes, by_crops, scenes_of, seen_in
from probekit.data.split import shrunk
from probekit.data.truth import Truth
from probekit.output.mosaic import Mosaic
from probekit.output.pictures import save
from probekit.output.style import OUTLINES
from probekit.views.recipes import ViewMaker, Views

IMAGES, VIEWS = 3, 2  # in a line: so many images, each with so many views
NAMES = 0.95  # inches before the cells

Column = tuple[Tensor, dict[str, Tensor]]  # pictures [n, h, w] and masks [n, h, w] by class factor


def draw_audit(truth: Truth, recipes: Sequence[Chosen], *, seed: int, out: Path) -> Path:
    """Draws views of the first images, as the encoder sees them; refuses as `save`."""
    shown = [_first(scenes_of(truth, each.max_size)) for each in recipes]
    lines = [line for scenes, each in zip(shown, recipes, strict=True) for line in _lines(scenes, each, seed)]
    keys = {colour: f"evidence of {name}" for name, colour in _colours(truth.counterfactuals).items()}
    title = f"What views leave of {truth.info.name}\nOutlined: the evidence that is left of each class factor."
    n = len(lines[0][1][0][0])
    mosaic = Mosaic(len(lines), n * (1 + VIEWS), title=title, keys=keys, heads=1, left=NAMES, tail=1.3)
    for row, (name, columns) in enumerate(lines):
        mosaic.name(row, name)
        for place, column in enumerate(columns):
            for i in range(n):
                _show(mosaic, row, i * (1 + VIEWS) + place, column, i)
    for i in range(n):
        mosaic.head(i * (1 + VIEWS) + 0.5, "image")
        mosaic.head(i * (1 + VIEWS) + 1 + VIEWS / 2, "views")
    height, width = shown[-1].images.shape[2:]
    mosaic.scale_bar(len(lines) - 1, 0, (height, width), shrunk=shown[-1].shrink)
    return save(mosaic.figure, out)


def _colours(factors: Iterable[str]) -> dict[str, str]:
    return dict(zip(factors, OUTLINES.values(), strict=False))


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
    mosaic.image(row, place, np.rint(255 * pictures[i].clamp(0, 1).numpy()).astype(np.uint8))
    for name, colour in _colours(masks).items():
        mosaic.outline(row, place, masks[name][i].numpy() > 0.5, colour)
