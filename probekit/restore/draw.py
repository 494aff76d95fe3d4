"""Draws what a method is given, and what a run predicts."""

from pathlib import Path

from torch import Tensor

from probekit.branches.base import branches_of
from probekit.data.split import CPU, check_channels, check_divisible, open_split, shrunk
from probekit.h5 import read_info
from probekit.models.extract import read_all
from probekit.registry import METHODS, get
from probekit.restore.opened import OpenedRun
from probekit.views.draw import ROWS, draw_views
from probekit.weights import LAST

MOST = 1024  # pixels a side: larger images are averaged down before they are drawn


def draw_method(name: str, path: Path, *, out: Path | None, split: str | None, seed: int) -> Path:
    """What a method trains on, at the size of the images."""
    recipe = _recipe(name)
    split = split or read_info(path).first.name
    images = open_split(path, split, CPU, max_size=MOST, first=ROWS).images[:ROWS]
    picture = out or path.with_name(f"{path.stem}-views-{name}.png")
    title = f"{path.stem}, {split}: what {name} is given"
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

    Args:
        opened: The run.
        path: A dataset file; None is the run's own.
        views: The method whose views are drawn; None is the run's own.
        out: The picture; None is in the run's figures.
        split: Which split; None is the first.
        seed: Seed of the views.

    Returns:
        The picture, and whether it shows predictions.

    Raises:
        ValueError: If no more than the encoder was kept of the run, or the images do not fit it.
    """
    method, config, run = opened.whole, opened.config, opened.run
    assert config is not None
    path = path or run.data()
    split = split or read_info(path).first.name
    channels = method.encoder.spec["channels"]
    images = open_split(path, split, CPU, max_size=config.data.max_size, first=ROWS).images[:ROWS]
    check_channels(read_info(path), channels)
    size = shrunk(images, config.views.max_size)
    check_divisible(size, method.encoder.stride)
    decodes = opened.decodes
    recipe = config.views.recipe if views is None else _recipe(views)
    stem = f"views-{path.stem}{'' if opened.weights == LAST else f'-{opened.weights}'}"
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
        title=f"{run.name}, {opened.after}, on {path.stem}, {split}: {given}",
        out=out or run.figures / f"{stem}.png",
        predict=predicted if decodes else None,
        size=size,
        stride=method.encoder.stride,
        placement=next((place for place in places if place is not None), None),
    )
    return picture, decodes


def _recipe(method: str) -> str:
    recipe: str = get(METHODS, "method", method).recipe
    return recipe
