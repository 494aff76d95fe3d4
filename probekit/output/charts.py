"""Charts as matplotlib figures, and a figure as SVG that follows the page's colours.

Every colour of a chart is one of `PALETTE`; in the SVG it becomes `var(--chart-NAME, LIGHT)`, so that the page can
darken it and a saved file is light everywhere. Text stays text: it can be searched, and shows names that matplotlib has
no glyphs for.
"""

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from probekit.output.document import percent

PALETTE: dict[str, tuple[str, str]] = {  # name: on a light page, on a dark one
    "ink": ("#1c1e21", "#e4e6eb"),
    "muted": ("#63686f", "#9ba1a9"),
    "grid": ("#d9dce1", "#3a3e45"),
    "baseline": ("#868d96", "#767c85"),
    # Okabe and Ito's (2008), the purple a little darker: every mark has a contrast of 3 on its page.
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#d55e00", "#f08030"),
    "green": ("#009e73", "#35cda0"),
    "purple": ("#c871a3", "#dc8fba"),
}
LIGHT = {name: colours[0] for name, colours in PALETTE.items()}
SERIES = [LIGHT[name] for name in ("blue", "orange", "green", "purple", "ink")]
DASHES = ["-", "--", ":", "-."]  # with the colours: so many lines can be told apart
WIDTH = 4.2  # inches: 403 px, so that its letters stay legible when a phone shrinks it
SIDE = 96  # pixels of an inch in CSS
MAX_NAME = 22  # characters of a name
MAX_COUNTS = 12  # classes up to which a confusion matrix shows its counts
TINT = 0.5  # of the fullest cell: numbers keep a contrast of 4.5 on it, on light pages and on dark ones
MAX_TICKS = 60  # classes up to which each has a tick
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,  # a dollar sign in a name starts no formula
}
SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
FONT = re.compile(r"'DejaVu Sans'[^;]*")
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
Line = tuple[str, Sequence[float], Sequence[float]]  # name, x, y
ACROSS = 4  # charts in a row
WIDE, HIGH = 2.3, 2.1  # inches of each
LEGEND = 0.4  # inches
TEXT = 7.5  # points
ROOM = 0.06  # of an axis, beyond its levels


def to_svg(figure: Figure, key: str) -> str:
    """An SVG element for a page, of a figure in the colours of `PALETTE`; the same figure and key give the same text.

    `key` is unique on the page: it keeps the ids of several figures apart.
    """
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts of its own
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(stream.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):  # a style would reach the whole page
                parent.remove(child)
    for element in root.iter():
        _adapt(element, key)
    width, height = (round(inches * SIDE) for inches in figure.get_size_inches())
    root.attrib.update({"width": str(width), "height": str(height), "style": "stroke-linejoin:round"})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, key: str) -> None:
    """Ids of this figure's own, colours that follow the page, fonts that every system has."""
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{key}.{value}")
        elif name == LINK and value.startswith("#"):
            element.set(name, f"#{key}.{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{key}."))
        if name in ("style", "fill", "stroke"):
            element.set(
                name,
                FONT.sub(
                    "system-ui, sans-serif",
                    COLOUR.sub(lambda found: VARIABLES.get(found[0], found[0]), element.attrib[name]),
                ),
            )


VARIABLES = {light: f"var(--chart-{name}, {light})" for name, light in LIGHT.items()}


def draw_bars(rows: Sequence[Mapping[str, Any]], *, chance: float | None) -> Figure:
    """Accuracies with intervals, one bar a row of {"name", "kind", "accuracy", "ci"}; `chance` is a dashed line."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(0.3 * len(rows) + 0.75)
        values = 100 * np.array([row["accuracy"] for row in rows])
        ends = 100 * np.array([row["ci"] or [row["accuracy"]] * 2 for row in rows])
        colours = [LIGHT["blue"] if row["kind"] == "encoder" else LIGHT["baseline"] for row in rows]
        spread = np.abs(ends.T - values)
        axes.barh(range(len(rows)), values, xerr=spread, color=colours, capsize=2, height=0.7, ecolor=LIGHT["ink"])
        for i, row in enumerate(rows):
            axes.text(101.5, i, percent(row["accuracy"]).text, va="center")
        if chance is not None:
            axes.axvline(100 * chance, color=LIGHT["ink"], linestyle="--", linewidth=1)
        axes.set(xlim=(0, 100), xlabel="test accuracy, %")
        axes.set_yticks(range(len(rows)), [_short(row["name"]) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
    return figure


def draw_confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts `[K][K]` with the truth in rows, tinted by the share of the true class."""
    table = np.array(counts)
    k = len(table)
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    side = float(np.clip(0.17 * k, 2.6, 12))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side + 2.0, side + 0.8), layout="constrained")
        axes = figure.add_subplot()
        if k <= MAX_COUNTS:
            for (i, j), share in np.ndenumerate(shares):
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=LIGHT["blue"], alpha=TINT * float(share)))
                axes.text(j, i, str(table[i, j]), ha="center", va="center", fontsize=8)
        else:
            tint = np.broadcast_to(to_rgb(LIGHT["blue"]), (k, k, 3))
            axes.imshow(np.concatenate([tint, shares[..., None]], axis=2), interpolation="none")
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), aspect="equal", xlabel="predicted class")
        ticks = range(0, k, -(-k // MAX_TICKS))
        axes.set_xticks(ticks, [str(i) for i in ticks])
        axes.set_yticks(ticks, [str(i) if classes[i] == str(i) else f"{_short(classes[i])}  {i}" for i in ticks])
        axes.grid(visible=False)
        axes.tick_params(length=0, labelsize=8 if k <= 30 else 6)
    return figure


def draw_losses(lines: Sequence[Mapping[str, float]], names: Sequence[str]) -> Figure:
    """One panel a loss, each with a scale of its own, over epochs."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.35 * len(names) + 0.4), layout="constrained")
        for i, name in enumerate(names):
            axes = figure.add_subplot(len(names), 1, i + 1)
            pairs = [(line["epoch"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*pairs, strict=True), color=SERIES[i % len(SERIES)], marker="." if len(pairs) < 3 else None)
            axes.set_title(_short(name), loc="left")
            if i + 1 == len(names):
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
    """Lines over one axis, with a legend; `reference` is where a dashed line is, and lines named in `grey` stand back.

    `bands` has intervals by a line's name, one at each of its points.
    """
    scale = 100 if percents else 1
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(3.0 + 0.16 * len(lines))
        coloured = [name for name, _, _ in lines if name not in grey]
        for name, xs, ys in lines:
            i = coloured.index(name) if name in coloured else -1
            colour = SERIES[i % len(SERIES)] if i >= 0 else LIGHT["baseline"]
            dash = (
                DASHES[i // len(SERIES) % len(DASHES)] if i >= 0 else DASHES[len(grey) and list(grey).index(name) % 4]
            )
            values = scale * np.asarray(ys, dtype=float)
            axes.plot(xs, values, label=_short(name, 44), color=colour, linestyle=dash, linewidth=1.4, marker=marker)
            if bands.get(name):
                low, high = scale * np.asarray(bands[name], dtype=float).T
                axes.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
        elif all(float(value).is_integer() for _, xs, _ in lines for value in xs):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if reference is not None:
            axes.axhline(scale * reference, color=LIGHT["muted"], linestyle="--", linewidth=1)
        axes.set(xlabel=x, ylabel=y)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(
                lambda value, _: f"{value:g}"
            )  # the default writes formulas, which STYLE turns off
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
        if percents:
            axes.set_ylim(0, 100)
        figure.legend(loc="outside lower left", ncols=1 if any(len(name) > 18 for name, _, _ in lines) else 2)
    return figure


def draw_differences(rows: Sequence[tuple[str, float, Sequence[float]]]) -> Figure:
    """Differences in percentage points, with intervals, around a line at zero: (name, difference, ends)."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(0.3 * len(rows) + 0.8)
        for i, (_, difference, ends) in enumerate(rows):
            clear = ends[0] > 0 or ends[1] < 0
            colour = LIGHT["blue"] if clear else LIGHT["muted"]
            axes.plot([100 * end for end in ends], [i, i], color=colour, linewidth=2)
            axes.plot([100 * difference], [i], "o", color=colour, markersize=5)
        axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
        axes.set(xlabel="difference, percentage points", ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [_short(name, 34) for name, _, _ in rows])
        axes.grid(visible=False, axis="y")
    return figure


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _short(name: str, most: int = MAX_NAME) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


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
