"""Runs side by side, paired wherever the test images are the same: by image for two runs, by seed for two methods."""

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from probekit.measurement import measurement
from probekit.settings import flatten
from probekit.statistics import BOOTSTRAP_SEED, add_holm, mcnemar, over_seeds, paired_bootstrap, share_interval, verdict

# What makes two results answers to the same question: what was measured how, on which images, of which weights.
QUESTION = ("measurement", "options", "data_hash", "protocol", "checkpoint")


def compare(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compares the encoders of two runs or more, as `collect` reads them (docs/report.md).

    Gives {"groups": one for each question that two runs or more answer image by image, "scores": as `compare_scores`,
    "left_out": lines}.
    """
    answers: dict[str, dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        for probe in answered(run):
            answers.setdefault(question(probe), {}).setdefault(run["name"], probe)
    named: dict[str, str] = {}  # datasets by content: a file may have been renamed
    for run in runs:
        named.setdefault(run["dataset"]["hash"], f"{run['dataset']['name']} {run['dataset']['hash'][:8]}")
    settings = [{**run["config"], "trained on": named[run["dataset"]["hash"]]} for run in runs]
    labels = dict(zip((run["name"] for run in runs), method_labels(settings), strict=True))
    configs = {run["name"]: run["config"] for run in runs}
    groups = [_group(probes, labels, configs) for probes in answers.values() if len(probes) > 1]
    scores = compare_scores(runs, labels, configs)
    compared = {row["run"] for group in groups for row in group["runs"]}
    compared |= {row["run"] for group in scores for score in group["scores"] for row in score["runs"]}
    left_out = [_why_not(run) for run in runs if run["name"] not in compared]
    return {"groups": groups, "scores": scores, "left_out": left_out}


def question(result: Mapping[str, Any]) -> str:
    """The same text for two results that answer the same."""
    return json.dumps([result[key] for key in QUESTION], sort_keys=True)


def answered(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All results of a run that say right or wrong of each image, each with `labels` and `predicted` of its encoder."""
    found: list[Mapping[str, Any]] = []
    for name, results in run["results"].items():
        for result in results:
            reader = measurement(name)
            answers = reader.answers(reader.encoder_rows(result)[0])
            if answers is not None:
                labels, predicted = (np.array(values) for values in answers)
                hits, n = int((labels == predicted).sum()), len(labels)
                first = next(iter(reader.encoder_scores(result)), name)
                about = {"score": first, "accuracy": hits / n, "ci": share_interval(hits, n), "n": n}
                found.append({**result, "measurement": name, **about, "labels": labels, "predicted": predicted})
    return found


def method_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run that is the same where runs differ in nothing but the seed.

    The method's name and its branches'; where such runs differ in more, also those settings: "conrec (model.width 8)".
    """
    flat = [
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in flatten(config).items() if k != "seed"}
        | {"method": with_branches(config)}
        for config in configs
    ]
    labels = []
    for own in flat:
        peers = [other for other in flat if other.get("method") == own.get("method")]
        keys = sorted({key for other in peers for key in other} | own.keys())
        differing = [key for key in keys if any(other.get(key) != own.get(key) for other in peers)]
        settings = ", ".join(f"{key} {own.get(key, 'unset')}" for key in differing)
        labels.append(f"{own['method']} ({settings})" if settings else own["method"])
    return labels


def with_branches(config: Mapping[str, Any]) -> str:
    """Method, branches and the reading that was asked for, "simclr + lcr", "simclr + lcr@gap"."""
    branches = config.get("branches")
    name = " + ".join((str(config.get("method")), *(branches if isinstance(branches, Mapping) else ())))
    return name + str(config.get("reading", ""))


def _group(
    answers: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    first = next(iter(answers.values()))
    rows = [
        {
            "run": name,
            "method": labels[name],
            "seed": configs[name]["seed"],
            **{key: found[key] for key in ("epoch", "after", "accuracy", "ci", "n")},
        }
        for name, found in answers.items()
    ]
    pairs = [_pair(a, b, answers) for a, b in combinations(answers, 2)]
    tested = [pair for pair in pairs if pair["why"] is None]
    add_holm(tested)
    for pair in tested:
        pair["verdict"] = verdict(pair["difference"], pair["p_holm"])
    over = over_seeds([(row["method"], row["seed"], row["accuracy"]) for row in rows], low=0.0)
    add_holm([pair for pair in (over or {"pairs": []})["pairs"] if pair["p"] is not None])  # one family of tests
    return {
        **{key: first[key] for key in (*QUESTION, "data", "score")},
        "n": rows[0]["n"],
        "runs": rows,
        "pairs": pairs,
        "over_seeds": over,
    }


def _pair(a: str, b: str, answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Two runs on the same images; `why` says why there is no test, or is None."""
    nothing = dict.fromkeys(("difference", "ci", "only_a", "only_b", "p", "p_holm", "verdict"))
    one, other = answers[a], answers[b]
    if not np.array_equal(one["labels"], other["labels"]):
        return {"a": a, "b": b, **nothing, "why": "not the same test images"}
    right = [found["predicted"] == found["labels"] for found in (one, other)]
    found = paired_bootstrap(*right, seed=BOOTSTRAP_SEED) | mcnemar(*right)
    return {"a": a, "b": b, **found, "p_holm": None, "verdict": None, "why": None}


def _why_not(run: Mapping[str, Any]) -> str:
    results = [*answered(run), *scored(run)]
    if not results:
        why = next((line for line in run["left_out"] if " was not used: " in line), "it has not been measured")
        return f"{run['name']} is not compared: {why}; type: probekit probe {shlex.join(run['argument'])}"
    where = sorted({f"{found['data']} ({found['data_hash'][:8]})" for found in results})
    return (
        f"{run['name']} is not compared: it was measured on {', '.join(where)}, and no other of these runs on "
        "the same images in the same way, at the same checkpoint"
    )


def compare_scores(
    runs: Sequence[Mapping[str, Any]], labels: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Groups the scores of which no answers to single images are kept: they are paired by seed alone.

    `labels`: each run's method, by the run's name; see `method_labels`. Gives one group for each question: what
    `QUESTION` has, data; scores [{score, runs [{run, method, seed, epoch, after, value, ci}], over_seeds: None, or
    {methods, pairs} as `compare` has them}]. Holm covers all tests of a group.
    """
    asked: dict[str, dict[str, Any]] = {}
    least: dict[str, float] = {}
    for run in runs:
        for found in scored(run):
            about = {key: found[key] for key in (*QUESTION, "data")}
            group = asked.setdefault(question(found), {**about, "scores": {}})
            row = {"run": run["name"], "method": labels[run["name"]], "seed": configs[run["name"]]["seed"]}
            row |= {key: found[key] for key in ("epoch", "after")}
            for name, score in found["scores"].items():
                group["scores"].setdefault(name, {}).setdefault(run["name"], row | score.to_dict())
                least[name] = score.low
    groups = []
    for group in asked.values():
        shared = {name: list(rows.values()) for name, rows in group["scores"].items() if len(rows) > 1}
        scores = [
            {
                "score": name,
                "runs": rows,
                "over_seeds": over_seeds([(row["method"], row["seed"], row["value"]) for row in rows], low=least[name]),
            }
            for name, rows in shared.items()
        ]
        over = [score["over_seeds"]["pairs"] for score in scores if score["over_seeds"]]
        add_holm([pair for pairs in over for pair in pairs if pair["p"] is not None])
        if scores:
            groups.append({**group, "scores": scores})
    return groups


def scored(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All results of a run, each with the `scores` of its encoder by name but for one that `compare` pairs by image."""
    found = []
    for name, results in run["results"].items():
        reader = measurement(name)
        for result in results:
            by_image = reader.answers(reader.encoder_rows(result)[0]) is not None
            scores = list(reader.encoder_scores(result).items())[by_image:]
            known = {title: score for title, score in scores if score.value is not None}
            if known:
                found.append({**result, "measurement": name, "scores": known})
    return found
