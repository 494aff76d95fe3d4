"""`probekit heatmap`: where a run's encoder looks, scored against the truth."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from probekit.commands.results import place_for
from probekit.commands.sources import said_of_random
from probekit.commands.subjects import PROTOCOL, Subjects
from probekit.data.locate import run_or_newest
from probekit.data.split import check_channels, check_divisible
from probekit.device import choose_device
from probekit.h5 import DatasetInfo, read_split
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.base import Context
from probekit.heatmaps.draw import draw_curves, draw_gallery
from probekit.heatmaps.fill import FILLS, fill
from probekit.heatmaps.protocol import Evaluation, evaluate
from probekit.heatmaps.rows import Questions, Row, Subject
from probekit.heatmaps.table import passes_table, score_table
from probekit.heatmaps.targets import TARGETS, make_targets
from probekit.heatmaps.truth import Truth, read_truth
from probekit.models.extract import BATCH_SIZE, extract
from probekit.registry import LOOKS, nearest
from probekit.restore.draw import draw_run
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.run import Run, write_json
from probekit.weights import LAST, Weights

NO_HEAD = "no projection head here, so gradcam-ssl contrasts the embedding itself"


@dataclass(frozen=True)
class HeatmapOptions:
    """What the command line asks for; see `probekit heatmap --help`."""

    looks: tuple[str, ...] | None = None
    target: str | None = None
    fill: str = "black"  # as the papers
    n: int = 200  # ours: intervals of rank and mass then have half-widths of .01 to .02
    passes: int = 32  # ours: a minute on two slow cores
    window: int = Context.window
    stride: int = Context.stride
    checkpoint: Weights = LAST
    seed: int = 0
    device: str = "auto"


def run_heatmap(
    name: str | None, options: HeatmapOptions, *, data: Path | None, runs: Path, console: Console, quiet: bool
) -> dict[str, Any]:
    """Looks into a run's encoder, scores what it shows, draws it, and writes results/heatmap.json.

    Args:
        name: The run, or None for the newest.
        options: See `HeatmapOptions`.
        data: A dataset file, or None for the run's own.
        runs: The folder of run folders.
        console: Where messages go.
        quiet: Leave the tables out.

    Returns:
        What was written (docs/heatmaps.md).

    Raises:
        ValueError: If there is no such run, checkpoint, look, target or fill, or the data do not fit.
    """
    started = time.monotonic()
    _check(options)
    run = run_or_newest(name, runs, console)
    opened = open_encoder(run, options.checkpoint, choose_device(options.device))
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    with run.locked("heatmap"):  # two at once would write one result
        work, settings = _prepare(opened, info, options, console)
        result, rows = evaluate(work, options.looks, lambda line: console.print(f"  {line} ..."))
        opened.refuse_replaced(info)
        result = {
            "run": run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            **settings,
            "fill": options.fill,
            "passes": options.passes,
            "seed": options.seed,
            "command": _command(run, options, data),
            **result,
        }
        result["seconds"] = round(time.monotonic() - started, 2)
        other_data = None if data is None else data.stem
        _write(opened, result, work.truth, rows, other_data, console)
    if not quiet:
        _print(run, result, work.truth, console)
    return result


def _check(options: HeatmapOptions) -> None:
    """Refuses unknown names before anything is read."""
    for look in options.looks or ():
        if look not in LOOKS:
            raise ValueError(nearest("look", look, LOOKS))
    if options.target is not None and options.target not in TARGETS:
        raise ValueError(nearest("target", options.target, TARGETS))
    if options.fill not in FILLS:
        raise ValueError(nearest("fill", options.fill, FILLS))
    if options.fill == "counterfactual" and options.target not in (None, "pair"):
        raise ValueError(
            f"expected --target pair for --fill counterfactual, found --target {options.target}; "
            "type: --target pair, or --fill mean"
        )
    if options.stride > options.window:  # some pixels would never be hidden
        raise ValueError(
            f"expected --stride of at most --window, {options.window}, found {options.stride}; "
            f"type: --stride {options.window}"
        )


def _command(run: Run, options: HeatmapOptions, data: Path | None) -> str:
    """What to type to get the same result."""
    words = ["probekit", "heatmap", run.argument, *(["--data", str(data)] if data else [])]
    for field in fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            name, text = ("look", ",".join(value)) if field.name == "looks" else (field.name, str(value))
            words += [f"--{name}", text]
    return shlex.join(words)


def _prepare(
    opened: OpenedRun, info: DatasetInfo, options: HeatmapOptions, console: Console
) -> tuple[Evaluation, dict[str, Any]]:
    """Everything that `evaluate` needs, on the device, and what the result says about it."""
    device, placed = opened.device, opened.take
    if "train" not in info.splits:
        raise ValueError(f"expected a train split in {info.path}, which the probe is fitted on; choose another --data")
    split = "test" if "test" in info.splits else "train"
    check_channels(info, opened.encoder.spec["channels"])
    if info.multilabel:
        raise ValueError(f"expected one label an image, found several in {info.path}; choose another --data")
    truth = read_truth(info, split, options.n)
    console.print(f"looking into {opened.run.name}, {opened.after}, at {len(truth.index)} {split} images ...")
    images = placed(truth.split.images)
    check_divisible((images.shape[2], images.shape[3]), opened.encoder.stride)
    reading = read_split(info.path, "train")
    if truth.split.labels is None:  # a probe of these labels could not be asked about any class
        reading = replace(reading, labels=None)
    held = read_split(info.path, "val") if "val" in info.splits and info.splits["val"].labelled else None
    subjects = Subjects(
        opened,
        placed(reading.images),
        reading,
        None if held is None else (placed(held.images), held),
        len(info.classes),
        Context(window=options.window, stride=options.stride, seed=options.seed),
    )
    trained = subjects.of(opened)
    untrained = opened.beside(options.seed, (images.shape[2], images.shape[3]))
    random = None if untrained is None else subjects.of(untrained)
    headless = opened.method is None or opened.method.projection is None
    notes = [*([NO_HEAD] if headless else []), *said_of_random(untrained, options.seed)]
    for note in notes:
        console.print(f"note: {note}")
    labels = _labels(truth, trained, subjects, device)
    target = options.target or ("pair" if truth.counterfactuals else "margin")
    counterfactuals = {factor: placed(other.images) for factor, other in truth.counterfactuals.items()}
    mean = reading.images.mean(axis=(0, 1, 2))
    fills = {factor: placed(pixels) for factor, pixels in _fills(options.fill, truth, target, mean).items()}
    index = torch.from_numpy(truth.index).to(device)
    asked = Questions(images, index, {}, fills)
    work = Evaluation(
        trained=trained,
        random=random,
        fresh=lambda seed: subjects.of(opened.random(seed), with_probe=False),
        truth=truth,
        questions=_ask(trained, asked, labels, target, truth),
        random_questions=asked if random is None else _ask(random, asked, labels, target, truth),
        labels=labels,
        counterfactuals=counterfactuals,
        passes=options.passes,
        seed=options.seed,
    )
    settings = {
        "method": opened.header["method"],
        "epoch": opened.header["epoch"],
        "split": split,
        "n": len(truth.index),
        "size": list(truth.split.images.shape[1:3]),
        "target": target if labels is not None else None,
        "protocol": PROTOCOL if labels is not None else None,
        "notes": notes,
    }
    return work, settings


def _fills(kind: str, truth: Truth, target: str, mean: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.uint8]]:
    """What hides pixels, for each factor where its counterfactual does, else one for all under ""."""
    hidden: dict[str, NDArray[np.uint8] | None] = {"": None}
    if kind == "counterfactual" and target == "pair" and truth.counterfactuals:
        hidden = {factor: other.images for factor, other in truth.counterfactuals.items()}
    images = truth.split.images
    return {factor: fill(kind, images, mean=mean, counterfactuals=other) for factor, other in hidden.items()}


def _labels(truth: Truth, trained: Subject, subjects: Subjects, device: torch.device) -> Tensor | None:
    """True classes on the device; None without a classifier."""
    labels = truth.split.labels
    if labels is None or trained.classifier is None or subjects.labels is None:
        return None
    unknown = np.setdiff1d(labels, subjects.labels)
    if len(unknown):
        names = ", ".join(truth.info.classes[k] for k in unknown[:3])
        raise ValueError(
            f"expected only classes that train shows in {truth.info.path}, found also {names}; choose another --data"
        )
    return torch.from_numpy(labels).to(device)


def _ask(subject: Subject, questions: Questions, labels: Tensor | None, target: str, truth: Truth) -> Questions:
    """The questions with targets of the subject's own probe."""
    if labels is None or subject.classifier is None:
        return questions
    others = {name: other.labels for name, other in truth.counterfactuals.items()}
    pooled = _pooled(subject, questions) if target == "margin" else None
    return replace(questions, targets=make_targets(target, subject.classifier, labels, pooled, others))


def _pooled(subject: Subject, questions: Questions) -> Tensor:
    embedded = extract(subject.encoder, questions.images, batch_size=BATCH_SIZE)
    return torch.from_numpy(embedded).to(questions.images.device)


def _write(
    opened: OpenedRun,
    result: dict[str, Any],
    truth: Truth,
    rows: Sequence[Row],
    other_data: str | None,
    console: Console,
) -> None:
    run, checkpoint = opened.run, None if result["checkpoint"] == "last" else result["checkpoint"]
    run.results.mkdir(exist_ok=True)
    stem, _ = place_for(run.results, "-".join(filter(None, ("heatmap", checkpoint, other_data))), result)
    run.figures.mkdir(exist_ok=True)
    pictures = [draw_gallery(result, truth, rows, run.figures / f"{stem}.png")]
    if any(row["swap"] for row in result["rows"]):
        pictures.append(draw_curves(result, run.figures / f"{stem.replace('heatmap', 'swap', 1)}.png"))
    if opened.decodes:  # the ConRec paper's Figure 3
        pictures.append(draw_run(opened, Path(result["data"]), split=result["split"], seed=0)[0])
    write_json(run.results / f"{stem}.json", result)  # after its pictures: what stands in results/ is whole
    console.print(f"wrote {run.results / f'{stem}.json'} and {', '.join(map(str, pictures))}")


def _print(run: Run, result: dict[str, Any], truth: Truth, console: Console) -> None:
    if result["probe"] is not None:
        ends = (
            ""
            if result["probe"]["ci"] is None
            else " [{:.0f}, {:.0f}]".format(*(100 * e for e in result["probe"]["ci"]))
        )
        share = f"{100 * result['probe']['accuracy']:.0f} %{ends} of these images"
        chance = f"of {len(truth.info.classes)} classes"
        console.print(f"explained: a linear probe {chance}, target {result['target']}, right on {share}")
    evidence = [mask for mask in result["masks"] if mask.startswith(EVIDENCE)]
    for mask in evidence or result["masks"]:
        console.print(score_table(result, mask), soft_wrap=False)
    if any(row["faithfulness"] for row in result["rows"]):
        factors = list(dict.fromkeys(row["target"] for row in result["rows"] if row["target"] and row["swap"]))
        for factor in factors or [""]:
            console.print(passes_table(result, factor), soft_wrap=False)
        if any(swap["score"] is None for row in result["rows"] for swap in row["swap"].values()):
            console.print("swap -: the probe does not tell the images from their pairs, so there is no way to go")
        if result["fill"] == "black" and np.median(truth.split.images) == 0:
            console.print("note: hiding a black ground with black costs nothing (see uniform, ink); --fill mean does")
    for line in result["left_out"]:
        console.print(f"left out: {line}")
    console.print(f"next: probekit report {shlex.quote(run.argument)}   (what the scores mean: docs/heatmaps.md)")
