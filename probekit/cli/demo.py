"""`probekit demo`: the whole path, once, on a laptop."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from probekit.data.gen import render_once
from probekit.data.importers import Choices, Options, run_import
from probekit.data.show import preview
from probekit.device import choose_device
from probekit.exams.measurement import Exam
from probekit.exams.run import exam_run
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.run import heatmap_run
from probekit.probes.measure import probe_run
from probekit.probes.measurements.fractions import Fractions
from probekit.probes.measurements.knn import KNN
from probekit.probes.measurements.retrieval import Retrieval
from probekit.registry import METHODS, get
from probekit.reports.page import run_report
from probekit.restore.load import adopt
from probekit.restore.opened import open_encoder
from probekit.restore.outside import Outside
from probekit.results import show_results
from probekit.run import Run
from probekit.settings import Asked
from probekit.train.start import StoppedError, run_pretrain, run_resume
from probekit.weights import LAST

# Made by `make encoder`.
ENCODER = Path(__file__).parent.parent / "demo.safetensors"
SCORED = ("train.eval_every=1000",)  # after the first epoch and the last: each time takes as long as an epoch
DIGITS = ("train.epochs=15",)  # on a CPU without AVX-512 (docs/log.md, 2026-11-22)
SHORT = Exam(parts=("acuity", "wholes"), items=("landolt", "corner", "bind"))
MADE = {  # what to try next
    "probekit exam {run}": "the whole eye test: every item, whole against parts",
    "probekit show {file}": "what is in the data",
    "probekit heatmap {run} --maps all --n 100": "every map, occlusion too",
    "probekit gen rect-tri --set corner_radius=8 --out data/hard.h5 --preview": "harder images",
    "probekit pretrain simclr --data {file}": "another method on the same images",
    "probekit list": "what there is: methods, generators, datasets and more",
}
REAL = {
    "probekit show {file}": "what is in the data",
    "probekit heatmap {run}": "where it looks",
    "probekit pretrain supervised --data {file}": "the same encoder, taught with labels",
    "probekit import YOUR_FOLDER --size 128": "your own images: one folder a class",
    "probekit import --help": "flowers102, cub200, imagenet and others, as their authors publish them",
}


def run_demo(method: str, *, real: bool, data: Path, runs: Path, overwrite: bool, console: Console) -> Run:
    """Makes images, pretrains with preset `quick`, probes, looks into the encoder, examines it, and says what is next.

    The images are rect-tri, or with `real` handwritten digits, which need no download and have no masks to look at. It
    has a file and a run of its own. A demo that stands already is not trained again (`overwrite` does), and one that
    was interrupted goes on; a StoppedError says with what command.
    """
    get(METHODS, "method", method)  # before anything is drawn
    started, steps = time.monotonic(), 4 if real else 6
    about = "real images, scikit-learn's handwritten digits" if real else "images whose every factor is known"
    console.rule(f"1 of {steps}: {about}")
    file = _digits(data / "demo-digits.h5", console) if real else render_once("rect-tri", data / "demo.h5", console)
    console.rule(f"2 of {steps}: pretraining {method}, without labels")
    run = Run(runs / f"demo-{'digits-' * real}{method}")
    run = _pretrain(method, file, run, DIGITS if real and is_slow() else (), overwrite=overwrite, console=console)
    read = "can be read from it, with many labels, few, and none" if real else "a linear probe reads from it"
    console.rule(f"3 of {steps}: what {read}")
    opened = open_encoder(run, LAST, choose_device("auto"))
    further = (Fractions((0.01, 0.1, 1.0), draws=3), KNN(), Retrieval()) if real else ()
    show_results(probe_run(opened, further, console=console).values(), console)
    if not real:
        console.rule("4 of 6: where it looks, against where the evidence is")
        pooling = run.read()["config"]["model"]["pooling"]
        few = Heatmap(maps=("cam", "attention" if pooling == "attention" else "gradcam"), n=100, perturb=0)
        show_results([heatmap_run(opened, few, console=console).result], console)
        console.rule("5 of 6: an eye test: what it reads, in pixels")
        show_results([exam_run(opened, SHORT, console=console).result], console)
    console.rule(f"{steps} of {steps}: everything on one page")
    run_report([run.name], out=None, form="html", runs=runs, reports=runs, console=console)
    _end(started, REAL if real else MADE, file, run, console)
    return run


@contextmanager
def going_on(command: str) -> Iterator[None]:
    """Where a signal stops the demo, names the command that goes on with it in place of what a part of it says."""
    try:
        yield
    except (KeyboardInterrupt, StoppedError) as error:
        raise StoppedError(f"stopped; what is done is kept, to go on with the demo type: {command}") from error


def _end(started: float, following: Mapping[str, str], file: Path, run: Run, console: Console) -> None:
    console.print()
    console.print(f"done in {time.monotonic() - started:.0f} s. Try next:")
    for command, meaning in following.items():
        console.print(f"  {command.format(file=file, run=run.name):<74}{meaning}")
    console.print()
    console.print(f"all of it, in a browser: {run.path / 'report.html'}")


def run_quick(*, data: Path, runs: Path, console: Console) -> Run:
    """The same with an encoder that comes along, trained beforehand: a minute."""
    started, silent = time.monotonic(), Console(quiet=True)
    console.rule("1 of 5: images whose every factor is known")
    file = render_once("rect-tri", data / "demo-quick.h5", console, n=600, n_test=300, seed=1)
    console.print(f"picture {preview(file)}: images, their evidence, and their counterfactuals")
    console.rule("2 of 5: what a linear probe reads")
    console.print("the encoder came along: conrec-gap, trained on other images of rect-tri (probekit demo trains one)")
    trained = Outside("unet", weights=ENCODER)
    about: dict[str, Any] = {"run": None, "data": file, "measured": LAST, "device": "auto", "runs": runs}
    name = adopt(trained, lambda info, named: None, data_folder=data, console=silent, **about)
    opened = open_encoder(Run(runs / name), LAST, choose_device("auto"))
    show_results(probe_run(opened, (), console=silent).values(), console)
    console.rule("3 of 5: where it looks, against where the evidence is")
    few = Heatmap(maps=("gradcam",), n=40, perturb=0)
    show_results([heatmap_run(opened, few, console=silent).result], console)
    console.rule("4 of 5: an eye test: what it reads, in pixels")
    show_results(
        [exam_run(opened, Exam(parts=("acuity",), items=("landolt",), layers=("last",)), console=silent).result],
        console,
    )
    console.rule("5 of 5: everything on one page")
    run_report([name], out=None, form="html", runs=runs, reports=runs, console=console)
    _end(started, {"probekit demo": "the same with an encoder that is trained here", **MADE}, file, opened.run, console)
    return opened.run


def _digits(file: Path, console: Console) -> Path:
    """The digits in their own size, with their own test part, and nothing overwritten."""
    if file.exists():
        console.print(f"data: {file} (as it is)")
    else:
        how: dict[str, Any] = {"skip_broken": False, "compression": None, "overwrite": False}
        run_import("digits", None, Choices(), Options(), out=file, console=console, **how)
    return file


def _pretrain(method: str, file: Path, run: Run, few: Sequence[str], *, overwrite: bool, console: Console) -> Run:
    """Trains, or goes on, or keeps what is there; `few` holds what makes preset quick shorter here."""
    runs = run.path.parent
    if not overwrite and run.json.exists():
        if run.read()["state"] == "finished":
            console.print(f"run: {run.path} (as it is; --overwrite trains it again)")
            return run
        if (run.checkpoints / "last.pt").exists():
            return run_resume(
                run.name, method=method, epochs=None, device="auto", refused=(), runs=runs, console=console
            )
    if few:
        console.print(
            f"this CPU has no AVX-512: {', '.join(few)}, so that the demo ends in minutes; "
            f"for preset quick as it is type: probekit pretrain {method} --data {file}"
        )
    return run_pretrain(
        Asked(method, preset="quick", overrides=(*SCORED, *few)),
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
