"""From run folders to one set of numbers: every row's mean and interval over seeds, the paper's number, the pairs.

The shape of `collect` is what results.json holds and `sweep --json` prints: a promise to scripts (docs/protocols.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from probekit.measurement import CHANCE, Measurement, Score, measurement
from probekit.run import Run
from probekit.statistics import against, mean_over_seeds, paired_seeds
from probekit.sweep.datasets import Data
from probekit.sweep.definition import Curve, Paper, Sweep
from probekit.sweep.jobs import Outcome
from probekit.sweep.measures import (
    LINEAR,
    SCORES,
    Measure,
    Step,
    baseline_rows,
    find_result,
    read_factors,
    read_scores,
    split_pooled,
    under_pool,
    without_pool,
)
from probekit.sweep.plan import PlannedRun
from probekit.weights import RANDOM, Weights

SCHEMA = "probekit-sweep/1"
NOTHING: dict[str, Any] = {"value": None, "ci": None, "n": 0}  # not measured yet


def collect(
    name: str,
    sweep: Sweep,
    planned: Sequence[PlannedRun],
    data: Mapping[str, Data],
    *,
    runs: Path,
    outcomes: Mapping[str, Outcome],
) -> dict[str, Any]:
    """Everything that the run folders hold so far, as plain data; accuracies in [0, 1], kappa in [-1, 1].

    `name`: the folder's; `outcomes`: how the runs of this session ended, by name.
    """
    found = {run.name: _run(run, Run(runs / run.name), outcomes.get(run.name)) for run in planned}
    cells = [(dataset.name, row.name) for dataset in sweep.datasets for row in sweep.rows]
    values = {cell: _by_seed(cell, planned, found, "scores") for cell in cells}
    pretrain = {dataset.name: dataset.pretrain for dataset in sweep.datasets}
    least: dict[str, float] = {}  # rows may have monitors of two kinds
    for scored, score in (entry for run in found.values() for entry in run["scores"].items()):
        least[scored] = min(score.low, least.get(scored, 0.0))
    measured = dict.fromkeys(without_pool(score)[0] for scores in values.values() for score in scores)
    rows = [
        {
            "dataset": dataset,
            "row": row.name,
            "method": row.method,
            "settings": [*pretrain[dataset], *row.settings],
            "branches": list(row.branches),
            "scores": _intervals(values[dataset, row.name], least),
            "factors": _intervals(_by_seed((dataset, row.name), planned, found, "factors"), {}),
            "paper": _papers(sweep.papers, dataset, row.name, values[dataset, row.name], least),
        }
        for dataset in data
        for row in sweep.rows
    ]
    baselines = [entry for dataset in data for entry in _baselines(dataset, planned, runs)]
    return {
        "schema": SCHEMA,
        "name": name,
        "about": sweep.about,
        "preset": planned[0].config.preset,
        "epochs": sorted({run.epochs for run in planned}),
        "seeds": list(dict.fromkeys(run.seed for run in planned)),
        "planned": len(planned),
        "finished": sum(run["state"] == "finished" for run in found.values()),
        "datasets": [{"name": dataset, **asdict(file)} for dataset, file in data.items()],
        "rows": rows,
        "baselines": baselines,
        "curves": collect_curves(sweep.curves, rows, baselines),
        "pairs": [
            {"dataset": dataset, "a": a, "b": b, "score": score}
            | paired_seeds(*(_under(values, dataset, side, score) for side in (a, b)), span=1 - least.get(score, 0.0))
            for dataset in data
            for a, b in sweep.pairs
            for score in dict.fromkeys([*SCORES, *measured])
        ],
        "runs": [run | {kind: _plain(run[kind]) for kind in ("scores", "factors")} for run in found.values()],
    }


def _run(planned: PlannedRun, run: Run, outcome: Outcome | None) -> dict[str, Any]:
    whole = read_scores(run, epochs=planned.epochs, measure=planned.measure)
    # A further measurement that is missing, or failed, does not hide the linear probe.
    scores = whole or read_scores(run, epochs=planned.epochs, measure=Measure(linear=planned.measure.linear))
    state = "finished" if whole else outcome.state if outcome and outcome.state != "finished" else "unfinished"
    return {
        "name": planned.name,
        "dataset": planned.dataset,
        "row": planned.row.name,
        "seed": planned.seed,
        "state": state,
        "scores": scores or {},
        "factors": read_factors(run, epochs=planned.epochs) if scores else {},
    }


def _by_seed(
    cell: tuple[str, str], planned: Sequence[PlannedRun], found: Mapping[str, Mapping[str, Any]], what: str
) -> dict[str, dict[int, float]]:
    """{name of the score: {seed: value}} of one row on one dataset."""
    values: dict[str, dict[int, float]] = {}
    for run in planned:
        if (run.dataset, run.row.name) == cell:
            for name, score in found[run.name][what].items():
                values.setdefault(name, {})[run.seed] = score.value
    return values


def _under(
    values: Mapping[tuple[str, str], Mapping[str, Mapping[int, float]]], dataset: str, side: str, score: str
) -> Mapping[int, float]:
    """A score of one side of a pair, a row or ROW@POOL, by seed."""
    row, pool = split_pooled(side)
    return values[dataset, row].get(under_pool(score, pool), {})


def _plain(scores: Mapping[str, Score]) -> dict[str, float | None]:
    return {name: score.value for name, score in scores.items()}


def _intervals(values: Mapping[str, Mapping[int, float]], least: Mapping[str, float]) -> dict[str, Any]:
    found = {}
    for name, by_seed in values.items():
        mean = mean_over_seeds(list(by_seed.values()), low=least.get(name, 0.0))
        found[name] = mean | {"values": {str(seed): value for seed, value in by_seed.items()}}
    return found


def _papers(
    papers: Sequence[Paper],
    dataset: str,
    row: str,
    values: Mapping[str, Mapping[int, float]],
    least: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Every published number of a row, under any of its poolings, beside its own score."""
    found = []
    for paper in papers:
        for side, published in paper.shares(dataset).items():
            name, pool = split_pooled(side)
            if name != row:
                continue
            score = under_pool(paper.score, pool) if pool else paper.score
            told = {"score": score, "source": paper.source}
            if score in values:
                mean = mean_over_seeds(list(values[score].values()), low=least.get(score, 0.0))
                found.append(told | against(mean, published))
            else:
                found.append(told | {"value": published, "difference": None, "covered": None})
    return found


def _baselines(dataset: str, planned: Sequence[PlannedRun], runs: Path) -> list[dict[str, Any]]:
    """What stands beside the encoder, each from the first run that has it; under a pooling what depends on it."""
    own = [run for run in planned if run.dataset == dataset]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in own:
        for step in run.measure.steps:
            for each in step.asked:
                for entry in _beside(dataset, run, each, step, Run(runs / run.name)):
                    found.setdefault((entry["name"], entry["score"]), entry)
    linear = measurement(LINEAR)
    for run in own:  # as the monitor has it
        fixed = find_result(Run(runs / run.name), linear, Weights(), epochs=run.epochs, protocol="fixed")
        for row in baseline_rows(fixed, linear):
            entry = _entry(dataset, "monitor", row["name"], linear.scores(row)[LINEAR], row)
            found.setdefault((row["name"], "monitor"), entry)
    return list(found.values())


def _beside(dataset: str, run: PlannedRun, reader: Measurement, step: Step, folder: Run) -> Iterator[dict[str, Any]]:
    result = find_result(folder, reader, Weights(pool=step.pool), epochs=run.epochs, asked=step.asked)
    for row in baseline_rows(result, reader):
        random = RANDOM in row["name"]
        name = RANDOM if random and reader.command != "probe" else row["name"]
        named = f"{name}@{step.pool}" if random and step.pool else name
        also = {name: value for name, value in reader.numbers(row).items() if name in run.measure.also}
        for score, value in (reader.main_scores(row) | also).items():
            if value.value is not None:
                yield _entry(dataset, score, named, value, row)


def _entry(dataset: str, score: str, name: str, value: Score, row: Mapping[str, Any]) -> dict[str, Any]:
    n = row.get("n", row.get("n_test"))
    return {"dataset": dataset, "score": score, "name": name, "value": value.value, "ci": value.ci, "n": n}


def collect_curves(
    curves: Sequence[Curve], rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The curves as results.json has them, of its rows and baselines (docs/sweeps.md); none without a line."""
    return [found for curve in curves if (found := _collected(curve, rows, baselines))["lines"]]


def _collected(
    curve: Curve, rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        for name, score in row["scores"].items():
            plain, pool = without_pool(name)
            if row["dataset"] in curve.levels and plain == curve.score:
                label = row["row"] if pool is None else f"{row['row']}@{pool}"
                point = {"value": score["mean"], "ci": score["ci"], "n": score["n"]}
                found.setdefault((label, "row"), {})[row["dataset"]] = point
    for entry in baselines:
        if entry["dataset"] in curve.levels and f"last/{entry['score']}" == curve.score:
            point = {key: entry[key] for key in ("value", "ci", "n")}
            found.setdefault((entry["name"], "baseline"), {})[entry["dataset"]] = point
    by_level = found.pop((CHANCE, "baseline"), {})
    chance, interval = ([by_level.get(name, NOTHING)[key] for name in curve.levels] for key in ("value", "ci"))
    return {
        "name": curve.name,
        "generator": curve.generator,
        "parameter": curve.parameter,
        "unit": curve.unit,
        "score": curve.score,
        "datasets": list(curve.levels),
        "levels": list(curve.levels.values()),
        "chance": chance,
        "chance_ci": interval,
        "lines": [
            {"name": name, "kind": kind, "points": [points.get(dataset, NOTHING) for dataset in curve.levels]}
            for (name, kind), points in found.items()
        ],
    }
