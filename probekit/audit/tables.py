"""An audit as a table, and what stands out in it."""

from collections.abc import Mapping
from typing import Any

from probekit.output.document import Block, Cell, Note, Table, percents, text

HOW = (
    "Shares of views, in %, with 95 % intervals over images. Kept: of the evidence's area. All left, none left: views "
    "with all of it, with nothing of it. Equal: the views of an image and of its counterfactual differ by less than a "
    "grey level everywhere. Other side: the view shows another value than its image. Enlarged: view px for a px of the "
    "file, median, 5 and 95 %. docs/audit.md."
)


def audit_blocks(found: Mapping[str, Any]) -> list[Block]:
    """One table, a line for each recipe and class factor, and notes."""
    rows = [_line(row) for row in found["rows"]]
    columns = ("recipe", "crops", "factor", "kept", "all left", "none left", "equal", "other side", "enlarged")
    height, width = found["size"]
    drawn = f"{found['n']:,} images of {found['data']}, {found['split']}, {width}x{height} px, seed {found['seed']}"
    table = Table("audit", f"What views leave: {drawn}", HOW, columns, rows, names=3)
    return [table, *(Note(line) for line in (*sentences(found), *found["notes"]))]


def _line(row: Mapping[str, Any]) -> list[Cell]:
    shares = [row["kept"], row["all_left"], row["none_left"], row["equal"], row["other_side"]]
    middle, low, high = row["enlarged"]
    height, width = row["size"]
    return [
        text(row["recipe"]),
        text(f"{row['crops']}, {width}x{height}"),
        text(row["factor"]),
        *(Cell("-", None) if share is None else percents(share["mean"], share["ci"]) for share in shares),
        Cell(f"{middle:.2f}", middle, f"[{low:.2f}, {high:.2f}]"),
    ]


def sentences(found: Mapping[str, Any]) -> list[str]:
    """For each class factor what loses it most often, and what most often shows another value of it."""
    lines = []
    for factor in dict.fromkeys(row["factor"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["factor"] == factor and row["n"]]
        if not rows:
            lines.append(f"{factor} shows in no pixel of these images: nothing can be said of its views.")
            continue
        worst = max(rows, key=lambda row: row["none_left"]["mean"])
        lost = worst["none_left"]["mean"]
        line = (
            f"{factor}: nothing of it is left in {100 * lost:.1f} % of the {worst['crops']} crops of {worst['recipe']}"
        )
        told = [row for row in rows if row["other_side"] is not None]
        if told:
            turned = max(told, key=lambda row: row["other_side"]["mean"])
            share = turned["other_side"]["mean"]
            line += f", and {100 * share:.1f} % of the {turned['crops']} crops of {turned['recipe']} show another value"
        most = ", the most of these recipes" if len(rows) > 1 else ""
        lines.append(f"{line}{most}.")
        if rows[0]["undefined"]:
            lines.append(f"{factor}: {rows[0]['undefined']} images in which it shows in no pixel are left out.")
    return lines
