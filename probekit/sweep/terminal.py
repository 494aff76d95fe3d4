"""A sweep's results in 80 columns: the honest score, the paper's, the pairs; table.md has the rest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.sweep.scores import BEST_TEST, FIRST, SCORES, title
from probekit.sweep.table import beside, curve_lines, difference, lines_of, measured, of_images, with_interval


def terminal_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One table a curve, and one for each other dataset, with baselines; and one for each score with its pairs."""
    for curve in results["curves"]:
        yield _curve(curve)
    drawn = {name for curve in results["curves"] for name in curve["datasets"]}
    for dataset in results["datasets"]:
        rows, baselines, pairs = (
            [entry for entry in results[kind] if entry["dataset"] == dataset["name"]]
            for kind in ("rows", "baselines", "pairs")
        )
        if dataset["name"] not in drawn:
            yield _scores(dataset["name"], rows, baselines)
        if any(row["paper"] for row in rows):
            yield _papers(dataset["name"], rows)
        for score in _shown(rows):
            tested = [pair for pair in pairs if pair["n"] and pair["score"] == score]
            if tested and score != BEST_TEST:
                yield _pairs(dataset["name"], title(score), tested)


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Two scores: the linear probe and the first that `[measure]` added, or the papers' choice."""
    names = measured(name for row in rows for _, scores in lines_of(row) for name in scores)
    return [*(name for name in names if name == FIRST or name not in SCORES), BEST_TEST][:2]


def _scores(dataset: str, rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]) -> Table:
    shown = _shown(rows)
    table = _table([dataset, "n", *(f"{title(name)}, %" for name in shown)])
    for row in rows:
        for label, scores in lines_of(row):
            last = scores.get(shown[0])
            cells = [label, str(last["n"] if last else 0), *(with_interval(scores.get(name)) for name in shown)]
            table.add_row(*map(Text, cells))
    table.add_section()
    kept = {name.partition("/")[2]: name for name in shown if name.startswith("last/")}
    for name in dict.fromkeys(entry["name"] for entry in baselines if entry["score"] in kept):
        under = {kept[e["score"]]: of_images(e) for e in baselines if e["name"] == name and e["score"] in kept}
        table.add_row(Text(name), "", *(under.get(score, "") for score in shown), style="dim")
    return table


def _curve(curve: Mapping[str, Any]) -> Table:
    first, *lines = curve_lines(curve, intervals=False)
    table = _table([f"{curve['name']}: {first[0]}", *first[1:]])
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def _papers(dataset: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table([f"{dataset}: the paper's", "score", "ours, %", "paper's", "diff.", "covered"])
    for line in beside(rows):
        table.add_row(*map(Text, line))
    return table


def _pairs(dataset: str, score: str, pairs: Sequence[Mapping[str, Any]]) -> Table:
    table = _table([f"{dataset}: {score}, points", "n", "difference"])
    for pair in pairs:
        table.add_row(Text(f"{pair['a']} - {pair['b']}"), str(pair["n"]), difference(pair))
    return table


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, head in enumerate(titles):
        table.add_column(head, justify="right" if number else "left", no_wrap=number == 0)
    return table
