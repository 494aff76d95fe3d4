"""`probekit show`: what is in a dataset file, and what a method is given."""

import json
from pathlib import Path
from shlex import quote

from rich.console import Console

from probekit.data.gen import dataset_or_default
from probekit.data.show import describe, draw_grid, render_description
from probekit.data.split import CPU
from probekit.h5 import read_info, verify
from probekit.output.hints import after_data, after_drawing
from probekit.registry import nearest
from probekit.restore.opened import open_encoder
from probekit.run import open_run
from probekit.train.draw import draw_method, draw_run
from probekit.weights import LAST


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
        console.print(f"picture {draw_method(views, chosen, out=out, split=split, seed=seed)}")
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
