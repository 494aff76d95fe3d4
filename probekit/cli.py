"""The command line: parse, call one plain function, print. Heavy imports stand inside the commands."""

import os
from pathlib import Path
from typing import Annotated

import typer

from probekit import __version__
from probekit.output import console, errors, print_json, run_app, show_tracebacks

DATA = Path("data")
RUNS = Path("runs")
SWEEPS = Path("sweeps")

app = typer.Typer(
    name="probekit",
    help="What does an image encoder really see: the fine detail, or only the gist?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; may be repeated.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
DataFile = Annotated[Path | None, typer.Option("--data", help="A dataset file; without one the newest in data/.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:i].")]
Compression = Annotated[str, typer.Option(help="none, lzf or gzip.")]


def main() -> None:
    """The `probekit` command."""
    run_app(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"probekit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What does an image encoder really see: the fine detail, or only the gist?"""
    show_tracebacks(debug)


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


@app.command()
def pretrain(
    method: Annotated[str | None, typer.Argument(help="A method (`probekit list`); default: conrec.")] = None,
    data: DataFile = None,
    name: Annotated[str | None, typer.Option(help="Of the run folder.")] = None,
    preset: Annotated[str | None, typer.Option(help="paper or quick; default: paper on a GPU, else quick.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step; each gives two views.")] = None,
    eval_every: Annotated[int | None, typer.Option(min=1, help="Epochs between linear probes.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or auto.")] = None,
    seed: Seed = 0,
    config: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A TOML file of settings.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --name, or with the newest run.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Pretrain a method on a dataset file."""
    from probekit.commands.pretrain import run_pretrain, run_resume

    typed = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.eval_every": eval_every,
        "train.precision": precision,
    }
    given = {key: value for key, value in typed.items() if value is not None}
    if resume:
        fixed = [k for k in given if k != "train.epochs"] + settings
        options = {"--config": config, "--preset": preset, "--data": data, "--overwrite": overwrite, "--seed": seed}
        fixed += [text for text, value in options.items() if value]
        run_resume(name, method=method, epochs=epochs, device=device, refused=fixed, runs=RUNS, console=console)
        return
    run_pretrain(
        method or "conrec",
        data=data,
        runs=RUNS,
        name=name,
        preset=preset,
        seed=seed,
        config_file=config,
        overrides=settings,
        options=given,
        device=device,
        overwrite=overwrite,
        data_folder=DATA,
        console=console,
    )


@app.command()
def probe(
    run: Annotated[str | None, typer.Argument(help="A run; default: the newest.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A dataset file; default: the run's own.")] = None,
    protocol: Annotated[str, typer.Option(help="val: standardised, C chosen on validation; paper: C=1.")] = "val",
    checkpoint: Annotated[str, typer.Option(help="last, best_val or best_test.")] = "last",
    floors: Annotated[bool, typer.Option("--floors/--no-floors", help="Probe the floors too.")] = True,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Report how well a linear probe separates the classes, next to floors that need no learning."""
    from probekit.commands.probe import run_probe

    result = run_probe(
        run,
        data=data,
        protocol=protocol,
        checkpoint=checkpoint,
        floors=floors,
        seed=seed,
        device=device,
        runs=RUNS,
        console=errors if as_json else console,
        quiet=as_json,
    )
    if as_json:
        print_json(result)


@app.command()
def sweep(
    source: Annotated[str | None, typer.Argument(help="A shipped sweep, or a .toml file; without one: a list.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the sweep's folder and runs; default: the file's.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="In place of the file's; adds to --resume.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once; default: one a core, on a GPU 4.")] = None,
    published: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of the published npz files; default: data/.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="paper or quick; default: paper on a GPU, else quick.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of every run.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    only: Annotated[
        list[str], typer.Option(metavar="TEXT", help="Now only the datasets or rows named so; may be repeated.")
    ] = (),  # type: ignore[assignment]
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is finished, go on with the rest.")] = False,
    overwrite: Overwrite = False,
    limit_minutes: Annotated[float | None, typer.Option(min=0, help="Then save everything and stop.")] = None,
    as_json: Json = False,
) -> None:
    """Pretrain and probe methods x datasets x seeds, several at once, into one table with intervals."""
    from probekit.commands.sweep import Options, list_sweeps, run_sweep

    out = errors if as_json else console
    if source is None:
        result, problem = list_sweeps(out), ""
    else:
        options = Options(
            name=name,
            seeds=seeds,
            jobs=jobs,
            published=published,
            preset=preset,
            epochs=epochs,
            settings=settings,
            only=only,
            device=device,
            resume=resume,
            overwrite=overwrite,
            limit_minutes=limit_minutes,
        )
        result, problem = run_sweep(source, options, sweeps=SWEEPS, runs=RUNS, data=DATA, console=out, quiet=as_json)
    if as_json:
        print_json(result)
    if problem:
        raise ValueError(problem)


bench = typer.Typer(help="What things cost here.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command()
def step(
    method: Annotated[str, typer.Argument(help="A method (`probekit list`).")] = "conrec",
    preset: Annotated[str | None, typer.Option(help="paper or quick; default: paper on a GPU, else quick.")] = None,
    size: Annotated[int, typer.Option(min=8, help="Pixels a side of the images.")] = 128,
    channels: Annotated[int, typer.Option(help="Of the images, 1 or 3.")] = 1,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step; each gives two views.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or auto.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    device: Device = "auto",
    explain: Annotated[bool, typer.Option("--explain", help="Only predict: FLOPs, bytes and the floor.")] = False,
    as_json: Json = False,
) -> None:
    """A training step: what it costs at least, here and on known machines, and what it takes here."""
    from probekit.commands.bench import run_bench_step

    typed = {"train.batch_size": batch_size, "train.precision": precision}
    result = run_bench_step(
        method,
        preset=preset,
        options={key: value for key, value in typed.items() if value is not None},
        overrides=settings,
        size=size,
        channels=channels,
        device=device,
        explain=explain,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List generators with their dials, methods with their parameter counts, looks, presets and sweeps."""
    from probekit.commands.catalogue import catalogue, print_catalogue

    if as_json:
        print_json(catalogue())
    else:
        print_catalogue(catalogue(), console)


@app.command()
def demo(
    method: Annotated[str, typer.Argument(help="The method to pretrain.")] = "conrec",
    overwrite: Overwrite = False,
) -> None:
    """Generate, pretrain and probe: the whole path, in minutes on two CPU cores."""
    from probekit.commands.demo import run_demo

    run_demo(method, data=DATA, runs=RUNS, overwrite=overwrite, console=console)
