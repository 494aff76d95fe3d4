"""Draws what a method is given, input and target, and what a run predicts, as in Figure 3 of the ConRec paper."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from probekit.branches.base import Branch, active_branches, branches_of, needs_masks, sources_of
from probekit.config import SIDE
from probekit.data.foreground import foreground
from probekit.data.split import CPU, check_channels, check_divisible, open_split, shrunk
from probekit.h5 import read_info
from probekit.methods.base import Method
from probekit.models.extract import read_all
from probekit.output.mosaic import Mosaic
from probekit.output.pictures import save, save_both
from probekit.output.style import OUTLINES, PLAIN
from probekit.registry import METHODS, get, nearest
from probekit.restore.opened import OpenedRun
from probekit.views.corrupt import CORRUPTIONS, CorruptionTables, corrupt_as, draw_corruption
from probekit.views.crops import Placement
from probekit.views.recipes import Recipe, ViewMaker, Views, make_views, recipe_named, recipe_of
from probekit.weights import LAST

MOST = 1024  # pixels a side: larger images are averaged down before they are drawn

ROWS = 4  # samples in the picture
FRAMES = list(OUTLINES.values())  # of crops, and of the views that they became; the last one of all small crops

Predict = Callable[[Tensor], Tensor]
Column = tuple[str, Tensor]  # label, views [n, C, H, W]


@dataclass(frozen=True)
class Group:
    """Columns that belong together, and the colours of their frames; none is a hair line."""

    name: str
    columns: Sequence[Column]
    colours: Sequence[str]


def draw_method(name: str, path: Path, *, out: Path | None, split: str | None, seed: int) -> Path:
    """What a method trains on, at the size of the images."""
    recipe = _recipe(name)
    split = _split(path, split)
    images = open_split(path, split, CPU, max_size=MOST, first=ROWS).images[:ROWS]
    picture = out or path.with_name(f"{read_info(path).name}-views-{name}.png")
    title = f"{read_info(path).name}, {split}: what {name} is given{_cut_from(path, split)}"
    figure = views_figure(
        images, recipe=recipe, seed=seed, title=title, predict=None, shrink=_shrink(path, split, images)
    )
    return save(figure, picture)


def draw_run(
    opened: OpenedRun,
    path: Path | None,
    views: str | None = None,
    *,
    out: Path | None = None,
    split: str | None = None,
    seed: int,
) -> tuple[Path, bool]:
    """Draws what a run trained on, at the size it trained at, and what its decoder makes of it.

    Returns the picture, and whether it shows predictions. A ValueError if no more than the encoder was kept of the run,
    or the images do not fit it. `views`: the method whose views are drawn; None is the run's own; `out`: the picture;
    None is in the run's figures.
    """
    method, config, run = opened.whole, opened.config, opened.run
    assert config is not None
    path = path or run.data()
    split = _split(path, split)
    channels = method.encoder.spec["channels"]
    images = open_split(path, split, CPU, max_size=config.data.max_size, first=ROWS).images[:ROWS]
    check_channels(read_info(path), channels)
    size = shrunk(images, config.views.max_size)
    check_divisible(size, method.encoder.stride)
    decodes = opened.decodes
    recipe = recipe_of(config.views) if views is None else _recipe(views)
    stem = f"views-{read_info(path).name}{'' if opened.weights == LAST else f'-{opened.weights}'}"
    stem += "" if views is None else f"-{views}"
    given = f"what {views or config.method} is given{' and predicts' * decodes}"
    given += _cut_from(path, split)

    def predicted(inputs: Tensor) -> Tensor:
        found = opened.reconstruct(inputs.to(opened.device))
        assert found is not None
        return found.cpu()

    whole = (images.shape[-2], images.shape[-1])
    places = (b.place(lambda read: read_all(method.encoder, images, read), whole) for b in branches_of(method))
    figure = views_figure(
        images,
        recipe=recipe,
        seed=seed,
        title=f"{run.name}, {opened.after}, on {read_info(path).name}, {split}: {given}",
        predict=predicted if decodes else None,
        size=size,
        stride=method.encoder.stride,
        placement=next((place for place in places if place is not None), None),
        pasting=[] if views is not None else _pasting(method, path, split, images, config.data.max_size),
        shrink=_shrink(path, split, images),
    )
    return save(figure, out) if out else save_both(figure, run.figures / f"{stem}.png"), decodes


def _pasting(method: Method, path: Path, split: str, images: Tensor, max_size: int) -> list[Branch]:
    """Copies on the CPU of the branches that paste, with the masks of the first images of a split."""
    info = read_info(path)
    found = [deepcopy(branch).cpu() for branch in active_branches(method) if needs_masks(type(branch))]
    for branch in found:
        branch.take_masks(partial(foreground, info, split, n=len(images), max_size=max_size))
    return found


def _split(path: Path, asked: str | None) -> str:
    """The split that was asked for, or the first; a ValueError if there is none of this name."""
    info = read_info(path)
    if asked is not None and asked not in info.splits:
        raise ValueError(nearest("split", asked, info.splits))
    return asked or info.first.name


def _cut_from(path: Path, split: str) -> str:
    """A line for a title on views of photographs that keep their sizes; nothing of other images."""
    crop = read_info(path).splits[split].crop
    return "" if crop is None else "\nhere cut out of the test crop, in training out of the whole photograph"


def _shrink(path: Path, split: str, images: Tensor) -> float:
    """How many pixels of the file's images one of these is along a side."""
    return read_info(path).splits[split].width / images.shape[-1]


def _recipe(method: str) -> Recipe:
    return recipe_named(get(METHODS, "method", method).recipe)


def views_figure(
    images: Tensor,
    *,
    recipe: str | Recipe,
    seed: int,
    title: str,
    predict: Predict | None,
    size: tuple[int, int] | None = None,
    stride: int = SIDE,
    placement: Placement | None = None,
    pasting: Sequence[Branch] = (),
    shrink: float = 1.0,
) -> Figure:
    """The first images with the boxes of their crops, and the views of these, one row an image.

    A recipe with corruptions has the first view alone, its target and each kind of corruption of it, with `predict`
    beside its prediction. A recipe without has all views, small crops in a group of their own. A ValueError if the
    recipe is unknown, or the images have another type or shape.

    Args:
        images: uint8 [N, C, H, W]; the first 4 are drawn.
        recipe: One of `views.recipes.RECIPES`, or its name.
        predict: Maps inputs float32 [n, C, H, W] to reconstructions of the same shape and device.
        size: (h, w) of the views; None is the images' own.
        stride: The encoder's, as in `make_views`.
        placement: Where the crops of these images stand; it is drawn, too. None is anywhere.
        pasting: Branches that may paste the foregrounds of these images, the first of their split.
        shrink: How many pixels of the file's images one of these is along a side, which the scale bar counts in.
    """
    images = images[:ROWS]
    generator = torch.Generator(images.device).manual_seed(seed)
    if pasting:
        maker = ViewMaker(recipe_named(recipe), images.shape[1:], size=size, stride=stride)
        given = sources_of(pasting, torch.arange(len(images)), images, maker.recipe, generator)
        views: Views = maker(given, maker.draw(len(images), generator), placement)
    else:
        views = make_views(recipe, images, generator, size=size, stride=stride, placement=placement)
    boxes, groups = list[tuple[str, Tensor]](), list[Group]()
    if recipe_named(recipe).corrupt:
        boxes = [(FRAMES[0], views.boxes[0])]
        groups = [_group("target", views, [("", views.targets[0])], FRAMES)]
        groups += [Group(name, columns, []) for name, columns in _corrupted(views.targets[0], generator, predict)]
    else:
        kinds = {"views": views} if views.local is None else {"large": views, "small": views.local}
        for number, (name, kind) in enumerate(kinds.items()):
            colours = FRAMES[:-1] if number == 0 else FRAMES[-1:]
            columns = [(str(place), view) for place, view in enumerate(kind.inputs, start=1)]
            groups.append(_group(name, kind, columns, colours))
            boxes += [(colours[v % len(colours)], box) for v, box in enumerate(kind.boxes)]
    if placement is not None:
        boxes.append((PLAIN, placement.regions))
        title += "\nwhite: where crops stand"
    return _figure(images, boxes, groups, title, shrink)


def _group(name: str, views: Views, columns: list[Column], colours: Sequence[str]) -> Group:
    height, width = views.inputs.shape[-2:]
    return Group(f"{name}, {height}x{width} px", columns, [colours[v % len(colours)] for v in range(len(columns))])


def _corrupted(
    targets: Tensor, generator: torch.Generator, predict: Predict | None
) -> Iterator[tuple[str, list[Column]]]:
    """For each kind of corruption its name and columns."""
    n, channels, height, width = targets.shape
    tables = CorruptionTables(channels, height, width).to(targets.device)
    for k, (name, _) in enumerate(CORRUPTIONS[channels]):
        _, *drawn = draw_corruption(n, tables, generator)
        inputs = corrupt_as(targets, (torch.full((n,), k, device=targets.device), *drawn), tables)
        columns = [("input", inputs)]
        if predict is not None:
            with torch.no_grad():
                columns.append(("prediction", predict(inputs)))
        yield name, columns


def _figure(
    images: Tensor, boxes: Sequence[tuple[str, Tensor]], groups: Sequence[Group], title: str, shrink: float
) -> Figure:
    columns = 1 + sum(len(group.columns) for group in groups)
    mosaic = Mosaic(len(images), columns, title=title, heads=2, tail=1.3)
    mosaic.head(0.5, "source\nand crop" + "s" * (len(boxes) > 1))
    for row, image in enumerate(_pixels(images.float() / 255)):
        size = (image.shape[0], image.shape[1])
        mosaic.image(row, 0, image)
        for colour, box in boxes:
            mosaic.box(row, 0, size, box[row].tolist(), colour)
    mosaic.scale_bar(len(images) - 1, 0, size, shrunk=shrink)
    first = 1
    for group in groups:
        several = len(group.columns) > 1
        name = group.name if several else group.name.replace(", ", "\n")
        mosaic.head(first + len(group.columns) / 2, name, line=several)
        for column, (label, views) in enumerate(group.columns, first):
            if several:
                mosaic.head(column + 0.5, label)
            for row, image in enumerate(_pixels(views)):
                mosaic.image(row, column, image)
                for colour in group.colours[column - first : column - first + 1]:
                    mosaic.box(row, column, image.shape[:2], (0, 0, image.shape[1], image.shape[0]), colour)
        first += len(group.columns)
    return mosaic.figure


def _pixels(views: Tensor) -> list[NDArray[np.uint8]]:
    """Views `[n, C, h, w]` in [0, 1] as uint8 `[h, w]` or `[h, w, 3]`."""
    found = (255 * views.float().clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [view[..., 0] if view.shape[2] == 1 else view for view in found]
