"""A sweep's results in 80 columns: the honest score, the paper's, the pairs; table.md has the rest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.sweep.scores import BEST_TEST
from probekit.sweep.table import beside, difference, lines_of, of_images, with_interval

RANK = "last/rank-1"
SHOWN = {"last/val": "last, val", RANK: "last, rank-1"}  # of pairs


def terminal_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One table a dataset with its floors, and one for each score with its pairs, if it has any."""
    for dataset in results["datasets"]:
        rows, floors, pairs = (
            [entry for entry in results[kind] if entry["dataset"] == dataset["name"]]
            for kind in ("rows", "floors", "pairs")
        )
        yield _scores(dataset["name"], rows, floors)
        for score in SHOWN:
            tested = [pair for pair in pairs if pair["n"] and pair["score"] == score]
            if tested:
                yield _pairs(dataset["name"], SHOWN[score], tested)


def _scores(dataset: str, rows: Sequence[Mapping[str, Any]], floors: Sequence[Mapping[str, Any]]) -> Table:
    published = any(row["paper"] for row in rows)
    ranked = any(RANK in row["scores"] for row in rows)
    second = {RANK: "last,\nrank-1, %"} if ranked else {BEST_TEST: "best_test (paper\nprotocol), %"}
    shown = {"last/val": "last,\nval, %", **second}
    titles = [dataset, "n", *shown.values()]
    table = _table([*titles, *(["the\npaper's", "diff.", "interval\ncovers it"] if published else [])])
    for row in rows:
        for label, scores in lines_of(row):
            last = scores.get("last/val")
            cells = [label, str(last["n"] if last else 0), *(with_interval(scores.get(name)) for name in shown)]
            paper = row["paper"] if label == row["row"] else None
            table.add_row(*map(Text, cells + (beside(paper) if published else [])))
    table.add_section()
    for name in dict.fromkeys(floor["name"] for floor in floors if floor["protocol"] in ("val", "rank-1")):
        under = {floor["protocol"]: of_images(floor) for floor in floors if floor["name"] == name}
        table.add_row(Text(name), "", under.get("val", ""), under.get("rank-1", "") if ranked else "", style="dim")
    return table


def _pairs(dataset: str, score: str, pairs: Sequence[Mapping[str, Any]]) -> Table:
    table = _table([f"{dataset}: {score}, points", "n", "difference"])
    for pair in pairs:
        table.add_row(Text(f"{pair['a']} - {pair['b']}"), str(pair["n"]), difference(pair))
    return table


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=number == 0)
    return table
