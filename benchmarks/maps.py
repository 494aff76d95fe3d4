"""The picture of docs/gallery.md, attribution maps x methods on one image, and the table of their scores beside it.

    python -m benchmarks.maps --work FOLDER

Trains each method as `probekit pretrain METHOD` does, on the same images and for as many epochs, and draws and scores
its maps as `probekit heatmap` does. What is in FOLDER already is not trained again. Writes docs/maps.png.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import probekit as pk
from probekit.data.truth import Truth
from probekit.heatmaps import run as heatmap_module
from probekit.heatmaps.base import Row

METHODS = ("conrec", "simclr", "moco-v2", "byol", "vicreg", "supervised")
MAPS = ("cam", "gradcam-ssl", "attention", "input-gradient", "occlusion")
FACTOR = "corner"  # whose evidence the maps are scored against
SIZE, TRAIN, TEST, EPOCHS = 64, 600, 200, 10
SMALL = ("--batch-size", "32", "--set", "model.width=8", "--set", "model.depth=3", "--eval-every", "10")
IMAGE = 4  # of the test split
DOCS = Path(__file__).parents[1] / "docs"

Maps = dict[str, NDArray[np.float32]]  # `[h, w]` by name


def trained(method: str, work: Path) -> Path:
    """The run of a method, trained now if it is not there."""
    path = work / "runs" / method
    if not path.exists():
        words = ["pretrain", method, "--data", "shapes.h5", "--name", method, "--epochs", str(EPOCHS), *SMALL]
        subprocess.run([sys.executable, "-m", "probekit", *words], cwd=work, check=True)
    return path


def look(run: Path, data: Path) -> tuple[Mapping[str, Any], Maps, Truth]:
    """A run's heatmap result, its maps of `IMAGE`, and the images."""
    kept: list[tuple[Truth, list[Row]]] = []

    def keep(result: Mapping[str, Any], truth: Truth, rows: list[Row], *more: Any) -> Figure:
        kept.append((truth, rows))
        return Figure()

    with patch.object(heatmap_module, "draw_gallery", keep):
        found = pk.heatmap(run, data, maps=available(run), n=100, perturb=0).to_dict()
    truth, rows = kept[0]
    mine = [row for row in rows if row.encoder != "random" and row.target in ("", FACTOR)]
    return found, {row.map: row.maps[IMAGE] for row in mine}, truth


def available(run: Path) -> tuple[str, ...]:
    """Those of `MAPS` that the encoder allows."""
    pooled = pk.load(run).encoder.spec["pooling"] == "attention"
    headless = run.name == "supervised"
    return tuple(m for m in MAPS if (m != "attention" or pooled) and (m != "gradcam-ssl" or not headless))


def auroc(found: Mapping[str, Any]) -> dict[str, float]:
    """By map or baseline, the mean over images."""
    scores = {}
    for row in found["rows"]:
        if row["encoder"] != "random" and row["target"] in ("", FACTOR):
            scores[row["map"]] = row["scores"][f"evidence:{FACTOR}"]["auroc"]["mean"]
    return scores


def show(axes: Axes, picture: NDArray[Any], **how: Any) -> None:
    """A picture `[h, w]` over the whole frame, its cells drawn as cells."""
    axes.imshow(picture, extent=(0, SIZE, SIZE, 0), interpolation="nearest", **how)
    axes.set_xticks([])
    axes.set_yticks([])


def draw(looked: Mapping[str, tuple[Mapping[str, Any], Maps, Truth]]) -> Figure:
    """A row for each method: the maps as they are, cells as cells, their outlines of the evidence, AUROC below."""
    columns = ("image", *MAPS)
    figure = Figure(figsize=(7.1, 1.28 * len(looked) + 0.5), layout="constrained")
    grid = figure.subplots(len(looked), len(columns))
    for line, (method, (found, maps, truth)) in zip(grid, looked.items(), strict=True):
        evidence = truth.masks[f"evidence:{FACTOR}"][IMAGE]
        scores = auroc(found)
        for axes, name in zip(line, columns, strict=True):
            if name == "image":
                show(axes, truth.split.images[IMAGE], cmap="gray", vmin=0, vmax=255)
                axes.set_ylabel(method, fontsize=8)
            elif name in maps:
                top = float(np.abs(maps[name]).max()) or 1.0
                signed = bool(maps[name].min() < 0)
                how = {"cmap": "PuOr_r", "vmin": -top} if signed else {"cmap": "cividis", "vmin": 0}
                show(axes, maps[name], vmax=top, **how)
                axes.set_xlabel(f"AUROC {scores[name]:.2f}", fontsize=7)
            else:
                axes.set_axis_off()
                axes.text(0.5, 0.5, "has none", ha="center", fontsize=7, transform=axes.transAxes)
            if name in maps or name == "image":
                colour = "#56B4E9" if name == "image" else "white"
                axes.contour(
                    np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, evidence, [0.5], colors=colour, linewidths=0.6
                )
            if line is grid[0]:
                axes.set_title(name, fontsize=8)
    return figure


def table(looked: Mapping[str, tuple[Mapping[str, Any], Maps, Truth]]) -> str:
    """Markdown: AUROC of each map of each method, with what needs no training."""
    lines = ["| method | " + " | ".join(MAPS) + " |", "|---" * (len(MAPS) + 1) + "|"]
    for method, (found, _, _) in looked.items():
        scores = auroc(found)
        lines.append(f"| {method} | " + " | ".join(f"{scores[m]:.2f}" if m in scores else "-" for m in MAPS) + " |")
    scores = auroc(next(iter(looked.values()))[0])
    others = ", ".join(f"{name} {scores[name]:.2f}" for name in ("uniform", "centre", "edges", "ink"))
    return "\n".join([*lines, "", f"Beside them: {others}."])


def main() -> None:
    """Trains what is missing, draws and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.maps", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where data and runs are kept")
    work: Path = parser.parse_args().work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = work / "shapes.h5"
    if not data.exists():
        pk.generate("rect-tri", n=TRAIN, n_test=TEST, size=SIZE, out=data)
    looked = {method: look(trained(method, work), data) for method in METHODS}
    draw(looked).savefig(DOCS / "maps.png", dpi=150)
    print(table(looked))


if __name__ == "__main__":
    main()
