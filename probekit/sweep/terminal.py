"""A sweep's results in 80 columns: the honest score, the paper's, the pairs; table.md has the rest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.sweep.scores import BEST_TEST, FIRST, SCORES, title
from probekit.sweep.table import beside, difference, lines_of, of_images, with_interval


def terminal_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One table a dataset with its baselines, and one for each score with its pairs, if it has any."""
    for dataset in results["datasets"]:
        rows, baselines, pairs = (
            [entry for entry in results[kind] if entry["dataset"] == dataset["name"]]
            for kind in ("rows", "baselines", "pairs")
        )
        yield _scores(dataset["name"], rows, baselines)
        for score in dict.fromkeys((FIRST, _second(rows))):
            tested = [pair for pair in pairs if pair["n"] and pair["score"] == score]
            if tested and score != BEST_TEST:
                yield _pairs(dataset["name"], title(score), tested)


def _second(rows: Sequence[Mapping[str, Any]]) -> str:
    """The score beside the linear probe: the first that `[measure]` added, or the papers' choice."""
    names = (name for row in rows for _, scores in lines_of(row) for name in scores)
    return next((name for name in names if name not in SCORES), BEST_TEST)


def _scores(dataset: str, rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]) -> Table:
    published = any(row["paper"] for row in rows)
    shown = (FIRST, _second(rows))
    titles = [dataset, "n", *(f"{title(name)}, %" for name in shown)]
    table = _table([*titles, *(["the\npaper's", "diff.", "interval\ncovers it"] if published else [])])
    for row in rows:
        for label, scores in lines_of(row):
            last = scores.get(FIRST)
            cells = [label, str(last["n"] if last else 0), *(with_interval(scores.get(name)) for name in shown)]
            paper = row["paper"] if label == row["row"] else None
            table.add_row(*map(Text, cells + (beside(paper) if published else [])))
    table.add_section()
    kept = {name.partition("/")[2]: name for name in shown if name.startswith("last/")}
    for name in dict.fromkeys(entry["name"] for entry in baselines if entry["score"] in kept):
        under = {kept[e["score"]]: of_images(e) for e in baselines if e["name"] == name and e["score"] in kept}
        table.add_row(Text(name), "", *(under.get(score, "") for score in shown), style="dim")
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
