"""The tables of docs/audit.md: every shipped recipe on every generator, as Markdown.

    python -m benchmarks.audit [--n 200] [--size 128] [--seed 0]

No speeds: what views leave is the same on every machine, but for rounding.
"""

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from generators import GENERATORS
from probekit.audit.asked import ALL, chosen
from probekit.audit.measure import SMALL, audit, read_scenes
from probekit.data.generate import generate

TABLES = (  # the number of each cell, what stands in brackets, and what both are
    ("kept", "all_left", "kept (all left)"),
    ("equal", "other_side", "equal (other side)"),
)
BESIDE = 7  # columns of a table


def audited(name: str, *, n: int, size: int, seed: int) -> dict[str, Any]:
    """The audit of all recipes on a generator's default images."""
    with TemporaryDirectory() as folder:
        info = generate(name, out=Path(folder, f"{name}.h5"), n=n, n_test=1, size=size, workers=1)
        recipes = chosen(ALL, preset="paper", settings=())
        return audit(read_scenes(info, n), recipes, views=2, seed=seed, say=lambda line: None)


def column(row: Mapping[str, Any]) -> str:
    """The title of a recipe's crops."""
    return f"{row['recipe']}, small" if row["crops"] == SMALL else str(row["recipe"])


def cell(row: Mapping[str, Any], first: str, second: str) -> str:
    """Two shares of a row in whole per cent."""
    a, b = ("-" if row[key] is None else f"{100 * row[key]['mean']:.0f}" for key in (first, second))
    return f"{a} ({b})"


def tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each class factor of each generator, a column for each size of crops of each recipe, some a table."""
    columns = list(dict.fromkeys(column(row) for each in found.values() for row in each["rows"]))
    lines: list[str] = []
    parts = [columns[i : i + BESIDE] for i in range(0, len(columns), BESIDE)]
    for (first, second, title), columns in itertools.product(TABLES, parts):
        lines += [f"| {title} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
        for name, each in found.items():
            for factor in dict.fromkeys(row["factor"] for row in each["rows"]):
                cells = {column(row): cell(row, first, second) for row in each["rows"] if row["factor"] == factor}
                lines.append(f"| {name}: {factor} | {' | '.join(cells[title] for title in columns)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Audits and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(tables({name: audited(name, **vars(asked)) for name in GENERATORS}))


if __name__ == "__main__":
    main()
