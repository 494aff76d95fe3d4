"""Results of the protocols beside the linear probe, of made-up features, as `probekit probe` writes them."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np

from probekit.probe.average_precision import multilabel
from probekit.probe.cross_validation import cross_validate
from probekit.probe.fingerprint import Factor
from probekit.probe.fractions import fractions
from probekit.probe.knn import knn, majority
from probekit.probe.protocol import Part
from probekit.probe.retrieval import by_chance, retrieval
from probekit.run import Run, write_json
from tests.report.folders import CLASSES, HASH


def parts(seed: int, classes: Sequence[str], n: int = 48) -> tuple[Part, Part]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % len(classes)
    x = np.eye(len(classes))[y]
    train, test = (Part((x + rng.normal(size=x.shape)).astype(np.float32), y) for _ in range(2))
    return train, test


@cache
def _rows(classes: tuple[str, ...], seed: int) -> dict[str, list[dict[str, Any]]]:
    """What the protocols give, computed once for all tests of a process."""
    train, test = parts(seed, classes)
    several = [Part(part.x, np.eye(len(classes), dtype=np.int64)[part.y]) for part in (train, test)]
    sources = (("conrec last", "encoder"), ("random weights", "floor"))
    fitted: dict[str, Any] = {"classes": classes, "protocol": "paper", "seed": 0}
    plain: dict[str, Any] = {"classes": classes, "seed": 0, "device": "cpu"}
    factors = {"angle": Factor(np.arange(48.0), "circular"), "corner": Factor(test.y % 2, "class")}
    return {
        "fractions-val-last": [fractions(*s, train, test, shares=[0.25, 0.5], draws=2, **fitted) for s in sources],
        "knn-last": [
            *(knn(*s, train, test, **plain) for s in sources),
            majority(train.y, test.y, classes=len(classes), seed=0),
        ],
        "retrieval-last": [*(retrieval(*s, test, factors=factors, **plain) for s in sources), by_chance(test.y)],
        "cv-val-last": [cross_validate(*s, train, folds=3, repeats=1, **fitted) for s in sources],
        "multilabel-val-last": [multilabel(*s, several[0], several[1], **fitted) for s in sources],
    }


def further_results(
    run: str, *, data: str = "data/rect-tri.h5", data_hash: str = HASH, classes: Sequence[str] = CLASSES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """One result for each section, by its file's name without the ending."""
    rows = deepcopy(_rows(tuple(classes), seed))
    about = {"run": run, "data": data, "data_hash": data_hash, "seed": 0, "how": "Made up for a test, on 48 images."}
    about["notes"] = []
    made = {**about, "command": "probekit probe a --knn", "protocol": "val", "checkpoint": "last", "epoch": 5}
    found: dict[str, dict[str, Any]] = {stem: {**made, "rows": found} for stem, found in rows.items()}
    found["knn-last"]["protocol"] = "knn"
    score = {"linear": {"value": 0.5, "ci": [0.4, 0.6]}, "mAP": {"value": 0.3, "ci": None}}
    found["every-val"] = {
        **about,
        "command": "probekit probe a --every",
        "protocol": "val",
        "points": [{"checkpoint": f"epoch-000{i}", "epoch": i, "scores": score} for i in (1, 2)],
        "floors": [{"name": "random weights", "scores": {"linear": {"value": 0.2, "ci": [0.1, 0.3]}}}],
    }
    return found


def add_further(run: Run, **more: Any) -> Run:
    """Writes all of them into a run's folder."""
    for stem, content in further_results(run.name, **more).items():
        write_json(run.results / f"{stem}.json", content)
    return run
