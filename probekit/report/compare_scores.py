"""Scores that are no result of single images (fractions, cross-validation, average precision): paired by seed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from probekit.measurement import measurement
from probekit.statistics import add_holm, over_seeds


def compare_scores(
    runs: Sequence[Mapping[str, Any]], labels: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Groups what two runs or more were asked alike.

    Args:
        runs: As `collect` reads them.
        labels: Each run's method, by the run's name; see `compare.method_labels`.
        configs: Each run's settings.

    Returns:
        One group for each question: measurement, options, data_hash, data, protocol, checkpoint; scores [{score, runs
        [{run, method, seed, epoch, after, value, ci}], over_seeds: None, or {methods, pairs} as `compare.compare` has
        them}]. Holm covers all tests of a group.
    """
    asked: dict[str, dict[str, Any]] = {}
    least: dict[str, float] = {}
    for run in runs:
        for found in scored(run):
            group = asked.setdefault(
                json.dumps(found["question"], sort_keys=True),
                {**found["question"], "data": found["data"], "scores": {}},
            )
            about = {"method": labels[run["name"]], "seed": configs[run["name"]]["seed"]}
            about |= {key: found[key] for key in ("epoch", "after")}
            for name, score in found["scores"].items():
                row = {"run": run["name"], **about, **score.to_dict()}
                group["scores"].setdefault(name, {}).setdefault(run["name"], row)
                least[name] = score.low
    groups = []
    for group in asked.values():
        shared = {name: list(rows.values()) for name, rows in group["scores"].items() if len(rows) > 1}
        scores = [
            {"score": name, "runs": rows, "over_seeds": _by_seed(rows, least[name])} for name, rows in shared.items()
        ]
        over = [score["over_seeds"]["pairs"] for score in scores if score["over_seeds"]]
        add_holm([pair for pairs in over for pair in pairs if pair["p"] is not None])
        if scores:
            groups.append({**group, "scores": scores})
    return groups


def scored(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run's results say of its encoder: question, data, data_hash, epoch, after, scores by name.

    The first score of what is right or wrong of each image is left out: `compare` pairs it by image.
    """
    found = []
    for name, results in run["results"].items():
        reader = measurement(name)
        for result in results:
            by_image = reader.answers(reader.encoder_rows(result)[0]) is not None
            scores = list(reader.encoder_scores(result).items())[by_image:]
            question = {
                "measurement": name,
                **{key: result[key] for key in ("options", "data_hash", "protocol", "checkpoint")},
            }
            known = {title: score for title, score in scores if score.value is not None}
            about = {key: result[key] for key in ("data", "data_hash", "epoch", "after")}
            if known:
                found.append({"question": question, **about, "scores": known})
    return found


def _by_seed(rows: Sequence[Mapping[str, Any]], low: float) -> dict[str, Any] | None:
    return over_seeds([(row["method"], row["seed"], row["value"]) for row in rows], low=low)
