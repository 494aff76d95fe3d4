"""From an opened encoder and a dataset file to a heatmap result and its picture."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from probekit.data.split import check_channels, check_divisible, read_chunks, shrunk
from probekit.data.truth import LabelTruth, Truth, of_labels, read_truth
from probekit.h5 import DatasetInfo, read_images, read_split
from probekit.heatmaps.base import Classifier, Context, Questions, Row, Subject
from probekit.heatmaps.draw import draw_gallery
from probekit.heatmaps.draw_filters import draw_filters
from probekit.heatmaps.maps.gradcam_loss import loss_notes
from probekit.heatmaps.maps.gradcam_ssl import project
from probekit.heatmaps.means import OverClasses, OverImages
from probekit.heatmaps.measurement import Heatmap, several_filters
from probekit.heatmaps.protocol import Evaluation, evaluate
from probekit.heatmaps.targets import fill, make_targets, mean_colour
from probekit.models.extract import extract
from probekit.probes.average_precision import fit_each
from probekit.probes.measure import said_of_random
from probekit.probes.protocol import Part, fit_label
from probekit.restore.draw import draw_run
from probekit.restore.opened import Opened, OpenedRun
from probekit.results import stem_of, typed_again, write_result
from probekit.views.recipes import recipe_of

NEGATIVES = 256  # ours: images of the bank that gradcam-ssl contrasts with; the smallest batch of the SimCLR paper
COMPANIONS = 15  # ours: of these beside each image for gradcam-loss, a batch of 16; each image takes 32 passes or more
FEW = 64  # of these for networks whose maps are only compared with each other
PROTOCOL = "tuned"  # of the linear probe that maps explain
NO_HEAD = "no projection head here, so gradcam-ssl contrasts the embedding itself"
FINER = ("occlusion", "input-gradient")  # maps that have as many cells as images have pixels, or windows
FEW_CELLS = 4  # a side: with fewer a map hardly says where


class Subjects:
    """Makes subjects for maps; all share the training images of a file, the bank of negatives and the settings.

    `labelled`: whether probes are fitted, where train has labels of two kinds.
    """

    def __init__(self, opened: Opened, info: DatasetInfo, context: Context, *, labelled: bool) -> None:
        self.info = info
        split = read_split(info.path, "train", images=False)
        several = labelled and split.labels is not None and len(np.unique(split.labels)) > 1
        self.labels = split.labels if several else None
        self.groups = split.factors.get("pair_id")
        bank = np.sort(np.random.default_rng(context.seed).permutation(info.splits["train"].n)[:NEGATIVES])
        self.bank = opened.take(read_images(info.path, "train", bank.tolist()).images)
        if opened.config is not None:
            views = opened.config.views
            context = replace(context, recipe=recipe_of(views), view_size=shrunk(self.bank, views.max_size))
        self.context = context

    def of(self, opened: Opened, *, with_probe: bool = True) -> Subject:
        """An encoder to look into, with a linear probe of its own unless its maps are only compared with others."""
        # The head whose output the loss compares: bilinear embeddings and those of layers do not fit into one,
        # projections have passed it.
        fits = not opened.weights.of_layers and opened.weights.pool not in ("bilinear", "projection")
        headless = opened.method is None or not fits
        context = replace(
            self.context,
            method=None if headless else opened.method,
            companions=self.bank[:COMPANIONS],
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
        info = self.info
        part = Part(opened.embed(info, "train"), self.labels, groups=self.groups)
        val = None
        if "val" in info.splits and info.splits["val"].labelled:
            labels = read_split(info.path, "val", images=False).labels
            assert labels is not None
            val = Part(opened.embed(info, "val"), labels)
        if self.labels.ndim == 2:
            space, probes, _ = fit_each(part, val, protocol=PROTOCOL, seed=self.context.seed)
            return Classifier.of_each(space, probes, opened.device)
        classes = len(info.classes)
        space, probe = fit_label(part, classes=classes, protocol=PROTOCOL, seed=self.context.seed, val=val)
        return Classifier.of(space, probe, classes=classes, device=opened.device)


@dataclass(frozen=True)
class Looked:
    """A result, and what a picture is drawn of: the images, and the maps of the trained encoder."""

    result: dict[str, Any]
    truth: Truth
    rows: list[Row]


def heatmap_run(
    opened: OpenedRun, asked: Heatmap, *, data: Path | None = None, seed: int = 0, console: Console
) -> Looked:
    """Draws and scores attribution maps of a run's encoder, and writes results/ and figures/ (docs/heatmaps.md).

    `data` None is the run's own. A ValueError if a map cannot be drawn of this encoder, or the data do not fit.
    """
    started, run = time.monotonic(), opened.run
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    with run.locked("heatmap"):  # two at once would write one result
        work, settings = prepare(opened, info, asked, seed, console)
        found, rows, predicted = evaluate(work, asked.maps, lambda line: console.print(f"  {line} ..."))
        opened.refuse_replaced(info)
        finer = replace(asked, maps=FINER)
        again = typed_again("heatmap", run, opened.weights, finer.words, data=data, seed=seed)
        if coarse := coarse_maps(rows, again):
            settings["notes"].append(coarse)
            console.print(f"warning: {coarse}")
        explained = f", target {settings['target']}" if settings["target"] else ""
        told = f"{settings['n']} images"
        told = f"the {settings['labels']} labels of {told}" if "labels" in settings else told
        result = {
            "schema": asked.schema(),
            "run": run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            **settings,
            "how": f"Maps of {told} of the split {settings['split']}{explained}.",
            "options": asked.options,
            "seed": seed,
            "command": typed_again("heatmap", run, opened.weights, asked.words, data=data, seed=seed),
            "fill": asked.fill,
            "black_ground": bool(np.median(work.truth.split.images) == 0),
            **found,
        }
        result["seconds"] = round(time.monotonic() - started, 2)
        figures = {"gallery": draw_gallery(result, work.truth, rows, predicted)}
        if several_filters([row.name for row in rows]):
            figures["filters"] = draw_filters(result, work.truth, rows)
        written = write_result(run, asked, result, stem_of((asked.name, result["checkpoint"]), data), figures)
        if opened.decodes:  # the ConRec paper's Figure 3
            written.append(draw_run(opened, Path(result["data"]), split=result["split"], seed=0)[0])
        console.print(f"wrote {', '.join(map(str, written))}")
    return Looked(result, work.truth, rows)


def coarse_maps(rows: Sequence[Row], again: str) -> str:
    """What to say of maps with fewer cells than `FEW_CELLS` a side, and what to type, `again`; "" where none has."""
    coarse = {row.name: row.maps.shape[1:] for row in rows if min(row.maps.shape[1:]) < FEW_CELLS}
    if not coarse:
        return ""
    names, (high, wide) = ", ".join(coarse), next(iter(coarse.values()))
    return f"{names}: {high} x {wide} cells are too few to say where; for maps that have more type: {again}"


def prepare(
    opened: OpenedRun, info: DatasetInfo, asked: Heatmap, seed: int, console: Console
) -> tuple[Evaluation, dict[str, Any]]:
    """Everything that `evaluate` needs, on the device, and what the result says about it."""
    device, placed = opened.device, opened.take
    if "train" not in info.splits:
        raise ValueError(f"expected a train split in {info.path}, which the probe is fitted on; choose another --data")
    split = "test" if "test" in info.splits else "train"
    check_channels(info, opened.encoder.spec["channels"])
    truth = _by_label(read_truth(info, split, asked.n), asked)
    several, n = isinstance(truth, LabelTruth), len(np.unique(truth.index))
    console.print(f"looking into {opened.run.name}, {opened.after}, at {n} {split} images ...")
    images = placed(truth.split.images)
    if opened.encoder.input is None:
        check_divisible((images.shape[2], images.shape[3]), opened.encoder.stride)
    # Without labels of its own, a probe could not be asked about any class.
    context = Context(window=asked.window, stride=asked.stride, seed=seed)
    subjects = Subjects(opened, info, context, labelled=truth.split.labels is not None)
    trained = subjects.of(opened)
    untrained = opened.beside(seed, (images.shape[2], images.shape[3]))
    random = None if untrained is None else subjects.of(untrained)
    notes = [*_notes(opened, asked), *said_of_random(untrained, seed)]
    for note in notes:
        console.print(f"note: {note}")
    labels = _labels(truth, trained, subjects, device)
    target = asked.target or ("logit" if several else "pair" if truth.counterfactuals else "margin")
    others = {factor: placed(found.images) for factor, found in truth.counterfactuals.items()}
    fills = {factor: placed(pixels) for factor, pixels in _fills(asked.fill, truth, target).items()}
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
        means=means_of(truth, seed),
        perturb=asked.perturb,
        seed=seed,
    )
    settings = {key: opened.header[key] for key in ("method", "epoch")} | {"split": split, "n": n}
    settings |= {"labels": len(truth.index)} if several else {}
    settings |= {"size": list(truth.split.images.shape[1:3]), "protocol": PROTOCOL}
    return work, settings | {"target": target if labels is not None else None, "notes": notes}


def _notes(opened: OpenedRun, asked: Heatmap) -> list[str]:
    """What to know of losses that maps are of."""
    headless = opened.method is None or opened.method.projection is None
    contrasts = asked.maps is None or "gradcam-ssl" in asked.maps
    of_loss = asked.maps is not None and "gradcam-loss" in asked.maps
    return [*([NO_HEAD] if headless and contrasts else []), *(loss_notes(opened.method) if of_loss else [])]


def _by_label(truth: Truth, asked: Heatmap) -> Truth:
    """A row for each label where images have several; a ValueError for a target that they do not allow."""
    if truth.split.labels is None or truth.split.labels.ndim == 1:
        return truth
    if asked.target not in (None, "logit"):
        raise ValueError(
            f"expected --target logit where images have several labels, found {asked.target}; type: --target logit"
        )
    return of_labels(truth)


def means_of(truth: Truth, seed: int) -> OverImages:
    """How scores become one number: over classes where each row is one of the labels of an image."""
    if not isinstance(truth, LabelTruth) or truth.split.labels is None:
        return OverImages(seed)
    return OverClasses(seed, truth.index, truth.split.labels, truth.info.classes)


def _fills(kind: str, truth: Truth, target: str) -> dict[str, NDArray[np.uint8]]:
    """What hides pixels, for each factor where its counterfactuals do, else one for all under ""."""
    others: dict[str, NDArray[np.uint8] | None] = {"": None}
    if kind == "counterfactual" and target == "pair" and truth.counterfactuals:
        others = {factor: counterfactual.images for factor, counterfactual in truth.counterfactuals.items()}
    mean = mean_colour(read_chunks(truth.info, "train")) if kind == "mean" else None
    return {
        factor: fill(kind, truth.split.images, mean=mean, counterfactuals=other) for factor, other in others.items()
    }


def _labels(truth: Truth, trained: Subject, subjects: Subjects, device: torch.device) -> Tensor | None:
    """True classes on the device; None without a classifier."""
    labels = truth.split.labels
    if labels is None or trained.classifier is None or subjects.labels is None:
        return None
    unknown = np.setdiff1d(labels, torch.isfinite(trained.classifier.bias).nonzero().cpu().numpy())
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
