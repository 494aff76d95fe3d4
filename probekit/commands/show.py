"""`probekit show`: what is in a dataset file, and what a method is given."""

import json
from pathlib import Path
from shlex import quote

from rich.console import Console
from torch import Tensor

from probekit.commands.hints import after_data, after_drawing
from probekit.commands.locate import dataset_or_default
from probekit.data.show import describe, draw_grid, render_description
from probekit.data.split import CPU, check_channels, check_divisible, open_split, shrunk
from probekit.h5 import read_info, verify
from probekit.registry import METHODS, get, nearest
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.run import open_run
from probekit.weights import LAST

MOST = 1024  # pixels a side: larger images are averaged down before they are drawn


def run_show(
    path: Path | None,
    *,
    out: Path | None,
    split: str | None,
    views: str | None,
    run: str | None,
    seed: int,
    as_json: bool,
    whole: bool,
    data: Path,
    runs: Path,
    console: Console,
) -> None:
    """Describes a dataset file, verified where `whole` is true, and draws it, or with `views` what a method trains on.

    Raises:
        ValueError: If there is no dataset file, or no such split, method or run, or JSON is asked of a picture, or the
            file is damaged.
    """
    if whole and (run is not None or views is not None):
        raise ValueError("expected --verify for a dataset file, found it with --views or --run; leave one out")
    if as_json and (run is not None or views is not None):
        raise ValueError("expected --json for a dataset file, found it with --views or --run; leave one out")
    if run is not None:
        drawn = open_run(run, runs)
        opened = open_encoder(drawn, LAST, CPU)
        picture, decodes = draw_run(opened, path, views, out=out, split=split, seed=seed)
        without = "" if decodes else f" (no predictions: {opened.header['method']} has no decoder)"
        console.print(f"picture {picture} of {drawn.name}, {opened.after}{without}")
        console.print(after_drawing(drawn, read_info(path or drawn.data("PATH"))))
        return
    chosen = dataset_or_default(path, data, runs, console)
    if views is not None:
        console.print(f"picture {_draw_method(views, chosen, out=out, split=split, seed=seed)}")
        trainable = "train" in read_info(chosen).splits
        console.print(
            f"next: probekit pretrain {views} --data {quote(str(chosen))}"
            if trainable
            else after_data(read_info(chosen))
        )
        return
    info = (verify if whole else read_info)(chosen)
    if split is not None and split not in info.splits:
        raise ValueError(nearest("split", split, info.splits))
    description = describe(chosen)
    if as_json:
        print(json.dumps(description, indent=2, allow_nan=False))
        return
    console.print(render_description(description), soft_wrap=False)
    if whole:
        console.print("verified: every checksum, and the hash of all contents")
    console.print(f"picture {draw_grid(chosen, out or chosen.with_suffix('.png'), split=split)}")
    console.print(after_data(info))


def _draw_method(name: str, path: Path, *, out: Path | None, split: str | None, seed: int) -> Path:
    """What a method trains on, at the size of the images."""
    from probekit.views.draw import ROWS, draw_views

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
        seed: Of the views.

    Returns:
        The picture, and whether it shows predictions.

    Raises:
        ValueError: If no more than the encoder was kept of the run, or the images do not fit it.
    """
    from probekit.train.regions import find_placement
    from probekit.views.draw import ROWS, draw_views

    method, config, run = opened.whole, opened.config, opened.run
    assert config is not None
    path = path or run.data("PATH")
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

    picture = draw_views(
        images,
        recipe=recipe,
        seed=seed,
        title=f"{run.name}, {opened.after}, on {path.stem}, {split}: {given}",
        out=out or run.figures / f"{stem}.png",
        predict=predicted if decodes else None,
        size=size,
        stride=method.encoder.stride,
        placement=find_placement(method.encoder, images, config.crop) if config.crop.policy == "contrastive" else None,
    )
    return picture, decodes


def _recipe(method: str) -> str:
    recipe: str = get(METHODS, "method", method).recipe
    return recipe
