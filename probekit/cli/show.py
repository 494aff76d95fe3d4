"""`probekit show`: what is in a dataset file, and what a method or a run is given and predicts."""

from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.data.gen import dataset_or_default
from probekit.data.locate import guessed, run_named
from probekit.data.show import describe, draw_grid, render_description
from probekit.data.split import CPU
from probekit.h5 import read_info, verify
from probekit.output.hints import after_data, after_drawing
from probekit.registry import nearest
from probekit.restore.draw import draw_method, draw_run
from probekit.restore.opened import open_encoder
from probekit.run import Run, find_runs
from probekit.weights import LAST


def run_show(
    named: str | None,
    *,
    data: Path | None,
    out: Path | None,
    split: str | None,
    views: str | None,
    seed: int,
    whole: bool,
    draws: bool,
    data_folder: Path,
    runs: Path,
    console: Console,
) -> dict[str, Any]:
    """Describes a dataset file and draws it, or draws what a run, or with `views` a method, is given.

    Args:
        named: A dataset file or a run; None is the newest file in `data_folder`.
        data: The dataset file that a run or a method is shown on; None is its own, or the newest.
        out: The picture; None is beside the file, or in the run's figures.
        split: Which split is drawn; None is train, or the first there is.
        views: The method whose views are drawn; None is the run's own.
        whole: Read all of a dataset file and check it first.
        draws: Print the description of a dataset file, and draw it; where `out` is given it is drawn in any case.

    Returns:
        For a dataset file what `describe` gives, for a run {"run", "after", "predicts", "picture"}, for a method
        {"method", "data", "picture"}.

    Raises:
        ValueError: If there is no such file, run, split or method, or the file is damaged.
    """
    run = None if named is None else _run_or_file(named, data_folder, runs)
    if whole and (run is not None or views is not None):
        raise ValueError("expected --verify for a dataset file, found it with a run or --views; leave it out")
    if run is not None:
        return _show_run(run, data, out=out, split=split, views=views, seed=seed, console=console)
    if named is not None and data is not None:
        raise ValueError(f"expected one dataset file, found {named} and {data}; leave --data out")
    path = dataset_or_default(data if named is None else Path(named), data_folder, runs, console)
    if views is not None:
        return _show_views(views, path, out=out, split=split, seed=seed, console=console)
    info = (verify if whole else read_info)(path)
    if split is not None and split not in info.splits:
        raise ValueError(nearest("split", split, info.splits))
    description = describe(path)
    if draws:
        console.print(render_description(description), soft_wrap=False)
    if whole:
        console.print("verified: every checksum, and the hash of all contents")
    if draws or out is not None:
        console.print(f"picture {draw_grid(path, out or path.with_suffix('.png'), split=split)}")
    console.print(after_data(info))
    return description


def _run_or_file(named: str, data_folder: Path, runs: Path) -> Run | None:
    """The run that was named, or None for a dataset file; a ValueError if it is neither."""
    run, path = run_named(named, runs), Path(named)
    known = [*sorted(map(str, data_folder.glob("*.h5"))), *(run.name for run in find_runs(runs))]
    if run is None and known and path.suffix != ".h5" and not path.exists() and guessed(path, data_folder) is None:
        raise ValueError(nearest("dataset file or run", named, known))
    return run


def _show_run(
    run: Run, data: Path | None, *, out: Path | None, split: str | None, views: str | None, seed: int, console: Console
) -> dict[str, Any]:
    run.read()
    opened = open_encoder(run, LAST, CPU)
    picture, predicts = draw_run(opened, data, views, out=out, split=split, seed=seed)
    without = "" if predicts else f" (no predictions: {opened.header['method']} has no decoder)"
    console.print(f"picture {picture} of {run.name}, {opened.after}{without}")
    console.print(after_drawing(run, read_info(data or run.data())))
    return {"run": run.name, "after": opened.after, "predicts": predicts, "picture": str(picture)}


def _show_views(
    method: str, path: Path, *, out: Path | None, split: str | None, seed: int, console: Console
) -> dict[str, Any]:
    picture = draw_method(method, path, out=out, split=split, seed=seed)
    console.print(f"picture {picture}")
    info = read_info(path)
    trainable = "train" in info.splits
    console.print(f"next: probekit pretrain {method} --data {quote(str(path))}" if trainable else after_data(info))
    return {"method": method, "data": str(path), "picture": str(picture)}
