"""The list of official datasets in docs/datasets.md: python -m tests.data.importers.sets prints it."""

import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

from probekit.data.importers import OFFICIAL
from probekit.data.importers.official.base import Official
from tests.data.importers.layouts import LAYOUTS

SPLITS = ("train", "val", "test")


def table() -> str:
    """An item for each entry of `OFFICIAL`: its own words and numbers, and the images of its miniatures."""
    return "".join(f"{line}\n" for name, official in OFFICIAL.items() for line in _item(name, official))


def _item(name: str, official: Official) -> list[str]:
    needs = official.needs.replace("<", "\\<") or "nothing"
    sizes = " / ".join(f"{official.sizes[split]:,}" if split in official.sizes else "\N{EN DASH}" for split in SPLITS)
    classes = ", ".join(f"{n:,} {kind}" for kind, n in official.labels.items()) or f"{official.classes:,}"
    kind = "images of" if official.store == "pixels" else "photographs, read as"
    text = f"- **{name}**: {needs}; {sizes} {kind} {official.size} px; classes: {classes}; tried on: {_tried(name)}"
    return textwrap.wrap(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


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
