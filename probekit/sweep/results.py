"""From run folders to one set of numbers: every row's mean and interval over seeds, the paper's number, the pairs.

The shape of `collect` is what results.json holds and `sweep --json` prints: a promise to scripts (docs/protocols.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probekit.run import Run
from probekit.statistics import against, mean_over_seeds, paired_seeds
from probekit.sweep.datasets import Data
from probekit.sweep.definition import Paper, Sweep
from probekit.sweep.jobs import Outcome
from probekit.sweep.measures import (
    RETRIEVAL,
    Measure,
    heatmap_scores,
    read_heatmap,
    read_probe,
    read_retrieval,
    retrieval_scores,
    split_pooled,
    under_pool,
    without_pool,
)
from probekit.sweep.plan import PlannedRun, floors_of
from probekit.sweep.scores import SCORES, read_factors, read_scores

SCHEMA = "probekit-sweep/1"


def collect(
    name: str,
    sweep: Sweep,
    planned: Sequence[PlannedRun],
    data: Mapping[str, Data],
    *,
    runs: Path,
    outcomes: Mapping[str, Outcome],
) -> dict[str, Any]:
    """Everything that the run folders hold so far, as plain data; accuracies in [0, 1].

    Args:
        name: The sweep's folder's.
        sweep: The file's contents.
        planned: Every run.
        data: The datasets' files by name.
        runs: The folder of run folders.
        outcomes: How the runs of this session ended, by name.
    """
    found = {run.name: _run(run, Run(runs / run.name), outcomes.get(run.name)) for run in planned}
    cells = [(dataset.name, row.name) for dataset in sweep.datasets for row in sweep.rows]
    values = {cell: _by_seed(cell, planned, found, "scores") for cell in cells}
    measured = dict.fromkeys(without_pool(score)[0] for scores in values.values() for score in scores)
    return {
        "schema": SCHEMA,
        "name": name,
        "about": sweep.about,
        "preset": planned[0].config.preset,
        "epochs": sorted({run.epochs for run in planned}),
        "seeds": list(dict.fromkeys(run.seed for run in planned)),
        "planned": len(planned),
        "finished": sum(run["state"] == "finished" for run in found.values()),
        "datasets": [{"name": dataset, **file.to_dict()} for dataset, file in data.items()],
        "rows": [
            {
                "dataset": dataset,
                "row": row.name,
                "method": row.method,
                "settings": list(row.settings),
                "branches": list(row.branches),
                "scores": _intervals(values[dataset, row.name]),
                "factors": _intervals(_by_seed((dataset, row.name), planned, found, "factors")),
                "paper": _paper(sweep.paper, dataset, row.name, values[dataset, row.name]),
            }
            for dataset in data
            for row in sweep.rows
        ],
        "floors": [floor for dataset in data for floor in _floors(dataset, planned, runs)],
        "pairs": [
            {"dataset": dataset, "a": a, "b": b, "score": score}
            | paired_seeds(*(_under(values, dataset, side, score) for side in (a, b)))
            for dataset in data
            for a, b in sweep.pairs
            for score in dict.fromkeys([*SCORES, *measured])
        ],
        "runs": list(found.values()),
    }


def _run(planned: PlannedRun, run: Run, outcome: Outcome | None) -> dict[str, Any]:
    whole = read_scores(run, epochs=planned.epochs, measure=planned.measure)
    # A further measurement that is missing, or failed, does not hide the linear probe.
    scores = whole or read_scores(run, epochs=planned.epochs, measure=Measure())
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
            for name, value in found[run.name][what].items():
                values.setdefault(name, {})[run.seed] = value
    return values


def _under(
    values: Mapping[tuple[str, str], Mapping[str, Mapping[int, float]]], dataset: str, side: str, score: str
) -> Mapping[int, float]:
    """A score of one side of a pair, a row or ROW@POOL, by seed."""
    row, pool = split_pooled(side)
    return values[dataset, row].get(under_pool(score, pool), {})


def _intervals(values: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    return {
        name: mean_over_seeds(list(by_seed.values())) | {"values": {str(k): v for k, v in by_seed.items()}}
        for name, by_seed in values.items()
    }


def _paper(
    paper: Paper | None, dataset: str, row: str, values: Mapping[str, Mapping[int, float]]
) -> dict[str, Any] | None:
    published = paper.accuracy.get(dataset, {}).get(row) if paper else None
    if paper is None or published is None:
        return None
    told = {"score": paper.score, "source": paper.source}
    if paper.score not in values:
        return told | {"accuracy": published, "difference": None, "covered": None}
    return told | against(mean_over_seeds(list(values[paper.score].values())), published)


def _floors(dataset: str, planned: Sequence[PlannedRun], runs: Path) -> list[dict[str, Any]]:
    """What needs no learning, each from the first run that has it: under both protocols, of retrieval, and of maps."""
    own = [run for run in planned if run.dataset == dataset]
    found: list[dict[str, Any]] = []
    for protocol in ("val", "paper"):
        for row in _first(floors_of(read_probe(Run(runs / run.name), protocol, epochs=run.epochs)) for run in own):
            found.append(_floor(dataset, protocol, row["name"], row["accuracy"], row["ci"], row["n"]))
    for row in _first(floors_of(read_retrieval(Run(runs / run.name), epochs=run.epochs)) for run in own):
        for score, value in retrieval_scores(row).items():
            ci = row["scores"][RETRIEVAL[score]]["ci"]
            found.append(_floor(dataset, score, row["name"], value, ci, row["n"]))
    return found + _map_floors(dataset, own, runs)


def _map_floors(dataset: str, own: Sequence[PlannedRun], runs: Path) -> list[dict[str, Any]]:
    """Maps that no encoder made, once, the ceiling too, and those of random weights for each pooling."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for pool in dict.fromkeys(pool for run in own for pool in run.measure.weighing):
        maps = (read_heatmap(Run(runs / run.name), epochs=run.epochs, pool=pool) for run in own)
        content = next(filter(None, maps), None)
        for row in content["rows"] if content else []:
            if row["encoder"] == "trained":
                continue
            name = f"random weights@{pool}" if row["encoder"] == "random" else row["name"]
            for what, score in heatmap_scores(row).items():
                entry = _floor(dataset, what, name, score["mean"], score["ci"], score["n"])
                found.setdefault((name, what), entry)
    return list(found.values())


def _first(found: Iterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return next(filter(None, found), [])


def _floor(dataset: str, protocol: str, name: str, value: float, ci: Any, n: int) -> dict[str, Any]:
    return {"dataset": dataset, "protocol": protocol, "name": name, "accuracy": value, "ci": ci, "n": n}
