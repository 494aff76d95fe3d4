"""From an opened run and a dataset with boxes to a result: trainings of detectors, those that are done kept."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from rich.console import Console

from probekit.data.split import check_channels
from probekit.detection.measurement import Detection
from probekit.detection.model import build_detector, check_encoder
from probekit.detection.operators import INSTALL, detection_models
from probekit.detection.pictures import Batches, Pictures
from probekit.detection.protocol import Recipe, recipe_for
from probekit.detection.train import Training, find
from probekit.device import default_preset
from probekit.files import read_json
from probekit.h5 import DatasetInfo
from probekit.h5.objects import FLAGS
from probekit.measurement import BASELINE, ENCODER
from probekit.models.encoder import Encoder
from probekit.output.terminal import progress_bar
from probekit.probes.measure import said_of_random
from probekit.restore.opened import Opened, OpenedRun
from probekit.results import stem_of, typed_again, write_result
from probekit.run import write_json
from probekit.statistics import mean_over_seeds
from probekit.weights import RANDOM

FORMAT = 1  # of kept trainings; to be raised when the same settings give other numbers
FOLDER = "detect"  # of a run: trainings that are done, and the state of one that is not


@dataclass(frozen=True)
class Work:
    """What all trainings of a request share."""

    opened: OpenedRun
    info: DatasetInfo
    recipe: Recipe
    train: Pictures
    test: Pictures
    models: ModuleType
    seed: int
    console: Console

    @property
    def flips(self) -> bool:
        """Whether images are mirrored in training: a drawing's class may be a matter of left and right."""
        return not self.info.generator


def detect_run(
    opened: OpenedRun,
    asked: Detection,
    *,
    data: Path | None = None,
    baselines: bool = True,
    seed: int = 0,
    console: Console,
) -> dict[str, Any]:
    """Trains detectors on a run's backbone, scores them, and writes results/ (docs/detection.md).

    `data` None is the run's own; `baselines`: also on random weights. A ValueError if no detector can stand on the
    encoder, the data have no boxes, or a package is missing.
    """
    started, run = time.monotonic(), opened.run
    if find_spec("pycocotools") is None:
        raise ValueError(f"expected pycocotools, which scores detectors, found none; {INSTALL}")
    models = detection_models(opened.device)
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    preset = asked.preset or default_preset(opened.device)
    with run.locked(FOLDER):
        work = _prepared(opened, info, preset, models, seed, console)
        size = (info.first.height, info.first.width)
        untrained = opened.beside(seed, size) if baselines else None
        notes = said_of_random(untrained, seed) if baselines else []
        for note in notes:
            console.print(f"note: {note}")
        trials = asked.trials or work.recipe.trials
        rows = [_row(work, opened, opened.row, ENCODER, trials)]
        rows += [] if untrained is None else [_row(work, untrained, RANDOM, BASELINE, trials)]
        opened.refuse_replaced(info)
        result = {
            "schema": asked.schema(),
            "run": run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "protocol": asked.protocol,
            "preset": preset,
            "how": f"{work.recipe.about}, on {len(work.train.trained()):,} images of train; all weights are trained.",
            "command": typed_again("detect", run, opened.weights, asked.words, data=data, seed=seed),
            "options": asked.options,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            "method": opened.header["method"],
            "epoch": opened.header["epoch"],
            "seed": seed,
            "notes": notes,
            "split": scored_split(info),
            "n": len(work.test),
            "recipe": json.loads(json.dumps(asdict(work.recipe))),
            "rows": rows,
        }
        result["seconds"] = round(time.monotonic() - started, 2)
        written = write_result(run, asked, result, stem_of((asked.name, preset, result["checkpoint"]), data))
        console.print(f"wrote {' and '.join(map(str, written))}")
    return result


def scored_split(info: DatasetInfo) -> str:
    """The split that detectors are scored on."""
    return "test" if "test" in info.splits else "val"


def check_boxes(info: DatasetInfo, *, named: str) -> None:
    """Refuses a dataset without boxes in train and in a split to be scored on; `named`: the encoder, as typed."""
    for name in ("train", scored_split(info)):
        if name not in info.splits or not info.splits[name].boxed:
            raise ValueError(
                f"expected a train and a test split with boxes in {info.path}, found none in {name}; "
                f"type: probekit detect {named} --data BOXED.h5 (probekit gen scenes makes one)"
            )


def _prepared(
    opened: OpenedRun, info: DatasetInfo, preset: str, models: ModuleType, seed: int, console: Console
) -> Work:
    check_boxes(info, named=opened.run.argument)
    split = scored_split(info)
    check_channels(info, opened.encoder.spec["channels"])
    check_encoder(opened.encoder, opened.run.name)
    masked = all(info.splits[name].instances for name in ("train", split))
    train, test = Pictures(info, "train"), Pictures(info, split)
    if not train.trained():
        raise ValueError(f"expected objects in train of {info.path}, found none; choose another --data")
    if not any((found.flags & FLAGS == 0).any() for found in test.objects):
        raise ValueError(
            f"expected objects in {split} of {info.path} that are neither difficult nor crowds, found none; "
            "choose another --data"
        )
    recipe = recipe_for(preset, masked=masked)
    console.print(f"training detectors on {opened.run.name}, {opened.after}: {recipe.about} ...")
    return Work(opened, info, recipe, train, test, models, seed, console)


def _row(work: Work, opened: Opened, name: str, kind: str, trials: int) -> dict[str, Any]:
    """The means over trainings."""
    found = [_trial(work, opened, name, kind, work.seed + number, trials) for number in range(trials)]
    kinds = ("boxes", "masks") if work.recipe.masked else ("boxes",)
    about: dict[str, Any] = {"name": name, "kind": kind, "masks": {}}
    for each in kinds:
        scores = [score for score in found[0][each] if score != "per_class"]
        about[each] = {score: _estimate([trial[each][score] for trial in found]) for score in scores}
    about["trials"] = [
        {"seed": trial["seed"], "loss": trial["loss"]}
        | {each: {k: v for k, v in trial.get(each, {}).items() if k != "per_class"} for each in ("boxes", "masks")}
        for trial in found
    ]
    counts = _counts(work)
    about["per_class"] = [
        {"name": label, "objects": counts[k]}
        | {
            each: _mean([t[each]["per_class"][k] for t in found]) if each in kinds else None
            for each in ("boxes", "masks")
        }
        for k, label in enumerate(work.info.classes)
    ]
    return about


def _estimate(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if not known:
        return {"value": None, "ci": None}
    found = mean_over_seeds(known)
    return {"value": found["mean"], "ci": found["ci"]}


def _mean(values: list[float | None]) -> float | None:
    return None if any(value is None for value in values) else float(np.mean([v for v in values if v is not None]))


def _counts(work: Work) -> list[int]:
    """Objects of each class that count in the test: neither difficult nor crowds."""
    own = [found.labels[found.flags & FLAGS == 0] for found in work.test.objects]
    return list(map(int, np.bincount(np.concatenate(own), minlength=len(work.info.classes))))


def _trial(work: Work, opened: Opened, name: str, kind: str, seed: int, trials: int) -> dict[str, Any]:
    """One training and its scores, kept in the run's folder: whoever asks again, or after an interruption, goes on."""
    folder = work.opened.run.path / FOLDER
    stem = hashlib.sha256(json.dumps(_depends(work, opened, kind, seed), sort_keys=True).encode()).hexdigest()[:24]
    done, state = folder / f"{stem}.json", folder / f"{stem}.pt"
    if done.exists():
        return _kept(done, work)
    from probekit.detection.score import score

    told = f"{name}, training {seed - work.seed + 1} of {trials}"
    encoder: Encoder = opened.encoder.without_input()

    def make() -> torch.nn.Module:
        return build_detector(encoder, work.recipe, len(work.info.classes), work.models)

    batches = Batches(work.train, work.recipe.batch, seed, flips=work.flips, masked=work.recipe.masked)
    with progress_bar(told, work.console, "iterations") as advance:
        trained = Training(make, work.recipe, seed, opened.device, state).run(batches, advance)
    detector, loss = trained
    with progress_bar(f"{told}, test", work.console) as advance:
        found = find(detector, work.test, work.recipe, opened.device, advance)
    shapes = [work.test.shape(row) for row in range(len(found))]
    scores = score(work.test.objects, found, shapes, work.info.classes, masked=work.recipe.masked)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(done, {"seed": seed, "loss": loss, **scores})
    state.unlink(missing_ok=True)
    return read_json(done)


def _kept(path: Path, work: Work) -> dict[str, Any]:
    """A training that is done; a ValueError if the file is damaged."""
    found, kinds = read_json(path), ("boxes", "masks") if work.recipe.masked else ("boxes",)
    wanted = {*Detection.main, "per_class"}
    sound = {"seed", "loss", *kinds} <= set(found) and all(
        isinstance(found[each], dict) and set(found[each]) == wanted for each in kinds
    )
    if not sound or any(len(found[each]["per_class"]) != len(work.info.classes) for each in kinds):
        raise ValueError(f"expected the scores of a training in {path}, found others; remove it")
    return found


def _depends(work: Work, opened: Opened, kind: str, seed: int) -> Mapping[str, Any]:
    """All that a training depends on."""
    own = {"encoder": work.opened.hash} if kind == ENCODER else {"untrained": opened.header["spec"], "of": opened.seed}
    recipe = asdict(replace(work.recipe, about="", trials=0))
    return own | {
        "data": work.info.content_hash,
        "recipe": recipe,
        "seed": seed,
        "device": opened.device.type,
        "torch": torch.__version__,
        "format": FORMAT,
    }
