"""Charts as matplotlib figures, in the colours of `PALETTE`, as wide as a column of a paper or as two."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from probekit.output.document import percent
from probekit.output.style import COLUMN, DASHES, LIGHT, LINE, PAGE, SERIES, STYLE, without_path

BAR = 0.16  # inches of a bar
MAX_NAME = 22  # characters of a name
MAX_LINE = 16  # of a line of it at the end of a curve
MAX_COUNTS = 12  # classes up to which a confusion matrix shows its counts
TINT = 0.5  # of the fullest cell: numbers keep a contrast of 4.5 on it, on light pages and on dark ones
MAX_TICKS = 60  # classes up to which each has a tick
ACROSS = 4  # charts in a row
HIGH = 1.6  # inches of each
LEGEND = 0.4  # inches
ROOM = 0.06  # of an axis, beyond its levels
Line = tuple[str, Sequence[float], Sequence[float]]  # name, x, y


def draw_bars(rows: Sequence[Mapping[str, Any]], *, chance: float | None, x: str = "test accuracy, %") -> Figure:
    """Shares with intervals, one bar a row of {"name", "kind", "accuracy", "ci"}; `chance` is a dashed line.

    Rows may have the same of class factors, {"factors": {name: {"accuracy", "ci"}}}: each then has bars of its own
    below, under its name.
    """
    factors = list(dict.fromkeys(name for row in rows for name in row.get("factors", {})))
    groups = [("" if not factors else "class", rows)]
    groups += [
        (name, [row | row["factors"][name] for row in rows if name in row.get("factors", {})]) for name in factors
    ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 0.55 + BAR * sum(len(own) + bool(name) for name, own in groups)))
        figure.set_layout_engine("constrained")
        axes, y, names = figure.add_subplot(), 0, []
        for title, own in groups:
            if title:
                axes.text(0, y, _short(title), weight="bold", va="center")
            for place, row in enumerate(own, y + bool(title)):
                _bar(axes, place, row)
                names.append((place, row["name"]))
            if chance is not None and own is rows:
                at = (y - 0.5 + bool(title), y + bool(title) + len(rows) - 0.5)
                axes.plot([100 * chance] * 2, at, color=LIGHT["ink"], linestyle="--", linewidth=1)
            y += len(own) + bool(title)
        axes.set(xlim=(0, 100), ylim=(y - 0.4, -0.6), xlabel=x)
        axes.set_yticks([place for place, _ in names], [_short(name) for _, name in names])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure


def _bar(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    if row["accuracy"] is None:
        axes.text(2, place, "-", va="center")
        return
    value, ends = 100 * row["accuracy"], 100 * np.array(row["ci"] or [row["accuracy"]] * 2)
    colour = LIGHT["blue"] if row["kind"] == "encoder" else LIGHT["baseline"]
    spread = np.abs(ends - value)[:, None]
    axes.barh(place, value, xerr=spread, color=colour, capsize=1.5, height=0.7, ecolor=LIGHT["ink"])
    axes.text(102, place, percent(row["accuracy"]).text, va="center", clip_on=False)


def draw_confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts `[K][K]` with the truth in rows, tinted by the share of the true class."""
    table = np.array(counts)
    k = len(table)
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    width = COLUMN if k <= MAX_COUNTS else PAGE
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 0.72 * width + 0.3), layout="constrained")
        axes = figure.add_subplot()
        if k <= MAX_COUNTS:
            for (i, j), share in np.ndenumerate(shares):
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=LIGHT["blue"], alpha=TINT * float(share)))
                axes.text(j, i, str(table[i, j]), ha="center", va="center")
        else:
            tint = np.broadcast_to(to_rgb(LIGHT["blue"]), (k, k, 3))
            axes.imshow(np.concatenate([tint, shares[..., None]], axis=2), interpolation="none")
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), aspect="equal", xlabel="predicted class")
        ticks = range(0, k, -(-k // MAX_TICKS))
        axes.set_xticks(ticks, [str(i) for i in ticks])
        axes.set_yticks(ticks, [str(i) if classes[i] == str(i) else f"{_short(classes[i])}  {i}" for i in ticks])
        axes.grid(visible=False)
        axes.tick_params(length=0)
    return figure


def draw_losses(lines: Sequence[Mapping[str, float]], names: Sequence[str]) -> Figure:
    """One panel a loss, two in a row, each with a scale of its own, over epochs."""
    across = min(2, len(names))
    down = -(-len(names) // across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 0.85 * down + 0.3), layout="constrained")
        for i, name in enumerate(names):
            axes = figure.add_subplot(down, across, i + 1)
            pairs = [(line["epoch"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*pairs, strict=True), color=SERIES[i % len(SERIES)], marker="." if len(pairs) < 3 else None)
            axes.set_title(_short(name, 28))
            if i + across >= len(names):
                axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return figure


def draw_lines(
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    reference: float | None = None,
    percents: bool = False,
    log: bool = False,
    marker: str | None = None,
    grey: Sequence[str] = (),
    bands: Mapping[str, Sequence[Sequence[float]]] = {},
    log_x: bool = False,
) -> Figure:
    """Lines over one axis, named at their ends; `reference` is where a dashed line is, those in `grey` stand back.

    `bands` has intervals by a line's name, one at each of its points.
    """
    scale = 100 if percents else 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, max(2.2, 0.6 + 1.5 * LINE * len(lines))), layout="constrained")
        axes = figure.add_subplot()
        styles = line_styles([name for name, _, _ in lines], grey)
        for name, xs, ys in lines:
            values = scale * np.asarray(ys, dtype=float)
            axes.plot(xs, values, marker=marker, label=name, **styles[name])  # a name in SVG, no legend
            if bands.get(name):
                low, high = scale * np.asarray(bands[name], dtype=float).T
                axes.fill_between(xs, low, high, color=styles[name]["color"], alpha=0.2, linewidth=0)
        if log_x:
            _log(axes.set_xscale, axes.xaxis)
        elif all(float(value).is_integer() for _, xs, _ in lines for value in xs):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if reference is not None:
            axes.axhline(scale * reference, color=LIGHT["muted"], linestyle="--", linewidth=1)
        axes.set(xlabel=x, ylabel=y)
        if log:
            _log(axes.set_yscale, axes.yaxis)
        if percents:
            axes.set_ylim(0, 100)
        ends = [(name, xs[-1], scale * ys[-1], styles[name]["color"]) for name, xs, ys in lines if len(xs)]
        name_ends(axes, ends, high=figure.get_size_inches()[1] - 0.5)
    return figure


def line_styles(names: Sequence[str], grey: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of lines by name; those in `grey` are grey, and told apart by dashes."""
    found = {}
    for i, name in enumerate(each for each in names if each not in grey):
        found[name] = {"color": SERIES[i % len(SERIES)], "linestyle": DASHES[i // len(SERIES) % len(DASHES)]}
    for i, name in enumerate(each for each in names if each in grey):
        found[name] = {"color": LIGHT["baseline"], "linestyle": DASHES[i % len(DASHES)]}
    return found


def name_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]], *, high: float) -> None:
    """Writes the name of each line beside its end, (name, x, y, colour), as near as there is room; none over another.

    `axes` have their limits already; `high`: their height, about, in inches.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # names move none of them
    ends = [end for end in ends if math.isfinite(end[2])]
    names = ["\n".join(wrap(_short(name, 2 * MAX_LINE), MAX_LINE, break_on_hyphens=False)) for name, *_ in ends]
    apart = LINE * (1 + max([0, *(name.count("\n") for name in names)])) / high
    to_axes = axes.transScale + axes.transLimits
    wanted = [float(np.clip(to_axes.transform((x, y))[1], 0, 1)) for _, x, y, _ in ends]
    for name, (_, x, y, colour), wish, place in zip(names, ends, wanted, spread(wanted, apart), strict=True):
        inner = to_axes.inverted().transform((1.0, wish))
        style: dict[str, Any] = {"color": colour, "linewidth": 0.6, "clip_on": False}
        if abs(to_axes.transform((x, y))[0] - 1) > 0.1:
            axes.plot([x, inner[0]], [y, y], **style)
        axes.plot([1.0, 1.04], [wish, place], transform=axes.transAxes, **style)
        axes.text(1.05, place, name, transform=axes.transAxes, va="center", linespacing=1, color=text_colour(colour))


def text_colour(colour: str) -> str:
    """The colour of letters beside a mark: darker for grey marks, else that of the mark."""
    return LIGHT["muted"] if colour == LIGHT["baseline"] else colour


def spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Places as near to the wanted ones as they can be, in the same order, at least so far apart, none above 1."""
    order = np.argsort(wanted, kind="stable")
    steps = apart * np.arange(len(wanted))
    found = np.empty(len(wanted))
    if len(wanted):
        near = isotonic_regression(np.asarray(wanted)[order] - steps).x + steps
        found[order] = np.minimum(near, 1 - steps[::-1])
    return found.tolist()


def _log(scale: Callable[[str], None], axis: Axis) -> None:
    """A logarithmic axis with plain numbers: the default writes formulas, which `STYLE` turns off."""
    scale("log")
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))


def draw_differences(rows: Sequence[tuple[str, float, Sequence[float]]]) -> Figure:
    """Differences in percentage points, with intervals, around a line at zero: (name, difference, ends)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 0.55 + 0.2 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for i, (_, difference, ends) in enumerate(rows):
            clear = ends[0] > 0 or ends[1] < 0
            colour = LIGHT["blue"] if clear else LIGHT["muted"]
            axes.plot([100 * end for end in ends], [i, i], color=colour, linewidth=1.6)
            axes.plot([100 * difference], [i], "o", color=colour, markersize=4)
        axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
        axes.set(xlabel="difference, percentage points", ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [_short(name, 34) for name, _, _ in rows])
        axes.grid(visible=False, axis="y")
    return figure


def _short(name: str, most: int = MAX_NAME) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in without_path(name))
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def draw_curves(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Small charts in rows of `ACROSS`; a line of one name has one colour in all of them, named once above them.

    One alone has the names at the ends of its lines.

    Each curve has `name`, `parameter`, `unit`, `levels` [L] rising, `chance` [L], a dotted grey line, and `lines`:
    `name`, `kind` ("row" is drawn through, "baseline" dashed) and `points` [L], each a `value` in [0, 1] with its
    interval `ci`, a band; None is a gap.
    """
    styles = _styles(curves)
    across = min(ACROSS, len(curves))
    down = -(-len(curves) // across)
    with matplotlib.rc_context(STYLE):
        width = COLUMN if across <= 2 else PAGE
        figure = Figure(figsize=(width, HIGH * down + (0.6 if len(curves) == 1 else LEGEND)), layout="constrained")
        for number, curve in enumerate(curves):
            _draw(figure.add_subplot(down, across, number + 1), curve, styles, named=number % across == 0)
        if len(curves) == 1:
            _name_curves(figure.axes[0], curves[0], styles)
            return figure
        handles = {h.get_label(): h for axes in figure.axes for h in axes.get_legend_handles_labels()[0]}
        order = [name for name in styles if name in handles]
        figure.legend(
            [handles[name] for name in order], order, loc="outside upper left", ncols=len(order) if width == PAGE else 2
        )
    return figure


def _name_curves(axes: Axes, curve: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]]) -> None:
    ends = []
    for line in curve["lines"]:
        known = [
            (x, p["value"]) for x, p in zip(curve["levels"], line["points"], strict=True) if p["value"] is not None
        ]
        if known:
            ends.append((line["name"], known[-1][0], 100 * known[-1][1], styles[line["name"]]["color"]))
    name_ends(axes, ends, high=HIGH)


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
        axes.plot(levels, values, label=line["name"], marker="o", markersize=2.2, **style)
        axes.fill_between(levels, ends[:, 0], ends[:, 1], color=style["color"], alpha=0.15, linewidth=0)
        axes.vlines(levels, ends[:, 0], ends[:, 1], color=style["color"], linewidth=0.6)  # also one by itself
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
    axes.set_title(curve["name"])
    if named:
        axes.set_ylabel("test accuracy, %")


def _around(levels: Sequence[float], *, log: bool) -> tuple[float, float]:
    """The ends of an axis, also where nothing is drawn yet."""
    low, high = (math.log(end) if log else end for end in (levels[0], levels[-1]))
    away = ROOM * (high - low)
    first, last = low - away, high + away
    return (math.exp(first), math.exp(last)) if log else (first, last)
