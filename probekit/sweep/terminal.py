"""A sweep's results in 80 columns: the honest score, the paper's, the pairs; table.md has the rest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.sweep.scores import BEST_TEST
from probekit.sweep.table import beside, difference, percent, with_interval


def terminal_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One table a dataset with its floors, and one with its pairs, if it has any."""
    for dataset in results["datasets"]:
        rows, floors, pairs = (
            [entry for entry in results[kind] if entry["dataset"] == dataset["name"]]
            for kind in ("rows", "floors", "pairs")
        )
        yield _scores(dataset["name"], rows, floors)
        tested = [pair for pair in pairs if pair["n"] and pair["score"] == "last/val"]
        if tested:
            yield _pairs(dataset["name"], tested)


def _scores(dataset: str, rows: Sequence[Mapping[str, Any]], floors: Sequence[Mapping[str, Any]]) -> Table:
    published = any(row["paper"] for row in rows)
    titles = [dataset, "n", "last,\nval, %", "best_test (paper\nprotocol), %"]
    table = _table([*titles, *(["the\npaper's", "diff.", "interval\ncovers it"] if published else [])])
    for row in rows:
        last = row["scores"].get("last/val")
        cells = [row["row"], str(last["n"] if last else 0), with_interval(last)]
        cells.append(with_interval(row["scores"].get(BEST_TEST)))
        table.add_row(*map(Text, cells + (beside(row["paper"]) if published else [])))
    table.add_section()
    for floor in floors:
        if floor["protocol"] == "val":
            table.add_row(Text(floor["name"]), "", percent(floor["accuracy"]), style="dim")
    return table


def _pairs(dataset: str, pairs: Sequence[Mapping[str, Any]]) -> Table:
    table = _table([f"{dataset}: last, val, points", "n", "difference"])
    for pair in pairs:
        table.add_row(Text(f"{pair['a']} - {pair['b']}"), str(pair["n"]), difference(pair))
    return table


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=number == 0)
    return table
