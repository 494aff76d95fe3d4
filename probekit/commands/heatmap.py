"""`probekit heatmap`: where a run's encoder looks, scored against the truth."""

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

from probekit.commands.probe import dataset_of, sha256
from probekit.config import Config
from probekit.data import check_divisible, shrunk, to_device
from probekit.h5 import DatasetInfo, read_split
from probekit.heatmaps.base import Context
from probekit.heatmaps.draw import draw_curves, draw_gallery
from probekit.heatmaps.fill import FILLS, fill
from probekit.heatmaps.gradcam_ssl import project
from probekit.heatmaps.protocol import Evaluation, evaluate
from probekit.heatmaps.rows import Questions, Row, Subject
from probekit.heatmaps.table import passes_table, score_table
from probekit.heatmaps.targets import TARGETS, Classifier, make_targets
from probekit.heatmaps.truth import EVIDENCE, Truth, read_truth
from probekit.methods.base import Method
from probekit.models.encoder import Encoder, build_encoder, encoder_file, load_encoder
from probekit.probe.features import BATCH_SIZE, extract
from probekit.probe.protocol import Part, fit_label
from probekit.registry import LOOKS, nearest
from probekit.run import Run, open_run, write_json
from probekit.train.pretrain import build_method, choose_device, load_method

NEGATIVES = 256  # ours: images of the bank that gradcam-ssl contrasts with; a batch of the papers' size
PROTOCOL = "val"  # of the linear probe that looks explain


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
    checkpoint: str = "last"
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
    run = open_run(name, runs)
    if name is None:
        console.print(f"run: {run.path} (the newest)")
    info = dataset_of(run, data, console)
    work, settings = _prepare(run, info, options, console)
    result, rows = evaluate(work, options.looks)
    result = {
        "run": run.name,
        "data": str(info.path),
        "data_hash": info.content_hash,
        "checkpoint": options.checkpoint,
        "checkpoint_hash": sha256(encoder_file(run.path, options.checkpoint)),
        **settings,
        "fill": options.fill,
        "passes": options.passes,
        "seed": options.seed,
        **result,
    }
    result["seconds"] = round(time.monotonic() - started, 2)
    _write(run, result, work.truth, rows, None if data is None else data.stem, console)
    if not quiet:
        _print(result, console)
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


def _prepare(
    run: Run, info: DatasetInfo, options: HeatmapOptions, console: Console
) -> tuple[Evaluation, dict[str, Any]]:
    """Everything that `evaluate` needs, on the device, and what the result says about it."""
    device = choose_device(options.device)
    encoder, header = load_encoder(run.path, options.checkpoint)
    split = "test" if "test" in info.splits else next(iter(info.splits))
    shape = info.splits[split]
    if shape.channels != encoder.spec["channels"]:
        raise ValueError(
            f"expected images of {encoder.spec['channels']} channels, as the encoder was trained on, "
            f"found {shape.channels} in {info.path}; choose another --data or run"
        )
    truth = read_truth(info, split, options.n)
    console.print(f"looking into {run.name}, epoch {header['epoch']}, at {len(truth.index)} {split} images ...")
    images = to_device(truth.split.images, device, max_size=header["max_size"])
    check_divisible((images.shape[2], images.shape[3]), encoder.stride)
    reading = read_split(info.path, "train" if "train" in info.splits else split)
    train = to_device(reading.images, device, max_size=header["max_size"])
    labels = reading.labels if reading.labels is not None and len(np.unique(reading.labels)) > 1 else None
    maker = _Maker(run, header, options, train, labels, len(info.classes), reading.factors.get("pair_id"))
    subject = maker.subject(encoder.to(device), maker.method)
    random = maker.random(options.seed, with_probe=True)
    seen = None if truth.split.labels is None or subject.classifier is None else truth.split.labels
    if seen is not None and labels is not None and not np.isin(seen, labels).all():
        raise ValueError(f"expected every class of {split} among the training labels of {info.path}, found others")
    target = options.target or ("pair" if truth.siblings else "margin")
    fills, siblings = _fills(options.fill, truth, reading.images, target, device, header["max_size"])
    index = torch.from_numpy(truth.index).to(device)
    placed = None if seen is None else torch.from_numpy(seen).to(device)

    def questions(about: Subject) -> Questions:
        return _questions(about, images, index, placed, target, truth, fills)

    work = Evaluation(
        trained=subject,
        random=random,
        fresh=lambda seed: maker.random(seed, with_probe=False),
        truth=truth,
        questions=questions(subject),
        random_questions=questions(random),
        labels=placed,
        siblings=siblings,
        passes=options.passes,
        seed=options.seed,
    )
    accuracy = None
    if placed is not None and subject.classifier is not None:
        pooled = torch.from_numpy(extract(subject.encoder, images, batch_size=BATCH_SIZE)).to(device)
        accuracy = float((subject.classifier.logits(pooled).argmax(dim=1) == placed).double().mean())
    return work, {
        "method": header["method"],
        "epoch": header["epoch"],
        "split": split,
        "n": len(truth.index),
        "size": list(truth.split.images.shape[1:3]),
        "target": target if placed is not None else None,
        "probe": None if accuracy is None else {"accuracy": accuracy, "protocol": PROTOCOL, "n": len(truth.index)},
    }


def _questions(
    subject: Subject,
    images: Tensor,
    index: Tensor,
    labels: Tensor | None,
    target: str,
    truth: Truth,
    fills: dict[str, Tensor],
) -> Questions:
    if labels is None or subject.classifier is None:
        return Questions(images, index, {}, fills)
    pooled = torch.from_numpy(extract(subject.encoder, images, batch_size=BATCH_SIZE)).to(images.device)
    others = {name: sibling.labels for name, sibling in truth.siblings.items()}
    return Questions(images, index, make_targets(target, subject.classifier, labels, pooled, others), fills)


def _fills(
    name: str, truth: Truth, train: NDArray[np.uint8], target: str, device: torch.device, max_size: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What hides pixels, and the minimal pairs, at the encoder's size; by class factor, or under ""."""

    def placed(images: NDArray[np.uint8]) -> Tensor:
        return to_device(np.ascontiguousarray(images), device, max_size=max_size)

    siblings = {factor: placed(sibling.images) for factor, sibling in truth.siblings.items()}
    if name == "counterfactual" and target == "pair" and siblings:
        return siblings, siblings
    filling = fill(name, truth.split.images, mean=train.mean(axis=(0, 1, 2)), siblings=None)
    return {"": placed(filling)}, siblings


class _Maker:
    """Makes subjects: the trained encoder's, and those of encoders with random weights."""

    def __init__(
        self,
        run: Run,
        header: dict[str, Any],
        options: HeatmapOptions,
        train: Tensor,
        labels: NDArray[np.int64] | None,
        classes: int,
        groups: NDArray[Any] | None,
    ) -> None:
        self.header, self.options, self.train = header, options, train
        self.labels, self.classes, self.groups = labels, classes, groups
        self.config = Config.from_dict(run.read()["config"])
        has_checkpoint = (run.checkpoints / f"{options.checkpoint}.pt").exists()
        self.method = load_method(run, options.checkpoint)[0] if has_checkpoint else None
        bank = np.random.default_rng(options.seed).permutation(len(train))[:NEGATIVES]
        self.bank = train[torch.from_numpy(np.sort(bank)).to(train.device)]

    def subject(self, encoder: Encoder, method: Method | None, *, with_probe: bool = True) -> Subject:
        """An encoder with its linear probe and the projection head of its method."""
        encoder.eval()
        head = None if method is None else method.to(self.train.device).eval().projection
        context = Context(
            project=head,
            recipe=self.config.views.recipe,
            temperature=getattr(method, "temperature", Context.temperature),
            view_size=shrunk(self.train, self.config.views.max_size),
            window=self.options.window,
            stride=self.options.stride,
            seed=self.options.seed,
        )
        with torch.no_grad():
            pooled = extract(encoder, self.bank, batch_size=BATCH_SIZE)
            negatives = project(torch.from_numpy(pooled).to(self.train.device), context)
        classifier = self._classifier(encoder) if with_probe and self.labels is not None else None
        return Subject(encoder, classifier, replace(context, negatives=negatives))

    def random(self, seed: int, *, with_probe: bool) -> Subject:
        """The same with the random weights of a seed."""
        if self.method is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return self.subject(
                    build_encoder(self.header["spec"]).to(self.train.device), None, with_probe=with_probe
                )
        method = build_method(replace(self.config, seed=seed), channels=self.train.shape[1])
        return self.subject(method.encoder.to(self.train.device), method, with_probe=with_probe)

    def _classifier(self, encoder: Encoder) -> Classifier:
        assert self.labels is not None
        x = extract(encoder, self.train, batch_size=BATCH_SIZE)
        part = Part(x, self.labels, groups=self.groups)
        space, probe = fit_label(part, classes=self.classes, protocol=PROTOCOL, seed=self.options.seed)
        return Classifier.of(space, probe, classes=self.classes, device=self.train.device)


def _write(
    run: Run, result: dict[str, Any], truth: Truth, rows: Sequence[Row], other_data: str | None, console: Console
) -> None:
    checkpoint = None if result["checkpoint"] == "last" else result["checkpoint"]
    stem = "-".join(filter(None, ("heatmap", checkpoint, other_data)))
    run.results.mkdir(exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    write_json(run.results / f"{stem}.json", result)
    pictures = [draw_gallery(result, truth, rows, run.figures / f"{stem}.png")]
    if any(row["swap"] for row in result["rows"]):
        pictures.append(draw_curves(result, run.figures / f"{stem}-curves.png"))
    console.print(f"wrote {run.results / f'{stem}.json'} and {', '.join(map(str, pictures))}")


def _print(result: dict[str, Any], console: Console) -> None:
    evidence = [mask for mask in result["masks"] if mask.startswith(EVIDENCE)]
    for mask in evidence or result["masks"]:
        console.print(score_table(result, mask), soft_wrap=False)
    if any(row["faithfulness"] for row in result["rows"]):
        factors = list(dict.fromkeys(row["target"] for row in result["rows"] if row["target"] and row["swap"]))
        for factor in factors or [""]:
            console.print(passes_table(result, factor), soft_wrap=False)
    for line in result["left_out"]:
        console.print(f"left out: {line}")
    console.print(f"next: probekit report {result['run']}   (what the scores mean: docs/heatmaps.md)")
