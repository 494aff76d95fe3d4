"""`probekit sweep`: from a sweep file to many runs and one table."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.checked import checked
from probekit.locks import holder, locked
from probekit.run import Run, write_json
from probekit.sweep import slurm, status
from probekit.sweep.datasets import Name
from probekit.sweep.definition import describe, load, shipped
from probekit.sweep.dry_run import dry_run
from probekit.sweep.folder import SweepFolder, read_files, remove
from probekit.sweep.jobs import cores
from probekit.sweep.plan import check_run, run_names, uneven_pairs
from probekit.sweep.request import Options, Request, check, measurable, with_fitted
from probekit.sweep.session import Session
from probekit.sweep.table import terminal_tables

MOST_AT_ONCE = 8  # ours, on a CPU: each run holds its own copy of torch and the images, about half a gigabyte


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
    options say otherwise; `quiet` leaves the table out. Gives what results.json holds, of a dry run what `dry_run`
    gives, of jobs that were submitted their number; and why not all is done, one line, or "". A ValueError for what
    does not fit, before anything is run.
    """
    started = time.monotonic()
    sweep = load(source)
    folder = SweepFolder(sweeps / checked(sweep.name if options.name is None else options.name, Name, "", "--name"))
    options = replace(options, resume=options.resume or options.status)
    request = check(sweep, options, folder, runs=runs, data=data)
    named = f"probekit sweep {quote(source)}" + (f" --name {quote(options.name)}" if options.name else "")
    again = f"{named} --resume" + "".join(f" --only {quote(text)}" for text in options.only)
    if options.dry_run:  # which keeps nothing of what was typed in sweep.json
        return dry_run(source, request, options, folder, again=again, runs=runs, data=data, console=console), ""
    if options.status:
        return _status(request, folder, runs=runs, console=console, quiet=quiet), ""
    if request.resources is not None:
        slurm.check_engine(sweep.gpus, sweep.nodes, request.resources)
    folder.lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.lock, str(folder.path)):
        if request.resources is not None:
            return _submit(request, options, folder, runs=runs, console=console, named=named), ""
        for run in request.planned:  # of a sweep that was killed, say
            Run(runs / run.name).refuse_work()
        session = _open(request, options, folder, runs=runs)
        gpus = _gpus(session.device, sweep.gpus)
        at_once, threads = _share(session, options.jobs, gpus)
        _announce(session, options, f"{at_once} at a time with {threads} thread{'s' * (threads > 1)} each", console)
        deadline = math.inf if options.limit_minutes is None else started + 60 * options.limit_minutes
        stopped = session.run(at_once=at_once, threads=threads, gpus=gpus, deadline=deadline, console=console)
        results = session.write()
        drawn = folder.draw(results)
    if not quiet and not stopped:
        _print_tables(results, console)
    _announce_files(folder, drawn, console)
    if session.pictures:
        console.print(f"pictures: {', '.join(map(str, session.pictures))}")
    return results, _problem(session, stopped, again)


def _open(request: Request, options: Options, folder: SweepFolder, *, runs: Path) -> Session:
    """Makes, replaces or takes up the sweep's folder."""
    stored = request.stored
    if options.overwrite:
        if jobs := slurm.queued(folder.path):
            numbers = " ".join(dict.fromkeys(job.job.partition("_")[0] for job in jobs.values()))
            raise ValueError(f"expected no jobs of {folder.path} in Slurm's queue, found {numbers}; scancel them first")
        begun = run_names(request.sweep, folder.path.name, stored["seeds"] if stored else ())
        remove(folder, runs, list(dict.fromkeys([*(run.name for run in request.planned), *begun])))
    if stored is None or options.overwrite:
        stored = folder.create(request.sweep, request.found, seeds=request.seeds, asked=request.asked)
    elif request.found:
        stored = folder.add(stored, request.sweep, request.found)
    folder.logs.mkdir(exist_ok=True)  # runs that were made elsewhere come without
    files = read_files(stored)
    for run in with_fitted(request.planned, files):
        check_run(Run(runs / run.name), run, files[run.dataset].hash)
    write_json(folder.plan, stored | {"seeds": list(request.seeds), "log": request.asked["log"]})
    return _session(request, folder, stored, runs)


def _session(request: Request, folder: SweepFolder, stored: dict[str, Any], runs: Path) -> Session:
    files = read_files(stored)
    evident = {name for name, file in files.items() if file.evidence}
    planned, chosen = (measurable(some, evident) for some in (request.planned, request.chosen))
    return Session(folder, request.sweep, planned, chosen, files, runs=runs, device=request.asked["device"])


def _submit(
    request: Request, options: Options, folder: SweepFolder, *, runs: Path, console: Console, named: str
) -> dict[str, Any]:
    """Submits a job for each run that is left, and that neither waits nor runs; gives their number and names."""
    assert request.resources is not None
    session = _open(request, options, folder, runs=runs)
    queued = slurm.queued(folder.path)
    at_work = {each.name for each in status.standings(session, queued) if each.state in ("running", "queued")}
    left = [run for run in slurm.due(session) if run.name not in at_work]
    _announce(session, options, f"{len(at_work)} queued or running, {len(left)} to be submitted", console)
    if not left:
        console.print("nothing to submit; --status says how far it is")
        return {"job": None, "runs": []}
    job = slurm.submit(session, left, request.resources, at_once=options.jobs)
    console.print(f"submitted {len(left)} runs as job {job}; their state: {named} --status")
    return {"job": job, "runs": [run.name for run in left]}


def _status(request: Request, folder: SweepFolder, *, runs: Path, console: Console, quiet: bool) -> dict[str, Any]:
    """Says where every run stands; writes the results so far, unless the sweep is at work and does so itself."""
    assert request.stored is not None
    session = _session(request, folder, request.stored, runs)
    try:
        queued = slurm.queued(folder.path)
    except ValueError as error:
        console.print(f"warning: Slurm's queue is not known: {error}")
        queued = {}
    found = status.standings(session, queued)
    counts = {
        state: sum(each.state == state for each in found) for state in dict.fromkeys(each.state for each in found)
    }
    console.print(f"sweep {folder.path.name}: " + ", ".join(f"{n} {state}" for state, n in counts.items()))
    if not quiet:
        console.print(status.table(found), soft_wrap=False)
    if holder(folder.lock) is None:
        results = session.write()
        drawn = folder.draw(results)
        _announce_files(folder, drawn, console)
    else:
        results = session.collect()
    if not quiet:
        _print_tables(results, console)
    return results | {"status": [asdict(each) for each in found]}


def _print_tables(results: dict[str, Any], console: Console) -> None:
    for table in terminal_tables(results):
        console.print(table, soft_wrap=False)


def _announce_files(folder: SweepFolder, drawn: Path | None, console: Console) -> None:
    also = "" if drawn is None else f", {drawn}"
    console.print(f"wrote {folder.path / 'results.json'}{also} and {folder.path / 'table.md'}")


def _announce(session: Session, options: Options, how: str, console: Console) -> None:
    for name, file in session.data.items():
        console.print(f"data: {name}: {file.origin}; {file.n_train} training and {file.n_test} test images")
    told = "" if options.preset or options.resume else " (--preset takes another)"
    kept = f", {session.finished} of {len(session.chosen)} are finished" if session.finished else ""
    console.print(
        f"sweep {session.folder.path.name}: {len(session.left)} runs to do{kept}; "
        f"preset {session.planned[0].config.preset}{told}, "
        f"{how}; logs in {session.folder.logs}"
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


def _gpus(device: str, each: int) -> list[str]:
    """The GPUs to spread runs over, each as CUDA_VISIBLE_DEVICES names it; none on a CPU, or where one is typed.

    `each`: of a run; a ValueError if there are fewer.
    """
    import torch

    from probekit.device import find_device

    place = find_device(device)
    if place.type == "cpu" or place.index is not None:
        return []
    found = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(found)] if given is None else [name.strip() for name in given.split(",")]
    # Of several parts of a GPU a process sees the first alone; else CUDA stops at the first name that it does not know.
    names = names if names[0].startswith("MIG-") else names[:found]
    if len(names) < each:
        raise ValueError(f"expected {each} GPUs, as the file has gpus = {each}, found {len(names)}")
    return [",".join(names[first : first + each]) for first in range(0, len(names) - each + 1, each)]


def _share(session: Session, jobs: int | None, gpus: Sequence[str]) -> tuple[int, int]:
    """Runs at once, and threads for each, so that all threads together are no more than the cores."""
    from probekit.device import find_device

    # One run a GPU: several take turns there, and each would find room for its images in the same memory.
    on_cpu = find_device(session.device).type == "cpu"
    most = min(cores(), MOST_AT_ONCE) if on_cpu else max(1, len(gpus))
    at_once = max(1, min(jobs or most, len(session.left)))
    return at_once, max(1, cores() // at_once)
