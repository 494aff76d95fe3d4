"""What first.sh found, as one table: how its parts ended, and each step's predicted and measured time.

python -m benchmarks.gpu.table FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any


def table(folder: Path) -> list[str]:
    """Lines of Markdown of parts.tsv and bench.jsonl in a folder; what is not there is told."""
    parts = [line.split("\t") for line in (folder / "parts.tsv").read_text().splitlines()]
    lines = ["| part | ended | s |", "|---|---|---|", *(f"| {' | '.join(part)} |" for part in parts), ""]
    rows = [json.loads(line) for line in (folder / "bench.jsonl").read_text().splitlines()]
    lines += ["| step | predicted, ms | measured, ms | measured / predicted | floor, ms |", "|---|---|---|---|---|"]
    lines += [_row(row) for row in rows]
    expected = {name.removeprefix("bench-") for name, *_ in parts if name.startswith("bench-")}
    missing = sorted(expected - {row["name"] for row in rows})
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    well = sum(how == "well" for _, how, _ in parts)
    return [*lines, "", f"{well} of {len(parts)} parts ended well."]


def _row(row: dict[str, Any]) -> str:
    here, measured = row["machines"][0], row["measured"]["ms"]
    predicted = here["predicted_ms"]
    return f"| {row['name']} | {predicted:.2f} | {measured:.2f} | {measured / predicted:.2f} | {here['floor_ms']:.2f} |"


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]))))
