"""A notebook run in a fresh kernel, and its file without what differs from run to run."""

import os
from copy import deepcopy
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs/notebooks"
NAMES = ("exam", "probe", "heatmap", "generator")
SECONDS = 280  # of a cell, its output and the start of a kernel: on a busy machine each may wait


def read(name: str) -> nbformat.NotebookNode:
    """The notebook as it is kept."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def run(book: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A copy with the outputs of a run in a folder, in a kernel of its own; an error of a cell is raised."""
    found = deepcopy(book)
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        patience = dict.fromkeys(("timeout", "startup_timeout", "iopub_timeout"), SECONDS)
        NotebookClient(found, **patience, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    return found


def clean(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without times, warnings of libraries and what a kernel says of itself."""
    found = deepcopy(book)
    found.metadata = nbformat.from_dict({key: found.metadata[key] for key in ("kernelspec",) if key in found.metadata})
    found.metadata["language_info"] = nbformat.from_dict({"name": "python"})
    for cell in found.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return found


def write(name: str, book: nbformat.NotebookNode) -> None:
    """Keeps it."""
    (FOLDER / f"{name}.ipynb").write_text(nbformat.writes(clean(book)) + "\n")
