"""Retrieval of test images by each other (LCR paper, section 4.3; XCorr paper, supplement 1.5)."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from probekit import measurement as m
from probekit.files import name_of
from probekit.output.document import Cell, Chart, Table, percent, percents, text
from probekit.probes import RETRIEVAL
from probekit.probes.measurements.base import Probe

if TYPE_CHECKING:
    from probekit.probes.measure import Conditions, Source

CALLED = {  # how each of `RETRIEVAL` is written
    "rank1": "rank-1",
    "rank5": "rank-5",
    "map": "mAP",
    "map_at_r": "mAP@R",
    "r_precision": "R-precision",
    "precision3": "P@1-3",
    "precision18_20": "P@18-20",
}


class Ranked(m.Estimate):
    chance: m.Number | None


class Shared(TypedDict):
    kind: str
    value: m.Number | None
    ci: NotRequired[m.Interval]
    chance: m.Number


class RetrievalRow(m.Named):
    n: m.Count
    skipped: m.Count
    scores: dict[str, Ranked]
    fingerprint: dict[str, Shared]
    gallery: list[dict[str, Any]]
    labels: NotRequired[list[int]]
    predicted: NotRequired[list[int]]


@dataclass(frozen=True)
class Retrieval(Probe):
    name = "retrieval"
    title = "Retrieval"
    help = "Also retrieve test images by each other."
    about = (
        "Each test image asks all others by cosine; relevant: the same class; means over queries with a relevant "
        "image; chance: exact, of a random ranking; intervals: 95 % percentile bootstrap over queries."
    )
    shape = RetrievalRow
    needs = ("test",)
    fits = False
    main = ("rank-1", "mAP")
    names = tuple(CALLED.values())

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.retrieval import by_chance, retrieval

        labels = conditions.labels
        if source.name == m.CHANCE:
            return by_chance(labels.parts["test"].y)
        return retrieval(
            source.name,
            source.kind,
            source.part(labels, "test"),
            classes=conditions.classes,
            seed=conditions.seed,
            device=conditions.device,
            factors=labels.factors["test"],
        )

    def tables(self, result: m.Result) -> list[Table]:
        first = m.encoder_row(result)
        metrics = [metric for metric in RETRIEVAL if metric in first["scores"]]
        meanings = "; ".join(f"{CALLED[metric]}: {RETRIEVAL[metric]}" for metric in metrics)
        how = f"{first['n']} queries count, {first['skipped']} have no relevant image. {meanings}. In %."

        columns = {f"{CALLED[metric]} %": _ranked(metric) for metric in metrics}
        scores = m.rows_table("scores", self.title, columns, result["rows"], how=how)
        shown: list[m.Row] = [row for row in m.encoders_first(result["rows"]) if row["fingerprint"]]
        return [scores, _fingerprint(shown)] if shown and shared_factors(shown[0]) else [scores]

    def charts(self, result: m.Result) -> list[Chart]:
        row = m.encoder_row(result)
        how = "One row for each query: itself, its 3 nearest, and ranks 18 to 20. Framed in blue: of the query's class."
        title = f"Nearest images by cosine, {result['run']} on {name_of(Path(result['data']))}"
        draw = partial(_gallery, row, result["data"], title)
        return [Chart("gallery", "Nearest images", how, draw, photographs=True)] if row["gallery"] else []

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        found = row["scores"].items()
        return {CALLED[metric]: m.score_of(kept) for metric, kept in found if metric in CALLED}

    def answers(self, row: m.Row) -> tuple[list[int], list[int]] | None:
        if "predicted" not in row or "labels" not in row:
            return None
        shown: Counter[int] = Counter(row["labels"])
        counted = [i for i, label in enumerate(row["labels"]) if shown[label] > 1]
        return ([row["labels"][i] for i in counted], [row["predicted"][i] for i in counted]) if counted else None


def shared_factors(row: m.Row) -> list[str]:
    """Factors that vary."""
    return [name for name, found in row["fingerprint"].items() if found["value"] is not None]


def _fingerprint(rows: list[m.Row]) -> Table:
    first = rows[0]["fingerprint"]
    lines = [
        [
            text(factor),
            text(first[factor]["kind"]),
            *(_percents(row["fingerprint"].get(factor)) for row in rows),
            percent(first[factor]["chance"]),
        ]
        for factor in shared_factors(rows[0])
    ]
    how = (
        "What each test image and its nearest have in common, in %. Class factors: how often they have the same value, "
        "beside chance. Others: 1 - the median distance to the nearest / that to a random image; 100 % is the same "
        "value, 0 % nothing in common; their intervals: 95 % by order statistics of the nearest's median."
    )
    columns = ("factor", "kind", *(row["name"] for row in rows), "chance")
    return Table("shared", "What nearest neighbours share", how, columns, lines, details=frozenset(("kind",)))


def _ranked(metric: str) -> Callable[[m.Row], Cell]:
    return lambda row: _percents(row["scores"].get(metric))


def _percents(found: Mapping[str, Any] | None) -> Cell:
    return percents((found or {}).get("value"), (found or {}).get("ci"))


def _gallery(row: m.Row, data: str, title: str) -> Any:
    from probekit.h5 import read_images
    from probekit.output.mosaic import draw_gallery

    lines = []
    for shown in row["gallery"]:
        numbers = [shown["query"], *shown["positive"], *shown["negative"]]
        images = read_images(Path(data), "test", numbers).images
        lines.append((images, [row["labels"][i] == row["labels"][numbers[0]] for i in numbers[1:]]))
    return draw_gallery(lines, title)
