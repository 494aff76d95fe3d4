"""Scores of several encoders over an axis: checkpoints along pretraining, layers over depth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit import measurement as m
from probekit.output.document import Cell, drawing
from probekit.probes.measurements.base import Probe

if TYPE_CHECKING:
    from probekit.probes.measure import Conditions, Source
    from probekit.restore.opened import Opened, OpenedRun


@dataclass(frozen=True)
class Curve(Probe):
    """Several encoders, opened for it, each scored as other measurements (`made_of`) score the one in question."""

    baselines = ()
    needs = ()
    several = True
    followable = False
    rows_of_sources = False
    of_features = False

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        raise AssertionError  # its rows are of encoders that are opened for it

    def protocol(self, conditions: "Conditions") -> str:
        others = [each for each in self._followed(conditions) if each.name != "linear"]
        words = (word for each in others for word in (each.name, each.protocol(conditions)))
        return "-".join(dict.fromkeys((conditions.protocol, *words)))

    def typed(self, conditions: "Conditions") -> list[str]:
        return [*(word for each in self._followed(conditions) for word in each.typed(conditions)), *self.words]

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """None: a result of each encoder has them."""
        return {}

    def _followed(self, conditions: "Conditions") -> list[Probe]:
        return [each for each in self.made_of(conditions.asked).values() if isinstance(each, Probe)]

    def _flat(
        self, conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]], *but: str
    ) -> list[dict[str, Any]]:
        """A row for each baseline but these, with its scores in all that is followed."""
        found: dict[str, dict[str, Any]] = {}
        for each in self._followed(conditions):
            for row in rows.get(each.name, ()):
                if row["kind"] == m.BASELINE and row["name"] not in but:
                    found.setdefault(row["name"], {}).update(kept_scores(each, row))
        return [{"name": name, "kind": m.BASELINE, "scores": scores} for name, scores in found.items()]


def of_run(opened: "Opened") -> "OpenedRun":
    """The encoder as one of a run, which all that is measured is."""
    from probekit.restore.opened import OpenedRun

    assert isinstance(opened, OpenedRun)
    return opened


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
    return [row for row in points if row["scores"].get(name, m.UNKNOWN)["value"] is not None]


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
    levels = [(row["name"], row["scores"].get(name, m.UNKNOWN)["value"]) for row in others]
    along = [
        (title, [row[axis] for row in known(name, rows)], [row["scores"][name]["value"] for row in known(name, rows)])
        for title, rows in beside.items()
    ]
    flat = [(title, [places[0], places[-1]], [level] * 2) for title, level in levels if level is not None]
    lines = [("encoder", places, values), *along, *flat]
    grey = [title for title, _, _ in (*along, *flat)]
    return drawing("draw_lines", lines, x=x, y=name, grey=grey, bands={"encoder": bands})
