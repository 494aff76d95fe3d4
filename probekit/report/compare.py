"""Runs side by side, paired wherever the test images are the same: by image for two runs, by seed for two methods."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test

from probekit.probe.statistics import wilson
from probekit.probe.table import encoders_first
from probekit.sweep.statistics import paired, proportion_interval

DRAWS = 10_000  # of the bootstrap; ours: its ends then move by less than a tenth of the interval's width
BOOTSTRAP_SEED = 0
MIN_FLIPS = 6  # pairs of seeds from which a two-sided sign-flip test can reach 0.05: 2 / 2^6 = 0.031
EXACT_FLIPS = 16  # pairs up to which all 2^n flips are counted; beyond, so many are drawn
# What makes two probes the same question: the images, how they were probed, and which weights.
QUESTION = ("data_hash", "protocol", "checkpoint")
RANK1 = "retrieval, rank-1"  # a protocol: is the nearest image of the same class?


def compare(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compares the encoders of runs as `collect` reads them.

    Args:
        runs: Two or more.

    Returns:
        {"groups": one for each question that two runs or more answer, "left_out": lines}. docs/report.md has the shape.
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
    compared = {row["run"] for group in groups for row in group["runs"]}
    return {"groups": groups, "left_out": [_why_not(run) for run in runs if run["name"] not in compared]}


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
    scored = {"accuracy": hits / n, "ci": list(wilson(hits, n)), "n": n}
    return {**result, "protocol": RANK1, "rows": [{"name": row["name"], "kind": "encoder", **scored, **answers}]}


def method_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run that is the same where runs differ in nothing but the seed.

    The method's name and its branches'; where such runs differ in more, also those settings: "conrec (model.width 8)".
    """
    flat = [
        {k: v for k, v in _flatten(config).items() if k != "seed"} | {"method": _with_branches(config)}
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


def _with_branches(config: Mapping[str, Any]) -> str:
    """Method and branches, "simclr + lcr"."""
    branches = config.get("branches")
    return " + ".join((str(config.get("method")), *(branches if isinstance(branches, Mapping) else ())))


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> dict[str, Any]:
    """The exact test of McNemar (1947): are the images that only one of two classifiers gets right split evenly?

    Args:
        a: `[N]`, which images the first gets right.
        b: `[N]`, which the second gets right.

    Returns:
        only_a, only_b, counts; p, two-sided and exact (binomial), 1 where no image divides them.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    divided = only_a + only_b
    p = float(binomtest(only_a, divided, 0.5).pvalue) if divided else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def paired_bootstrap(a: NDArray[np.bool_], b: NDArray[np.bool_], *, seed: int) -> dict[str, Any]:
    """The difference of two accuracies on the same images, with its 95 % percentile interval over images.

    Args:
        a: `[N]`, which images the first gets right.
        b: `[N]`, which the second gets right.
        seed: Of the draws.

    Returns:
        difference, a - b; ci, [low, high].
    """
    n = len(a)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    shares = [only_a / n, only_b / n, (n - only_a - only_b) / n]
    # An image is one of three kinds, so drawing n images anew is one multinomial draw.
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return {"difference": (only_a - only_b) / n, "ci": [float(low), float(high)]}


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def sign_flip(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    """Two-sided p of the sign-flip test on differences by seed; None with fewer than `MIN_FLIPS` seeds in common."""
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < MIN_FLIPS:
        return None
    differences = np.array([a[seed] - b[seed] for seed in seeds])
    zeros = np.zeros_like(differences)
    found = permutation_test(
        (differences, zeros),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_FLIPS,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return float(found.pvalue)


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
            **{key: row[key] for key in ("accuracy", "ci", "n")},
        }
        for name, row in encoders.items()
    ]
    pairs = [_pair(a, b, encoders) for a, b in combinations(encoders, 2)]
    _add_holm([pair for pair in pairs if pair["why"] is None])
    return {
        **{key: first[key] for key in (*QUESTION, "data")},
        "n": rows[0]["n"],
        "runs": rows,
        "pairs": pairs,
        "over_seeds": _over_seeds(rows),
    }


def _pair(a: str, b: str, encoders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Two runs on the same images; `why` says why there is no test, or is None."""
    nothing = dict.fromkeys(("difference", "ci", "only_a", "only_b", "p", "p_holm"))
    one, other = encoders[a], encoders[b]
    lacking = [name for name in (a, b) if "predicted" not in encoders[name] or encoders[name].get("labels") is None]
    if lacking:
        return {"a": a, "b": b, **nothing, "why": f"no prediction of each image kept for {' and '.join(lacking)}"}
    if one["labels"] != other["labels"]:
        return {"a": a, "b": b, **nothing, "why": "not the same test images"}
    labels = np.array(one["labels"])
    right = [np.array(row["predicted"]) == labels for row in (one, other)]
    found = paired_bootstrap(*right, seed=BOOTSTRAP_SEED) | mcnemar(*right)
    return {"a": a, "b": b, **found, "p_holm": None, "why": None}


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Methods against each other over the seeds that they share; None where no method has two seeds."""
    by_method: dict[str, dict[int, float]] = {}
    for row in rows:
        by_method.setdefault(row["method"], {}).setdefault(row["seed"], row["accuracy"])
    if all(len(values) < 2 for values in by_method.values()):
        return None
    pairs = [
        {"a": a, "b": b, **paired(by_method[a], by_method[b]), "p": sign_flip(by_method[a], by_method[b])}
        for a, b in combinations(by_method, 2)
    ]
    _add_holm([pair for pair in pairs if pair["p"] is not None])
    return {
        "methods": [
            {"method": method, "seeds": sorted(values), **proportion_interval(list(values.values()))}
            for method, values in by_method.items()
        ],
        "pairs": [{"p_holm": None, **pair} for pair in pairs],
    }


def _add_holm(tested: Sequence[dict[str, Any]]) -> None:
    """The adjusted p of each of a family of tests, as `p_holm`."""
    for pair, p in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_holm"] = p


def _why_not(run: Mapping[str, Any]) -> str:
    if not answered(run):
        if run["multilabel"]:
            return f"{run['name']} is not compared: average precision is no result of single images"
        return f"{run['name']} is not compared: it has not been probed; type: probekit probe {run['argument']}"
    where = sorted({f"{probe['data']} ({probe['data_hash'][:8]})" for probe in answered(run)})
    return (
        f"{run['name']} is not compared: it was probed on {', '.join(where)}, and no other of these runs was probed on "
        "the same images with the same protocol and checkpoint"
    )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
