"""Curves over a parameter, one small chart each, as a matplotlib figure."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from probekit.output.charts import DASHES, LIGHT, SERIES, STYLE

ACROSS = 4  # charts in a row
WIDE, HIGH = 2.3, 2.1  # inches of each
LEGEND = 0.4  # inches
TEXT = 7.5  # points
ROOM = 0.06  # of an axis, beyond its levels


def draw_curves(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Small charts in rows of `ACROSS`; a line of one name has one colour in all of them.

    Each curve has `name`, `parameter`, `unit`, `levels` [L] rising, `chance` [L], a dotted grey line, and `lines`:
    `name`, `kind` ("row" is drawn through, "baseline" dashed) and `points` [L], each a `value` in [0, 1] with its
    interval `ci`, a band; None is a gap.
    """
    styles = _styles(curves)
    across = min(ACROSS, len(curves))
    down = -(-len(curves) // across)
    with matplotlib.rc_context({**STYLE, "font.size": TEXT, "axes.titlesize": TEXT + 1, "legend.fontsize": TEXT + 0.5}):
        figure = Figure(figsize=(max(4.2, WIDE * across), HIGH * down + LEGEND), layout="constrained")
        for number, curve in enumerate(curves):
            _draw(figure.add_subplot(down, across, number + 1), curve, styles, named=number % across == 0)
        handles = {h.get_label(): h for axes in figure.axes for h in axes.get_legend_handles_labels()[0]}
        order = [name for name in styles if name in handles]
        figure.legend([handles[name] for name in order], order, loc="outside lower center", ncols=max(1, len(order)))
    return figure


def geometric(levels: Sequence[float]) -> bool:
    """Whether levels are spread more evenly by their ratios than by their differences, as 1, 2, 4, 8 are."""
    if min(levels) <= 0 or len(levels) < 3:
        return False
    ratios, steps = ([b - a for a, b in pairwise(row)] for row in (list(map(math.log, levels)), levels))
    return max(ratios) / min(ratios) < max(steps) / min(steps)


def _styles(curves: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Colour and dashes by a line's name: rows first, then baselines, in the order of appearance."""
    found: dict[str, dict[str, Any]] = {}
    for kind, dash in (("row", "-"), ("baseline", DASHES[1])):
        for name in dict.fromkeys(line["name"] for curve in curves for line in curve["lines"] if line["kind"] == kind):
            again = len(found) >= len(SERIES)
            found[name] = {"color": SERIES[len(found) % len(SERIES)], "linestyle": DASHES[3] if again else dash}
    return found


def _draw(axes: Axes, curve: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]], *, named: bool) -> None:
    levels = np.asarray(curve["levels"], dtype=float)
    for line in curve["lines"]:
        style, points = styles[line["name"]], line["points"]
        values = 100 * np.array([math.nan if p["value"] is None else p["value"] for p in points])
        ends = 100 * np.array([[math.nan] * 2 if p["ci"] is None else p["ci"] for p in points])
        axes.plot(levels, values, label=line["name"], linewidth=1.3, marker="o", markersize=2.5, **style)
        axes.fill_between(levels, ends[:, 0], ends[:, 1], color=style["color"], alpha=0.15, linewidth=0)
        axes.vlines(
            levels, ends[:, 0], ends[:, 1], color=style["color"], alpha=0.4, linewidth=0.8
        )  # also one by itself
    chance = [math.nan if value is None else 100 * value for value in curve["chance"]]
    axes.plot(levels, chance, color=LIGHT["muted"], linestyle=":", linewidth=1)
    log = geometric(curve["levels"])
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.set_xlim(*_around(curve["levels"], log=log))
    unit = f", {curve['unit']}" if curve["unit"] else ""
    axes.set(ylim=(0, 102), xlabel=f"{curve['parameter']}{unit}")
    axes.set_title(curve["name"], loc="left")
    if named:
        axes.set_ylabel("test accuracy, %")


def _around(levels: Sequence[float], *, log: bool) -> tuple[float, float]:
    """The ends of an axis, also where nothing is drawn yet."""
    low, high = (math.log(end) if log else end for end in (levels[0], levels[-1]))
    away = ROOM * (high - low)
    first, last = low - away, high + away
    return (math.exp(first), math.exp(last)) if log else (first, last)
