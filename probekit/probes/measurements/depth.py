"""The same numbers for every layer of the encoder: `--layer all`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired

from probekit import measurement as m
from probekit.output.document import Cell, Chart, Table, count, in_a_line, plain
from probekit.probes.measurements.base import Probe, by_row
from probekit.probes.measurements.curves import Curve, curve, kept_scores, known, of_run, score_columns
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.probes.measure import Conditions
    from probekit.restore.opened import Opened, OpenedRun


class DepthRow(m.Named):
    """A layer, of the encoder or of random weights, or a baseline that has none.

    `depth`: its place in the order that an image passes them: 1 is the first, or a transformer's first block.
    """

    layer: NotRequired[str]
    depth: NotRequired[m.Number]
    dim: NotRequired[m.Count]
    scores: dict[str, m.Estimate]


@dataclass(frozen=True)
class Depth(Curve):
    name = "depth"
    title = "Over depth"
    about = (
        "Each layer, scored as in the tables of the same names, with the same settings and intervals; a layer is "
        "averaged over cells unless --pool says otherwise, and blocks of a transformer pass its final norm first. "
        "No layer is chosen: the best one on test would be a choice on test."
    )
    shape = DepthRow
    offered = False  # as long as all others together, for each layer

    @property
    def words(self) -> list[str]:
        return ["--layer", "all"]

    def check(self, conditions: "Conditions") -> None:
        if not self._followed(conditions):
            raise ValueError("expected something to measure with --layer all, found nothing of features; type --knn")
        if conditions.opened is not None:
            readable(of_run(conditions.opened))

    def how(self, conditions: "Conditions") -> str:
        if conditions.opened is None:
            return self.about
        views, left_out = readable(of_run(conditions.opened))
        for each in self._followed(conditions):
            without = [str(view.weights.layer) for view in views if not each.takes(view, conditions)]
            left_out += [f"{in_a_line(each.title)} of {', '.join(without)}"] if without else []
        return " ".join((self.about, *(f"Left out: {line}." for line in left_out)))

    def made_of(self, asked: Mapping[str, m.Measurement]) -> dict[str, m.Measurement]:
        return {
            name: each for name, each in asked.items() if isinstance(each, Probe) and each.of_features and each.named()
        }

    def rest(self, opened: "Opened", conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]]) -> None:
        views, _ = readable(of_run(opened))
        followed = self._followed(conditions)
        beside = {row["name"] for each in followed for row in rows.get(each.name, ()) if row["kind"] == m.BASELINE}
        rows[self.name] += self._layers(views, "", m.ENCODER, conditions)
        if RANDOM in beside:
            random = opened.beside(conditions.seed, opened.size(conditions.labels.info))
            assert random is not None  # there is a row of them
            same = [of_run(random).at(view.weights.layer or "") for view in views]
            rows[self.name] += self._layers(same, f"{RANDOM}, ", m.BASELINE, conditions)
        rows[self.name] += self._flat(conditions, rows, RANDOM, *(name for each in followed for name in each.of_layer))

    def tables(self, result: m.Result) -> list[Table]:
        rows = result["rows"]
        columns: dict[str, Callable[[m.Row], Cell]] = {
            "depth": lambda row: plain(row.get("depth")),
            "dimensions": lambda row: count(row.get("dim")),
            **score_columns(by_row(rows, lambda row: row["scores"]), rows),
        }
        return [m.rows_table("depth", self.title, columns, rows)]

    def charts(self, result: m.Result) -> list[Chart]:
        points = self.encoder_rows(result)
        beside = [row for row in result["rows"] if row["kind"] != m.ENCODER]
        random, flat = [row for row in beside if "depth" in row], [row for row in beside if "depth" not in row]
        charts, grey = [], "; grey: baselines" * bool(beside)
        for i, name in enumerate(by_row(points, lambda row: row["scores"])):
            if len(seen := known(name, points)) > 1:
                lines = {RANDOM: random} if random else {}
                x = " to ".join(f"{row['layer']} ({row['depth']})" for row in (points[0], points[-1]))
                drawn = curve(name, seen, flat, axis="depth", x=x, beside=lines)
                charts.append(Chart(f"depth-{i}", f"Over depth: {name}", f"Band: intervals{grey}.", drawn))
        return charts

    def _layers(
        self, views: "list[OpenedRun]", prefix: str, kind: str, conditions: "Conditions"
    ) -> list[dict[str, Any]]:
        """A row for each view of one encoder."""
        from probekit.probes.measure import Source

        info = conditions.labels.info
        for split in conditions.labels.parts:
            views[0].embed_at(views, info, split)
        found = []
        for view in views:
            layer = str(view.weights.layer)
            conditions.console.print(f"  {prefix}{layer} ...")
            source = Source(f"{prefix}{layer}", kind, partial(view.embed, info), opened=view)
            scores: dict[str, Any] = {}
            for each in self._followed(conditions):
                if (kind == m.ENCODER or RANDOM in each.baselines) and each.takes(view, conditions):
                    scores |= kept_scores(each, each.row(source, conditions))
            about = {"layer": layer, "depth": view.layers.depth(layer), "dim": view.encoder.dim}
            found.append({"name": source.name, "kind": kind, **about, "scores": scores})
        return found


def readable(opened: "OpenedRun") -> "tuple[list[OpenedRun], list[str]]":
    """An encoder at each of its layers that its pooling takes, and a line for each that it does not.

    What merely is the embedding, or the final norm that blocks pass anyway, is no layer of its own. A ValueError if
    there is none.
    """
    from probekit.models.layers.network import EMBEDDING

    layers, found, left_out = opened.layers, [], list(opened.layers.left_out)
    for name in layers.known:
        if name == EMBEDDING or (layers.norm and layers.path(name) == layers.norm):
            continue
        try:
            found.append(opened.at(name))
        except ValueError as error:
            left_out.append(f"{name}: {error}")
    if not found:
        raise ValueError("; ".join(left_out[:1]) or f"expected layers of {opened.name}, found none that can be read")
    return found, left_out
