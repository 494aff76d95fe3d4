"""Run folders -> one plain dictionary: all that a report knows, and what `--json` prints (docs/report.md)."""

import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from probekit.checked import checked
from probekit.files import read_json, sha256
from probekit.h5 import DatasetInfo, read_info
from probekit.measurement import read_result
from probekit.output.formats import is_dark
from probekit.probes import PROTOCOLS
from probekit.registry import MEASUREMENTS
from probekit.reports import SCHEMA
from probekit.reports.compare import compare
from probekit.run import Run, how_far
from probekit.weights import Weights

VIEWS = "views-*.png"  # files of run.figures: what a method is given


class _Train(TypedDict):
    eval_every: int
    monitor: NotRequired[str]


class _Config(TypedDict):
    method: str
    seed: int
    train: _Train


class _Dataset(TypedDict):
    path: str
    hash: str
    name: str


class _Resumed(TypedDict):
    epoch: int
    device: str


class RunShape(TypedDict):
    """What a report needs of run.json."""

    state: str
    config: _Config
    dataset: _Dataset
    versions: dict[str, str]
    resumed: NotRequired[list[_Resumed]]


def collect(runs: Sequence[Run], readings: Sequence[Weights | None] = ()) -> dict[str, Any]:
    """Reads runs and compares them: {"schema", "command", "runs", "comparison" (None of one run)}.

    `readings`: for each run what is read of its network, of which alone it is to tell, or None for all that it has;
    empty is None for all. Each run once with each. A ValueError if a run.json is not as `RunShape`.
    """
    names = [run.name for run in runs]
    if len(set(names)) < len({run.path for run in runs}):  # folders of one name in two places
        names = [str(run.path) for run in runs]
    found = [
        _run(name, run) if read is None else _read_so(_run(name, run), read)
        for name, run, read in zip(names, runs, readings or [None] * len(runs), strict=True)
    ]
    return {
        "schema": SCHEMA,
        "command": shlex.join(["probekit", "report", *(run.argument for run in runs)]),
        "runs": found,
        "comparison": compare(found) if len(found) > 1 else None,
    }


def _run(name: str, run: Run) -> dict[str, Any]:
    content = run.read()
    checked(content, RunShape, str(run.json))
    left_out: list[str] = []
    about = ("created", "state", "config", "dataset", "device", "threads", "versions", "commit", "weights")
    return {
        "name": name,
        "path": str(run.path),
        "argument": [run.argument],
        **{key: content.get(key) for key in about},
        "resumed": content.get("resumed", []),
        "data": _data(content["dataset"], left_out),
        "metrics": _metrics(run, left_out),
        "results": _results(run, content, left_out),
        "pictures": [str(path) for path in sorted(run.figures.glob(VIEWS)) if path.is_file() and not is_dark(path)],
        "left_out": left_out,
    }


def _read_so(run: Mapping[str, Any], read: Weights) -> dict[str, Any]:
    """What a run holds under one pooling or of one layer, as a run of its own whose checkpoints are read so."""
    kept = {}
    for kind, results in run["results"].items():
        named = [(result, Weights.parse(result["checkpoint"])) for result in results]
        kept[kind] = [
            {**result, "checkpoint": found.checkpoint} for result, found in named if found.reading == read.reading
        ]
    about = {"name": f"{run['name']}{read.reading}", "argument": [*run["argument"], *read.words]}
    return {**run, "results": kept, **about, "config": {**run["config"], "reading": read.reading}}


def _results(run: Run, content: Mapping[str, Any], left_out: list[str]) -> dict[str, list[dict[str, Any]]]:
    """By measurement every sound file of weights that are there, with `file` and `after`; a line for each other one."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in MEASUREMENTS}
    for path in sorted(run.results.glob("*.json")):
        try:
            result = read_json(path)
            reader = read_result(result)
            if not _is_of_present_weights(run, result):
                left_out.append(f"{path} was not used: {result['checkpoint']} has other weights now; measure again")
                continue
            about = {"file": str(path), "after": how_far(content, result["epoch"])}
            found[reader.name].append({**result, **about})
        except (ValueError, OSError) as error:
            left_out.append(f"{path} was not used: {error}")
    own = content["dataset"]["hash"]
    return {name: sorted(results, key=lambda result: _order(result, own)) for name, results in found.items()}


def _is_of_present_weights(run: Run, result: Mapping[str, Any]) -> bool:
    """Whether a result's weights still are those of its checkpoint; also if either is not known."""
    measured = result.get("checkpoint_hash")
    weights = Weights.parse(result["checkpoint"]).file(run.path) if measured else run.path
    return not weights.is_file() or _hash(weights, weights.stat().st_mtime_ns) == measured


@lru_cache(maxsize=64)
def _hash(path: Path, changed: int) -> str:
    """Many results are of one file."""
    return sha256(path)


def _order(result: Mapping[str, Any], data_hash: str) -> tuple[bool, bool, bool, str]:
    """The run's own data first, the last weights and the default protocol."""
    first = next(iter(PROTOCOLS))
    usual = result["checkpoint"] == "last", result["protocol"] == first
    return result["data_hash"] != data_hash, not usual[0], not usual[1], Path(result["file"]).name


def _metrics(run: Run, left_out: list[str]) -> list[dict[str, float]]:
    """What stands in metrics.jsonl."""
    try:
        return run.read_metrics()
    except (ValueError, OSError) as error:
        left_out.append(f"{run.metrics} was not used: {error}")
        return []


def _data(dataset: Mapping[str, Any], left_out: list[str]) -> dict[str, Any] | None:
    """What the dataset file says about itself, if it is still there and the same."""
    path = Path(dataset["path"])
    try:
        info = read_info(path)
    except (ValueError, OSError):
        left_out.append(f"{path} is gone or cannot be read: nothing is told of its contents")
        return None
    if info.content_hash != dataset["hash"]:
        left_out.append(f"{path} has changed since the run was trained on it: nothing is told of its contents")
        return None
    return _describe(info)


def _describe(info: DatasetInfo) -> dict[str, Any]:
    return {
        "generator": info.generator,
        "seed": info.seed,
        "parameters": info.parameters,
        "classes": list(info.classes),
        "masks": list(info.mask_names),
        "version": info.version,
        "certificate": info.certificate,
        "splits": {
            name: {key: getattr(split, key) for key in ("n", "height", "width", "channels", "labelled")}
            for name, split in info.splits.items()
        },
    }
