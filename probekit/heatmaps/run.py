"""From an opened encoder and a dataset file to a heatmap result: where the encoder looks, scored against the truth."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from probekit.data.split import check_channels, check_divisible, shrunk
from probekit.data.truth import Truth, read_truth
from probekit.h5 import DatasetInfo, Split, read_split
from probekit.heatmaps.base import Context
from probekit.heatmaps.draw import draw_gallery
from probekit.heatmaps.maps.gradcam_ssl import project
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.protocol import Evaluation, evaluate
from probekit.heatmaps.questions import Classifier, fill, make_targets
from probekit.heatmaps.rows import Questions, Row, Subject
from probekit.models.extract import extract
from probekit.probe.protocol import Part, fit_label
from probekit.probe.sources import said_of_random
from probekit.restore.draw import draw_run
from probekit.restore.opened import Opened, OpenedRun
from probekit.results import stem_of, write_result
from probekit.weights import LAST

NEGATIVES = 256  # ours: images of the bank that gradcam-ssl contrasts with; the smallest batch of the SimCLR paper
FEW = 64  # of these for networks whose maps are only compared with each other
PROTOCOL = "tuned"  # of the linear probe that maps explain

NO_HEAD = "no projection head here, so gradcam-ssl contrasts the embedding itself"


class Subjects:
    """Makes subjects for maps; all share the training images, the bank of negatives and the settings.

    Args:
        images: uint8 `[N, C, H, W]`, the training images on the device, at the size the encoder takes.
        split: The same as the file holds them, with labels.
        val: Images and split of the labelled validation images, likewise, or None.
        context: Window, stride and seed.
    """

    def __init__(
        self,
        opened: Opened,
        images: torch.Tensor,
        split: Split,
        val: tuple[torch.Tensor, Split] | None,
        classes: int,
        context: Context,
    ) -> None:
        self.images, self.val, self.classes = images, val, classes
        labels = split.class_labels
        self.labels = labels if labels is not None and len(np.unique(labels)) > 1 else None
        self.groups = split.factors.get("pair_id")
        if opened.config is not None:
            views = opened.config.views
            context = replace(context, recipe=views.recipe, view_size=shrunk(images, views.max_size))
        self.context = context
        bank = np.sort(np.random.default_rng(context.seed).permutation(len(images))[:NEGATIVES])
        self.bank = images[torch.from_numpy(bank).to(images.device)]

    def of(self, opened: Opened, *, with_probe: bool = True) -> Subject:
        """An encoder to look into, with a linear probe of its own unless its maps are only compared with others."""
        context = replace(
            self.context,
            project=_projection(opened),
            temperature=getattr(opened.method, "temperature", Context.temperature),
        )
        with torch.no_grad():
            bank = self.bank if with_probe else self.bank[:FEW]
            embedded = torch.from_numpy(extract(opened.encoder, bank)).to(opened.device)
            context = replace(context, negatives=project(embedded, context))
        return Subject(opened.encoder, self._classifier(opened) if with_probe else None, context)

    def _classifier(self, opened: Opened) -> Classifier | None:
        if self.labels is None:
            return None
        encoder = opened.encoder
        part = Part(extract(encoder, self.images), self.labels, groups=self.groups)
        val = None
        if self.val is not None:
            images, split = self.val
            assert split.labels is not None
            val = Part(extract(encoder, images), split.labels)
        space, probe = fit_label(part, classes=self.classes, protocol=PROTOCOL, seed=self.context.seed, val=val)
        return Classifier.of(space, probe, classes=self.classes, device=self.images.device)


def _projection(opened: Opened) -> nn.Module | None:
    """The head whose output the loss compares: bilinear embeddings do not fit into one, projections have passed it."""
    if opened.method is None or opened.weights.pool in ("bilinear", "projection"):
        return None
    return opened.method.projection


def heatmap_run(
    opened: OpenedRun, asked: Heatmap, *, data: Path | None = None, seed: int = 0, console: Console
) -> dict[str, Any]:
    """Draws and scores attribution maps of a run's encoder, and writes results/ and figures/.

    Args:
        asked: Which maps, and what is done with them.
        data: A dataset file, or None for the run's own.

    Returns:
        What was written (docs/heatmaps.md).

    Raises:
        ValueError: If a map cannot be drawn of this encoder, or the data do not fit.
    """
    started, run = time.monotonic(), opened.run
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    with run.locked("heatmap"):  # two at once would write one result
        work, settings = _prepare(opened, info, asked, seed, console)
        found, rows = evaluate(work, asked.maps, lambda line: console.print(f"  {line} ..."))
        opened.refuse_replaced(info)
        result = {
            "schema": asked.schema(),
            "run": run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            **settings,
            "how": _how(settings, info),
            "options": asked.options,
            "seed": seed,
            "command": _command(opened, asked, data, seed),
            "fill": asked.fill,
            "black_ground": bool(np.median(work.truth.split.images) == 0),
            **found,
        }
        result["seconds"] = round(time.monotonic() - started, 2)
        written = _write(opened, asked, result, work.truth, rows, data)
        console.print(f"wrote {' and '.join(map(str, written))}")
    return result


def _how(settings: Mapping[str, Any], info: DatasetInfo) -> str:
    target = f", target {settings['target']}" if settings["target"] else ""
    return f"Maps of {settings['n']} images of the split {settings['split']}{target}."


def _command(opened: OpenedRun, asked: Heatmap, data: Path | None, seed: int) -> str:
    """What to type to get the same result."""
    words = ["probekit", "heatmap", opened.run.argument, *(["--data", str(data)] if data else []), *asked.words]
    words += ["--seed", str(seed)] if seed else []
    return shlex.join([*words, *(["--checkpoint", str(opened.weights)] if opened.weights != LAST else [])])


def _prepare(
    opened: OpenedRun, info: DatasetInfo, asked: Heatmap, seed: int, console: Console
) -> tuple[Evaluation, dict[str, Any]]:
    """Everything that `evaluate` needs, on the device, and what the result says about it."""
    device, placed = opened.device, opened.take
    if "train" not in info.splits:
        raise ValueError(f"expected a train split in {info.path}, which the probe is fitted on; choose another --data")
    split = "test" if "test" in info.splits else "train"
    check_channels(info, opened.encoder.spec["channels"])
    if info.multilabel:
        raise ValueError(f"expected one label an image, found several in {info.path}; choose another --data")
    truth = read_truth(info, split, asked.n)
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
        Context(window=asked.window, stride=asked.stride, seed=seed),
    )
    trained = subjects.of(opened)
    untrained = opened.beside(seed, (images.shape[2], images.shape[3]))
    random = None if untrained is None else subjects.of(untrained)
    headless = opened.method is None or opened.method.projection is None
    notes = [*([NO_HEAD] if headless else []), *said_of_random(untrained, seed)]
    for note in notes:
        console.print(f"note: {note}")
    labels = _labels(truth, trained, subjects, device)
    target = asked.target or ("pair" if truth.counterfactuals else "margin")
    others = {factor: placed(found.images) for factor, found in truth.counterfactuals.items()}
    mean = reading.images.mean(axis=(0, 1, 2))
    fills = {factor: placed(pixels) for factor, pixels in _fills(asked.fill, truth, target, mean).items()}
    index = torch.from_numpy(truth.index).to(device)
    questions = Questions(images, index, {}, fills)
    work = Evaluation(
        trained=trained,
        random=random,
        fresh=lambda seed: subjects.of(opened.random(seed), with_probe=False),
        truth=truth,
        questions=_ask(trained, questions, labels, target, truth),
        random_questions=questions if random is None else _ask(random, questions, labels, target, truth),
        labels=labels,
        counterfactuals=others,
        perturb=asked.perturb,
        seed=seed,
    )
    return work, _settings(opened, truth, split) | {"target": target if labels is not None else None, "notes": notes}


def _settings(opened: OpenedRun, truth: Truth, split: str) -> dict[str, Any]:
    """What a result says about the images and the encoder."""
    return {
        "method": opened.header["method"],
        "epoch": opened.header["epoch"],
        "split": split,
        "n": len(truth.index),
        "size": list(truth.split.images.shape[1:3]),
        "protocol": PROTOCOL,
    }


def _fills(kind: str, truth: Truth, target: str, mean: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.uint8]]:
    """What hides pixels, for each factor where its counterfactuals do, else one for all under ""."""
    others: dict[str, NDArray[np.uint8] | None] = {"": None}
    if kind == "counterfactual" and target == "pair" and truth.counterfactuals:
        others = {factor: counterfactual.images for factor, counterfactual in truth.counterfactuals.items()}
    return {
        factor: fill(kind, truth.split.images, mean=mean, counterfactuals=other) for factor, other in others.items()
    }


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
    others = {name: counterfactual.labels for name, counterfactual in truth.counterfactuals.items()}
    pooled = _pooled(subject, questions) if target == "margin" else None
    return replace(questions, targets=make_targets(target, subject.classifier, labels, pooled, others))


def _pooled(subject: Subject, questions: Questions) -> Tensor:
    embedded = extract(subject.encoder, questions.images)
    return torch.from_numpy(embedded).to(questions.images.device)


def _write(
    opened: OpenedRun, asked: Heatmap, result: dict[str, Any], truth: Truth, rows: Sequence[Row], data: Path | None
) -> list[Path]:
    figures = {"gallery": draw_gallery(result, truth, rows)}
    written = write_result(opened.run, asked, result, stem_of((asked.name, result["checkpoint"]), data), figures)
    if opened.decodes:  # the ConRec paper's Figure 3
        written.append(draw_run(opened, Path(result["data"]), split=result["split"], seed=0)[0])
    return written
