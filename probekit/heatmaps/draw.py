"""Pictures of maps: the only place that scales them. Arrays in, figure out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from probekit.data.show import COLOURS
from probekit.data.truth import Truth
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.rows import Row
from probekit.output.mosaic import Mosaic
from probekit.output.png import encoder_name

PER_CLASS = 2  # rows of a class
MAX_CLASSES = 6
CELL, NAMES = 1.15, 1.1  # inches: a cell, the names of classes
SIGNED, UNSIGNED = "RdBu_r", "magma"
OUTLINE = "#00c040"


def draw_gallery(result: Mapping[str, Any], truth: Truth, rows: Sequence[Row]) -> Figure:
    """A grid: image, evidence, and each map, two images a class; the scale of each map stands below it.

    Blue is below zero, red above, each map scaled by its own largest absolute value; maps without a sign from black to
    yellow, from 0. Green outlines: the evidence of the map's factor, or of all.

    Args:
        result: For the title: run, data, target.
        truth: Images, labels, masks.
        rows: Rows of the trained encoder.
    """
    rows = [row for row in rows if not row.name.startswith("-")]  # colours show both signs
    shown = _choose(truth)
    evidence = {name: mask for name, mask in truth.masks.items() if name.startswith(EVIDENCE)} or truth.masks
    columns = 1 + bool(evidence) + len(rows)
    key = "orange, blue: evidence; green: its outline; " if evidence else ""
    key += "maps red above zero, blue below, or from black up; each by its own scale, printed under it"
    text = f"{encoder_name(result)} on {result['data']}: where it looks\n{key}"
    mosaic = Mosaic(len(shown), columns, cell=CELL, title=text, head=0.35, left=NAMES, below=0.14 * CELL)
    titles = ["image", *(["evidence"] if evidence else []), *(f"{r.name}\n{r.target}".strip() for r in rows)]
    for column, title in enumerate(titles):
        mosaic.write(column + 0.5, 0, title, size=7)
    size = truth.split.images.shape[1:3]
    for line, (i, name) in enumerate(shown):
        mosaic.write(0, line + 0.45, name, size=7, ha="right", va="center")
        for column in range(1 + bool(evidence)):
            image = truth.split.images[i]
            mosaic.show(line, column, image, size, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        if evidence:
            _tint(mosaic, line, [mask[i] for mask in evidence.values()])
        for column, row in enumerate(rows, 1 + bool(evidence)):
            asked = [mask[i] for name, mask in evidence.items() if row.target in ("", name.removeprefix(EVIDENCE))]
            _show_map(mosaic, line, column, row.maps[i], row.signed, asked, size)
    return mosaic.figure


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


def _tint(mosaic: Mosaic, line: int, masks: Sequence[NDArray[np.bool_]]) -> None:
    """Each mask in a colour of its own, over the second picture of a line."""
    for mask, colour in zip(masks, COLOURS, strict=False):
        layer = np.zeros((*mask.shape, 4))
        layer[mask] = (*(value / 255 for value in colour), 1)
        mosaic.show(line, 1, layer, mask.shape, interpolation="nearest")


def _show_map(
    mosaic: Mosaic,
    line: int,
    column: int,
    values: NDArray[np.float32],
    signed: bool,
    masks: Sequence[NDArray[np.bool_]],
    size: tuple[int, int],
) -> None:
    most = float(np.abs(values).max()) or 1.0
    low, colours = (-most, SIGNED) if signed else (0.0, UNSIGNED)
    mosaic.show(line, column, values, size, cmap=colours, vmin=low, vmax=most, interpolation="bilinear")
    left, right, bottom, top = mosaic.extent(line, column, size)
    for mask in masks:
        if mask.any() and not mask.all():
            x = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
            y = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0]
            mosaic.axes.contour(x, y, mask, levels=[0.5], colors=OUTLINE, linewidths=0.6)
    scale = f"{'±' if signed else '0 to '}{_number(most)}"
    mosaic.write(column + 0.5, mosaic.below(line), scale, size=6, va="top")


def _number(value: float) -> str:
    """Two digits, and an exponent only for the very large and the very small."""
    return f"{value:.0f}" if 10 <= value < 1e5 else f"{value:.2g}"
