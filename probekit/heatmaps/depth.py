"""The maps of every layer of the encoder, scored against the evidence: `heatmap --layer all`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NotRequired

from probekit import measurement as m
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.tables import EVIDENCE, SCORES
from probekit.output.document import Cell, Chart, Table, drawing, plain, scored, text
from probekit.weights import RANDOM

RANK = f"{SCORES['rank_accuracy']}, normalised"  # 0 is chance and 1 the mask itself, on whatever grid
AUROC = SCORES["auroc"]


class MapDepthRow(m.Named):
    """A map at a layer, of the encoder or of random weights; a ceiling; or a baseline that has no layer."""

    map: str
    layer: NotRequired[str]
    depth: NotRequired[m.Number]  # as in `probes.measurements.depth`
    grid: list[int]  # cells (h, w) of the layer's map
    scores: dict[str, m.Estimate]


class AboutMapDepth(m.About):
    split: str
    n: m.Count
    target: str | None
    left_out: list[str]


@dataclass(frozen=True)
class MapDepth(m.Measurement):
    name = "map-depth"
    title = "Maps over depth"
    about = (
        "Each layer's maps explain a linear probe of that layer. Rank accuracy, normalised: 0 is chance, 1 the mask "
        "itself on the layer's grid, so that coarse and fine layers can be compared; AUROC: chance is 0.5. 95 % "
        "intervals over images. No layer is chosen: the best one on test would be a choice on test."
    )
    shape = MapDepthRow
    whole = AboutMapDepth
    command: ClassVar[str] = "heatmap"
    offered = False  # as long as a heatmap, for each layer

    @property
    def words(self) -> list[str]:
        return ["--layer", "all"]

    @property
    def needs_evidence(self) -> bool:
        return True

    def made_of(self, asked: Mapping[str, m.Measurement]) -> dict[str, m.Measurement]:
        return {Heatmap.name: asked.get(Heatmap.name) or Heatmap()}

    def tables(self, result: m.Result) -> list[Table]:
        """The encoder's layers, ceilings and pixels; random weights on demand."""
        rows = result["rows"]
        ours = [row for row in rows if not row["name"].startswith(RANDOM)]
        random = [row for row in rows if row["name"].startswith(RANDOM)]
        told = "Ceiling: the mask itself on a layer's grid; baselines have no layer."
        found = [_table("map-depth", self.title, told, ours)]
        return [*found, _table("map-depth-random", f"{self.title}, {RANDOM}", "", random)] if random else found

    def charts(self, result: m.Result) -> list[Chart]:
        """One a map: a line for each mask, random weights in grey."""
        own = self.encoder_rows(result)
        charts = []
        for i, name in enumerate(dict.fromkeys(row["map"] for row in own)):
            points = [row for row in own if row["map"] == name]
            random = [row for row in result["rows"] if row["map"] == name and row["name"].startswith(RANDOM)]
            masks = [key for key in points[0]["scores"] if key.startswith(RANK)] if len(points) > 1 else []
            bands = {_mask(key): _ends(key, points) for key in masks}
            lines = [(_mask(key), *_line(key, points)) for key in masks]
            grey = [(f"{_mask(key)}, {RANDOM}", *_line(key, random)) for key in masks if random]
            if any(xs for _, xs, _ in lines):
                about: dict[str, Any] = {
                    "x": " to ".join(f"{row['layer']} ({row['depth']:g})" for row in (points[0], points[-1])),
                    "y": RANK,
                    "reference": 0,
                    "grey": [title for title, _, _ in grey],
                    "bands": bands,
                }
                how = f"0 is chance, 1 the mask itself on the layer's grid. Band: intervals{'; grey: ' * bool(grey)}"
                drawn = drawing("draw_lines", [*lines, *grey], **about)
                charts.append(Chart(f"map-depth-{i}", f"Over depth: {name}", f"{how}{RANDOM * bool(grey)}.", drawn))
        return charts

    def sentences(self, result: m.Result) -> list[str]:
        return [f"Left out: {line}." for line in result["left_out"]]

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """None: a result of each layer has them."""
        return {}


def kept_scores(scores: Mapping[str, Mapping[str, Any]], target: str) -> dict[str, Any]:
    """What a row keeps of a map's scores by mask; evidence masks of its target alone, and no objects beside them."""
    evidence = any(mask.startswith(EVIDENCE) for mask in scores)
    found: dict[str, Any] = {}
    for mask, own in scores.items():
        name = mask.removeprefix(EVIDENCE)
        if mask.startswith(EVIDENCE) == evidence and (not evidence or target in ("", name)):
            rank, auroc = own["rank_accuracy"]["normalised"] or {"mean": None, "ci": None}, own["auroc"]
            found[f"{RANK}: {name}"] = {"value": rank["mean"], "ci": rank["ci"]}
            found[f"{AUROC}: {name}"] = {"value": auroc["mean"], "ci": auroc["ci"]}
    return found


def _table(key: str, title: str, how: str, rows: list[m.Row]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row["scores"]))

    def cells(row: m.Row) -> list[Cell]:
        found = (row["scores"].get(name, m.UNKNOWN) for name in names)
        return [scored(score["value"], score["ci"], 2) for score in found]

    lines = [
        [text(row["name"]), plain(row.get("depth")), text(" x ".join(map(str, row["grid"]))), *cells(row)]
        for row in rows
    ]
    strong = frozenset(i for i, row in enumerate(rows) if row["kind"] == m.ENCODER)
    more: dict[str, Any] = {"strong": strong, "folded": not strong, "details": frozenset(("grid",))}
    return Table(key, title, how, ("map", "depth", "grid", *names), lines, **more)


def _mask(key: str) -> str:
    return key.partition(": ")[2]


def _line(key: str, rows: list[m.Row]) -> tuple[list[float], list[float]]:
    """Depth and score of the rows that have one."""
    points = [
        (row["depth"], value) for row in rows if (value := row["scores"].get(key, m.UNKNOWN)["value"]) is not None
    ]
    return [x for x, _ in points], [y for _, y in points]


def _ends(key: str, rows: list[m.Row]) -> list[list[float]]:
    """Their intervals; the score itself where there is none."""
    kept = [score for row in rows if (score := row["scores"].get(key, m.UNKNOWN))["value"] is not None]
    return [list(score["ci"] or [score["value"]] * 2) for score in kept]
