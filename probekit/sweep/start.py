"""`probekit sweep`: from a sweep file to many runs and one table."""

import math
import os
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import join, quote
from typing import Any

from rich.console import Console

from probekit.checked import checked
from probekit.config import fitted
from probekit.files import locked
from probekit.h5 import read_info
from probekit.run import Run, write_json
from probekit.settings import parse_overrides
from probekit.sweep.datasets import Data, Name, find, has_evidence, kept
from probekit.sweep.definition import Sweep, check_seeds, describe, load, shipped, with_settings
from probekit.sweep.folder import SweepFolder, check_same, read_files, remove
from probekit.sweep.jobs import cores
from probekit.sweep.plan import PlannedRun, built, check_run, choose, commands_left, plan_runs, run_names, uneven_pairs
from probekit.sweep.session import Session
from probekit.sweep.table import terminal_tables

MOST_AT_ONCE = 8  # ours, on a CPU: each run holds its own copy of torch and the images, about half a gigabyte


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


def list_sweeps(console: Console) -> dict[str, Any]:
    """Says which sweeps are shipped; returns the same as data."""
    entries = [describe(name) for name in shipped()]
    for entry in entries:
        console.print(f"{entry['name']:<15}{entry['runs']:>3} runs  {entry['about']}")
    console.print("next: probekit sweep table1   or   probekit sweep FILE.toml (docs/sweeps.md has the format)")
    return {"sweeps": entries}


def run_sweep(
    source: str, options: Options, *, sweeps: Path, runs: Path, data: Path, console: Console, quiet: bool
) -> tuple[dict[str, Any], str]:
    """Runs what a sweep still needs, and writes results.json and table.md; a dry run does neither.

    `source`: a shipped sweep's name, or a file's path; `data`: where published npz files are looked for unless the
    options say otherwise; `quiet` leaves the table out. Gives what results.json holds, of a dry run {"commands": what a
    shell would run}; and why not all is done, one line, or "". A ValueError for what does not fit, before anything is
    run.
    """
    started = time.monotonic()
    sweep = load(source)
    folder = SweepFolder(sweeps / checked(options.name or sweep.name, Name, "", "--name"))
    request = _check(sweep, options, folder, runs=runs, data=data)
    again = f"probekit sweep {quote(source)} --resume" + (f" --name {quote(options.name)}" if options.name else "")
    again += "".join(f" --only {quote(text)}" for text in options.only)
    if options.dry_run:  # which keeps nothing of what was typed in sweep.json
        for line in request.missing:
            console.print(f"not there yet: {line}")
        again += "" if options.seeds is None else f" --seeds {','.join(map(str, options.seeds))}"
        again += "" if options.device == "auto" else f" --device {options.device}"
        return {"commands": [*_commands(source, request, options, folder, runs, data), again]}, ""
    folder.lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.lock, str(folder.path)):
        session = _open(request, options, folder, runs=runs, console=console)
        gpus = _gpus(session.device)
        at_once, threads = _share(session, options.jobs, gpus)
        _announce(session, options, at_once, threads, console)
        deadline = math.inf if options.limit_minutes is None else started + 60 * options.limit_minutes
        stopped = session.run(at_once=at_once, threads=threads, gpus=gpus, deadline=deadline, console=console)
        results = session.write()
        drawn = folder.draw(results)
    if not quiet and not stopped:
        for table in terminal_tables(results):
            console.print(table, soft_wrap=False)
    also = "" if drawn is None else f", {drawn}"
    console.print(f"wrote {folder.path / 'results.json'}{also} and {folder.path / 'table.md'}")
    return results, _problem(session, stopped, again)


@dataclass(frozen=True)
class _Request:
    """What is to be run, after every check."""

    sweep: Sweep
    stored: dict[str, Any] | None  # sweep.json
    asked: dict[str, Any]  # the options that it keeps
    seeds: tuple[int, ...]
    planned: tuple[PlannedRun, ...]
    chosen: list[PlannedRun]
    found: dict[str, Path | None]  # what each dataset that is chosen and not made yet is made of
    missing: list[str]  # what a dry run did not find, a line each


def _check(sweep: Sweep, options: Options, folder: SweepFolder, *, runs: Path, data: Path) -> _Request:
    """Refuses what does not fit, before anything is written."""
    if options.overwrite and (options.resume or options.dry_run):
        raise ValueError(f"expected {'--resume' if options.resume else '--dry-run'} or --overwrite, found both")
    stored = folder.read()
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
        seeds = tuple(dict.fromkeys([*stored["seeds"], *seeds]))
    else:
        sweep = with_settings(sweep, options.settings)
        from probekit.device import default_preset, find_device

        asked["preset"] = options.preset or sweep.preset or default_preset(find_device(options.device))
        asked["device"] = options.device
        seeds = seeds or sweep.seeds
    planned = plan_runs(sweep, folder.path.name, preset=asked["preset"], epochs=asked["epochs"], seeds=seeds)
    planned = built(planned, asked["device"])
    chosen = choose(planned, options.only)
    if not (options.resume or options.overwrite):
        for there in (runs / run.name for run in planned if (runs / run.name).exists()):
            raise ValueError(
                f"{there} exists; type --resume to take it into the sweep, --overwrite to replace it, "
                "or --name NAME for another sweep"
            )
    made = read_files(stored) if stored is not None and options.resume else {}
    wanted = {run.dataset for run in chosen} - made.keys()
    for run in _measurable(chosen, {name for name, file in made.items() if file.evidence}):
        if run.dataset in made and not Path(path := made[run.dataset].path).exists():  # made anew where it is needed
            wanted |= {run.dataset} if commands_left(Run(runs / run.name), run, data=path, device="auto") else set()
    found, missing = _found(sweep, wanted, options, folder, data)
    return _Request(sweep, stored, asked, seeds, planned, chosen, found, missing)


def _commands(
    source: str, request: _Request, options: Options, folder: SweepFolder, runs: Path, data: Path
) -> list[str]:
    """A line that makes the sweep's folder and data, where there are none; then one a run, in any order."""
    files = read_files(request.stored) if request.stored and options.resume else {}
    needed = {run.dataset for run in request.chosen}
    places = {dataset.name: kept(dataset, data) or folder.data(dataset.name) for dataset in request.sweep.datasets}
    seen = {d.name for d in request.sweep.datasets if d.generator and not request.found.get(d.name)}
    seen |= {name for name, path in request.found.items() if path == places[name] and has_evidence(read_info(path))}
    evident = {name for name in needed if (files[name].evidence if name in files else name in seen)}
    typed = {name: getattr(options, name) for name in ("name", "seeds", "published", "epochs")}
    typed |= {name: request.asked[name] for name in ("preset", "device")}
    words = [f"--{name}={value}" for name, value in typed.items() if value is not None]
    words += [f"--set={setting}" for setting in options.settings] + [f"--only={text}" for text in options.only]
    words += ["--resume"] * options.resume
    lines = [[["sweep", source, *words, "--limit-minutes=0"]]] if request.found or request.missing else []
    for run in _measurable(request.chosen, evident):
        path = files[run.dataset].path if run.dataset in files else str(places[run.dataset])
        lines.append(commands_left(Run(runs / run.name), run, data=path, device=request.asked["device"]))
    return [" && ".join(f"probekit {join(command)}" for command in line) for line in lines if line]


def _open(request: _Request, options: Options, folder: SweepFolder, *, runs: Path, console: Console) -> Session:
    """Makes, replaces or takes up the sweep's folder."""
    for run in request.planned:  # of a sweep that was killed, say
        Run(runs / run.name).refuse_work()
    stored = request.stored
    if options.overwrite:
        begun = run_names(request.sweep, folder.path.name, stored["seeds"] if stored else ())
        remove(folder, runs, list(dict.fromkeys([*(run.name for run in request.planned), *begun])))
    if stored is None or options.overwrite:
        stored = folder.create(request.sweep, request.found, seeds=request.seeds, asked=request.asked)
    elif request.found:
        stored = folder.add(stored, request.sweep, request.found)
    folder.logs.mkdir(exist_ok=True)  # runs that were made elsewhere come without
    files = read_files(stored)
    for run in _fitted(request.planned, files):
        check_run(Run(runs / run.name), run, files[run.dataset].hash)
    write_json(folder.plan, stored | {"seeds": list(request.seeds)})
    evident = {name for name, file in files.items() if file.evidence}
    planned, chosen = (_measurable(some, evident) for some in (request.planned, request.chosen))
    return Session(folder, request.sweep, planned, chosen, files, runs=runs, device=request.asked["device"])


def _fitted(planned: Sequence[PlannedRun], files: Mapping[str, Data]) -> list[PlannedRun]:
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


def _measurable(planned: Sequence[PlannedRun], evident: Container[str]) -> list[PlannedRun]:
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


def _announce(session: Session, options: Options, at_once: int, threads: int, console: Console) -> None:
    for name, file in session.data.items():
        console.print(f"data: {name}: {file.origin}; {file.n_train} training and {file.n_test} test images")
    told = "" if options.preset or options.resume else " (--preset takes another)"
    kept = f", {session.finished} of {len(session.chosen)} are finished" if session.finished else ""
    console.print(
        f"sweep {session.folder.path.name}: {len(session.left)} runs to do{kept}; "
        f"preset {session.planned[0].config.preset}{told}, "
        f"{at_once} at a time with {threads} thread{'s' * (threads > 1)} each; logs in {session.folder.logs}"
    )
    for line in uneven_pairs(session.sweep, session.planned):
        console.print(line)


def _problem(session: Session, stopped: str | None, again: str) -> str:
    """Why not all is done and what to type, one line; or ""."""
    chosen = len(session.chosen)
    if stopped:
        done = f"{session.finished} of {chosen} runs finished, all saved"
        return f"stopped by {stopped}, {done}; to go on type: {again}"
    broken = session.broken
    if broken:
        return f"{', '.join(broken)} did not finish; the logs are in {session.folder.logs}; to try again type: {again}"
    return ""


def _gpus(device: str) -> list[str]:
    """The GPUs to spread runs over, each as CUDA_VISIBLE_DEVICES names it; none on a CPU, or where one is typed."""
    import torch

    from probekit.device import find_device

    place = find_device(device)
    if place.type == "cpu" or place.index is not None:
        return []
    found = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(index) for index in range(found)]
    names = [name.strip() for name in given.split(",")]
    # Of several parts of a GPU a process sees the first alone; else CUDA stops at the first name that it does not know.
    return names if names[0].startswith("MIG-") else names[:found]


def _share(session: Session, jobs: int | None, gpus: Sequence[str]) -> tuple[int, int]:
    """Runs at once, and threads for each, so that all threads together are no more than the cores."""
    from probekit.device import find_device

    # One run a GPU: several take turns there, and each would find room for its images in the same memory.
    on_cpu = find_device(session.device).type == "cpu"
    most = min(cores(), MOST_AT_ONCE) if on_cpu else max(1, len(gpus))
    at_once = max(1, min(jobs or most, len(session.left)))
    return at_once, max(1, cores() // at_once)


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ValueError(f"expected --seeds as 0,1,2, found {text!r}")
    return check_seeds([int(part) for part in parts], "--seeds")
