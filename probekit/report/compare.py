"""Runs side by side, paired wherever the test images are the same: by image for two runs, by seed for two methods."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from operator import eq
from typing import Any

import numpy as np

from probekit.probe.table import encoders_first
from probekit.report.compare_scores import compare_scores, scored
from probekit.settings import flatten
from probekit.statistics import BOOTSTRAP_SEED, add_holm, mcnemar, over_seeds, paired_bootstrap, share_interval, verdict

# What makes two probes the same question: the images, how they were probed, and which weights.
QUESTION = ("data_hash", "protocol", "checkpoint")
RANK1 = "retrieval, rank-1"  # a protocol: is the nearest image of the same class?


def compare(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compares the encoders of runs as `collect` reads them.

    Args:
        runs: Two or more.

    Returns:
        {"groups": one for each question that two runs or more answer image by image, "scores": as `compare_scores`,
        "left_out": lines}. docs/report.md has the shape.
    """
    answers: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        for probe in answered(run):
            answers.setdefault(tuple(probe[key] for key in QUESTION), {}).setdefault(run["name"], probe)
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


def answered(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All results of a run that say right or wrong of each test image: linear probes, nearest neighbours, rank-1."""
    ranked = [_rank1(result) for result in run.get("retrieval", [])]
    return [*run["probes"], *run.get("knn", []), *(found for found in ranked if found is not None)]


def _rank1(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Retrieval as a classifier: an image's class is that of its nearest, over the queries that count."""
    row = encoders_first(result["rows"])[0]
    shown = Counter(row.get("labels", []))
    counted = [i for i, label in enumerate(row.get("labels", [])) if shown[label] > 1]
    if "predicted" not in row or not counted:
        return None
    answers = {key: [row[key][i] for i in counted] for key in ("labels", "predicted")}
    hits, n = sum(map(eq, answers["labels"], answers["predicted"])), len(counted)
    scored = {"accuracy": hits / n, "ci": share_interval(hits, n), "n": n}
    return {**result, "protocol": RANK1, "rows": [{"name": row["name"], "kind": "encoder", **scored, **answers}]}


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
    """Method, branches and the pooling that was asked for, "simclr + lcr", "simclr + lcr@gap"."""
    branches = config.get("branches")
    name = " + ".join((str(config.get("method")), *(branches if isinstance(branches, Mapping) else ())))
    return name + (f"@{config['pool']}" if "pool" in config else "")


def _group(
    probes: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    encoders = {name: encoders_first(probe["rows"])[0] for name, probe in probes.items()}
    first = next(iter(probes.values()))
    rows = [
        {
            "run": name,
            "method": labels[name],
            "seed": configs[name]["seed"],
            "epoch": probes[name]["epoch"],
            "after": probes[name]["after"],
            **{key: row[key] for key in ("accuracy", "ci", "n")},
        }
        for name, row in encoders.items()
    ]
    pairs = [_pair(a, b, encoders) for a, b in combinations(encoders, 2)]
    tested = [pair for pair in pairs if pair["why"] is None]
    add_holm(tested)
    for pair in tested:
        pair["verdict"] = verdict(pair["difference"], pair["p_holm"])
    return {
        **{key: first[key] for key in (*QUESTION, "data")},
        "n": rows[0]["n"],
        "runs": rows,
        "pairs": pairs,
        "over_seeds": _over_seeds(rows),
    }


def _pair(a: str, b: str, encoders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Two runs on the same images; `why` says why there is no test, or is None."""
    nothing = dict.fromkeys(("difference", "ci", "only_a", "only_b", "p", "p_holm", "verdict"))
    one, other = encoders[a], encoders[b]
    lacking = [name for name in (a, b) if "predicted" not in encoders[name] or encoders[name].get("labels") is None]
    if lacking:
        return {"a": a, "b": b, **nothing, "why": f"no prediction of each image kept for {' and '.join(lacking)}"}
    if one["labels"] != other["labels"]:
        return {"a": a, "b": b, **nothing, "why": "not the same test images"}
    labels = np.array(one["labels"])
    right = [np.array(row["predicted"]) == labels for row in (one, other)]
    found = paired_bootstrap(*right, seed=BOOTSTRAP_SEED) | mcnemar(*right)
    return {"a": a, "b": b, **found, "p_holm": None, "verdict": None, "why": None}


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Methods against each other; one family of tests."""
    found = over_seeds([(row["method"], row["seed"], row["accuracy"]) for row in rows], low=0.0)
    if found is not None:
        add_holm([pair for pair in found["pairs"] if pair["p"] is not None])
    return found


def _why_not(run: Mapping[str, Any]) -> str:
    results = [*answered(run), *scored(run)]
    if not results:
        why = next((line for line in run["left_out"] if " was not used: " in line), "it has not been probed")
        return f"{run['name']} is not compared: {why}; type: probekit probe {shlex.join(run['argument'])}"
    where = sorted({f"{found['data']} ({found['data_hash'][:8]})" for found in results})
    return (
        f"{run['name']} is not compared: it was probed on {', '.join(where)}, and no other of these runs was probed on "
        "the same images with the same protocol and checkpoint"
    )
