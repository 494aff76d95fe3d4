"""The one chart of an exam: a pair of each item, thresholds, curves, layers, and what is followed in conflict."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from probekit.exam.draw import Frame, drawer, pairs
from probekit.exam.items import BASE_SIZE, ITEMS
from probekit.exam.psychometric import Fit
from probekit.exam.tables import EMBEDDING, best, head, px_text
from probekit.measurement import Result, Row, encoder_row
from probekit.output.charts import LIGHT, SERIES, STYLE

BESIDE = {  # who stands beside encoders in the panel of thresholds, and in which colour
    "random weights": "baseline",
    "patch bag": "orange",
    "raw pixels": "green",
    "known template": "muted",
}
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
CURVES = {"landolt": "-", "landolt-mirror": "--"}  # items whose curves are drawn
MOST_NAME = 30

Line = tuple[str, str, Mapping[str, Any]]  # name, colour, what is read


def draw_exam(results: Sequence[Result]) -> Figure:
    """Draws the results of one encoder, or of several that sat the same exam."""
    local = [name for name, item in results[0]["items"].items() if item["px"]]
    conflict = any(encoder_row(result)["conflict"] for result in results)
    layered = [result for result in results if result["items"] and len(encoder_row(result)["strides"]) > 1]
    lines = sum(1 + len(_threshold_lines(results, item)) for item in local)
    drawn = bool(results[0]["items"])
    panels = 2 * bool(local) + conflict
    heights = [1.1 * drawn, max(2.6, 0.17 * lines) * bool(panels), *(_matrix_height(result) for result in layered)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, sum(heights) + 1.2 + 0.5 * len(heights)), layout="constrained")
        rows = figure.add_gridspec(len(heights), 1, height_ratios=[max(height, 0.01) for height in heights])
        figure.suptitle(_title(results), fontsize=11, parse_math=False)
        if drawn:
            _draw_pairs(figure, rows[0], results[0])
        wide = rows[1].subgridspec(1, max(1, panels), width_ratios=[5, 4, 3][:panels] or [1])
        if local:
            _draw_thresholds(figure.add_subplot(wide[0]), results, local)
            _draw_curves(figure.add_subplot(wide[1]), results)
        if conflict:
            _draw_conflict(figure.add_subplot(wide[panels - 1]), results)
        for number, result in enumerate(layered):
            _draw_layers(figure.add_subplot(rows[2 + number]), result)
    return figure


def _title(results: Sequence[Result]) -> str:
    names = ", ".join(f"{result['run']} ({result['checkpoint']})" for result in results)
    first = results[0]
    return f"Exam of {names}: {first['data']}, {first['protocol']}"


def _draw_pairs(figure: Figure, place: SubplotSpec, result: Result) -> None:
    """One pair of each item, without noise."""
    items = list(result["items"])
    parts = place.subgridspec(1, len(items), wspace=0.08)
    frame = Frame(BASE_SIZE, 0.0)
    for number, name in enumerate(items):
        item, axes = ITEMS[name], figure.add_subplot(parts[number])
        level = len(item.levels) - 1
        shown = pairs(item, drawer(item, level, frame, clean=True), level, seed=0, split="shown", n=1)[0]
        axes.imshow(np.concatenate([shown[0], np.full((BASE_SIZE, 3), 128, np.uint8), shown[1]], axis=1), cmap="gray")
        axes.set_title(name, fontsize=8)
        axes.set_axis_off()


def _threshold_lines(results: Sequence[Result], item: str) -> list[Line]:
    """Each encoder's embedding and best layer, then who stands beside them."""
    found: list[Line] = []
    for number, result in enumerate(results):
        row, colour = encoder_row(result), SERIES[number % len(SERIES)]
        if (read := head(row, item)) is not None:
            found.append((f"{_name(result, row)}, embedding", colour, read))
            top = best(row, item)
            if (top["layer"], top["pool"]) != EMBEDDING and len(row["strides"]) > 1:
                found.append((f"best: {top['layer']} {top['pool']}", colour, top))
    for row in results[0]["rows"]:
        if row["name"] in BESIDE and (read := head(row, item)) is not None:
            found.append((row["name"], LIGHT[BESIDE[row["name"]]], read))
    return found


def _name(result: Result, row: Row) -> str:
    return str(result["run"])[:MOST_NAME] if result["run"] else str(row["name"])


def _draw_thresholds(axes: Axes, results: Sequence[Result], items: Sequence[str]) -> None:
    y, labels = 0.0, []
    for item in items:
        axes.text(
            0.0,
            y,
            results[0]["items"][item]["about"],
            transform=axes.get_yaxis_transform(),
            weight="bold",
            va="center",
            fontsize=8.5,
        )
        y += 1
        for name, colour, read in _threshold_lines(results, item):
            found = read["threshold"]["readable"]
            faint = 0.55 if name.startswith("best: ") else 1.0
            marker = {">": ">", "<": "<"}.get(found["beyond"], "o")
            if not found["beyond"]:
                axes.plot(found["ci"], [y, y], color=colour, linewidth=2, alpha=faint, solid_capstyle="butt")
            axes.plot(found["value"], y, marker, color=colour, markersize=5, alpha=faint)
            axes.annotate(
                px_text(found),
                (max(found["value"], found["ci"][1]), y),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=colour,
            )
            labels.append((y, name))
            y += 1
        y += 0.4
    _octaves(axes)
    axes.margins(x=0.12)
    axes.set_ylim(y - 0.4, -0.8)
    axes.set_yticks([at for at, _ in labels], [name for _, name in labels], fontsize=7.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"px of {results[0]['size']} px images, finer to the left")
    axes.set_title("Acuity: 75 % right; arrows: beyond the levels", loc="left")


def _octaves(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_curves(axes: Axes, results: Sequence[Result]) -> None:
    """Areas by level, dots, and the fits, of the embeddings; of one encoder of its best layer, too."""
    for number, result in enumerate(results):
        row, colour = encoder_row(result), SERIES[number % len(SERIES)]
        for item, dash in CURVES.items():
            if (read := head(row, item)) is None:
                continue
            _curve(axes, result["items"][item]["px"], read, colour, dash, f"{_name(result, row)}: {item}")
            top = best(row, item)
            if len(results) == 1 and (top["layer"], top["pool"]) != EMBEDDING and len(row["strides"]) > 1:
                _curve(axes, result["items"][item]["px"], top, SERIES[4], dash, f"{top['layer']} {top['pool']}: {item}")
    axes.axhline(75, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.axhline(50, color=LIGHT["baseline"], linewidth=0.8)
    _octaves(axes)
    axes.set_ylim(40, 103)
    axes.set_xlabel("gap, px")
    axes.set_ylabel("right, %")
    axes.legend(fontsize=7)
    axes.set_title("Curves of the ring's gap", loc="left")


def _curve(axes: Axes, px: Sequence[float], read: Mapping[str, Any], colour: str, dash: str, label: str) -> None:
    fit = Fit(*(np.array(read["fit"][name]) for name in ("mu", "sd", "lapse")))
    fine = np.geomspace(px[0], px[-1], 80)
    axes.plot(fine, 100 * fit.curve(fine), color=colour, linestyle=dash, linewidth=1.4, label=label)
    axes.plot(px, [100 * area for area in read["areas"]], "o", color=colour, markersize=3.5)


def _draw_conflict(axes: Axes, results: Sequence[Result]) -> None:
    radii = results[0]["radii"]
    for number, result in enumerate(results):
        row, colour = encoder_row(result), SERIES[number % len(SERIES)]
        own = next((told for told in row["conflict"] if (told["layer"], told["pool"]) == EMBEDDING), None)
        if own is None:
            continue
        shares = 100 * np.array(own["follows"])
        axes.plot(radii, shares, "o-", color=colour, label=f"{_name(result, row)} follows the whole")
        for x, y, ends in zip(radii, shares, own["ci"], strict=True):
            if ends is not None:
                axes.plot([x, x], 100 * np.array(ends), color=colour, linewidth=1)
            axes.annotate(f"{y:.0f}", (x, y), (4, 4), textcoords="offset points", fontsize=7.5, color=colour)
        if len(results) == 1:
            axes.plot(
                radii,
                100 * np.array(own["whole"]),
                "s:",
                color=LIGHT["green"],
                markersize=4,
                label="whole alone, right",
            )
            axes.plot(
                radii,
                100 * np.array(own["element"]),
                "^:",
                color=LIGHT["orange"],
                markersize=4,
                label="parts alone, right",
            )
    axes.axhline(50, color=LIGHT["baseline"], linewidth=0.8)
    axes.set_xticks(radii, [f"{radius:g}" for radius in radii])
    axes.set_ylim(-4, 104)
    axes.set_xlabel("radius of the parts, px")
    axes.set_ylabel("%")
    axes.legend(fontsize=7)
    axes.set_title("Whole against parts", loc="left")


def _matrix_height(result: Result) -> float:
    return 0.5 + 0.24 * len(result["items"])


def _draw_layers(axes: Axes, result: Result) -> None:
    """What each layer reads at the easiest level, by its best pooling: layers along, items down, local ones first."""
    row = encoder_row(result)
    layers, items = list(row["strides"]), sorted(result["items"], key=lambda name: not result["items"][name]["px"])
    tops = [
        [
            max(
                (read for read in row["items"][item] if read["layer"] == layer),
                key=lambda read: read["easy"]["readable"]["value"],
            )
            for layer in layers
        ]
        for item in items
    ]
    shown = np.array([[100 * top["easy"]["readable"]["value"] for top in line] for line in tops])
    axes.imshow(shown, cmap="Blues", vmin=50, vmax=110, aspect="auto")
    few = len(layers) <= 10  # so that names of poolings, and of layers side by side, have room
    for i, line in enumerate(tops):
        for k, top in enumerate(line):
            colour = "white" if shown[i, k] > 88 else LIGHT["ink"]
            text = f"{shown[i, k]:.0f} {top['pool']}" if few else f"{shown[i, k]:.0f}"
            axes.text(k, i, f"{text}{'+' if top['rising'] else ''}", ha="center", va="center", fontsize=7, color=colour)
    names = [layer if row["strides"][layer] is None else f"{layer} /{row['strides'][layer]}" for layer in layers]
    axes.set_xticks(range(len(layers)), names, fontsize=7.5, rotation=0 if few else 40, ha="center" if few else "right")
    axes.set_yticks(range(len(items)), [result["items"][item]["about"] for item in items], fontsize=7.5)
    axes.axhline(sum(bool(result["items"][item]["px"]) for item in items) - 0.5, color=LIGHT["ink"], linewidth=1)
    axes.grid(visible=False)
    title = (
        f"{_name(result, row)}, layer by layer: right at the easiest level, %, by the best pooling (+: still rising)"
    )
    axes.set_title(title, loc="left")
