"""The table of a probe: encoders first, then the floors."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text


def encoders_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of kind "encoder", then the others, each in the order given."""
    return sorted(rows, key=lambda row: row["kind"] != "encoder")


def probe_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lays out rows of `protocol.probe`; readable in 80 columns.

    Percentages, except the log-loss in nats; a dash where a number is undefined.
    """
    ordered = encoders_first(rows)
    factors = list(dict.fromkeys(name for row in ordered for name in row["factors"]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("features", min_width=14)
    has_top5 = any("top5" in row for row in ordered)
    for title in ("accuracy %", *(["top-5"] * has_top5), "bal.\nacc.", "macro\nF1", "log-\nloss", *factors):
        table.add_column(title, justify="right", no_wrap=True)
    for number, row in enumerate(ordered):
        last_encoder = row["kind"] == "encoder" and (
            number + 1 == len(ordered) or ordered[number + 1]["kind"] != "encoder"
        )
        loss = row["log_loss"]
        table.add_row(
            Text(row["name"]),  # not markup: a name may hold brackets
            with_ends(row["accuracy"], row["ci"]),
            *([percent(row.get("top5"))] * has_top5),
            percent(row["balanced_accuracy"]),
            percent(row["macro_f1"]),
            "-" if loss is None else f"{loss:.3f}",
            *(percent(row["factors"].get(name, {}).get("accuracy")) for name in factors),
            style="bold" if row["kind"] == "encoder" else "",
            end_section=last_encoder,
        )
    return table


def with_ends(fraction: float | None, ends: Sequence[float] | None, space: str = " ") -> str:
    """0.5 and [0.4, 0.6] -> "50.0 [40.0, 60.0]"; without an interval the number alone."""
    return percent(fraction) + ("" if ends is None else f"{space}[{percent(ends[0])}, {percent(ends[1])}]")


def percent(fraction: float | None) -> str:
    """0.964 -> "96.4"; None -> "-"."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"
