"""`pretrain`, `sweep`: runs."""

from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.app import (
    DATA,
    RUNS,
    SWEEPS,
    AllowMissing,
    DataFile,
    Device,
    Json,
    Overwrite,
    Seed,
    Set,
    app,
    finite,
)
from probekit.output.console import console, errors, print_json
from probekit.settings import Asked


@app.command()
def pretrain(
    method: Annotated[str | None, typer.Argument(help="A method (`probekit list`); default: conrec.")] = None,
    data: DataFile = None,
    branch: Annotated[
        list[str], typer.Option(metavar="NAME", help="An add-on (`probekit list`); may be repeated.")
    ] = (),  # type: ignore[assignment]
    name: Annotated[str | None, typer.Option(help="Name of the run folder.")] = None,
    preset: Annotated[str | None, typer.Option(help="paper or quick; default: paper on a GPU, else quick.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step, of two views or more each.")] = None,
    eval_every: Annotated[int | None, typer.Option(min=1, help="Epochs between linear probes.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or auto.")] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE[:KEY]", help="Weights that the encoder starts from: a checkpoint of any project."),
    ] = None,
    allow_missing: AllowMissing = False,
    seed: Seed = 0,
    config: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A TOML file of settings.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --name, or with the newest run.")] = False,
    overwrite: Overwrite = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Bit for bit the same on the same GPU, slower; a CPU is anyway.")
    ] = False,
    fail_on_collapse: Annotated[
        bool,
        typer.Option("--fail-on-collapse", help="Stop when the embeddings or projections of all images are alike."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; say what would run, and what it takes here and elsewhere.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")] = False,
) -> None:
    """Pretrain a method on a dataset file."""
    typed = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.eval_every": eval_every,
        "train.precision": precision,
        "train.deterministic": deterministic or None,
        "model.weights": None if init_from is None else str(init_from),
        "model.allow_missing": allow_missing or None,
    }
    given = {key: value for key, value in typed.items() if value is not None}
    asked = Asked(method or "conrec", preset, seed, config, settings, given, branch, device)
    if as_json and not dry_run:
        raise ValueError("expected --dry-run with --json, found none; leave --json out, or type: --dry-run --json")
    if resume:
        refused = {"--overwrite": overwrite, "--dry-run": dry_run}
        _resume(asked, method, name, data, fail_on_collapse, [text for text, on in refused.items() if on])
    elif dry_run:
        _dry_run(asked, name, data, overwrite, as_json)
    else:
        _begin(asked, name, data, overwrite, fail_on_collapse)


def _begin(asked: Asked, name: str | None, data: Path | None, overwrite: bool, fail_on_collapse: bool) -> None:
    from probekit.train.start import run_pretrain

    run_pretrain(
        asked,
        data=data,
        runs=RUNS,
        name=name,
        overwrite=overwrite,
        fail_on_collapse=fail_on_collapse,
        data_folder=DATA,
        console=console,
    )


def _dry_run(asked: Asked, name: str | None, data: Path | None, overwrite: bool, as_json: bool) -> None:
    from probekit.train.start import run_dry

    out = errors if as_json else console
    result = run_dry(asked, data=data, runs=RUNS, name=name, overwrite=overwrite, data_folder=DATA, console=out)
    if as_json:
        print_json(result)


def _resume(
    asked: Asked, method: str | None, name: str | None, data: Path | None, fail_on_collapse: bool, refused: list[str]
) -> None:
    from probekit.train.start import run_resume

    refused += [key for key in asked.options if key != "train.epochs"]
    refused += [*asked.overrides, *(f"--branch {name}" for name in asked.branches)]
    others = {"--config": asked.config_file, "--preset": asked.preset, "--seed": asked.seed}
    run_resume(
        name,
        method=method,
        data=data,
        epochs=asked.options.get("train.epochs"),
        device=asked.device,
        refused=refused + [text for text, value in others.items() if value],
        fail_on_collapse=fail_on_collapse,
        runs=RUNS,
        console=console,
    )


@app.command()
def sweep(
    source: Annotated[str | None, typer.Argument(help="A shipped sweep, or a .toml file; without one: a list.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of its folder and runs; default: the file's.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="In place of the file's; adds to --resume.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once; default: one a GPU, else one a core.")] = None,
    published: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of the published npz files; default: data/.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="paper or quick; default: paper on a GPU, else quick.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every run.")] = None,
    settings: Set = (),  # type: ignore[assignment]
    only: Annotated[
        list[str], typer.Option(metavar="TEXT", help="Now only the datasets or rows named so; may be repeated.")
    ] = (),  # type: ignore[assignment]
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is finished, go on with the rest.")] = False,
    overwrite: Overwrite = False,
    limit_minutes: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="Then save everything and stop.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the commands that would run, one a line, for a shell.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pretrain and probe methods x datasets x seeds, several at once, into one table with intervals."""
    from probekit.sweep.start import Options, list_sweeps, run_sweep

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
            dry_run=dry_run,
        )
        result, problem = run_sweep(source, options, sweeps=SWEEPS, runs=RUNS, data=DATA, console=out, quiet=as_json)
    if as_json:
        print_json(result)
    elif dry_run:
        print(*result.get("commands", ()), sep="\n")
    if problem:
        raise ValueError(problem)
