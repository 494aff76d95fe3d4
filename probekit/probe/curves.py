"""Pictures of curves: accuracy by share of labels, and scores along pretraining; and the galleries of retrieval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from probekit.output.mosaic import Mosaic
from probekit.output.png import save_png
from probekit.probe.figure import FLOOR, plain
from probekit.probe.table import encoders_first

COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a")
DASHES = ("--", ":", "-.", (0, (1, 3)))  # of floors, which are all grey
MARKERS = "s^Dv"  # likewise
RIGHT, WRONG = "#1b9e77", "#d62728"


def draw_fractions(result: Mapping[str, Any], path: Path) -> None:
    """Accuracy over the number of labels, on a logarithmic axis, with 95 % bands (ConRec paper, Figure 2).

    Args:
        result: {"run", "data", "protocol", "rows"}, rows as `fractions.fractions` gives them.
        path: The PNG; see `picture.save_png`.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    floors = 0
    for row in encoders_first(result["rows"]):
        points = row["points"]
        n = [point["n"] for point in points]
        ends = np.array([point["ci"] or [point["accuracy"]] * 2 for point in points])
        is_floor = row["kind"] != "encoder"
        style: Any = DASHES[floors % len(DASHES)] if is_floor else "-"
        marker = MARKERS[floors % len(MARKERS)] if is_floor else "o"
        floors += is_floor
        accuracies, colour = [p["accuracy"] for p in points], FLOOR if is_floor else COLOURS[0]
        _band(axes, plain(row["name"]), n, accuracies, ends, colour, style, marker)
    axes.set_xscale("log")
    axes.set(xlabel="labelled training images", ylabel="test accuracy, %", ylim=(0, 100))
    axes.legend(fontsize=8)
    figure.suptitle(f"{plain(result['run'])} on {plain(result['data'])}, protocol {result['protocol']}")
    save_png(figure, path, dpi=120)


def draw_every(result: Mapping[str, Any], path: Path) -> None:
    """Each score over epochs with its 95 % interval; floors as level lines of the same colour (ConRec paper, Figure 5).

    Args:
        result: {"run", "data", "protocol", "points", "floors"}; docs/protocols.md has the shape.
        path: The PNG.
    """
    names = list(result["points"][0]["scores"])
    figure = Figure(figsize=(7, 2.6 * len(names) + 0.6), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(len(names), 1, number + 1)
        points = [point for point in result["points"] if point["scores"][name]["value"] is not None]
        values = [point["scores"][name]["value"] for point in points]
        ends = np.array(
            [point["scores"][name]["ci"] or [value] * 2 for point, value in zip(points, values, strict=True)]
        )
        if points:
            _band(axes, "encoder", [point["epoch"] for point in points], values, ends, COLOURS[number % 5], "-")
        for i, floor in enumerate(result["floors"]):
            level = floor["scores"].get(name, {"value": None})["value"]
            if level is not None:
                style: Any = DASHES[i % len(DASHES)]
                axes.axhline(100 * level, color=FLOOR, linestyle=style, label=plain(floor["name"]))
        axes.set(ylabel=f"{name}, x 100")
        axes.legend(fontsize=8)
    axes.set_xlabel("epoch")
    figure.suptitle(f"{plain(result['run'])} on {plain(result['data'])}, protocol {result['protocol']}")
    save_png(figure, path, dpi=120)


def draw_gallery(rows: Sequence[tuple[NDArray[np.uint8], Sequence[bool]]], *, title: str, path: Path) -> None:
    """One row for each query: itself, its 3 nearest, and the 3 least similar of its 20 nearest.

    Args:
        rows: Images uint8 `[n, H, W]` or `[n, H, W, 3]`, the query first; whether each of the others has its class.
        title: Above all.
        path: The PNG.
    """
    most = max(len(images) for images, _ in rows)
    title = f"{title}\ngreen: of the query's class"
    mosaic = Mosaic(len(rows), most, cell=1.2, title=title, head=0.25)
    for j, head in zip(range(most), ("query", "1st", "2nd", "3rd", "18th", "19th", "20th"), strict=False):
        mosaic.write(j + 0.5, 0, head, size=8)
    for i, (images, hits) in enumerate(rows):
        for j, image in enumerate(images):
            size = image.shape[:2]
            mosaic.show(i, j, image, size, cmap="gray", vmin=0, vmax=255)
            if j > 0:
                mosaic.frame(i, j, size, RIGHT if hits[j - 1] else WRONG, 3)
    save_png(mosaic.figure, path, dpi=120)


def _band(
    axes: Axes,
    name: str,
    x: Sequence[float],
    values: Sequence[float],
    ends: NDArray[np.float64],
    colour: str,
    style: Any,
    marker: str = "o",
) -> None:
    axes.plot(x, 100 * np.array(values), color=colour, linestyle=style, marker=marker, markersize=5, label=name)
    axes.fill_between(x, 100 * ends[:, 0], 100 * ends[:, 1], color=colour, alpha=0.2, linewidth=0)
