"""`gen`, `import`, `show`: dataset files."""

from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.app import DATA, RUNS, Compression, Json, Overwrite, Seed, Set, app, finite
from probekit.output.console import console, errors, print_json


@app.command()
def gen(
    generator: Annotated[str, typer.Argument(help="A generator; `probekit list` names them.")] = "rect-tri",
    n: Annotated[
        int | None, typer.Option(min=0, help="Training images, 0 for no such split; default: the paper's.")
    ] = None,
    n_test: Annotated[
        int | None, typer.Option(min=0, help="Test images, 0 for no such split; default: the paper's.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels a side; the geometry scales.")] = 128,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="The file; default: data/GENERATOR.h5.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    pairs: Annotated[bool, typer.Option("--pairs", help="Add every image's counterfactuals; n counts bases.")] = False,
    compression: Compression = "gzip",
    workers: Annotated[int | None, typer.Option(min=1, help="Default: one a core, up to 8.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Also draw a PNG grid with the evidence.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Render parametrized shape images to a dataset file, with every factor, mask and counterfactual known."""
    from probekit.data.gen import render_file
    from probekit.output.hints import after_data
    from probekit.output.png import check_png
    from probekit.settings import parse_overrides

    out = out or DATA / f"{generator}.h5"
    if preview:
        check_png(out.with_suffix(".png"))
    info = render_file(
        generator,
        out,
        console,
        n=n,
        n_test=n_test,
        size=size,
        seed=seed,
        parameters=parse_overrides(settings),
        pairs=pairs,
        compression=compression,
        workers=workers,
        overwrite=overwrite,
    )
    if preview:
        from probekit.data.show import preview as draw

        console.print(f"preview {draw(out)}")
    console.print(after_data(info))


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="An npz file, a folder of class folders or of images, or an official dataset's name.")
    ],
    root: Annotated[
        Path | None, typer.Argument(help="After a name (`probekit list`): the folder of its unpacked files.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file; default: data/SOURCE.h5.")] = None,
    size: Annotated[
        int | None, typer.Option(min=8, help="Pixels a side; default: as they are, official datasets 224.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(help="crop: the centre square; squash: all of it. Default: crop, aptos2019 squash.")
    ] = None,
    max_gb: Annotated[
        float | None,
        typer.Option(min=0, callback=finite, help="Keep more pixels than this as JPEG; default: 8, folders unlimited."),
    ] = None,
    val_fraction: Annotated[
        float, typer.Option(min=0, max=0.9, callback=finite, help="Share of the training images, stratified.")
    ] = 0.0,
    test_fraction: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, callback=finite, help="Share of all images, stratified; default: 0, digits 0.2."),
    ] = None,
    val_as_test: Annotated[bool, typer.Option("--val-as-test", help="Take the val split as test.")] = False,
    skip_split: Annotated[str | None, typer.Option(help="Leave a split out: val or test.")] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Folders: how many levels down the class folders are; asked if not clear.")
    ] = None,
    labels_csv: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Folders: a table with the labels of the files.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Its column of class names.")] = None,
    bits: Annotated[
        int | None, typer.Option(min=1, max=16, help="Bits that the pixels use, of the 16 (or 8) their files have.")
    ] = None,
    values: Annotated[
        str | None, typer.Option("--range", help="The values of black and white, as 0,4095; default: seen or asked.")
    ] = None,
    seed: Seed = 0,
    subset: Annotated[bool, typer.Option("--subset", help="Official: take what is there, however many.")] = False,
    train_with_val: Annotated[
        bool, typer.Option("--train-with-val", help="flowers102, fgvc-aircraft, voc2007: join val to train.")
    ] = False,
    labels: Annotated[str | None, typer.Option(help="fgvc-aircraft: variant, family or manufacturer.")] = None,
    classes: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="imagenet: a file of wnids, one a line.")
    ] = None,
    n_classes: Annotated[int | None, typer.Option(min=1, help="imagenet: so many, chosen by --seed.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="List and skip unreadable images.")] = False,
    compression: Annotated[
        str | None, typer.Option(help="none, lzf or gzip; default: gzip, official datasets none.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn an npz file, a folder of images or an official dataset into a dataset file."""
    from probekit.data.importers import Choices, Options, parse_range
    from probekit.data.importers.announce import run_import

    choices = Choices(
        subset=subset, train_with_val=train_with_val, labels=labels, classes=classes, n_classes=n_classes, seed=seed
    )
    options = Options(
        size=size,
        resize=resize,
        max_gb=max_gb,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        bits=bits,
        range=None if values is None else parse_range(values),
        skip_split=skip_split,
        val_as_test=val_as_test,
        depth=depth,
        labels_csv=labels_csv,
        column=column,
    )
    run_import(
        source,
        root,
        choices,
        options,
        out=out or DATA / f"{Path(source).resolve().stem}.h5",
        skip_broken=skip_broken,
        compression=compression,
        overwrite=overwrite,
        console=console,
    )


@app.command()
def show(
    named: Annotated[
        str | None, typer.Argument(metavar="[FILE|RUN]", help="A dataset file or a run; default: the newest file.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The dataset file to show a run or a method on.")] = None,
    out: Annotated[Path | None, typer.Option(help="The picture; default: beside the file, or in the run.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split to draw; default: train, or the first there is.")
    ] = None,
    views: Annotated[str | None, typer.Option(help="Draw what a method trains on: simclr, conrec, ...")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    whole: Annotated[bool, typer.Option("--verify", help="Read all of the file and check it first.")] = False,
) -> None:
    """Describe a dataset file and draw a picture grid; of a run or a method, draw what it is given and predicts."""
    from probekit.cli.show import run_show

    result = run_show(
        named,
        data=data,
        out=out,
        split=split,
        views=views,
        seed=seed,
        whole=whole,
        draws=not as_json,
        data_folder=DATA,
        runs=RUNS,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)
