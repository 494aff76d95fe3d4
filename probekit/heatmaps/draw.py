"""Pictures of maps: the only place that scales them. Arrays in, PNG out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.rows import Row
from probekit.heatmaps.truth import Truth
from probekit.picture import encoder_name, save_png
from probekit.show import COLOURS

PER_CLASS = 2  # rows of a class
MAX_CLASSES = 6
CELL = 1.15  # inches
LETTERS = 14  # an inch of the title holds
SIGNED, UNSIGNED = "RdBu_r", "magma"
OUTLINE = "#00c040"


def draw_gallery(result: Mapping[str, Any], truth: Truth, rows: Sequence[Row], out: Path) -> Path:
    """A grid: image, evidence, and each look, two images a class; the scale of each map stands below it.

    Blue is below zero, red above, each map scaled by its own largest absolute value; maps without a sign from black to
    yellow, from 0. Green outlines: the evidence of the map's factor, or of all.

    Args:
        result: For the title: run, data, target.
        truth: Images, labels, masks.
        rows: Of the trained encoder.
        out: The PNG; see `picture.save_png`.
    """
    rows = [row for row in rows if not row.name.startswith("-")]  # colours show both signs
    shown = _choose(truth)
    evidence = {name: mask for name, mask in truth.masks.items() if name.startswith(EVIDENCE)} or truth.masks
    columns = 1 + bool(evidence) + len(rows)
    figure = Figure(figsize=(CELL * columns + 1.2, 1.14 * CELL * len(shown) + 1), layout="constrained")
    key = "orange, blue: evidence; green: its outline; " if evidence else ""
    key += "maps red above zero, blue below, or from black up; each by its own scale, printed under it"
    title = f"{encoder_name(result)} on {result['data']}: where it looks"
    width = round(LETTERS * figure.get_figwidth())
    figure.suptitle(_plain("\n".join(fill(line, width) for line in (title, key))), fontsize=8)
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for line, (i, name) in zip(axes, shown, strict=True):
        _show_image(line[0], truth.split.images[i])
        line[0].set_ylabel(_plain(name), fontsize=7, rotation=0, ha="right", va="center")
        if evidence:
            _show_image(line[1], truth.split.images[i])
            _tint(line[1], [mask[i] for mask in evidence.values()])
        for cell, row in zip(line[1 + bool(evidence) :], rows, strict=True):
            asked = [mask[i] for name, mask in evidence.items() if row.target in ("", name.removeprefix(EVIDENCE))]
            _show_map(cell, row.maps[i], row.signed, truth.split.images.shape[1:3], asked)
    titles = ["image", *(["evidence"] if evidence else []), *(f"{r.name}\n{r.target}".strip() for r in rows)]
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(_plain(title), fontsize=7)
    return save_png(figure, out, dpi=130)


def draw_curves(result: Mapping[str, Any], out: Path) -> Path:
    """The mean counterfactual swap curves, a panel a class factor: looks in colour, baselines grey, the ceiling dashed.

    Args:
        result: results/heatmap.json.
        out: The PNG; see `picture.save_png`.
    """
    factors = list(dict.fromkeys(name for row in result["rows"] for name in row["swap"]))
    figure = Figure(figsize=(5.2 * len(factors), 4.4), layout="constrained")
    panels = figure.subplots(1, len(factors), squeeze=False)[0]
    for axes, factor in zip(panels, factors, strict=True):
        for row in result["rows"]:
            curve = row["swap"].get(factor)
            if curve and curve["x"] and row["encoder"] != "random":
                style = {
                    "look": {"linewidth": 1.8, "label": row["name"]},
                    "baseline": {"color": "0.7", "linewidth": 1, "zorder": 1, "label": "baselines"},
                    "ceiling": {"color": "black", "linestyle": "--", "label": "ceiling"},
                }[row["kind"]]
                axes.plot(curve["x"], curve["y"], **style)
        axes.set(title=_plain(factor), xlabel="share of pixels, in the map's order", xlim=(0, 1))
        axes.axhline(0, color="0.85", zorder=0)
        if handles := dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True)):  # one of the baselines for all
            axes.legend(handles.values(), handles, fontsize=8)
        else:
            axes.text(0.5, 0.5, "the probe does not tell these pairs apart", ha="center", fontsize=8)
    panels[0].set_ylabel("target that is left (1: the image, 0: its counterfactual)")
    figure.suptitle(
        _plain(f"{encoder_name(result)}: swapped into the counterfactual, highest pixels first"), fontsize=10
    )
    return save_png(figure, out, dpi=130)


def _choose(truth: Truth) -> list[tuple[int, str]]:
    """The first images of each class, with the class's name on the first."""
    labels = truth.split.labels
    if labels is None:
        return [(i, "") for i in range(min(len(truth.split.images), PER_CLASS * MAX_CLASSES))]
    chosen = []
    for k in np.unique(labels)[:MAX_CLASSES]:
        for place, i in enumerate(np.flatnonzero(labels == k)[:PER_CLASS]):
            chosen.append((int(i), truth.info.classes[k].replace(", ", "\n") if place == 0 else ""))
    return chosen


def _show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _tint(axes: Axes, masks: Sequence[NDArray[np.bool_]]) -> None:
    """Each mask in a colour of its own."""
    for mask, colour in zip(masks, COLOURS, strict=False):
        layer = np.zeros((*mask.shape, 4))
        layer[mask] = (*(value / 255 for value in colour), 1)
        axes.imshow(layer, interpolation="nearest")


def _show_map(
    axes: Axes, values: NDArray[np.float32], signed: bool, size: tuple[int, int], masks: Sequence[NDArray[np.bool_]]
) -> None:
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    most = float(np.abs(values).max()) or 1.0
    low = -most if signed else 0.0
    axes.imshow(
        values, cmap=SIGNED if signed else UNSIGNED, vmin=low, vmax=most, extent=extent, interpolation="bilinear"
    )
    for mask in masks:
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.6)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"{'±' if signed else '0 to '}{_number(most)}", fontsize=6, labelpad=1)


def _number(value: float) -> str:
    """Two digits, and an exponent only for the very large and the very small."""
    return f"{value:.0f}" if 10 <= value < 1e5 else f"{value:.2g}"


def _plain(text: str) -> str:
    """Keeps a dollar sign from starting a formula."""
    return text.replace("$", r"\$")
