"""`gen`, `import`, `show`: dataset files."""

import os
from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.app import DATA, RUNS, Compression, Json, Overwrite, Seed, Set, app
from probekit.output import console, errors


@app.command()
def gen(
    generator: Annotated[str, typer.Argument(help="A generator; `probekit list` names them.")] = "rect-tri",
    n: Annotated[int | None, typer.Option(min=1, help="Training images; default: the paper's.")] = None,
    n_test: Annotated[int | None, typer.Option(min=1, help="Test images; default: the paper's.")] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels a side; the geometry scales.")] = 128,
    seed: Seed = 0,
    style: Annotated[str, typer.Option(help="clean, or paper: the authors' recipe, flaws included.")] = "clean",
    out: Annotated[Path | None, typer.Option(help="The file; default: data/GENERATOR.h5.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Add every image's counterfactual siblings; n counts bases.")
    ] = False,
    compression: Compression = "gzip",
    workers: Annotated[int | None, typer.Option(min=1, help="Default: one a core.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Also draw a PNG grid with the evidence.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Render parametrized shape images to a dataset file, with every factor, mask and minimal pair known."""
    from probekit.commands.gen import run_gen

    run_gen(
        generator,
        n=n,
        n_test=n_test,
        size=size,
        seed=seed,
        style=style,
        out=out or DATA / f"{generator}.h5",
        settings=settings,
        pairs=pairs,
        compression=compression,
        workers=workers or os.cpu_count() or 1,
        preview=preview,
        overwrite=overwrite,
        console=console,
    )


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="An npz file, a folder of class folders, or a folder of images.")],
    out: Annotated[Path | None, typer.Option(help="The file; default: data/SOURCE.h5.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Resize the short side to this and crop the centre.")] = None,
    val_fraction: Annotated[float, typer.Option(min=0, max=0.9, help="Of the training images, stratified.")] = 0.0,
    test_fraction: Annotated[float, typer.Option(min=0, max=0.9, help="Of all images, stratified.")] = 0.0,
    seed: Seed = 0,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="List and skip unreadable images.")] = False,
    compression: Compression = "gzip",
    overwrite: Overwrite = False,
) -> None:
    """Turn an npz file or a folder of images into a dataset file."""
    from probekit.commands.import_ import run_import

    run_import(
        source,
        out=out or DATA / f"{source.resolve().stem}.h5",
        size=size,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        skip_broken=skip_broken,
        compression=compression,
        overwrite=overwrite,
        console=console,
    )


@app.command()
def show(
    path: Annotated[Path | None, typer.Argument(help="A dataset file; default: the newest in data/.")] = None,
    out: Annotated[Path | None, typer.Option(help="The picture; default: beside the file, or in the run.")] = None,
    split: Annotated[str, typer.Option(help="Which split to draw.")] = "train",
    views: Annotated[str | None, typer.Option(help="Draw what a method trains on: simclr, conrec, ...")] = None,
    run: Annotated[str | None, typer.Option(help="Draw what a run was given, and what it predicts.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Describe a dataset file and draw a picture grid; with --views, what a method is given and predicts."""
    from probekit.commands.show import run_show

    run_show(
        path,
        out=out,
        split=split,
        views=views,
        run=run,
        seed=seed,
        as_json=as_json,
        data=DATA,
        runs=RUNS,
        console=errors if as_json else console,
    )
