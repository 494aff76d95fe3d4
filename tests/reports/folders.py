"""Run folders for tests: real probe rows of made-up features, made-up metrics, a heatmap file of the agreed shape."""

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probekit.measurement import measurement
from probekit.output.pictures import save
from probekit.probes.protocol import Part, probe
from probekit.probes.spectrum import health
from probekit.run import Run, create_run, write_json

CLASSES = ("round-right", "round-equilateral", "sharp-right", "sharp-equilateral")
HASH = "ab" * 32
# Each would run a script, or be computed, if it reached a page as it is.
HOSTILE = (
    "<script>window.hacked=1</script>",
    "\"><img src=x onerror='window.hacked=1'>",
    "{{7*7}}${7*7}",
    "</script><script>window.hacked=1</script>",
    "</style></title><svg onload=window.hacked=1>",
    "a|b`c`*d*[e](javascript:window.hacked=1)",
)


def make_run(
    folder: Path,
    name: str = "conrec-a",
    *,
    method: str = "conrec",
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    data: str = "data/rect-tri.h5",
    data_hash: str = HASH,
    noise: float = 1.0,
    n: int = 80,
    epochs: int = 5,
    width: int = 16,
    full: bool = True,
    heatmap: bool = False,
) -> Run:
    """A finished run; without `full` it has a run.json and nothing else."""
    config = {
        "method": method,
        "preset": "quick",
        "seed": seed,
        "model": {"width": width, "pooling": "attention"},
        "train": {"epochs": epochs, "eval_every": 2, "batch_size": 8},
    }
    content = {
        "state": "finished",
        "config": config,
        "dataset": {"path": data, "hash": data_hash, "name": Path(data).stem},
        "device": "cpu (1 thread)",
        "threads": 1,
        "versions": {"probekit": "0.1.0", "torch": "2.13.0"},
        "commit": "c0ffee",
    }
    run = create_run(folder / name, content, overwrite=False)
    if full:
        for epoch in range(1, epochs + 1):
            line = {"epoch": epoch, "step": 10 * epoch, "loss": 9 / epoch, "contrastive": 5 / epoch, "lr": 0.001}
            run.append_metrics(line | ({"val": 0.4, "test": 0.3 + 0.1 * epoch} if epoch % 2 else {}))
        about = {"run": run.name, "data": data, "data_hash": data_hash}
        linear, spectra = _rows(tuple(classes), noise, n, seed)
        write_json(run.results / "linear-tuned-last.json", result_of("linear", linear, **about))
        write_json(run.results / "health-last.json", result_of("health", spectra, protocol="health", **about))
    if heatmap:
        write_json(run.results / "heatmap-last.json", heatmap_result(run.name, data, data_hash))
        for stem in ("heatmap-last-gallery", "views-rect-tri"):
            save(picture(), run.figures / f"{stem}.png")
    return run


def hostile_runs(folder: Path) -> list[Run]:
    """Hostile names wherever a file can bring one."""
    names = [name.replace("/", "|") for name in HOSTILE]  # a folder's name holds no slash
    runs = []
    for i, name in enumerate(names[:3]):
        run = make_run(folder, name, classes=HOSTILE, data=f"data/{HOSTILE[i]}.h5", heatmap=i == 0, seed=i, n=60)
        content = run.read()
        content["config"][HOSTILE[3]] = HOSTILE[0]
        run.update(config=content["config"], device=HOSTILE[1], commit=HOSTILE[2], versions={HOSTILE[4]: HOSTILE[3]})
        runs.append(run)
    heatmap = runs[0].results / "heatmap-last.json"
    text = heatmap.read_text()
    for plain, bad in zip(("evidence:corner", "cam", "head", "black", "trained"), HOSTILE, strict=False):
        text = text.replace(f'"{plain}"', json.dumps(bad))
    heatmap.write_text(text)
    (runs[0].figures / "views-rect-tri.png").rename(runs[0].figures / f"views-{names[1]}.png")
    (runs[1].results / f"linear-{names[0]}.json").write_text("{")
    return runs


def result_of(name: str, rows: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
    """As `probekit probe` writes a measurement, of copies of `rows`; `about` takes the place of other keys."""
    reader = measurement(name)
    return {
        "schema": reader.schema(),
        "run": "a",
        "data": "data/rect-tri.h5",
        "data_hash": HASH,
        "protocol": "tuned",
        "how": f"Made up for a test of {name}.",
        "command": f"probekit probe a --{name}",
        "options": reader.options,
        "checkpoint": "last",
        "checkpoint_hash": "cd" * 32,
        "epoch": 5,
        "seed": 0,
        "notes": [],
        "rows": deepcopy(rows),
        "seconds": 1.5,
        **about,
    }


def linear_result(
    classes: Sequence[str] = CLASSES, *, noise: float = 1.0, n: int = 80, seed: int = 0, **about: Any
) -> dict[str, Any]:
    """Of the linear probe; `noise` makes the encoder err."""
    return result_of("linear", _rows(tuple(classes), noise, n, seed)[0], **about)


@cache
def _rows(
    classes: tuple[str, ...], noise: float, n: int, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of the linear probe, and of health."""
    k = len(classes)
    test = np.arange(n) % k
    linear, spectra = [], []
    for name, kind, spread in (
        ("conrec last", "encoder", noise),
        ("random weights", "baseline", 3.0),
        ("chance", "baseline", 0),
    ):
        rng = np.random.default_rng([seed, round(100 * spread)])
        x = np.eye(k)[np.concatenate([test, test])] * (spread > 0) + spread * rng.normal(size=(2 * n, k))
        part = {"corner": test % 2}
        train, scored = Part(x[:n], test, part), Part(x[n:], test, part)
        linear.append(probe(name, kind, train, scored, classes=classes, protocol="fixed", seed=0))
        if spread:
            spectra.append({"name": name, "kind": kind, **health(x[n:])})
    return linear, spectra


def heatmap_result(run: str, data: str, data_hash: str) -> dict[str, Any]:
    """As `probekit heatmap` writes it: two maps, a baseline and the ceiling, on two masks."""
    masks = ["rectangle", "evidence:corner"]
    return {
        "schema": "probekit-heatmap/2",
        "run": run,
        "data": data,
        "data_hash": data_hash,
        "checkpoint": "last",
        "checkpoint_hash": "cd" * 32,
        "epoch": 5,
        "split": "test",
        "n": 200,
        "size": [128, 128],
        "grid": [16, 16],
        "how": "Maps of 200 images of the split test, target pair.",
        "options": measurement("heatmap").options,
        "protocol": "tuned",
        "target": "pair",
        "fill": "black",
        "black_ground": True,
        "seed": 0,
        "notes": ["random weights are left out: none of this encoder can be drawn anew"],
        "command": "probekit heatmap a",
        "seconds": 3.2,
        "probe": {"accuracy": 0.8, "ci": [0.7, 0.9], "n": 200},
        "masks": masks,
        "chance": {"rectangle": 0.21, "evidence:corner": 0.021},
        "rows": [
            _row("ceiling", "ceiling", "", masks, 0.9),
            _row("centre", "baseline", "", masks, 0.2),
            _row("cam", "map", "corner", masks, 0.4),
            _row("attention", "map", "", masks, 0.3),
        ],
        "left_out": ["swap curves of attention: it has no target"],
    }


def _row(name: str, kind: str, target: str, masks: Sequence[str], level: float) -> dict[str, Any]:
    def around(mean: float) -> dict[str, Any]:
        return {"mean": mean, "ci": [mean - 0.05, mean + 0.05]}

    own = kind == "map"
    score = {metric: around(level) | {"n": 200, "undefined": 0, "normalised": None} for metric in ("pointing", "auroc")}
    score["relevance_mass"] = {"mean": None, "ci": None, "n": 200, "undefined": 200, "normalised": None}
    score["rank_accuracy"] = around(level) | {"n": 200, "undefined": 3, "normalised": around(level)}
    faithful = {key: around(level) for key in ("average_drop", "average_increase", "average_gain", "mean_map")}
    steps = [0.0, 0.25, 0.5, 0.75, 1.0]
    swap = {
        "n": 190,
        "undefined": 10,
        "misordered": 4,
        "score": around(level),
        "x": steps,
        "y": [(1 - x) ** (1 + level) for x in steps],
    }
    randomisation = {
        "passes": True,
        "similarity": 0.1,
        "null": [-0.1, 0.2],
        "cascade": [0.9, 0.3, 0.1],
        "stages": ["head", "up1", "down1"],
        "n": 32,
    }
    return {
        "name": name,
        "map": name if own else "",
        "kind": kind,
        "target": target,
        "encoder": "trained" if own else "",
        "unit": "logit",
        "signed": True,
        "grid": [16, 16],
        "all_zero": 0,
        "scores": dict.fromkeys(masks, score),
        "perturbation": {"": {"n": 200, **faithful}} if own else {},
        "swap": {"corner": swap} if target or not own else {},
        "sanity_check": randomisation if own else None,
    }


def picture() -> Figure:
    """A small figure."""
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().imshow(np.arange(12).reshape(3, 4))
    return figure
