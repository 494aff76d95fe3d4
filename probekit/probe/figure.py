"""The picture of a probe: accuracies with intervals, and where the encoder errs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probekit.output.png import save_png
from probekit.probe.table import encoders_first, percent

ENCODER, FLOOR, CHANCE = "#1f77b4", "#b0b0b0", "#d62728"
MAX_COUNTS = 12  # classes up to which the cells show their counts
MAX_NAME = 32  # characters of a class name
MAX_TICKS = 100  # classes up to which each has its name; beyond, every second, third, ...


def draw_probe(result: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG: one bar a row with its 95 % interval, and the confusion matrix of the first row.

    Args:
        result: {"run", "data", "protocol", "rows"}, rows as `protocol.probe` gives them.
        path: The PNG; see `picture.save_png`.
    """
    rows = encoders_first(result["rows"])
    side = float(np.clip(0.2 * len(rows[0]["classes"]), 3.5, 14))  # inches of the confusion matrix
    bars = 0.45 * len(rows) + 1
    height = max(bars, side + 1)
    figure = Figure(figsize=(side + 10.5, height + 0.5), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(6, side + 3.5), height_ratios=(bars, height - bars + 0.01))
    _draw_bars(figure.add_subplot(grid[0, 0]), rows)
    _draw_confusion(figure.add_subplot(grid[:, 1]), rows[0])
    figure.suptitle(f"{plain(result['run'])} on {plain(result['data'])}, protocol {result['protocol']}")
    save_png(figure, path, dpi=120)


def _draw_bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    values = 100 * np.array([row["accuracy"] for row in rows])
    ends = 100 * np.array([row["ci"] or [row["accuracy"]] * 2 for row in rows])
    colours = [ENCODER if row["kind"] == "encoder" else FLOOR for row in rows]
    axes.barh(range(len(rows)), values, xerr=np.abs(ends.T - values), color=colours, capsize=3)
    for i, row in enumerate(rows):
        axes.text(101.5, i, percent(row["accuracy"]), va="center")
        if row["name"] == "chance":
            axes.axvline(values[i], color=CHANCE, linestyle="--")
    axes.set(xlim=(0, 100), xlabel="test accuracy, % (whiskers: 95 % Wilson intervals; dashed: chance)")
    axes.set_yticks(range(len(rows)), [plain(row["name"]) for row in rows])
    axes.invert_yaxis()


def _draw_confusion(axes: Axes, row: Mapping[str, Any]) -> None:
    """Names stand on the left only; their numbers stand on both sides."""
    counts = np.array(row["confusion"])
    k = len(counts)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if k <= MAX_COUNTS else 7
    ticks = range(0, k, -(-k // MAX_TICKS))
    axes.set_xticks(ticks, [str(i) for i in ticks], fontsize=size)
    names = [plain(name) for name in row["classes"]]
    axes.set_yticks(ticks, [str(i) if names[i] == str(i) else f"{names[i]}  {i}" for i in ticks], fontsize=size)
    axes.set(xlabel="predicted class", title=f"{plain(row['name'])}: true class (rows) and prediction")
    if k <= MAX_COUNTS:
        for (i, j), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
    axes.figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)


def plain(name: str) -> str:
    """Shortens a name, and keeps a dollar sign from starting a formula."""
    short = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    return short.replace("$", r"\$")
