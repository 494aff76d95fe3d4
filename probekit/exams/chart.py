"""The one chart of an exam: a pair of each item, thresholds, curves, layers, and what is followed in conflict."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from probekit.exams.draw import Frame, drawer, pairs
from probekit.exams.items import BASE_SIZE, ITEMS, LOCAL, blind
from probekit.exams.psychometric import Fit
from probekit.exams.tables import READ, best, called, easiest, head, output, own, px_text
from probekit.measurement import Result, encoder_row
from probekit.output.charts import MAX_LINE, name_ends, text_colour
from probekit.output.pictures import encoder_name, entitle
from probekit.output.style import LIGHT, LINE, PAGE, SERIES, STYLE

BESIDE = {  # who stands beside encoders in the panel of thresholds, and in which colour
    "random weights": "baseline",
    "patch bag": "baseline",
    "raw pixels": "baseline",
    "known template": "muted",
    "ideal reader": "ink",
}
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
CURVES = {"landolt": "-", "landolt-mirror": "--"}  # items whose curves are drawn
CURVE_NAMES = {"landolt": "gap", "landolt-mirror": "mirrored"}
BEST = "best: "
MOST_NAME = 26  # characters
ACROSS = 6  # pairs in a row
PAIR, PANEL = 1.0, 2.0  # inches: a row of pairs, a panel right of the thresholds

End = tuple[str, float, float, str]  # name, x, y, colour
Line = tuple[str, str, Mapping[str, Any]]  # name, colour, what is read


def draw_exam(results: Sequence[Result]) -> Figure:
    """Draws the results of one encoder, or of several that sat the same exam."""
    local = [name for name, item in results[0]["items"].items() if item["px"]]
    conflict = any(encoder_row(result)["conflict"] for result in results)
    layered = [result for result in results if result["items"] and len(encoder_row(result)["strides"]) > 1]
    beside: list[Callable[[Axes], None]] = []  # one over the other, right of the thresholds
    beside += [partial(_draw_curves, results=results)] if CURVES.keys() & set(local) else []
    beside += [partial(_draw_conflict, results=results)] if conflict else []
    lines = sum(1.4 + len(_threshold_lines(results, item)) for item in local)
    heights = [PAIR * -(-len(results[0]["items"]) // ACROSS)]
    heights += [max(0.5 + LINE * lines, PANEL * len(beside))] * bool(local or beside)
    heights += [0.5 + 0.17 * len(result["items"]) for result in layered]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, sum(heights) + 0.4), layout="constrained")
        grid = figure.add_gridspec(len(heights), 1, height_ratios=[max(height, 0.01) for height in heights])
        places = iter([grid[number] for number in range(len(heights))])
        entitle(figure, _title(results))
        _draw_pairs(figure, next(places), results[0])
        if local or beside:
            wide = next(places).subgridspec(
                1, 2 if local and beside else 1, width_ratios=[5, 4][: 1 + bool(local and beside)]
            )
            if local:
                _draw_thresholds(figure.add_subplot(wide[0]), results, local)
            if beside:
                high = wide[-1].subgridspec(len(beside), 1)
                for number, draw in enumerate(beside):
                    draw(figure.add_subplot(high[number]))
        for place, result in zip(places, layered, strict=True):
            _draw_layers(figure.add_subplot(place), result)
    return figure


def _title(results: Sequence[Result]) -> str:
    names = ", ".join(map(encoder_name, results))
    first = results[0]
    return f"Exam of {names}: {first['data']}, {first['protocol']}"


def _draw_pairs(figure: Figure, place: SubplotSpec, result: Result) -> None:
    """One pair of each item at its easiest level, as it is seen: at this noise."""
    items = list(result["items"])
    if not items:
        return
    parts = place.subgridspec(-(-len(items) // ACROSS), ACROSS, wspace=0.06)
    frame = Frame(BASE_SIZE, result["noise"])
    for number, name in enumerate(items):
        item, axes = ITEMS[name], figure.add_subplot(parts[number])
        level = len(item.levels) - 1
        shown = pairs(item, drawer(item, level, frame), level, seed=0, split="shown", n=1)[0]
        between = np.full((BASE_SIZE, 3), 255, np.uint8)
        axes.imshow(np.concatenate([shown[0], between, shown[1]], axis=1), cmap="gray", vmin=0, vmax=255)
        proved = "local" if item.kind == LOCAL else f"whole, certified {blind(result['size'])}"
        axes.set_title(f"{name}\n{proved}", pad=2)
        axes.set_axis_off()


def _threshold_lines(results: Sequence[Result], item: str) -> list[Line]:
    """Each encoder's embedding and best layer, then who stands beside them."""
    found: list[Line] = []
    for number, result in enumerate(results):
        row, colour = encoder_row(result), SERIES[number % len(SERIES)]
        if (read := head(row, item)) is not None:
            found.append((f"{_name(result)}, {called(row)[-MOST_NAME:]}", colour, read))
            top = best(row, item)
            if output(top) != output(read):
                found.append((f"{BEST}{' '.join(output(top))[-MOST_NAME:]}", colour, top))
    for row in results[0]["rows"]:
        if row["name"] in BESIDE and (read := head(row, item)) is not None:
            whose = f", {_name(results[0])}" if row["strides"] and len(results) > 1 else ""
            found.append((f"{row['name']}{whose}", LIGHT[BESIDE[row["name"]]], read))
    return found


def _name(result: Result) -> str:
    return str(result["run"])[:MOST_NAME]


def _draw_thresholds(axes: Axes, results: Sequence[Result], items: Sequence[str]) -> None:
    y, labels = 0.0, []
    for item in items:
        about = results[0]["items"][item]["about"]
        axes.text(0.0, y, about, transform=axes.get_yaxis_transform(), weight="bold", va="center")
        y += 1
        for name, colour, read in _threshold_lines(results, item):
            found = read["threshold"]["readable"]
            thin = name.startswith(BEST)  # and its mark hollow: a colour of less contrast would not be seen
            marker = {">": ">", "<": "<"}.get(found["beyond"], "o")
            if not found["beyond"]:
                axes.plot(found["ci"], [y, y], color=colour, linewidth=0.8 if thin else 1.6, solid_capstyle="butt")
            axes.plot(found["value"], y, marker, color=colour, fillstyle="none" if thin else "full")
            axes.annotate(
                f"{px_text(found)} {read['regimen']}".strip(),
                (found["value"] if found["beyond"] else found["ci"][1], y),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=text_colour(colour),
            )
            labels.append((y, name))
            y += 1
        y += 0.4
    _octaves(axes)
    axes.margins(x=0.12)
    axes.set_ylim(y - 0.4, -0.8)
    axes.set_yticks([at for at, _ in labels], [name for _, name in labels])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"px of {results[0]['size']} px images, finer to the left")
    axes.set_title("Acuity: 75 % right; arrows: beyond the levels; easy, all: trained on")


def _octaves(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_curves(axes: Axes, results: Sequence[Result]) -> None:
    """Areas by level, dots, and the fits, of the embeddings; of one encoder of its best layer, too."""
    ends = []
    for number, result in enumerate(results):
        row, colour = encoder_row(result), SERIES[number % len(SERIES)]
        for item, dash in CURVES.items():
            if (read := head(row, item)) is None:
                continue
            px, whose = result["items"][item]["px"], CURVE_NAMES[item]
            name = f"{_name(result)}, {whose}" if len(results) > 1 else f"{called(row)[-MAX_LINE:]}, {whose}"
            ends.append(_curve(axes, px, read, colour, dash, name))
            top = best(row, item)
            if len(results) == 1 and output(top) != output(read):
                ends.append(_curve(axes, px, top, SERIES[4], dash, f"{output(top)[0][-MAX_LINE:]}, {whose}"))
    axes.axhline(75, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.axhline(50, color=LIGHT["baseline"], linewidth=0.8)
    _octaves(axes)
    axes.set(ylim=(40, 103), xlabel="gap, px", ylabel="right, %", title="Curves of the ring's gap")
    name_ends(axes, ends, high=PANEL - 0.6)


def _curve(axes: Axes, px: Sequence[float], read: Mapping[str, Any], colour: str, dash: str, name: str) -> End:
    fit = Fit(*(np.array(read["fit"][part]) for part in ("mu", "sd", "lapse")))
    fine = np.geomspace(px[0], px[-1], 80)
    axes.plot(fine, 100 * fit.curve(fine), color=colour, linestyle=dash)
    axes.plot(px, [100 * area for area in read["areas"]], "o", color=colour, markersize=2.5)
    return name, px[-1], 100 * float(fit.curve(fine)[-1]), colour


def _draw_conflict(axes: Axes, results: Sequence[Result]) -> None:
    radii, ends = results[0]["radii"], []
    for number, result in enumerate(results):
        told, colour = own(encoder_row(result)["conflict"]), SERIES[number % len(SERIES)]
        assert told is not None
        read = np.minimum(told["whole"], told["element"]) >= READ  # what is not read cannot be followed
        shares = np.where(read, 100 * np.array(told["follows"]), np.nan)
        axes.plot(radii, shares, "o-", color=colour)
        name = _name(result) if len(results) > 1 else "follows the whole"
        ends.append((name, radii[-1], float(shares[-1]), colour))
        for x, y, interval in zip(radii, shares, told["ci"], strict=True):
            if not np.isnan(y) and interval is not None:
                axes.plot([x, x], 100 * np.array(interval), color=colour, linewidth=1)
        if len(results) == 1:
            for cue, noun, mark, shade in (("whole", "whole", "s:", "green"), ("element", "parts", "^:", "orange")):
                alone = 100 * np.array(told[cue])
                axes.plot(radii, alone, mark, color=LIGHT[shade])
                ends.append((f"{noun} alone, right", radii[-1], float(alone[-1]), LIGHT[shade]))
    axes.axhline(50, color=LIGHT["baseline"], linewidth=0.8)
    axes.set_xticks(radii, [f"{radius:g}" for radius in radii])
    axes.set(
        ylim=(-4, 104),
        xlabel="radius of the parts, px",
        ylabel="answers, %",
        title="Whole against parts",
    )
    name_ends(axes, ends, high=PANEL - 0.6)


def _draw_layers(axes: Axes, result: Result) -> None:
    """What each layer reads at the easiest level, by its best pooling: layers along, items down, local ones first."""
    row = encoder_row(result)
    layers, items = list(row["strides"]), sorted(result["items"], key=lambda name: not result["items"][name]["px"])
    tops = [[easiest(row, item, layer) for layer in layers] for item in items]
    shown = np.array([[100 * top["easy"]["readable"]["value"] for top in line] for line in tops])
    axes.imshow(shown, cmap="Blues", vmin=50, vmax=110, aspect="auto")
    few = len(layers) <= 5  # so that names of poolings, and of layers side by side, have room
    for i, line in enumerate(tops):
        for k, top in enumerate(line):
            colour = "white" if shown[i, k] > 88 else LIGHT["ink"]
            text = f"{shown[i, k]:.0f} {top['pool']}" if few else f"{shown[i, k]:.0f}"
            axes.text(k, i, f"{text}{'+' if top['rising'] else ''}", ha="center", va="center", color=colour)
    short = {layer: layer[-MOST_NAME:] for layer in layers}
    names = [short[each] if stride is None else f"{short[each]} /{stride}" for each, stride in row["strides"].items()]
    axes.set_xticks(range(len(layers)), names, rotation=0 if few else 40, ha="center" if few else "right")
    axes.set_yticks(range(len(items)), [result["items"][item]["about"] for item in items])
    axes.axhline(sum(bool(result["items"][item]["px"]) for item in items) - 0.5, color=LIGHT["ink"], linewidth=1)
    axes.grid(visible=False)
    how = "right at the easiest level, %, by the best pooling (+: still rising)"
    axes.set_title(f"{_name(result)}, layer by layer: {how}")
