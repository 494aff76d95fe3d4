"""Run folders for tests: real probe rows of made-up features, made-up metrics, a heatmap file of the agreed shape."""

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probekit.output.png import save_png
from probekit.probe.protocol import Part, probe
from probekit.probe.spectrum import health
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
        write_json(
            run.results / "probe-val-last.json", probe_result(run.name, data, data_hash, classes, noise, n, seed)
        )
    if heatmap:
        write_json(run.results / "heatmap.json", heatmap_result(run.name, data, data_hash))
        for stem in ("heatmap-cam", "views-rect-tri"):
            save_png(picture(), run.figures / f"{stem}.png", dpi=50)
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
    heatmap = runs[0].results / "heatmap.json"
    text = heatmap.read_text()
    for plain, bad in zip(("evidence:corner", "cam", "head", "black", "trained"), HOSTILE, strict=False):
        text = text.replace(f'"{plain}"', json.dumps(bad))
    heatmap.write_text(text)
    (runs[0].figures / "views-rect-tri.png").rename(runs[0].figures / f"views-{names[1]}.png")
    (runs[1].results / f"probe-{names[0]}.json").write_text("{")
    return runs


def probe_result(
    run: str, data: str, data_hash: str, classes: Sequence[str], noise: float, n: int, seed: int
) -> dict[str, Any]:
    """As `probekit probe` writes it; `noise` makes the encoder err."""
    return {
        "run": run,
        "data": data,
        "protocol": "val",
        "rows": deepcopy(_probe_rows(tuple(classes), noise, n, seed)),
        "checkpoint": "last",
        "checkpoint_hash": "cd" * 32,
        "epoch": 5,
        "data_hash": data_hash,
        "seed": 0,
        "notes": [],
        "seconds": 1.5,
    }


@cache
def _probe_rows(classes: tuple[str, ...], noise: float, n: int, seed: int) -> list[dict[str, Any]]:
    k = len(classes)
    test = np.arange(n) % k
    rows = []
    for name, kind, spread in (
        ("conrec last", "encoder", noise),
        ("random weights", "floor", 3.0),
        ("chance", "floor", 0),
    ):
        rng = np.random.default_rng([seed, round(100 * spread)])
        x = np.eye(k)[np.concatenate([test, test])] * (spread > 0) + spread * rng.normal(size=(2 * n, k))
        part = {"corner": test % 2}
        train, scored = Part(x[:n], test, part), Part(x[n:], test, part)
        row = probe(name, kind, train, scored, classes=classes, protocol="paper", seed=0)
        rows.append(row | ({"health": health(x[n:])} if spread else {}))
    return rows


def heatmap_result(run: str, data: str, data_hash: str) -> dict[str, Any]:
    """As `probekit heatmap` writes it: two looks, a baseline and the ceiling, on two masks."""
    masks = ["rectangle", "evidence:corner"]
    return {
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
        "target": "pair",
        "fill": "black",
        "seed": 0,
        "notes": ["random weights are left out: none of this encoder can be drawn anew"],
        "command": "probekit heatmap a --seed 0",
        "seconds": 3.2,
        "probe": {"accuracy": 0.8, "ci": [0.7, 0.9], "C": 1.0, "n": 200, "protocol": "val"},
        "masks": masks,
        "chance": {"rectangle": 0.21, "evidence:corner": 0.021},
        "rows": [
            _row("ceiling", "ceiling", "", masks, 0.9),
            _row("centre", "baseline", "", masks, 0.2),
            _row("cam", "look", "corner", masks, 0.4),
            _row("attention", "look", "", masks, 0.3),
        ],
        "left_out": ["swap curves of attention: it has no target"],
    }


def _row(name: str, kind: str, target: str, masks: Sequence[str], level: float) -> dict[str, Any]:
    def around(mean: float) -> dict[str, Any]:
        return {"mean": mean, "ci": [mean - 0.05, mean + 0.05]}

    look = kind == "look"
    score = {metric: around(level) | {"n": 200, "undefined": 0, "normalised": None} for metric in ("pointing", "auroc")}
    score["mass"] = {"mean": None, "ci": None, "n": 200, "undefined": 200, "normalised": None}
    score["rank"] = around(level) | {"n": 200, "undefined": 3, "normalised": around(level)}
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
        "look": name if look else "",
        "kind": kind,
        "target": target,
        "encoder": "trained" if look else "",
        "unit": "logit",
        "signed": True,
        "grid": [16, 16],
        "all_zero": 0,
        "scores": dict.fromkeys(masks, score),
        "faithfulness": {"": {"n": 200, **faithful}} if look else {},
        "swap": {"corner": swap} if target or not look else {},
        "randomisation": randomisation if look else None,
    }


def picture() -> Figure:
    """A small figure."""
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().imshow(np.arange(12).reshape(3, 4))
    return figure
