"""From run folders to scores and tables: which epoch counts, what is left out, what a reader sees.

Alone: pytest tests/sweep/test_results.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from probekit.measurement import measurement
from probekit.run import Run, create_run, write_json
from probekit.sweep.measures import SCORES, Measure, read_factors, read_scores
from probekit.sweep.table import markdown, terminal_tables, with_interval
from tests.datasets import RUN
from tests.sweep.made import ENCODER, linear, result

LINES: list[dict[str, Any]] = [
    {"epoch": 1, "val": 0.9, "test": 0.70},
    {"epoch": 2},
    {"epoch": 3, "val": 0.9, "test": 0.60},
    {"epoch": 4, "val": 0.8, "test": 0.70},
    {"epoch": 5, "val": 0.5, "test": 0.50},
]


def finished(path: Path, lines: list[dict[str, Any]], *, epoch: int = 5, seed: int = 0) -> Run:
    run = create_run(path, RUN, overwrite=False)
    for line in lines:
        run.append_metrics(line)
    rows = [linear(ENCODER, 0.75, corner=0.9, triangle=None)]
    about = {"data_hash": RUN["dataset"]["hash"], "protocol": "tuned", "epoch": epoch, "seed": seed}
    write_json(run.results / "linear-tuned-last.json", result("linear", rows, **about))
    return run


def test_scores_of_a_run_and_ties_go_to_the_later_epoch(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", LINES)
    scores = read_scores(run, epochs=5, measure=Measure())
    assert scores is not None
    assert {name: score.value for name, score in scores.items()} == {
        "last/linear": 0.75,
        "last/monitor": 0.50,
        "best_val/monitor": 0.60,  # epochs 1 and 3 have the same val: the later one's test
        "best_test/monitor": 0.70,
    }
    assert {name: score.value for name, score in read_factors(run, epochs=5).items()} == {"corner": 0.9}


def test_without_a_validation_part_there_is_no_best_val(tmp_path: Path) -> None:
    lines = [{key: value for key, value in line.items() if key != "val"} for line in LINES]
    scores = read_scores(finished(tmp_path / "a", lines), epochs=5, measure=Measure())
    assert scores is not None
    assert scores.keys() == SCORES.keys() - {"best_val/monitor"}


def test_what_replaces_the_linear_probe_is_measured_without_it() -> None:
    for name, names in (("knn", ["linear", "knn"]), ("multilabel", ["multilabel"])):
        assert [each.name for each in Measure((measurement(name),)).every] == names


@pytest.mark.parametrize(("monitor", "low"), [("kappa", -1), ("knn", 0), (None, 0)])
def test_the_monitors_kappa_may_be_negative(tmp_path: Path, monitor: str | None, low: int) -> None:
    run = finished(tmp_path / "a", LINES)
    run.update(config=run.read()["config"] | ({"train": {"monitor": monitor}} if monitor else {}))
    scores = read_scores(run, epochs=5, measure=Measure())
    assert scores is not None
    assert {name: score.low for name, score in scores.items()} == dict.fromkeys(SCORES, low) | {"last/linear": 0}


@pytest.mark.parametrize(
    ("lines", "epoch", "seed"),
    [(LINES[:4], 5, 0), (LINES, 3, 0), (LINES, 5, 1), ([], 5, 0)],
    ids=["last epoch not scored", "probe of an earlier epoch", "probe of another seed", "no metrics"],
)
def test_what_is_not_complete_has_no_scores(tmp_path: Path, lines: list[dict[str, Any]], epoch: int, seed: int) -> None:
    assert read_scores(finished(tmp_path / "a", lines, epoch=epoch, seed=seed), epochs=5, measure=Measure()) is None


@pytest.mark.parametrize("broken", ["", "{", "[]", "{}", "rows", "accuracy", "data_hash", "options", "protocol"])
def test_a_broken_probe_is_no_probe(tmp_path: Path, broken: str) -> None:
    run = finished(tmp_path / "a", LINES)
    file = run.results / "linear-tuned-last.json"
    content = json.loads(file.read_text())
    other = {"rows": [], "data_hash": "other images", "options": {"other": 1}, "protocol": "fixed"}
    if broken in other:
        content[broken] = other[broken]
    elif broken == "accuracy":
        content["rows"][0]["accuracy"] = "much"
    file.write_text(json.dumps(content) if broken in content or broken == "accuracy" else broken)
    assert read_scores(run, epochs=5, measure=Measure()) is None


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ({"mean": 0.76, "ci": [0.73, 0.79], "n": 3}, "76.0 ± 3.0"),
        ({"mean": 0.98, "ci": [0.90, 1.0], "n": 3}, "98.0 [90.0, 100.0]"),
        ({"mean": 0.98, "ci": None, "n": 1}, "98.0"),
        (None, "-"),
    ],
)
def test_intervals_as_text(interval: dict[str, Any] | None, text: str) -> None:
    assert with_interval(interval) == text


def results() -> dict[str, Any]:
    score = {"mean": 0.9, "ci": [0.85, 0.95], "n": 3, "values": {"0": 0.9, "1": 0.9, "2": 0.9}}
    paper = {"value": 0.8647, "score": "best_test/monitor", "source": "Them", "difference": 0.0353}
    row = {"dataset": "rt", "method": "simclr", "settings": [], "scores": dict.fromkeys(SCORES, score), "factors": {}}
    rows = [
        row | {"row": "a", "paper": [paper | {"covered": True}]},
        row | {"row": "b", "paper": [paper | {"covered": False}]},
        row | {"row": "c", "paper": [], "scores": {}},
    ]
    pair = {"dataset": "rt", "a": "a", "b": "b", "mean": -0.02, "ci": [-0.05, 0.01], "n": 3, "testable": True}
    bag = {"dataset": "rt", "name": "patch bag", "value": 0.98, "ci": [0.9, 1.0], "n": 500}
    return {
        "name": "s",
        "about": "About.",
        "preset": "quick",
        "epochs": [45],
        "seeds": [0, 1, 2],
        "planned": 9,
        "finished": 6,
        "datasets": [{"name": "rt", "origin": "published: x.npz", "n_train": 1000, "n_test": 500}],
        "rows": rows,
        "curves": [],
        "baselines": [bag | {"score": "linear"}, bag | {"score": "monitor", "value": 0.97}],
        "pairs": [pair | {"score": score} for score in SCORES],
        "runs": [{"name": "s-rt-c-seed0", "state": "failed"}, {"name": "s-rt-c-seed1", "state": "unfinished"}],
    }


BESIDE = (("a", "yes"), ("b", "no"))


def test_the_markdown_table() -> None:
    text = markdown(results())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    by_row = {line[0]: line[1:] for line in reversed(cells)}  # of the first table
    beside = [line for line in cells if line[-1] in ("yes", "no")]
    assert ["row", "n", *SCORES.values()] in cells
    assert by_row["a"] == ["3", *["90.0 ± 5.0"] * 4]
    assert beside == [[name, SCORES["best_test/monitor"], "90.0 ± 5.0", "86.47", "+3.5", said] for name, said in BESIDE]
    assert "no paired test" in text
    assert by_row["c"] == ["0", *["-"] * 4]
    assert by_row["*patch bag*"][1:5] == ["98.0 [90.0, 100.0]", "97.0 [90.0, 100.0]", "", ""]
    assert ["a - b", "3", "-2.0 [-5.0, +1.0]", "-2.0 [-5.0, +1.0]"] in cells
    assert "6 of 9 runs finished" in text
    assert "s-rt-c-seed0 (failed)" in text
    assert "s-rt-c-seed1" not in text
    assert "Them" in text


def test_the_terminal_tables_fit_80_columns() -> None:
    console = Console(width=80)
    with console.capture() as caught:
        for table in terminal_tables(results()):
            console.print(table)
    lines = caught.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("patch bag" in line and "98.0" in line for line in lines)
    assert any("a - b" in line and "-2.0 [-5.0, +1.0]" in line for line in lines)
