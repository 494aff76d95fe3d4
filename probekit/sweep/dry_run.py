"""`probekit sweep --dry-run`: what would run, and what it costs; nothing is written."""

from collections.abc import Mapping
from pathlib import Path
from shlex import join
from typing import Any

from rich.console import Console

from probekit.h5 import read_info
from probekit.run import Run
from probekit.sweep.cost import run_hours, sentence, shape_of, summed
from probekit.sweep.datasets import Data, has_evidence, kept
from probekit.sweep.folder import SweepFolder, read_files
from probekit.sweep.plan import commands_left
from probekit.sweep.request import Options, Request, measurable


def dry_run(
    source: str,
    request: Request,
    options: Options,
    folder: SweepFolder,
    *,
    again: str,
    runs: Path,
    data: Path,
    console: Console,
) -> dict[str, Any]:
    """What a sweep would run, a shell's lines, `again` the last of them; and the GPU hours of its runs.

    Returns "commands"; "runs", each with its name, GPUs, command (what it still needs, "" for nothing) and "gpu_hours"
    by machine, None where its images are not there yet; "gpu_hours" of all that are left.
    """
    for line in request.missing:
        console.print(f"not there yet: {line}")
    again += "" if options.seeds is None else f" --seeds {','.join(map(str, options.seeds))}"
    again += "" if options.device == "auto" else f" --device {options.device}"
    files = read_files(request.stored) if request.stored and options.resume else {}
    places = {each.name: kept(each, data) or folder.data(each.name) for each in request.sweep.datasets}
    first, lines = commands(source, request, options, runs, files, places)
    paths = {name: str(place) for name, place in places.items()} | {name: file.path for name, file in files.items()}
    shapes = {dataset.name: shape_of(dataset, paths[dataset.name]) for dataset in request.sweep.datasets}
    left = [run for run in request.chosen if lines[run.name]]
    hours = dict(zip((run.name for run in left), run_hours(left, shapes), strict=True))
    told = [
        {
            "name": run.name,
            "dataset": run.dataset,
            "row": run.row.name,
            "seed": run.seed,
            "gpus": run.gpus,
            "nodes": run.nodes,
            "command": lines[run.name],
            "gpu_hours": hours.get(run.name),
        }
        for run in request.chosen
    ]
    preset = request.asked["preset"]
    console.print(f"{len(left)} runs of {len(request.chosen)} to do, preset {preset}. {sentence([*hours.values()])}")
    if request.resources is not None:
        jobs = f"{len(left)} jobs of {request.resources.minutes} minutes"
        asked = "".join(f", {key}={value}" for key, value in request.resources.options.items())
        console.print(f"with --engine slurm: an array of {jobs}{asked}; nothing is submitted")
    shell = [*first, *filter(None, lines.values()), again]
    return {"commands": shell, "runs": told, "gpu_hours": summed([*hours.values()])}


def commands(
    source: str, request: Request, options: Options, runs: Path, files: Mapping[str, Data], places: Mapping[str, Path]
) -> tuple[list[str], dict[str, str]]:
    """A line that makes the sweep's folder and data, where there are none; and one a run, "" if it is done."""
    needed = {run.dataset for run in request.chosen}
    seen = {d.name for d in request.sweep.datasets if d.generator and not request.found.get(d.name)}
    seen |= {name for name, path in request.found.items() if path == places[name] and has_evidence(read_info(path))}
    evident = {name for name in needed if (files[name].evidence if name in files else name in seen)}
    typed = {name: getattr(options, name) for name in ("name", "seeds", "published", "epochs")}
    typed |= {name: request.asked[name] for name in ("preset", "device", "log")}
    words = [f"--{name}={value}" for name, value in typed.items() if value is not None]
    words += [f"--set={setting}" for setting in options.settings] + [f"--only={text}" for text in options.only]
    words += ["--resume"] * options.resume
    made = [f"probekit {join(['sweep', source, *words, '--limit-minutes=0'])}"]
    lines = {}
    for run in measurable(request.chosen, evident):
        path = files[run.dataset].path if run.dataset in files else str(places[run.dataset])
        left = commands_left(Run(runs / run.name), run, data=path, device=request.asked["device"])
        lines[run.name] = " && ".join(f"probekit {join(command)}" for command in left)
    return (made if request.found or request.missing else []), lines
