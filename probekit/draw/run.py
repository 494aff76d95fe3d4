"""`probekit draw`: from an opened run and a dataset file to a picture and its numbers."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from probekit.draw.asked import KINDS, PLANES, Asked
from probekit.draw.cells import draw_components, draw_matches
from probekit.draw.gallery import draw_neighbours
from probekit.draw.planes import check_plane, draw_plane
from probekit.draw.sample import Subject, Work, take_sample
from probekit.h5 import DatasetInfo
from probekit.output.pictures import check_picture, encoder_name, files_of, names_of, save
from probekit.probes.measure import said_of_random
from probekit.restore.opened import OpenedRun
from probekit.run import numbered
from probekit.weights import RANDOM

SCHEMA = "probekit-draw/1"
DRAW: dict[str, Callable[[Work], tuple[Figure, dict[str, Any], list[str]]]] = {
    "neighbours": draw_neighbours,
    "tsne": draw_plane,
    "umap": draw_plane,
    "pca": draw_components,
    "matches": draw_matches,
}
assert DRAW.keys() == KINDS.keys()


def draw_run(
    opened: OpenedRun,
    asked: Asked,
    *,
    data: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    console: Console,
) -> dict[str, Any]:
    """Draws what was asked for, and gives its numbers (docs/draw.md); they are written nowhere else.

    `data`: None is the run's own. `out`: PNG, SVG or PDF; None is one of the run's figures, by a name that is free. A
    ValueError if the images do not fit the encoder, there is nothing of the kind to draw, or `out` is there already.
    """
    started, run = time.monotonic(), opened.run
    check_out(out, overwrite=overwrite)
    info, notes = opened.dataset(data)
    for line in notes:
        console.print(line)
    work = _prepare(opened, info, asked, console)
    figure, numbers, lines = DRAW[asked.kind](work)
    opened.refuse_replaced(info)
    picture = save(figure, out or free_picture(run.figures, opened, info, asked.kind))
    for line in lines:
        console.print(line.replace("\n", " "))
    console.print(f"picture {names_of(picture)} of {run.name}, {opened.after}")
    return {
        "schema": SCHEMA,
        "as": asked.kind,
        "run": run.name,
        "checkpoint": str(opened.weights),
        "checkpoint_hash": opened.hash,
        "data": str(info.path),
        "data_hash": info.content_hash,
        "split": work.sample.split,
        "n": len(work.sample),
        "seed": asked.seed,
        **numbers,
        "notes": notes,
        "picture": str(picture),
        "seconds": round(time.monotonic() - started, 2),
    }


def _prepare(opened: OpenedRun, info: DatasetInfo, asked: Asked, console: Console) -> Work:
    own = Subject(opened.row, opened)
    own.check(info)
    sample = take_sample(info, asked)
    untrained = opened.beside(asked.seed, opened.size(info))
    for note in said_of_random(untrained, asked.seed):
        console.print(f"note: {note}")
    whole = info.splits[sample.split].n
    told = f"all {whole:,}" if len(sample) == whole else f"{len(sample):,} of {whole:,}"
    console.print(f"looking at {told} {sample.split} images of {info.path}: {KINDS[asked.kind]} ...")
    subjects = (own,) if untrained is None else (own, Subject(RANDOM, untrained))
    named = encoder_name({"run": opened.run.name, "checkpoint": str(opened.weights)})
    return Work(asked, sample, subjects, f"{named} on {info.name}")


def check_data(asked: Asked, info: DatasetInfo, named: str) -> None:
    """Refuses a dataset file that this cannot be drawn of, before an encoder is made; `named`: how that was typed."""
    sample = take_sample(info, asked)
    if asked.kind in PLANES:
        check_plane(sample, asked)


def check_out(out: Path | None, *, overwrite: bool) -> None:
    """Refuses a picture that is there already, unless it may be replaced, and ever one that probekit did not draw."""
    if out is None:
        return
    check_picture(out)
    for path in () if overwrite else filter(Path.exists, files_of(out)):
        raise ValueError(f"{path} exists; type --overwrite to replace it, or another --out")


def free_picture(folder: Path, opened: OpenedRun, info: DatasetInfo, kind: str) -> Path:
    """NAME.png in a folder, or NAME-2.png and so on: a picture is made beside others, and over none."""
    paths = (folder / f"{stem}.png" for stem in numbered(f"{kind}-{opened.weights}-{info.name}"))
    return next(path for path in paths if not any(each.exists() or each.is_symlink() for each in files_of(path)))
