"""What is asked of a sweep: its file and the options, checked before anything is written."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from probekit.config import fitted
from probekit.h5 import is_dataset
from probekit.registry import loggers_named
from probekit.run import Run
from probekit.settings import parse_overrides
from probekit.sweep.datasets import Data, find
from probekit.sweep.definition import Sweep, check_seeds, with_settings
from probekit.sweep.folder import SweepFolder, check_same, read_files
from probekit.sweep.plan import PlannedRun, built, choose, commands_left, plan_runs
from probekit.sweep.slurm import Resources, read_resources


@dataclass(frozen=True)
class Options:
    """The command's options, as typed; None: not typed."""

    name: str | None
    seeds: str | None
    jobs: int | None
    published: Path | None
    preset: str | None
    epochs: int | None
    settings: Sequence[str]
    only: Sequence[str]
    device: str
    resume: bool
    overwrite: bool
    limit_minutes: float | None
    dry_run: bool = False
    status: bool = False
    engine: Literal["local", "slurm"] = "local"
    slurm: Sequence[str] = ()  # KEY=VALUE, what each job asks for
    log: str | None = None  # loggers of every run


@dataclass(frozen=True)
class Request:
    """What is to be run, after every check."""

    sweep: Sweep
    stored: dict[str, Any] | None  # sweep.json
    asked: dict[str, Any]  # the options that it keeps
    seeds: tuple[int, ...]
    planned: tuple[PlannedRun, ...]
    chosen: list[PlannedRun]
    found: dict[str, Path | None]  # what each dataset that is chosen and not made yet is made of
    missing: list[str]  # what a dry run did not find, a line each
    resources: Resources | None  # of a job, with --engine slurm


def check(sweep: Sweep, options: Options, folder: SweepFolder, *, runs: Path, data: Path) -> Request:
    """Refuses what does not fit, before anything is written."""
    resources = _check_together(sweep, options)
    loggers_named(options.log or "")
    stored = folder.read()
    if stored is None and options.status:
        raise ValueError(f"expected the sweep in {folder.path}, found none; to start it leave --status out")
    if stored is not None and not (options.resume or options.overwrite):
        raise ValueError(
            f"{folder.path} exists; type --resume to go on with it, --overwrite to start again, "
            "or --name NAME for another sweep"
        )
    asked: dict[str, Any] = {"preset": options.preset, "epochs": options.epochs, "set": list(options.settings)}
    seeds = _seeds(options.seeds)
    if stored is not None and options.resume:
        sweep = with_settings(sweep, stored["set"])
        check_same(stored, sweep, asked, where=folder.path)
        asked = {key: stored[key] for key in asked}
        asked["device"] = stored["device"] if options.device == "auto" else options.device
        asked["log"] = stored.get("log") if options.log is None else options.log
        seeds = tuple(dict.fromkeys([*stored["seeds"], *seeds]))
    else:
        sweep = with_settings(sweep, options.settings)
        from probekit.device import default_preset, find_device

        asked["preset"] = options.preset or sweep.preset
        if asked["preset"] is None and resources is not None:  # this machine is not the one that trains
            asked["preset"] = "paper" if resources.has_gpus or sweep.gpus > 1 else "quick"
        asked["preset"] = asked["preset"] or default_preset(find_device(options.device))
        asked |= {"device": options.device, "log": options.log}
        seeds = seeds or sweep.seeds
    planned = plan_runs(sweep, folder.path.name, preset=asked["preset"], epochs=asked["epochs"], seeds=seeds)
    planned = built(planned, None if resources is not None or options.status else asked["device"])
    planned = tuple(replace(run, log=asked["log"]) for run in planned)
    chosen = choose(planned, options.only)
    if not (options.resume or options.overwrite):
        for there in (runs / run.name for run in planned if (runs / run.name).exists()):
            raise ValueError(
                f"{there} exists; type --resume to take it into the sweep, --overwrite to replace it, "
                "or --name NAME for another sweep"
            )
    made = read_files(stored) if stored is not None and options.resume else {}
    wanted = {run.dataset for run in chosen} - made.keys()
    for run in measurable(chosen, {name for name, file in made.items() if file.evidence}):
        if run.dataset in made and not is_dataset(Path(path := made[run.dataset].path)):  # made anew where it is needed
            wanted |= {run.dataset} if commands_left(Run(runs / run.name), run, data=path, device="auto") else set()
    found, missing = ({}, []) if options.status else _found(sweep, wanted, options, folder, data)
    return Request(sweep, stored, asked, seeds, planned, chosen, found, missing, resources)


def _check_together(sweep: Sweep, options: Options) -> Resources | None:
    """Refuses options that do not go together; what each job asks for, with `--engine slurm`."""
    ways = {"--overwrite": options.overwrite, "--dry-run": options.dry_run, "--resume": options.resume}
    for first, second in (("--resume", "--overwrite"), ("--dry-run", "--overwrite")):
        if ways[first] and ways[second]:
            raise ValueError(f"expected {first} or {second}, found both")
    if options.status and not options.slurm:
        return None
    if options.engine == "slurm":
        if options.limit_minutes is not None:
            raise ValueError("expected --limit-minutes with --engine local, found slurm; type: --slurm time=4:00:00")
        return read_resources(options.slurm)
    if options.slurm:
        raise ValueError("expected --slurm with --engine slurm, found it alone; type: --engine slurm")
    if sweep.nodes > 1 and not (options.status or options.dry_run):
        raise ValueError(f"expected --engine slurm for nodes = {sweep.nodes} of {sweep.name}, found local")
    return None


def with_fitted(planned: Sequence[PlannedRun], files: Mapping[str, Data]) -> list[PlannedRun]:
    """The runs with their settings as `pretrain` fits them to so many images."""
    found = []
    for run in planned:
        if run.dataset not in files:
            continue
        images = files[run.dataset].n_train
        try:
            config, _ = fitted(run.config, typed=parse_overrides(run.row.settings), images=images)
        except ValueError as error:
            raise ValueError(f"{error} (row {run.row.name})") from error
        found.append(replace(run, config=config))
    return found


def measurable(planned: Sequence[PlannedRun], evident: Container[str]) -> list[PlannedRun]:
    """The runs without what their images do not allow: scores of maps need evidence."""
    return [run if run.dataset in evident else replace(run, measure=run.measure.without_evidence()) for run in planned]


def _found(
    sweep: Sweep, wanted: Container[str], options: Options, folder: SweepFolder, data: Path
) -> tuple[dict[str, Path | None], list[str]]:
    """What each wanted dataset is made of; and, of a dry run, why one is not there."""
    if options.published is not None and not any(dataset.npz for dataset in sweep.datasets):
        raise ValueError(f"{sweep.name} has no published sets; leave --published out")
    found, missing = dict[str, Path | None](), list[str]()
    for dataset in sweep.datasets:
        if dataset.name not in wanted:
            continue
        try:
            found[dataset.name] = path = find(dataset, options.published, data)
        except ValueError as error:
            if not options.dry_run:
                raise
            missing.append(str(error))
            continue
        if path is not None and path.resolve().is_relative_to(folder.path.resolve()):
            raise ValueError(f"expected {path} outside {folder.path}, which --overwrite removes; type: --name NAME")
    return found, missing


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ValueError(f"expected --seeds as 0,1,2, found {text!r}")
    return check_seeds([int(part) for part in parts], "--seeds")
