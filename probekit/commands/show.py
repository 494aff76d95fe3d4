"""`probekit show`: what is in a dataset file, and what a method is given."""

import json
from pathlib import Path

import torch
from rich.console import Console

from probekit.commands.locate import newest_dataset
from probekit.data import open_split
from probekit.registry import METHODS, get, nearest
from probekit.run import open_run
from probekit.show import describe, draw_grid, render_description


def run_show(
    path: Path | None,
    *,
    out: Path | None,
    split: str,
    views: str | None,
    run: str | None,
    seed: int,
    as_json: bool,
    data: Path,
    runs: Path,
    console: Console,
) -> None:
    """Describes a dataset file and draws it; with `views`, draws what that method trains on.

    Raises:
        ValueError: If there is no dataset file, or no such split, method or run.
    """
    chosen = path or newest_dataset(data)
    if chosen is None:
        raise ValueError(f"expected a dataset file in {data}, found none; type: probekit gen rect-tri")
    if views is not None or run is not None:
        _show_views(chosen, views, run, out=out, split=split, seed=seed, runs=runs, console=console)
        return
    description = describe(chosen)
    if as_json:
        print(json.dumps(description, indent=2, allow_nan=False))
        return
    console.print(render_description(description), soft_wrap=False)
    console.print(f"picture {draw_grid(chosen, out or chosen.with_suffix('.png'), split=split)}", markup=False)


def _show_views(
    path: Path,
    views: str | None,
    run: str | None,
    *,
    out: Path | None,
    split: str,
    seed: int,
    runs: Path,
    console: Console,
) -> None:
    from probekit.show_views import draw_views
    from probekit.train.pretrain import load_method

    cpu = torch.device("cpu")
    if run is None:
        assert views is not None
        if views not in METHODS:
            raise ValueError(nearest("method", views, METHODS))
        images = open_split(path, split, cpu, max_size=1024).images
        picture = out or path.with_name(f"{path.stem}-views-{views}.png")
        drawn = draw_views(images, recipe=get(METHODS, "method", views).recipe, seed=seed, out=picture, predict=None)
    else:
        opened = open_run(run, runs)
        method, config = load_method(opened)
        images = open_split(path, split, cpu, max_size=config.data.max_size).images
        picture = out or opened.figures / f"views-{path.stem}.png"
        with torch.no_grad():
            decodes = method.reconstruct(images[:1].float() / 255) is not None
            drawn = draw_views(
                images,
                recipe=config.views.recipe,
                seed=seed,
                out=picture,
                predict=method.reconstruct if decodes else None,  # type: ignore[arg-type]
            )
    console.print(f"picture {drawn}", markup=False)
