"""Draws what a method is given, input and target, and what a run predicts, as in Figure 3 of the ConRec paper."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from probekit.branches.base import branches_of
from probekit.config import SIDE
from probekit.data.split import CPU, check_channels, check_divisible, open_split, shrunk
from probekit.h5 import read_info
from probekit.models.extract import read_all
from probekit.output.pictures import Mosaic, save_png
from probekit.registry import METHODS, get, nearest
from probekit.restore.opened import OpenedRun
from probekit.views.corrupt import CORRUPTIONS, CorruptionTables, corrupt_as, draw_corruption
from probekit.views.crops import Placement
from probekit.views.recipes import RECIPES, make_views
from probekit.weights import LAST

MOST = 1024  # pixels a side: larger images are averaged down before they are drawn

ROWS = 4  # samples in the picture
FRAME = "0.8"  # grey level
CELL_INCHES = 1.1

Predict = Callable[[Tensor], Tensor]
Column = tuple[str, Tensor]  # label, views [n, C, H, W]


def draw_method(name: str, path: Path, *, out: Path | None, split: str | None, seed: int) -> Path:
    """What a method trains on, at the size of the images."""
    recipe = _recipe(name)
    split = _split(path, split)
    images = open_split(path, split, CPU, max_size=MOST, first=ROWS).images[:ROWS]
    picture = out or path.with_name(f"{read_info(path).name}-views-{name}.png")
    title = f"{read_info(path).name}, {split}: what {name} is given"
    return draw_views(images, recipe=recipe, seed=seed, title=title, out=picture, predict=None)


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
    recipe = config.views.recipe if views is None else _recipe(views)
    stem = f"views-{read_info(path).name}{'' if opened.weights == LAST else f'-{opened.weights}'}"
    stem += "" if views is None else f"-{views}"
    given = f"what {views or config.method} is given{' and predicts' * decodes}"

    def predicted(inputs: Tensor) -> Tensor:
        found = opened.reconstruct(inputs.to(opened.device))
        assert found is not None
        return found.cpu()

    whole = (images.shape[-2], images.shape[-1])
    places = (b.place(lambda read: read_all(method.encoder, images, read), whole) for b in branches_of(method))
    picture = draw_views(
        images,
        recipe=recipe,
        seed=seed,
        title=f"{run.name}, {opened.after}, on {read_info(path).name}, {split}: {given}",
        out=out or run.figures / f"{stem}.png",
        predict=predicted if decodes else None,
        size=size,
        stride=method.encoder.stride,
        placement=next((place for place in places if place is not None), None),
    )
    return picture, decodes


def _split(path: Path, asked: str | None) -> str:
    """The split that was asked for, or the first; a ValueError if there is none of this name."""
    info = read_info(path)
    if asked is not None and asked not in info.splits:
        raise ValueError(nearest("split", asked, info.splits))
    return asked or info.first.name


def _recipe(method: str) -> str:
    recipe: str = get(METHODS, "method", method).recipe
    return recipe


def draw_views(
    images: Tensor,
    *,
    recipe: str,
    seed: int,
    title: str,
    out: Path,
    predict: Predict | None,
    size: tuple[int, int] | None = None,
    stride: int = SIDE,
    placement: Placement | None = None,
) -> Path:
    """Draws `views_figure` to a PNG file; see `picture.save_png`."""
    figure = views_figure(
        images,
        recipe=recipe,
        seed=seed,
        title=title,
        predict=predict,
        size=size,
        stride=stride,
        placement=placement,
    )
    return save_png(figure, out, dpi=150)


def views_figure(
    images: Tensor,
    *,
    recipe: str,
    seed: int,
    title: str,
    predict: Predict | None,
    size: tuple[int, int] | None = None,
    stride: int = SIDE,
    placement: Placement | None = None,
) -> Figure:
    """The views of the first images, one row a sample.

    A recipe with corruptions gives for each kind of corruption the columns input, target and, with `predict`,
    prediction; the target is the same view each time. A recipe without gives the views, small crops in a group of their
    own. A ValueError if the recipe is unknown, or the images have another type or shape.

    Args:
        images: uint8 [N, C, H, W]; the first 4 are drawn.
        predict: Maps inputs float32 [n, C, H, W] to reconstructions of the same shape and device.
        size: (h, w) of the views; None is the images' own.
        stride: The encoder's, as in `make_views`.
        placement: Where the crops of these images stand; it is drawn, too. None is anywhere.
    """
    images = images[:ROWS]
    generator = torch.Generator(images.device).manual_seed(seed)
    views = make_views(recipe, images, generator, size=size, stride=stride, placement=placement)
    groups: list[tuple[str, list[Column]]] = []
    if RECIPES[recipe].corrupt:
        groups = list(_corrupted(views.targets[0], generator, predict))
    else:
        kinds = {"views": views} if views.local is None else {"large": views, "small": views.local}
        for name, kind in kinds.items():
            height, width = kind.inputs.shape[-2:]
            columns = [(f"view {number}", view) for number, view in enumerate(kind.inputs, start=1)]
            groups.append((f"{name}, {height}x{width} px", columns))
    if placement is not None:
        groups = [("region", [("", _outlined(images, placement.regions))]), *groups]
    return _figure(groups, title)


def _outlined(images: Tensor, boxes: Tensor) -> Tensor:
    """Images uint8 `[n, C, H, W]` in [0, 1], with a frame of 2 px along a box of each inverted."""
    pixels = images.float() / 255
    for image, (x0, y0, x1, y1) in zip(pixels, boxes.tolist(), strict=True):
        edge = torch.zeros(image.shape[1:], dtype=torch.bool)
        edge[y0:y1, x0:x1] = True
        edge[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = False
        image[:, edge] = 1 - image[:, edge]
    return pixels


def _corrupted(
    targets: Tensor, generator: torch.Generator, predict: Predict | None
) -> Iterator[tuple[str, list[Column]]]:
    """For each kind of corruption its name and columns."""
    n, channels, height, width = targets.shape
    tables = CorruptionTables(channels, height, width).to(targets.device)
    for k, (name, _) in enumerate(CORRUPTIONS[channels]):
        _, *drawn = draw_corruption(n, tables, generator)
        inputs = corrupt_as(targets, (torch.full((n,), k, device=targets.device), *drawn), tables)
        columns = [("input", inputs), ("target", targets)]
        if predict is not None:
            with torch.no_grad():
                columns.append(("prediction", predict(inputs)))
        yield name, columns


def _figure(groups: list[tuple[str, list[Column]]], title: str) -> Figure:
    widths = [len(columns) for _, columns in groups]
    mosaic = Mosaic(len(groups[0][1][0][1]), sum(widths), cell=CELL_INCHES, title=title, head=0.5)
    first = 0
    for name, columns in groups:
        mosaic.write(first + len(columns) / 2, -0.2, name, size=9)
        for column, (label, views) in enumerate(columns, first):
            mosaic.write(column + 0.5, 0, label, size=8)
            pixels = views.float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
            for row, image in enumerate(pixels):
                size = image.shape[:2]
                # One channel needs its gray scale fixed; three are shown as they are.
                mosaic.show(row, column, image, size, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                mosaic.frame(row, column, size, FRAME, 0.8)  # an image may be white
        first += len(columns)
    return mosaic.figure
