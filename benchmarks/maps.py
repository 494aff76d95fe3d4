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
from matplotlib.figure import Figure
from numpy.typing import NDArray

import probekit as pk
from probekit.data.truth import Truth
from probekit.heatmaps import run as heatmap_module
from probekit.heatmaps.base import Row
from probekit.heatmaps.draw import COVERED, coloured, dimmed
from probekit.heatmaps.score import SCORES, score_map, upsample
from probekit.output.mosaic import Mosaic
from probekit.output.pictures import save
from probekit.output.style import LIGHT

METHODS = ("conrec", "simclr", "moco-v2", "byol", "vicreg", "supervised")
MAPS = ("cam", "gradcam-ssl", "attention", "input-gradient", "occlusion")
FACTOR = "corner"  # whose evidence the maps are scored against
SIZE, TRAIN, TEST, EPOCHS = 64, 600, 200, 10
SMALL = ("--batch-size", "32", "--set", "model.width=8", "--set", "model.depth=3", "--eval-every", "10")
IMAGE = 4  # of the test split
DOCS = Path(__file__).parents[1] / "docs"
TITLE = (
    f"Where six encoders look on one image, after {EPOCHS} epochs of {TRAIN} images\n"
    "Orange is above zero, blue below, each map on a scale of its own. "
    f"White lines: the evidence of {FACTOR}; under each map its AUROC against it."
)

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


def draw(looked: Mapping[str, tuple[Mapping[str, Any], Maps, Truth]]) -> Figure:
    """A row for each method: over one image its maps, cells as cells, the evidence's outline, its AUROC below."""
    size = (SIZE, SIZE)
    mosaic = Mosaic(len(looked), 1 + len(MAPS), title=TITLE, heads=1, left=0.7, below=1.2)
    for column, name in enumerate(("image", *MAPS)):
        mosaic.head(column + 0.5, name)
    for line, (method, (_, maps, truth)) in enumerate(looked.items()):
        image, evidence = truth.split.images[IMAGE], truth.masks[f"evidence:{FACTOR}"][IMAGE]
        mosaic.name(line, method)
        mosaic.image(line, 0, image)
        mosaic.outline(line, 0, evidence)
        for column, name in enumerate(MAPS, 1):
            if name not in maps:
                mosaic.write(column + 0.5, line + 0.45, "has none", color=LIGHT["muted"], va="center")
                continue
            values = np.abs(maps[name])
            most = float(np.quantile(values, COVERED)) or float(values.max()) or 1.0
            mosaic.show(line, column, dimmed(image), size, interpolation="nearest")
            mosaic.show(line, column, coloured(maps[name] / most), size, interpolation="nearest")
            mosaic.frame(line, column, size)
            mosaic.outline(line, column, evidence)
            score = score_map(upsample(maps[name][None], size)[0], [evidence])[0, SCORES.index("auroc")]
            mosaic.caption(line, column + 0.5, f"{score:.2f}")
    return mosaic.figure


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
    save(draw(looked), DOCS / "maps.png")
    print(table(looked))


if __name__ == "__main__":
    main()
