"""`probekit demo`: the whole path, once, on a laptop."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from probekit.cli.probe import show_result
from probekit.data.gen import render_once
from probekit.data.importers import Choices, Options
from probekit.data.importers.announce import run_import
from probekit.device import choose_device
from probekit.exam.measurement import Exam
from probekit.exam.run import exam_run
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.run import heatmap_run
from probekit.probe.measure import probe_run
from probekit.probe.measurements.base import Probe
from probekit.probe.measurements.fractions import Fractions
from probekit.probe.measurements.knn import KNN
from probekit.probe.measurements.retrieval import Retrieval
from probekit.report.run import run_report
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.settings import Asked
from probekit.train.start import run_pretrain, run_resume
from probekit.weights import LAST

# Preset quick takes some 20 minutes on two cores without AVX-512. Cheaper views, smaller batches and fewer passes end
# in 10 and still score more than the random network on the fine factor (docs/log.md, 2026-11-21).
SHORTER = ("views.max_size=48", "train.batch_size=8", "train.epochs=26")
SHORT = Exam(parts=("acuity", "wholes"), items=("landolt", "corner", "bind"))
DIGITS = ("train.epochs=15",)  # docs/log.md, 2026-11-22


def run_demo(method: str, *, data: Path, runs: Path, overwrite: bool, console: Console) -> None:
    """Generates rect-tri, pretrains with preset `quick`, probes, looks into the encoder, examines it, and says what to try next.

    It has a file and a run of its own. A demo that stands already is not trained again (`overwrite` does), and one that
    was interrupted goes on.
    """
    started = time.monotonic()
    console.rule("1 of 6: images whose every factor is known")
    file = render_once("rect-tri", data / "demo.h5", console)
    console.rule(f"2 of 6: pretraining {method}, without labels")
    run = _pretrain(method, file, Run(runs / f"demo-{method}"), SHORTER, overwrite=overwrite, console=console)
    console.rule("3 of 6: what a linear probe reads from it")
    _probe(run, console)
    console.rule("4 of 6: where it looks, against where the evidence is")
    pooling = run.read()["config"]["model"]["pooling"]
    # A minute's worth of maps, images and perturbations.
    few = Heatmap(maps=("cam", "attention" if pooling == "attention" else "gradcam"), n=100, perturb=16)
    show_result(heatmap_run(open_encoder(run, LAST, choose_device("auto")), few, console=console))
    console.rule("5 of 6: an eye test: what it reads, in pixels")
    show_result(exam_run(open_encoder(run, LAST, choose_device("auto")), SHORT, console=console).result)
    console.rule("6 of 6: everything on one page")
    run_report([run.name], out=None, form="html", runs=runs, reports=runs, console=console)
    _next(
        started,
        run,
        console,
        {
            f"probekit exam {run.name}": "the whole eye test, minutes",
            f"probekit show {file}": "what is in the data",
            f"probekit heatmap {run.name} --maps all --n 100": "every map, occlusion too",
            "probekit gen rect-tri --set corner_radius=8 --out data/hard.h5 --preview": "harder images",
            f"probekit pretrain simclr --data {file}": "another method on the same images",
            "probekit list": "all methods, generators and their parameters",
        },
    )


def run_demo_real(method: str, *, data: Path, runs: Path, overwrite: bool, console: Console) -> None:
    """As `run_demo`, on real images that need no download: handwritten digits, which have no masks to look at."""
    started = time.monotonic()
    console.rule("1 of 4: real images, scikit-learn's handwritten digits")
    file = data / "demo-digits.h5"
    if file.exists():
        console.print(f"data: {file} (as it is)")
    else:
        # The dataset's own size, its own test part, and nothing overwritten.
        run_import(
            "digits",
            None,
            Choices(),
            Options(),
            out=file,
            skip_broken=False,
            compression=None,
            overwrite=False,
            console=console,
        )
    console.rule(f"2 of 4: pretraining {method}, without labels")
    run = _pretrain(method, file, Run(runs / f"demo-digits-{method}"), DIGITS, overwrite=overwrite, console=console)
    console.rule("3 of 4: what can be read from it, with many labels, few, and none")
    _probe(run, console, Fractions((0.01, 0.1, 1.0), draws=3), KNN(), Retrieval())
    console.rule("4 of 4: everything on one page")
    run_report([run.name], out=None, form="html", runs=runs, reports=runs, console=console)
    _next(
        started,
        run,
        console,
        {
            f"probekit show {file}": "what is in the data",
            f"probekit heatmap {run.name}": "where it looks",
            f"probekit pretrain supervised --data {file}": "the same encoder, taught with labels",
            "probekit import YOUR_FOLDER --size 128": "your own images: one folder a class",
            "probekit import --help": "flowers102, cub200, imagenet and others, as their authors publish them",
        },
    )


def _probe(run: Run, console: Console, *typed: Probe) -> None:
    for result in probe_run(open_encoder(run, LAST, choose_device("auto")), typed, console=console).values():
        show_result(result)


def _next(started: float, run: Run, console: Console, commands: Mapping[str, str]) -> None:
    """How long it took, what to try, and where the report is."""
    console.print()
    console.print(f"done in {time.monotonic() - started:.0f} s. Try next:")
    for command, about in commands.items():
        console.print(f"  {command:<74}{about}")
    console.print()
    console.print(f"all of it, in a browser: {run.path / 'report.html'}")


def _pretrain(method: str, file: Path, run: Run, slow: Sequence[str], *, overwrite: bool, console: Console) -> Run:
    """Trains, or goes on, or keeps what is there; `slow` holds the settings for a slow CPU."""
    runs = run.path.parent
    if not overwrite and run.json.exists():
        if run.read()["state"] == "finished":
            console.print(f"run: {run.path} (as it is; --overwrite trains it again)")
            return run
        if (run.checkpoints / "last.pt").exists():
            return run_resume(
                run.name, method=method, epochs=None, device="auto", refused=(), runs=runs, console=console
            )
    shorter = slow if is_slow() else ()
    if shorter:
        console.print(
            f"this CPU has no AVX-512: {', '.join(shorter)}, so that the demo ends in minutes; "
            f"for preset quick as it is type: probekit pretrain {method} --data {file}"
        )
    return run_pretrain(
        Asked(method, preset="quick", overrides=shorter),
        data=file,
        runs=runs,
        name=run.name,
        overwrite=True,
        data_folder=file.parent,
        console=console,
    )


def is_slow() -> bool:
    """Whether there is only a CPU, and one without wide vector units."""
    return not torch.cuda.is_available() and torch.backends.cpu.get_cpu_capability() != "AVX512"
