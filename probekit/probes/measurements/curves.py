"""Scores of several encoders over an axis: checkpoints along pretraining, layers over depth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from probekit import measurement as m
from probekit.output.document import Cell, drawing

NOTHING = {"value": None, "ci": None}


def kept_scores(each: m.Measurement, row: m.Row) -> dict[str, Any]:
    """The main scores of a row, as results keep them."""
    return {name: score.to_dict() for name, score in each.main_scores(row).items()}


def score_columns(names: Sequence[str], rows: Sequence[m.Row]) -> dict[str, Callable[[m.Row], Cell]]:
    """A column for each score of rows that keep `scores`."""

    def column(name: str) -> Callable[[m.Row], Cell]:
        return lambda row: m.score_cell(row["scores"].get(name))

    def title(name: str) -> str:
        return m.score_title(name, next((row["scores"][name] for row in rows if name in row["scores"]), None))

    return {title(name): column(name) for name in names}


def known(name: str, points: Sequence[m.Row]) -> list[m.Row]:
    """The rows that have a value under a name."""
    return [row for row in points if row["scores"].get(name, NOTHING)["value"] is not None]


def curve(
    name: str,
    points: Sequence[m.Row],
    others: Sequence[m.Row],
    *,
    axis: str,
    x: str,
    beside: Mapping[str, Sequence[m.Row]] = {},
) -> Any:
    """A drawing of a score over `axis`, a key of the rows, with intervals; in grey what has no place on it as levels.

    `points`: rows that have the score; `beside`: others that stand on the axis, by the name of their line; `x`: its
    title.
    """
    values = [row["scores"][name]["value"] for row in points]
    bands = [row["scores"][name]["ci"] or [value] * 2 for row, value in zip(points, values, strict=True)]
    places = [row[axis] for row in points]
    levels = [(row["name"], row["scores"].get(name, NOTHING)["value"]) for row in others]
    along = [
        (title, [row[axis] for row in known(name, rows)], [row["scores"][name]["value"] for row in known(name, rows)])
        for title, rows in beside.items()
    ]
    flat = [(title, [places[0], places[-1]], [level] * 2) for title, level in levels if level is not None]
    lines = [("encoder", places, values), *along, *flat]
    grey = [title for title, _, _ in (*along, *flat)]
    return drawing("draw_lines", lines, x=x, y=name, grey=grey, bands={"encoder": bands})
