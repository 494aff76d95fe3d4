"""The tables of the protocols beside the linear probe, readable in 80 columns: percentages unless said otherwise."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.probe.table import encoders_first, percent, with_ends

Row = Mapping[str, Any]
TITLES = {  # of `RETRIEVAL`
    "rank1": "rank-1 %",
    "rank5": "rank\n-5",
    "map": "mAP %",
    "map_at_r": "MAP\n@R",
    "r_precision": "R-\nprec.",
    "precision3": "P@\n1-3",
    "precision18_20": "P@\n18-20",
}
MOST_FRACTIONS = 7  # columns; beyond, the smallest are left out


def fractions_table(rows: Sequence[Row]) -> Table:
    """Accuracy by share of the labels over its interval; sample complexity in images, over its own."""
    points = rows[0]["points"][-MOST_FRACTIONS:]
    titles = [f"{100 * point['fraction']:g} %\n{point['n']:.0f}" for point in points]

    def cells(row: Row) -> list[str]:
        shown = row["points"][-MOST_FRACTIONS:]
        accuracies = [f"{percent(point['accuracy'])}\n{_half(point['accuracy'], point['ci'])}" for point in shown]
        spans = row["complexity_ci"]
        return [*accuracies, *(f"{n:.0f}\n{_span(spans[share])}" for share, n in row["complexity"].items())]

    return _filled([*titles, "n for\n90 %", "n for\n95 %"], rows, cells)


def knn_table(rows: Sequence[Row]) -> Table:
    """Accuracy with k and T chosen, then of the papers' monitors."""
    monitors = max((row["monitor"] for row in rows), key=len)
    has_top5 = any("top5" in row for row in rows)
    titles = [
        "accuracy %",
        *(["top-5"] * has_top5),
        "k",
        "T",
        *(f"k={m['k']}\nT={m['temperature']:g}" for m in monitors),
    ]

    def cells(row: Row) -> list[str]:
        chosen = ["-" if row[key] is None else f"{row[key]:g}" for key in ("k", "temperature")]
        fixed = [percent(found["accuracy"]) for found in row["monitor"]] or ["-"] * len(monitors)
        return [with_ends(row["accuracy"], row["ci"]), *([percent(row.get("top5"))] * has_top5), *chosen, *fixed]

    return _filled(titles, rows, cells)


def retrieval_table(rows: Sequence[Row]) -> Table:
    """Every metric; rank-1 and mAP over their intervals."""

    def cells(row: Row) -> list[str]:
        scores = row["scores"]
        wide = {metric: with_ends(scores[metric]["value"], scores[metric]["ci"], "\n") for metric in ("rank1", "map")}
        return [wide.get(metric, percent(scores[metric]["value"])) for metric in TITLES]

    return _filled(list(TITLES.values()), rows, cells)


def fingerprint_table(rows: Sequence[Row]) -> Table:
    """What nearest neighbours share, over its interval: rows are factors, columns sources."""
    ordered = [row for row in encoders_first(rows) if row["fingerprint"]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("neighbours share")
    for title in (*(row["name"] for row in ordered), "chance"):
        table.add_column(Text(title), justify="right")
    for name, found in ordered[0]["fingerprint"].items():
        if found["value"] is None:  # it does not vary
            continue
        scores = [row["fingerprint"][name] for row in ordered]
        cells = [percent(score["value"]) + _whole_ends(score["ci"]) for score in scores]
        table.add_row(Text(name), *cells, percent(found["chance"]))
    return table


def cv_table(rows: Sequence[Row]) -> Table:
    """Mean of folds and pooled value; for kappa (no percentage) also the accuracy, and the plain decoding's mean."""
    metric = rows[0]["metric"]
    if metric == "accuracy":
        return _filled(["accuracy %, folds", "pooled"], rows, lambda row: _means(row, "plain", metric, with_ends))

    def cells(row: Row) -> list[str]:
        accuracies = {name: percent(scores["accuracy"]["mean"]) for name, scores in row["decodings"].items()}
        plain = _means(row, "plain", metric, _number)[0]
        return [*_means(row, "cumulative", metric, _number), accuracies["cumulative"], plain, accuracies["plain"]]

    return _filled(["cumulative\nkappa, folds", "pooled", "acc.\n%", "plain\nkappa", "acc.\n%"], rows, cells)


def multilabel_table(rows: Sequence[Row]) -> Table:
    """Mean average precision in its three forms."""

    def cells(row: Row) -> list[str]:
        return [*(with_ends(found["value"], found["ci"], "\n") for found in row["map"].values()), str(row["undefined"])]

    return _filled(["mAP %, VOC2007\n11 points", "VOC2010\narea", "steps\n(sklearn)", "classes\nleft out"], rows, cells)


def every_table(points: Sequence[Row], floors: Sequence[Row]) -> Table:
    """Scores along checkpoints, then of the floors; as they are, not in %, over their intervals."""
    names = list(dict.fromkeys(name for row in (*points, *floors) for name in row["scores"]))

    def cells(row: Row) -> list[str]:
        scores = [row["scores"].get(name, {"value": None, "ci": None}) for name in names]
        return [_number(score["value"], score["ci"]) for score in scores]

    rows = [{**row, "name": str(row["epoch"]), "kind": "encoder"} for row in points]
    return _filled(
        [name.replace(", ", ",\n") for name in names],
        [*rows, *({**row, "kind": "floor"} for row in floors)],
        cells,
        first="epoch",
    )


def _filled(
    titles: Sequence[str], rows: Sequence[Row], cells: Callable[[Row], list[str]], first: str = "features"
) -> Table:
    """A table of rows, encoders first and bold, a line below them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, min_width=8, overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    ordered = encoders_first(rows)
    encoders = sum(row["kind"] == "encoder" for row in rows)
    for number, row in enumerate(ordered, start=1):
        style = "bold" if row["kind"] == "encoder" else ""
        table.add_row(Text(row["name"]), *cells(row), style=style, end_section=number == encoders)
    return table


def _means(row: Row, decoding: str, metric: str, text: Callable[[float | None, Any], str]) -> list[str]:
    """Mean of folds and pooled value, each with its interval."""
    found = row["decodings"][decoding][metric]
    return [text(found["mean"], found["ci"]), text(found["pooled"], found["pooled_ci"])]


def _half(share: float, ends: Sequence[float] | None) -> str:
    """Half the width of a share's interval where it stands in its middle; else the ends."""
    if ends is None:
        return ""
    middle = abs(sum(ends) / 2 - share) < 0.0005
    return f"±{100 * (ends[1] - ends[0]) / 2:.1f}" if middle else f"[{100 * ends[0]:.0f},{100 * ends[1]:.0f}]"


def _whole_ends(ends: Sequence[float] | None) -> str:
    """An interval in whole per cent, on a line of its own."""
    return "" if ends is None else f"\n[{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"


def _span(ends: Sequence[float] | None) -> str:
    """An interval of counts, "30-61"; nothing where it has no width."""
    return "" if ends is None else f"{ends[0]:.0f}-{ends[1]:.0f}"


def _number(value: float | None, ends: Sequence[float] | None) -> str:
    """A number that is no share, or not always, over its interval."""
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if ends is None else f"\n[{ends[0]:.2f},{ends[1]:.2f}]")
