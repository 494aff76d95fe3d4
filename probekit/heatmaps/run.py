"""From an opened encoder and a dataset file to a heatmap result and its picture, the only place that scales maps."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from probekit.data.show import COLOURS
from probekit.data.split import check_channels, check_divisible, shrunk
from probekit.data.truth import Truth, read_truth
from probekit.h5 import DatasetInfo, Split, read_split
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.base import Classifier, Context, Questions, Row, Subject
from probekit.heatmaps.maps.gradcam_ssl import project
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.protocol import Evaluation, evaluate
from probekit.heatmaps.targets import fill, make_targets
from probekit.models.extract import extract
from probekit.output.pictures import Mosaic, encoder_name
from probekit.probes.measure import said_of_random
from probekit.probes.protocol import Part, fit_label
from probekit.restore.draw import draw_run
from probekit.restore.opened import Opened, OpenedRun
from probekit.results import stem_of, write_result
from probekit.views.recipes import recipe_of
from probekit.weights import LAST

NEGATIVES = 256  # ours: images of the bank that gradcam-ssl contrasts with; the smallest batch of the SimCLR paper
FEW = 64  # of these for networks whose maps are only compared with each other
PROTOCOL = "tuned"  # of the linear probe that maps explain
NO_HEAD = "no projection head here, so gradcam-ssl contrasts the embedding itself"
PER_CLASS = 2  # rows of a class
MAX_CLASSES = 6
CELL, NAMES = 1.15, 1.1  # inches: a cell, the names of classes
SIGNED, UNSIGNED = "RdBu_r", "magma"
OUTLINE = "#00c040"


class Subjects:
    """Makes subjects for maps; all share the training images, the bank of negatives and the settings.

    `images`: uint8 `[N, C, H, W]`, of train, on the device, at the size the encoder takes; `split`: the same as the
    file holds them, with labels; `val`: both of the labelled validation images.
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
            context = replace(context, recipe=recipe_of(views), view_size=shrunk(images, views.max_size))
        self.context = context
        bank = np.sort(np.random.default_rng(context.seed).permutation(len(images))[:NEGATIVES])
        self.bank = images[torch.from_numpy(bank).to(images.device)]

    def of(self, opened: Opened, *, with_probe: bool = True) -> Subject:
        """An encoder to look into, with a linear probe of its own unless its maps are only compared with others."""
        # The head whose output the loss compares: bilinear embeddings and those of layers do not fit into one,
        # projections have passed it.
        fits = not opened.weights.of_layers and opened.weights.pool not in ("bilinear", "projection")
        headless = opened.method is None or not fits
        context = replace(
            self.context,
            project=None if headless or opened.method is None else opened.method.projection,
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


def heatmap_run(
    opened: OpenedRun, asked: Heatmap, *, data: Path | None = None, seed: int = 0, console: Console
) -> dict[str, Any]:
    """Draws and scores attribution maps of a run's encoder, and writes results/ and figures/ (docs/heatmaps.md).

    `data` None is the run's own. A ValueError if a map cannot be drawn of this encoder, or the data do not fit.
    """
    started, run = time.monotonic(), opened.run
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    with run.locked("heatmap"):  # two at once would write one result
        work, settings = _prepare(opened, info, asked, seed, console)
        found, rows = evaluate(work, asked.maps, lambda line: console.print(f"  {line} ..."))
        opened.refuse_replaced(info)
        explained = f", target {settings['target']}" if settings["target"] else ""
        result = {
            "schema": asked.schema(),
            "run": run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            **settings,
            "how": f"Maps of {settings['n']} images of the split {settings['split']}{explained}.",
            "options": asked.options,
            "seed": seed,
            "command": _command(opened, asked, data, seed),
            "fill": asked.fill,
            "black_ground": bool(np.median(work.truth.split.images) == 0),
            **found,
        }
        result["seconds"] = round(time.monotonic() - started, 2)
        figures = {"gallery": draw_gallery(result, work.truth, rows)}
        written = write_result(run, asked, result, stem_of((asked.name, result["checkpoint"]), data), figures)
        if opened.decodes:  # the ConRec paper's Figure 3
            written.append(draw_run(opened, Path(result["data"]), split=result["split"], seed=0)[0])
        console.print(f"wrote {' and '.join(map(str, written))}")
    return result


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
    if opened.encoder.input is None:
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
    contrasts = asked.maps is None or "gradcam-ssl" in asked.maps
    notes = [*([NO_HEAD] if headless and contrasts else []), *said_of_random(untrained, seed)]
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
    settings = {key: opened.header[key] for key in ("method", "epoch")} | {"split": split, "n": len(truth.index)}
    settings |= {"size": list(truth.split.images.shape[1:3]), "protocol": PROTOCOL}
    return work, settings | {"target": target if labels is not None else None, "notes": notes}


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
    pooled = None
    if target == "margin":
        pooled = torch.from_numpy(extract(subject.encoder, questions.images)).to(questions.images.device)
    return replace(questions, targets=make_targets(target, subject.classifier, labels, pooled, others))


def draw_gallery(result: Mapping[str, Any], truth: Truth, rows: Sequence[Row]) -> Figure:
    """A grid: image, evidence, and each map of the trained encoder, two images a class.

    Blue is below zero, red above, each map scaled by its own largest absolute value, which stands below it; maps
    without a sign from black to yellow, from 0. Green outlines: the evidence of the map's factor, or of all.
    """
    rows = [row for row in rows if not row.name.startswith("-")]  # colours show both signs
    shown = _choose(truth)
    evidence = {name: mask for name, mask in truth.masks.items() if name.startswith(EVIDENCE)} or truth.masks
    columns = 1 + bool(evidence) + len(rows)
    key = "orange, blue: evidence; green: its outline; " if evidence else ""
    key += "maps red above zero, blue below, or from black up; each by its own scale, printed under it"
    text = f"{encoder_name(result)} on {result['data']}: where it looks\n{key}"
    mosaic = Mosaic(len(shown), columns, cell=CELL, title=text, head=0.35, left=NAMES, below=0.14 * CELL)
    titles = ["image", *(["evidence"] if evidence else []), *(f"{r.name}\n{r.target}".strip() for r in rows)]
    for column, title in enumerate(titles):
        mosaic.write(column + 0.5, 0, title, size=7)
    size = truth.split.images.shape[1:3]
    for line, (i, name) in enumerate(shown):
        mosaic.write(0, line + 0.45, name, size=7, ha="right", va="center")
        for column in range(1 + bool(evidence)):
            image = truth.split.images[i]
            mosaic.show(line, column, image, size, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        if evidence:
            _tint(mosaic, line, [mask[i] for mask in evidence.values()])
        for column, row in enumerate(rows, 1 + bool(evidence)):
            asked = [mask[i] for name, mask in evidence.items() if row.target in ("", name.removeprefix(EVIDENCE))]
            _show_map(mosaic, line, column, row.maps[i], row.signed, asked, size)
    return mosaic.figure


def _choose(truth: Truth) -> list[tuple[int, str]]:
    """The first images of each class, with the class's name on the first."""
    labels = truth.split.labels
    if labels is None:
        return [(i, "") for i in range(min(len(truth.split.images), PER_CLASS * MAX_CLASSES))]
    chosen = []
    for k in np.unique(labels)[:MAX_CLASSES]:
        for place, i in enumerate(np.flatnonzero(labels == k)[:PER_CLASS]):
            chosen.append((int(i), truth.info.classes[k].replace(", ", "\n") if place == 0 else ""))
    return chosen


def _tint(mosaic: Mosaic, line: int, masks: Sequence[NDArray[np.bool_]]) -> None:
    """Each mask in a colour of its own, over the second picture of a line."""
    for mask, colour in zip(masks, COLOURS, strict=False):
        layer = np.zeros((*mask.shape, 4))
        layer[mask] = (*(value / 255 for value in colour), 1)
        mosaic.show(line, 1, layer, mask.shape, interpolation="nearest")


def _show_map(
    mosaic: Mosaic,
    line: int,
    column: int,
    values: NDArray[np.float32],
    signed: bool,
    masks: Sequence[NDArray[np.bool_]],
    size: tuple[int, int],
) -> None:
    most = float(np.abs(values).max()) or 1.0
    low, colours = (-most, SIGNED) if signed else (0.0, UNSIGNED)
    mosaic.show(line, column, values, size, cmap=colours, vmin=low, vmax=most, interpolation="bilinear")
    left, right, bottom, top = mosaic.extent(line, column, size)
    for mask in masks:
        if mask.any() and not mask.all():
            x = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
            y = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0]
            mosaic.axes.contour(x, y, mask, levels=[0.5], colors=OUTLINE, linewidths=0.6)
    scale = f"{'±' if signed else '0 to '}{_number(most)}"
    mosaic.write(column + 0.5, mosaic.below(line), scale, size=6, va="top")


def _number(value: float) -> str:
    """Two digits, and an exponent only for the very large and the very small."""
    return f"{value:.0f}" if 10 <= value < 1e5 else f"{value:.2g}"
