"""Results of every measurement beside the linear probe, of made-up features, as `probekit probe` writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from probekit.exams.measurement import Exam
from probekit.h5 import DatasetInfo
from probekit.probes.measure import Conditions, Labels, Source
from probekit.probes.measurements.base import Probe
from probekit.probes.measurements.cross_validation import CrossValidation
from probekit.probes.measurements.fractions import Fractions
from probekit.probes.measurements.knn import KNN
from probekit.probes.measurements.linear import Linear
from probekit.probes.measurements.multilabel import Multilabel
from probekit.probes.measurements.retrieval import Retrieval
from probekit.probes.protocol import Part
from probekit.probes.retrieval import Factor
from probekit.run import Run, write_json
from tests.exams import answers
from tests.reports.folders import CLASSES, result_of

N = 48
ASKED: tuple[Probe, ...] = (
    Multilabel(),
    Fractions(fractions=(0.25, 0.5), draws=2),
    KNN(),
    Retrieval(),
    CrossValidation(folds=3, repeats=1, metric="kappa"),
)
STEMS = {  # of results files, by measurement
    "multilabel": "multilabel-fixed-last",
    "dense": "dense-fixed-last",
    "fractions": "fractions-fixed-last",
    "knn": "knn-last",
    "retrieval": "retrieval-last",
    "cv": "cv-fixed-last",
    "sgd": "sgd-conrec-last",
    "attentive": "attentive-shared-last",
    "depth": "depth-fixed-last",
    "map-depth": "map-depth-last",
    "all-checkpoints": "all-checkpoints-fixed-last",
    "exam": "exam-last",
    "reconstruction": "reconstruction-last",
    "detect": "detect-quick-last",
}


def conditions(
    asked: Sequence[Probe] = (), classes: Sequence[str] = CLASSES, *, n: int = N, seed: int = 0
) -> Conditions:
    """Of `n` training and test images each, with an angle and a corner."""
    y = np.arange(n) % len(classes)
    empty = Part(np.empty((0, 0)), y)
    factors = {"angle": Factor(np.arange(float(n)), "circular"), "corner": Factor(y % 2, "class")}
    path = Path("data/rect-tri.h5")
    info = DatasetInfo(path, "", "rect-tri", {}, 0, tuple(classes), (), (), "", "", {})
    labels = Labels(info, {"train": empty, "test": empty}, {"train": factors, "test": factors})
    return Conditions(labels, "fixed", seed, "cpu", Console(quiet=True), {each.name: each for each in asked})


def features(seed: int, k: int = len(CLASSES), n: int = N, *, noise: float = 1.0) -> Callable[[str], NDArray[Any]]:
    """By split: each class at a corner of its own, with `noise`."""
    rng = np.random.default_rng(seed)
    corners = np.eye(k)[np.arange(n) % k]
    made = {name: (corners + noise * rng.normal(size=(n, k))).astype(np.float32) for name in ("train", "test")}
    return made.__getitem__


@cache
def _results(classes: tuple[str, ...], seed: int) -> dict[str, dict[str, Any]]:
    """What the measurements give, computed once for all tests of a process."""
    where = conditions(ASKED, classes)
    sources = (
        Source("conrec last", "encoder", features(seed, len(classes))),
        Source("random weights", "baseline", features(seed + 1000, len(classes), noise=3.0)),
        Source("chance", "baseline", lambda split: np.zeros((N, 1), dtype=np.float32)),
    )
    found = {}
    for each in ASKED:
        kept = sources if each.name in ("knn", "retrieval") else sources[:2]
        about = {"protocol": each.protocol(where), "options": each.options}
        found[each.name] = result_of(each.name, [each.row(source, where) for source in kept], **about)
    found["sgd"] = result_of("sgd", [_trained(Linear().row(source, where)) for source in sources[:2]])
    found["sgd"]["protocol"] = "conrec"
    found["attentive"] = result_of(
        "attentive", [_attended(Linear().row(source, where)) for source in sources[:2]], protocol="shared"
    )
    found["depth"] = _deep()
    found["map-depth"] = _looked()
    found["all-checkpoints"] = _followed()
    exam = Exam()
    found["exam"] = result_of("exam", answers.rows(), **answers.about(exam), command="probekit exam a")
    found["reconstruction"] = _rebuilt(seed)
    found["detect"] = _detected(classes)
    found["dense"] = _placed(seed)
    return found


def _trained(row: Mapping[str, Any]) -> dict[str, Any]:
    """As of a head that was trained by SGD."""
    kept = {key: value for key, value in row.items() if key not in ("C", "factors", "protocol", "solver")}
    return {**kept, "by_epoch": [0.25, 0.5], "best_test": {"score": 0.5, "epoch": 2}, "losses": [1.0, 0.5]}


def _attended(row: Mapping[str, Any]) -> dict[str, Any]:
    """As of a probe that attends."""
    kept = {key: value for key, value in row.items() if key not in ("C", "factors", "protocol", "solver")}
    linear = {"accuracy": 0.5, "ci": [0.4, 0.6], "attentive": "above"}
    return {**kept, "tokens": 4, "rate": 1e-3, "epochs": 3, "linear": linear}


def _deep() -> dict[str, Any]:
    """Two layers of an encoder and of random weights, and a baseline without any."""
    score = {"linear": {"value": 0.5, "ci": [0.4, 0.6]}}
    rows: list[dict[str, Any]] = [
        {"name": f"{before}level{i}", "kind": kind, "layer": f"level{i}", "depth": i, "dim": 4, "scores": score}
        for before, kind in (("", "encoder"), ("random weights, ", "baseline"))
        for i in (1, 2)
    ]
    rows.append({"name": "raw pixels", "kind": "baseline", "scores": {"linear": {"value": 0.2, "ci": None}}})
    return result_of("depth", rows, protocol="fixed")


def _looked() -> dict[str, Any]:
    """A map at two layers of an encoder and of random weights, ceilings, and a baseline without a layer."""
    scores = {f"{name}: corner": {"value": 0.5, "ci": [0.4, 0.6]} for name in ("rank accuracy, normalised", "AUROC")}
    rows: list[dict[str, Any]] = [
        {
            "name": f"{before}level{i}, {name}",
            "kind": kind,
            "map": name,
            "grid": [4, 4],
            "layer": f"level{i}",
            "depth": i,
            "scores": scores,
        }
        for before, name, kind in (
            ("", "cam", "encoder"),
            ("", "ceiling", "ceiling"),
            ("random weights, ", "cam", "baseline"),
        )
        for i in (1, 2)
    ]
    rows.append({"name": "edges", "kind": "baseline", "map": "edges", "grid": [16, 16], "scores": scores})
    about = {"split": "test", "n": 9, "target": "pair", "left_out": [], "command": "probekit heatmap a --layer all"}
    return result_of("map-depth", rows, **about)


def _followed() -> dict[str, Any]:
    """Two kept encoders and a baseline."""
    encoder = {"linear": {"value": 0.5, "ci": [0.4, 0.6]}, "mAP": {"value": 0.3, "ci": None}}
    baseline = {"linear": {"value": 0.2, "ci": [0.1, 0.3]}}
    rows: list[dict[str, Any]] = [
        {"name": f"epoch-000{i}", "kind": "encoder", "epoch": i, "checkpoint": f"epoch-000{i}", "scores": encoder}
        for i in (1, 2)
    ]
    rows.append({"name": "random weights", "kind": "baseline", "scores": baseline})
    return result_of("all-checkpoints", rows, protocol="fixed")


def _detected(classes: tuple[str, ...]) -> dict[str, Any]:
    """A detector of three trainings on an encoder and on random weights; objects have no masks."""
    rows: list[dict[str, Any]] = []
    for name, kind, least in (("conrec last", "encoder", 0.5), ("random weights", "baseline", 0.25)):
        trials = [
            {"seed": k, "loss": 1.5, "boxes": dict.fromkeys(("AP50", "AP", "AP75"), least + k / 16), "masks": {}}
            for k in range(3)
        ]
        mean = {"value": least + 1 / 16, "ci": [least, least + 0.125]}
        per_class = [{"name": each, "objects": 9, "boxes": least, "masks": None} for each in classes]
        boxes = dict.fromkeys(("AP50", "AP", "AP75"), mean)
        rows.append({"name": name, "kind": kind, "boxes": boxes, "masks": {}, "trials": trials, "per_class": per_class})
    about = {"preset": "quick", "split": "test", "n": 9, "recipe": {}, "command": "probekit detect a --preset quick"}
    return result_of("detect", rows, protocol="xcorr", **about)


def _rebuilt(seed: int) -> dict[str, Any]:
    """A decoder and what needs none, asked of one factor in two ways; there is nothing to ask in the other."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for name, kind in (("conrec last", "encoder"), ("neighbours copied", "baseline")):
        answers: list[dict[str, Any]] = []
        for margin in (0, 4):
            share = float(rng.random())
            right = {"value": share, "ci": [share / 2, share]}
            asked = {
                "factor": "corner",
                "places": "largest place",
                "margin": margin,
                "corruption": "in-painting",
                "n": 9,
            }
            answers.append(asked | {"right": right, "restored": {"value": share - 0.5, "ci": None}})
            nothing = {"value": None, "ci": None}
            answers.append(asked | {"factor": "triangle", "n": 0, "right": nothing, "restored": nothing})
        rows.append({"name": name, "kind": kind, "answers": answers})
    return result_of("reconstruction", rows, protocol="reconstruction")


def _placed(seed: int) -> dict[str, Any]:
    """A map and what needs none: of one question three classes, of the other one is nowhere."""
    rng = np.random.default_rng(seed)
    nowhere: dict[str, Any] = {"value": None, "ci": None}
    rows: list[dict[str, Any]] = []
    for name, kind in (("conrec last", "encoder"), ("position alone", "baseline")):
        share = float(rng.random())
        own: dict[str, Any] = {"value": share, "ci": [share / 2, share]}
        about = {"miou": own, "accuracy": own, "C": 1.0 if kind == "encoder" else None, "note": ""}
        asked = [
            {**about, "name": "objects", "classes": ["the rest", "disc", "bar"], "iou": [own] * 3},
            {**about, "name": "evidence:corner", "classes": ["the rest", "evidence:corner"], "iou": [own, nowhere]},
        ]
        rows.append({"name": name, "kind": kind, "n": 9, "grid": [4, 4], "dim": 3, "cells": 80, "questions": asked})
    return result_of("dense", rows, protocol="fixed")


def further_results(run: str = "a", *, classes: Sequence[str] = CLASSES, seed: int = 0, **about: Any) -> dict[str, Any]:
    """One result for each measurement, by its name; `about` takes the place of other keys."""
    found = deepcopy(_results(tuple(classes), seed))
    return {name: {**result, "run": run, **about} for name, result in found.items()}


def add_further(run: Run, **more: Any) -> Run:
    """Writes all of them into a run's folder."""
    for name, content in further_results(run.name, **more).items():
        write_json(run.results / f"{STEMS[name]}.json", content)
    return run


def kept_result(run: Run, name: str) -> Any:
    """What lies in a run's folder, of the linear probe and the like, too."""
    stem = {"linear": "linear-tuned-last", "health": "health-last", "heatmap": "heatmap-last", **STEMS}[name]
    return json.loads((run.results / f"{stem}.json").read_text())
