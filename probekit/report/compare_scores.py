"""Scores that are no result of single images (fractions, cross-validation, average precision): paired by seed."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.probe.table import encoders_first
from probekit.statistics import add_holm, over_seeds

SIGNED = ("kappa",)  # metrics from -1 to 1; the others are shares
Score = dict[str, Any]
# Of retrieval, as they are read; rank-1 is paired by image.
RETRIEVED = {
    "rank5": "rank-5",
    "map": "mAP",
    "map_at_r": "mAP@R",
    "r_precision": "R-precision",
    "precision3": "P@1-3",
    "precision18_20": "P@18-20",
}


def compare_scores(
    runs: Sequence[Mapping[str, Any]], labels: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Groups what two runs or more were asked alike.

    Args:
        runs: As `collect` reads them.
        labels: Each run's method, by the run's name; see `compare.method_labels`.
        configs: Each run's settings.

    Returns:
        One group for each question: what, data_hash, data, protocol, checkpoint; scores [{score, runs [{run, method,
        seed, epoch, after, value, ci}], over_seeds: None, or {methods, pairs} as `compare.compare` has them}]. Holm
        covers all tests of a group.
    """
    asked: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in runs:
        for found in scored(run):
            key = tuple(found["question"].values())
            group = asked.setdefault(key, {**found["question"], "data": found["data"], "scores": {}})
            about = {"method": labels[run["name"]], "seed": configs[run["name"]]["seed"]}
            about |= {key: found[key] for key in ("epoch", "after")}
            for name, score in found["scores"].items():
                group["scores"].setdefault(name, {}).setdefault(run["name"], {"run": run["name"], **about, **score})
    groups = []
    for group in asked.values():
        shared = {name: list(rows.values()) for name, rows in group["scores"].items() if len(rows) > 1}
        scores = [{"score": name, "runs": rows, "over_seeds": _by_seed(name, rows)} for name, rows in shared.items()]
        over = [score["over_seeds"]["pairs"] for score in scores if score["over_seeds"]]
        add_holm([pair for pairs in over for pair in pairs if pair["p"] is not None])
        if scores:
            groups.append({**group, "scores": scores})
    return groups


def scored(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run's results say of its encoder: question, data, data_hash, epoch, after, scores {name: {value, ci}}."""
    found = []
    for what, read in READERS.items():
        for result in run.get(what, []):
            row = encoders_first(result["rows"])[0]
            protocol, scores = read(result["protocol"], row)
            question = {"what": what, "data_hash": result["data_hash"], "protocol": protocol}
            question["checkpoint"] = result["checkpoint"]
            known = {name: score for name, score in scores.items() if score["value"] is not None}
            about = {key: result[key] for key in ("data", "data_hash", "epoch", "after")}
            found.append({"question": question, **about, "scores": known})
    return found


def _fractions(protocol: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Score]]:
    part = [point for point in row["points"] if point["fraction"] < 1]  # all labels: the linear probe's own
    scores = {
        f"{100 * point['fraction']:g} % of labels": {"value": point["accuracy"], "ci": point["ci"]} for point in part
    }
    return protocol, scores


def _cv(protocol: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Score]]:
    scores = {
        f"{metric}, {decoding}": {"value": found["mean"], "ci": found["ci"]}
        for decoding, metrics in row["decodings"].items()
        for metric, found in metrics.items()
    }
    return f"{protocol}, {row['repeats']} x {row['folds']} folds", scores


def _map(protocol: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Score]]:
    return protocol, {
        f"mAP, {form}": {key: found[key] for key in ("value", "ci")} for form, found in row["map"].items()
    }


def _retrieval(protocol: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Score]]:
    found = row["scores"]
    return protocol, {
        name: {key: found[metric][key] for key in ("value", "ci")}
        for metric, name in RETRIEVED.items()
        if metric in found
    }


READERS = {"fractions": _fractions, "cv": _cv, "multilabel": _map, "retrieval": _retrieval}


def _by_seed(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    low = -1.0 if name.startswith(SIGNED) else 0.0
    return over_seeds([(row["method"], row["seed"], row["value"]) for row in rows], low=low)
