"""What a results file must look like before a report uses it: another version, or a stranger, may have written it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probekit.files import read_json


@dataclass(frozen=True)
class Maybe:
    """A shape, or null."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """An object whose values all have a shape."""

    shape: Any


@dataclass(frozen=True)
class Absent:
    """What the value of a key looks like, if the key is there."""

    shape: Any


NUMBER = (int, float)
MOST = 1e15  # of any number: whole ones stay exact as floats, and charts have room
INTERVAL = [NUMBER]
TOP5 = {"top5": Absent(NUMBER), "top5_ci": Absent(Maybe(INTERVAL))}  # of many classes
ESTIMATE = {"mean": Maybe(NUMBER), "ci": Maybe(INTERVAL)}
HEALTH = {
    "n": int,
    "dim": int,
    "singular_values": {"uncentred": [NUMBER], "centred": [NUMBER]},
    "rankme": {"uncentred": Maybe(NUMBER), "centred": Maybe(NUMBER)},
    "participation_ratio": Maybe(NUMBER),
    "deviation": [NUMBER],
    "dead": int,
}
RUN = {
    "config": {"method": str, "seed": int, "train": {"eval_every": int}},
    "dataset": {"path": str, "hash": str, "name": str},
    "versions": Each(str),
    "resumed": Absent([{"epoch": int, "device": str}]),
}
PROBE = {
    "run": str,
    "data": str,
    "data_hash": str,
    "protocol": str,
    "checkpoint": str,
    "epoch": int,
    "seed": int,
    "notes": [str],
    "rows": [
        {
            "name": str,
            "kind": str,
            "accuracy": NUMBER,
            "ci": Maybe(INTERVAL),
            "n": int,
            "n_train": int,
            "dim": int,
            "balanced_accuracy": NUMBER,
            "macro_f1": NUMBER,
            "log_loss": Maybe(NUMBER),
            **dict.fromkeys(("balanced_accuracy_ci", "macro_f1_ci", "log_loss_ci"), Absent(Maybe(INTERVAL))),
            **TOP5,
            "C": Maybe(NUMBER),
            "note": str,
            "classes": [str],
            "confusion": [[int]],
            "factors": Each({"accuracy": Maybe(NUMBER), "ci": Maybe(INTERVAL)}),
        }
    ],
}
HEATMAP = {
    "data": str,
    "data_hash": str,
    "checkpoint": str,
    "epoch": int,
    "split": str,
    "n": int,
    "size": [int],
    "target": Maybe(str),
    "fill": str,
    "seed": int,
    "command": str,
    "masks": [str],
    "chance": Each(NUMBER),
    "left_out": [str],
    "notes": [str],
    "rows": [
        {
            "name": str,
            "kind": str,
            "target": str,
            "encoder": str,
            "grid": [int],
            "scores": Each(Each({**ESTIMATE, "n": int, "undefined": int, "normalised": Maybe(ESTIMATE)})),
            # By class factor, or under "".
            "faithfulness": Each(
                {"n": int, **dict.fromkeys(("average_drop", "average_increase", "average_gain", "mean_map"), ESTIMATE)}
            ),
            "swap": Each(
                {
                    "n": int,
                    "undefined": int,
                    "misordered": int,
                    "score": Maybe(ESTIMATE),
                    "x": [NUMBER],
                    "y": [NUMBER],
                }
            ),
            "randomisation": Maybe(
                {
                    "passes": Maybe(bool),
                    "similarity": Maybe(NUMBER),
                    "null": Maybe(INTERVAL),
                    "cascade": [Maybe(NUMBER)],
                    "stages": [str],
                    "n": int,
                }
            ),
        }
    ],
}


def read_result(path: Path, shape: Any) -> dict[str, Any]:
    """A JSON file of a shape.

    Raises:
        ValueError: If it is another: where, what was expected, what was found.
        OSError: If it cannot be read.
    """
    content = read_json(path)
    wrong = mismatch(content, shape) or _rows_mismatch(content, shape)
    if wrong:
        raise ValueError(wrong)
    return content


def mismatch(value: Any, shape: Any, where: str = "the file") -> str | None:
    """Where a value from JSON leaves a shape, or None. Keys that a shape does not name are not looked at."""
    if isinstance(shape, Absent):
        return mismatch(value, shape.shape, where)
    if isinstance(shape, Maybe):
        return None if value is None else mismatch(value, shape.shape, where)
    if isinstance(shape, Mapping | Each):
        if not isinstance(value, Mapping):
            return f"expected an object in {where}, found {_name(value)}"
        inner = dict.fromkeys(value, shape.shape) if isinstance(shape, Each) else shape
        missing = [key for key, kind in inner.items() if key not in value and not isinstance(kind, Absent)]
        if missing:
            return f"expected the key {missing[0]} in {where}, found none"
        return _first(mismatch(value[key], kind, f"{where}, {key}") for key, kind in inner.items() if key in value)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"expected a list in {where}, found {_name(value)}"
        if shape is INTERVAL and len(value) != 2:
            return f"expected two ends in {where}, found {len(value)}"
        return _first(mismatch(item, shape[0], where) for item in value)
    if isinstance(value, bool) != (shape is bool) or not isinstance(value, shape):
        kind = "a number" if shape is NUMBER else shape.__name__
        return f"expected {kind} in {where}, found {_name(value)}"
    if isinstance(value, int | float) and not abs(value) < MOST:
        return f"expected a number below {MOST:g} in {where}"
    return None


def _rows_mismatch(content: Mapping[str, Any], shape: Mapping[str, Any]) -> str | None:
    """What the shape cannot say: names, lengths that must agree; `health` and `predicted`, which older files lack."""
    if shape is HEATMAP:
        return None
    rows = content["rows"] if "rows" in shape else content["points"]
    if not rows or len({row.get("name", row.get("checkpoint")) for row in rows}) < len(rows):
        return "expected rows with names of their own"
    return _first(_row_mismatch(row) for row in rows) if shape is PROBE else _first(map(answers_mismatch, rows))


def answers_mismatch(row: Mapping[str, Any]) -> str | None:
    """Labels and predictions that do not belong together, where a row says one of each for every image."""
    lists = [row.get("labels", []), row.get("predicted", [])]
    if isinstance(lists[1], Mapping) or "labels" not in row or "predicted" not in row:  # of many probes, or none
        return None
    if wrong := _first(mismatch(values, [int], "labels and predicted") for values in lists):
        return wrong
    return None if len(lists[0]) == len(lists[1]) else "expected as many labels as predictions"


def _row_mismatch(row: Mapping[str, Any]) -> str | None:
    name, k = row["name"], len(row["classes"])
    shares = [row["accuracy"], row["balanced_accuracy"], row["macro_f1"], *(row["ci"] or ())]
    if not all(0 <= share <= 1 for share in shares):
        return f"expected shares in [0, 1] in the row {name!r}"
    counts = row["confusion"]
    if k == 0 or len(counts) != k or any(len(line) != k or min(line) < 0 for line in counts):
        return f"expected a {k} x {k} confusion matrix of counts in the row {name!r}"
    if row.get("health") is not None:
        wrong = mismatch(row["health"], HEALTH, "health")
        if wrong or row["health"]["dim"] != len(row["health"]["deviation"]) or row["health"]["dim"] < 1:
            return wrong or f"expected a deviation for each dimension in the row {name!r}"
    if "predicted" in row:
        lists = [row["predicted"], row.get("labels")]
        if wrong := _first(mismatch(values, [int], "labels and predicted") for values in lists):
            return wrong
        if any(len(values) != row["n"] or not all(0 <= value < k for value in values) for values in lists):
            return f"expected {row['n']} labels and predictions below {k} in the row {name!r}"
    return None


def _first(found: Any) -> str | None:
    return next(filter(None, found), None)


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__
