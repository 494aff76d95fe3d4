"""Numbers of a report's tables, looked up by row and column. Alone: pytest tests/reports/test_tables.py."""

import json
import re
from typing import Any

import numpy as np
import pytest

from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import markdown
from probekit.run import Run, write_json
from tests.reports.folders import CLASSES, make_run

Table = dict[str, dict[str, str]]  # cells by row and column

# Per cent, all different: what stands in a wrong row or column shows.
ENCODER = {"accuracy": 61, "balanced_accuracy": 52, "macro_f1": 43}
RANDOM = {"accuracy": 34, "balanced_accuracy": 33, "macro_f1": 32}
FACTORS = {"corner": (74, 73), "triangle": (65, 64)}  # of the encoder and of random weights
COLUMNS = {"accuracy %": "accuracy", "balanced %": "balanced_accuracy", "macro F1 %": "macro_f1"}


def tables(text: str) -> dict[str, Table]:
    """The tables of a Markdown page, by title."""
    found = {}
    for title, body in re.findall(r"^\*\*(.+)\*\*\n\n((?:\|.*\n)+)", text, re.M):
        head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body.splitlines())
        found[title] = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    return found


def only(found: dict[str, Table], start: str) -> Table:
    (table,) = (table for title, table in found.items() if title.startswith(start))
    return table


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """Of a run whose probe lists a baseline before the encoder; the baseline's confusion matrix is another."""
    run = make_run(tmp_path_factory.mktemp("runs"), "a")
    path = run.results / "linear-tuned-last.json"
    content = json.loads(path.read_text())
    encoder, random, chance = content["rows"]
    for row, numbers, which in ((encoder, ENCODER, 0), (random, RANDOM, 1)):
        row |= {name: value / 100 for name, value in numbers.items()}
        corner = row["factors"]["corner"]
        row["factors"] = {name: corner | {"accuracy": values[which] / 100} for name, values in FACTORS.items()}
    chance["factors"] = {}
    encoder["confusion"] = np.arange(1, 17).reshape(4, 4).tolist()
    random["confusion"] = (100 + np.arange(16)).reshape(4, 4).tolist()
    write_json(path, content | {"rows": [random, encoder, chance]})
    return tables(markdown(build(collect([Run(run.path)]))))


def share(cell: str) -> float:
    return float(re.findall(r"[\d.]+", cell)[0])


@pytest.mark.parametrize(("name", "numbers", "which"), [("conrec last", ENCODER, 0), ("random weights", RANDOM, 1)])
def test_every_score_stands_in_its_own_column(
    page: dict[str, Table], name: str, numbers: dict[str, Any], which: int
) -> None:
    row = only(page, "Linear probe and baselines")[name]
    assert {column: share(row[column]) for column in COLUMNS} == {c: numbers[key] for c, key in COLUMNS.items()}
    assert {factor: share(row[f"{factor} %"]) for factor in FACTORS} == {f: v[which] for f, v in FACTORS.items()}


def test_a_row_without_factors_has_none_of_anothers(page: dict[str, Table]) -> None:
    row = only(page, "Linear probe and baselines")["chance"]
    assert [row[f"{factor} %"] for factor in FACTORS] == ["-", "-"]


def test_the_confusion_matrix_is_the_encoders_with_the_truth_in_rows(page: dict[str, Table]) -> None:
    counts = only(page, "Counts of conrec last")
    found = [
        [int(counts[f"{i} {true}"][f"{j} {guess}"]) for j, guess in enumerate(CLASSES)]
        for i, true in enumerate(CLASSES)
    ]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]
