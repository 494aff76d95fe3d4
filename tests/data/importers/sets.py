"""The table of official datasets in docs/datasets.md: python -m tests.data.importers.sets prints it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from probekit.data.importers import OFFICIAL
from probekit.data.importers.official.base import Official
from tests.data.importers.layouts import LAYOUTS

SPLITS = ("train", "val", "test")
HEAD = "| name | ROOT holds | train / val / test | px | classes | tried on |\n|---|---|---|---|---|---|\n"


def table() -> str:
    """A row for each entry of `OFFICIAL`: its own words and numbers, and the images of its miniatures."""
    return HEAD + "\n".join(f"| {' | '.join(_row(name, official))} |" for name, official in OFFICIAL.items()) + "\n"


def _row(name: str, official: Official) -> Iterator[str]:
    yield name
    yield official.needs.replace("<", "\\<") or "nothing"
    yield " / ".join(f"{official.sizes[split]:,}" if split in official.sizes else "\N{EN DASH}" for split in SPLITS)
    yield str(official.size)
    yield ", ".join(f"{n:,} {kind}" for kind, n in official.labels.items()) or f"{official.classes:,}"
    yield _tried(name)


def _tried(name: str) -> str:
    """How many images its miniatures have, each layout by itself; broken ones count."""
    counts = []
    for official, make in LAYOUTS.values():
        if official == name:
            with TemporaryDirectory() as folder:
                plan = make(Path(folder) / "set")
            counts.append(sum(map(len, (*plan.splits.values(), *plan.beside.values()))) + bool(plan.broken))
    return f"miniature, {' and '.join(map(str, counts))} images" if counts else "all of it"


if __name__ == "__main__":
    print(table(), end="")
