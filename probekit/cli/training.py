"""`pretrain`, `sweep`: runs."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from probekit.cli import shared
from probekit.output.console import console, errors, print_json
from probekit.registry import LOGGERS, loggers_named
from probekit.run import Run
from probekit.settings import Asked

of_training = shared.of_group("Settings")
Method = Annotated[
    str | None,
    typer.Argument(help="A method (probekit list methods); default: conrec.", autocompletion=shared.methods_like),
]
Branches = Annotated[
    list[str],
    typer.Option(
        metavar="NAME", help="An add-on (probekit list branches); may be repeated.", autocompletion=shared.branches_like
    ),
]
Epochs = Annotated[int | None, of_training(min=1, help="Passes over the training images.")]
BatchSize = Annotated[int | None, of_training(min=2, help="Images a step, each in several views.")]
EvalEvery = Annotated[int | None, of_training(min=1, help="Epochs from one score of the monitor to the next.")]
Precision = Annotated[Literal["auto", "fp32", "bf16"] | None, of_training(help="How precisely to compute.")]
InitFrom = Annotated[Path | None, of_training(metavar="FILE[:KEY]", help="Start from these weights, of any project.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Accept incomplete weights; the rest stays random, and is marked so.")
]
ConfigFile = Annotated[Path | None, of_training(exists=True, dir_okay=False, help="A TOML file of settings.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Bit for bit the same on the same GPU, slower; a CPU is anyway.")
]
Log = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help=f"Log to {', '.join(LOGGERS)} too; 'none' stops that of a resumed run."),
]
StopOnCollapse = Annotated[bool, typer.Option("--fail-on-collapse", help="Stop when all embeddings become alike.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Train nothing; say what would run, and what it takes here and elsewhere.")
]
GPUs = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Share each batch among N GPUs, or with --device cpu N processes."),
]
RunMade = Annotated[str | None, shared.output(metavar="RUN", help="Name of the run folder.")]
Status = Annotated[bool, typer.Option("--status", help="Only say where every run stands, and what is known.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with --name, or with the newest run.")]


@shared.command(
    shared.TRAINING,
    "probekit pretrain conrec --dry-run",
    "probekit pretrain moco-v2 --branch lcr --data data/rect-tri.h5 --epochs 100",
    "probekit pretrain --resume --name conrec-rect-tri --epochs 200",
    "probekit pretrain swav --gpus 4",
)
def pretrain(
    method: Method = None,
    data: shared.DataFile = None,
    branch: Branches = (),  # type: ignore[assignment]
    preset: shared.Preset = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    eval_every: EvalEvery = None,
    precision: Precision = None,
    init_from: InitFrom = None,
    allow_missing: AllowMissing = False,
    seed: shared.Seed = 0,
    config: ConfigFile = None,
    settings: shared.Set = (),  # type: ignore[assignment]
    device: shared.Device = "auto",
    gpus: GPUs = None,
    deterministic: Deterministic = False,
    fail_on_collapse: StopOnCollapse = False,
    log: Log = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    name: RunMade = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Pretrain a method on a dataset file."""
    from probekit.train.launch import launched
    from probekit.train.start import run_dry, run_pretrain, run_resume

    if launched(gpus or 1, device, dry_run=dry_run):
        return
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
    loggers = None if log is None else loggers_named(log)
    asked = Asked(method or "conrec", preset, seed, config, settings, given, branch, device, loggers or ())
    say = errors if as_json else console
    common: dict[str, Any] = {"data": data, "runs": shared.RUNS, "console": say}
    made: dict[str, Any] = {"name": name, "overwrite": overwrite, "data_folder": shared.DATA}
    if resume:
        refused = [text for text, on in (("--overwrite", overwrite), ("--dry-run", dry_run)) if on]
        common |= {"refused": [*refused, *_unresumable(asked)], "fail_on_collapse": fail_on_collapse, "log": loggers}
        run = run_resume(name, method=method, epochs=epochs, device=device, **common)
    elif not dry_run:
        run = run_pretrain(asked, fail_on_collapse=fail_on_collapse, **made, **common)
    result = run_dry(asked, **made, **common) if dry_run else _told(run, say)
    if as_json:
        print_json(result)


def _told(run: Run, say: Console) -> dict[str, Any]:
    """Says what can be done with a run that is trained; what --json prints of it."""
    from probekit.cli.overview import about
    from probekit.h5 import read_info
    from probekit.output.hints import after_pretraining

    say.print(after_pretraining(run, read_info(run.data())))
    return about(run)


def _unresumable(asked: Asked) -> list[str]:
    """What was typed that a run has of its own."""
    others = {"--config": asked.config_file, "--preset": asked.preset, "--seed": asked.seed}
    typed = [key for key in asked.options if key != "train.epochs"]
    typed += [*asked.overrides, *(f"--branch {name}" for name in asked.branches)]
    return typed + [text for text, value in others.items() if value]


Source = Annotated[
    str | None,
    typer.Argument(help="A shipped sweep, or a .toml file; without one: a list.", autocompletion=shared.sweeps_like),
]
Only = Annotated[
    list[str], typer.Option(metavar="TEXT", help="Now only the datasets or rows named so; may be repeated.")
]
Published = Annotated[
    Path | None, typer.Option(file_okay=False, help="Folder of the published npz files; default: data/.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs at once; default: one a GPU, else one a core.")]
LimitMinutes = Annotated[
    float | None, typer.Option(min=0, callback=shared.finite, help="Save everything and stop after so many minutes.")
]
Lines = Annotated[bool, typer.Option("--dry-run", help="Only print the commands, one a line, and the GPU hours.")]
SweepMade = Annotated[str | None, shared.output(help="Name of its folder and runs; default: the file's.")]


@shared.command(
    shared.TRAINING,
    "probekit sweep table1 --only rect-tri",
    "probekit sweep mine.toml --seeds 0,1,2 --jobs 2",
    "probekit sweep table1 --dry-run",
    "probekit sweep table1 --engine slurm --slurm partition=gpu --slurm time=4:00:00 --slurm gpus_per_node=1",
    "probekit sweep table1 --status",
)
def sweep(
    source: Source = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2", help="Instead of the file's; adds to --resume.")] = None,
    only: Only = (),  # type: ignore[assignment]
    preset: shared.Preset = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every run.")] = None,
    settings: shared.Set = (),  # type: ignore[assignment]
    published: Published = None,
    device: shared.Device = "auto",
    jobs: Jobs = None,
    log: Log = None,
    engine: shared.Engine = "local",
    slurm: shared.Slurm = (),  # type: ignore[assignment]
    limit_minutes: LimitMinutes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is finished, go on with the rest.")] = False,
    dry_run: Lines = False,
    status: Status = False,
    name: SweepMade = None,
    overwrite: shared.Overwrite = False,
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Pretrain and probe methods x datasets x seeds, several at once, into one table with intervals."""
    from probekit.sweep.request import Options
    from probekit.sweep.start import list_sweeps, run_sweep

    out = errors if as_json or dry_run else console
    if source is None:
        result, problem = list_sweeps(out), ""
    else:
        options = Options(
            name=name,
            seeds=seeds,
            jobs=jobs,
            log=log,
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
            status=status,
            engine=engine,
            slurm=slurm,
        )
        folders = {"sweeps": shared.SWEEPS, "runs": shared.RUNS, "data": shared.DATA}
        result, problem = run_sweep(source, options, **folders, console=out, quiet=as_json)
    if as_json:
        print_json(result)
    elif dry_run:
        print(*result.get("commands", ()), sep="\n")
    if problem:
        raise ValueError(problem)
