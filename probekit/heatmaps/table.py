"""The tables of a heatmap result for the terminal: looks first, then looks that know nothing, then the ceiling."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.h5.schema import EVIDENCE

TITLES = {"pointing": "pointing", "mass": "mass", "rank": "rank", "auroc": "AUROC"}


def score_table(result: Mapping[str, Any], mask: str) -> Table:
    """Scores of every row against one mask: means with their 95 % intervals; readable in 80 columns.

    Of rows that explain a class factor, an evidence mask's table shows those of that factor.
    """
    factor = mask.removeprefix(EVIDENCE) if mask.startswith(EVIDENCE) else ""
    rows = _about(result, factor)
    undefined = max(row["scores"][mask]["rank"]["undefined"] for row in rows)
    name = f"evidence of {factor}" if factor else mask
    table = _table(f"{name}: {100 * result['chance'][mask]:.1f} % of the image, n = {result['n'] - undefined}")
    for title in (*TITLES.values(), "norm.\nrank"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        scores = row["scores"][mask]
        cells = [mean_half(scores[score]) for score in TITLES]
        _add(table, rows, row, [*cells, mean_half(scores["rank"]["normalised"])], named=not factor)
    return table


def passes_table(result: Mapping[str, Any], factor: str) -> Table:
    """What masking by each map does to the true class's probability, the swap score, and the check of the weights.

    Args:
        result: results/heatmap.json.
        factor: Rows of this class factor; "" for all, where targets are no factor's.
    """
    rows = _about(result, factor)
    n = next((seen["n"] for row in rows for seen in row["faithfulness"].values()), 0)
    about = f", {factor}" if factor else ""
    table = _table(f"seen through the map (fill {result['fill']}){about}, n = {n}")
    for title in ("drop %\nlow", "incr. %\nhigh", "gain %\nhigh", "mean\nmap", "swap\nhigh", "weights\nmatter"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        seen = row["faithfulness"].get(factor) or row["faithfulness"].get("")
        swap, verdict = row["swap"].get(factor), row["randomisation"]
        cells = [
            *(percent_half(seen, key) for key in ("average_drop", "average_increase", "average_gain")),
            "-" if seen is None else f"{seen['mean_map']['mean']:.2f}",
            "-" if swap is None else mean_half(swap["score"]),
            "" if verdict is None else "yes" if verdict["passes"] else "NO",
        ]
        _add(table, rows, row, cells, named=not factor)
    return table


def mean_half(score: Mapping[str, Any] | None) -> str:
    """.34 ±.02; .98 over [.90,1.00] where it is not in the middle; a dash if undefined."""
    if score is None or score["mean"] is None:
        return "-"
    return re.sub(r"\b0\.", ".", f"{score['mean']:.2f}{_around(score, digits=2)}")


def percent_half(scores: Mapping[str, Any] | None, key: str) -> str:
    """12 ±3; 8 over [0,26] where it is not in the middle; a dash where it is undefined."""
    if scores is None or scores[key]["mean"] is None:
        return "-"
    return f"{scores[key]['mean']:.0f}{_around(scores[key], digits=0)}"


def _around(score: Mapping[str, Any], *, digits: int) -> str:
    """Half the interval's width where the score stands in its middle, up to rounding; else its ends."""
    if score["ci"] is None:
        return ""
    low, high = score["ci"]
    half, rounding = (high - low) / 2, 0.5 * 10**-digits
    middle = abs((low + high) / 2 - score["mean"]) <= rounding
    return f" ±{half:.{digits}f}" if middle else f"\n[{low:.{digits}f},{high:.{digits}f}]"


def _about(result: Mapping[str, Any], factor: str) -> list[dict[str, Any]]:
    return [row for row in result["rows"] if not factor or row["target"] in ("", factor)]


def _table(title: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("look", min_width=23)
    return table


def _add(
    table: Table, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], cells: Sequence[str], *, named: bool
) -> None:
    """Adds a row, and a rule where the next is of another kind; `named`: with the target in its name."""
    after = rows[rows.index(row) + 1 :][:1]
    name = row["name"].replace(", random weights", " (random)")
    table.add_row(
        Text(f"{name}: {row['target']}" if named and row["target"] else name),
        *cells,
        style="bold" if row["kind"] == "look" else "",
        end_section=not after or after[0]["kind"] != row["kind"],
    )
