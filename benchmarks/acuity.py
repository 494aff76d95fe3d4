"""How fine each method reads, before and after training: the figure and the table of the sweep `acuity`.

    probekit sweep acuity                       # 48 trainings, some 4 hours of a core
    python -m benchmarks.acuity [--runs runs] [--keep FOLDER] [--out docs/acuity.png]

It can be trained in parts, on several machines: `probekit sweep acuity --only conrec --seeds 0`, then this with
`--keep benchmarks/results/acuity`, which writes the numbers of each finished run there, one or two KB, and draws what
all files of the folder hold.

A threshold is averaged over seeds as its logarithm. One that lies beyond the levels counts as their end, and is marked:
the mean is then a bound. Random weights are those of seed 0, for all.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.stats import ttest_rel

from probekit.exams.items import ITEMS
from probekit.exams.tables import READ, head, own
from probekit.files import read_json, write_text
from probekit.measurement import encoder_row
from probekit.output.pictures import save
from probekit.output.style import LIGHT, LINE, PAGE, STYLE
from probekit.statistics import add_holm, mean_over_seeds, paired_seeds
from probekit.sweep.definition import load
from probekit.weights import RANDOM

DETAILS = {"landolt": "gap", "landolt-mirror": "gap, mirrored", "vernier": "offset", "corner": "corner radius"}
WHOLES = ("navon", "enclosed", "align", "mirror", "bind", "same", "trace")
COST, FOLLOWS = "mirror over gap", "follows the whole"
PANELS = (*DETAILS, COST, *WHOLES, FOLLOWS)
COLOURS = {"rect-tri": "blue", "navon": "orange"}
TICKS = (0.5, 1, 2, 4, 8, 16, 32)
SIZE = 128  # px, of the images of an exam
SPAN = 10.0  # octaves: wider than any two thresholds lie apart

Seeds = dict[int, float]
Part = Mapping[str, Any]  # what is kept of one run; see `part`


@dataclass(frozen=True)
class Numbers:
    """What one method's embeddings read, {panel: {seed: number}}, thresholds as log2 px; and panels with a bound."""

    values: dict[str, Seeds]
    bounds: set[str]


def numbers(row: Mapping[str, Any], radius: int = 1) -> Iterator[tuple[str, float, bool]]:
    """(panel, number, whether it is a bound) of a row of an exam."""
    found = {}
    for item in DETAILS:
        read = head(row, item)
        if read is not None:
            px = read["threshold"]["readable"]
            found[item] = px
            yield item, log2(px["value"]), bool(px["beyond"])
    if {"landolt", "landolt-mirror"} <= found.keys():
        pair = found["landolt-mirror"], found["landolt"]
        yield COST, log2(pair[0]["value"] / pair[1]["value"]), any(px["beyond"] for px in pair)
    for item in WHOLES:
        read = head(row, item)
        if read is not None:
            yield item, read["easy"]["readable"]["value"], False
    told = own(row["conflict"])
    if told is not None and min(told["whole"][radius], told["element"][radius]) >= READ:
        yield FOLLOWS, told["follows"][radius], False


def part(run: Path, dataset: str, method: str) -> Part:
    """What the figure and the tests need of a run, as plain JSON values, and what may differ between machines.

    `numbers`: of the method, and of random weights where it is simclr, the plain encoder: gap, no corruption.
    """
    result, header = read_json(run / "results" / "exam-last.json"), read_json(run / "run.json")
    rows = {method: encoder_row(result)}
    if method == "simclr":
        rows |= {row["name"]: row for row in result["rows"] if row["name"] == RANDOM}
    settings = {name: value for name, value in header["config"].items() if name != "seed"}
    return {
        "dataset": dataset,
        "method": method,
        "seed": header["config"]["seed"],
        "drawings": result["data_hash"],
        "settings": sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "commit": header["commit"],
        "versions": header["versions"],
        "numbers": {
            name: {panel: {"value": value, "is_bound": bound} for panel, value, bound in numbers(row)}
            for name, row in rows.items()
        },
    }


def gather(runs: Path, kept: Path | None) -> dict[str, Part]:
    """The finished runs of the sweep, and what is kept of those that are not here, by name, in the sweep's order.

    Raises:
        ValueError: exams of different drawings, or seeds of a method that were trained by different settings.
    """
    found: dict[str, Part] = {}
    sweep = load("acuity")
    for dataset in (each.name for each in sweep.datasets):
        for method in (row.name for row in sweep.rows):
            name = f"{dataset}-{method}-seed"
            files = {path.stem: read_json(path) for path in sorted(kept.glob(f"{name}*.json"))} if kept else {}
            made = runs.glob(f"acuity-{name}*/results/exam-last.json")
            here = {path.parts[-3].removeprefix("acuity-"): part(path.parents[1], dataset, method) for path in made}
            found |= dict(sorted((files | here).items()))
    _same("drawings", found)
    for one in found.values():
        _same("settings", {name: other for name, other in found.items() if _row(other) == _row(one)})
    return found


def _row(one: Part) -> tuple[str, str]:
    return one["dataset"], one["method"]


def _same(what: str, parts: Mapping[str, Part]) -> None:
    if len({one[what] for one in parts.values()}) > 1:
        told = ", ".join(f"{name} ({one['commit'][:7]})" for name, one in parts.items())
        raise ValueError(f"expected the same {what} in all of these, found others; remake the older ones: {told}")


def keep(parts: Mapping[str, Part], folder: Path) -> None:
    """Writes a file for each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in parts.items():
        write_text(folder / f"{name}.json", json.dumps(one, indent=2) + "\n")


def collect(parts: Mapping[str, Part]) -> dict[tuple[str, str], Numbers]:
    """{(dataset, method): numbers}; method `RANDOM` before training."""
    found: dict[tuple[str, str], Numbers] = defaultdict(lambda: Numbers(defaultdict(dict), set()))
    for one in parts.values():
        for method, panels in one["numbers"].items():
            held = found[one["dataset"], method]
            for panel, number in panels.items():
                held.values[panel][one["seed"]] = number["value"]
                held.bounds.update({panel} if number["is_bound"] else ())
    return dict(found)


def draw(found: Mapping[tuple[str, str], Numbers]) -> Figure:
    """A panel a number, a line a method, a colour a training set; small dots are seeds, a ring is a bound."""
    methods = list(dict.fromkeys(method for _, method in found if method != RANDOM))
    panels = [panel for panel in PANELS if any(panel in one.values for one in found.values())]
    across = 4
    down = -(-len(panels) // across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, down * (0.75 + 1.5 * LINE * len(methods))), layout="constrained")
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(down, across, place + 1)
            for step, (dataset, colour) in enumerate(COLOURS.items()):
                for y, method in enumerate(methods):
                    if (dataset, method) in found:
                        _draw_method(axes, y + 0.24 * step - 0.12, found[dataset, method], panel, LIGHT[colour])
            before = next((one for (_, name), one in found.items() if name == RANDOM), None)
            for value in list(before.values[panel].values())[:1] if before and panel in before.values else ():
                axes.axvline(value, color=LIGHT["muted"], linestyle="--", linewidth=1)
            _finish(axes, panel, methods, named=place % across == 0)
        handles = [
            *(
                axes.plot([], [], "o", color=LIGHT[colour], label=f"trained on {name}")[0]
                for name, colour in COLOURS.items()
            ),
            axes.plot([], [], "o", color=LIGHT["muted"], fillstyle="none", label="a seed beyond the levels: a bound")[
                0
            ],
            axes.plot([], [], "--", color=LIGHT["muted"], label="before training (random weights)")[0],
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _draw_method(axes: Axes, y: float, one: Numbers, panel: str, colour: str) -> None:
    seeds = list(one.values.get(panel, {}).values())
    if not seeds:
        return
    told = mean_over_seeds(seeds, low=-SPAN, high=SPAN)
    if told["ci"] is not None:
        axes.plot(told["ci"], [y, y], color=colour, linewidth=1.5, alpha=0.5)
    axes.plot(seeds, [y] * len(seeds), ".", color=colour, markersize=3)
    filled = "none" if panel in one.bounds else "full"
    axes.plot([told["mean"]], [y], "o", color=colour, markersize=5, fillstyle=filled)


def _finish(axes: Axes, panel: str, methods: list[str], *, named: bool) -> None:
    octaves = panel in DETAILS or panel == COST
    unit = (
        "times as wide"
        if panel == COST
        else "px"
        if octaves
        else "% right, chance 50"
        if panel in WHOLES
        else "% of answers"
    )
    axes.set_title(panel)
    axes.set(xlabel=f"{DETAILS[panel]}, px" if panel in DETAILS else unit, ylim=(len(methods) - 0.5, -0.5))
    axes.set_yticks(range(len(methods)), methods if named else [""] * len(methods))
    if octaves:
        axes.xaxis.set_major_locator(FixedLocator([log2(px) for px in TICKS]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2**value:g}"))
        levels = [0.5, 8.0] if panel == COST else ITEMS[panel].px(SIZE)
        axes.set_xlim(log2(levels[0]) - 0.15, log2(levels[-1]) + 0.15)
    else:
        axes.xaxis.set_major_locator(FixedLocator(np.linspace(0, 1, 5).tolist()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
        axes.set_xlim(0.3 if panel in WHOLES else 0.0, 1.02)
    axes.xaxis.set_minor_locator(NullLocator())


def table(found: Mapping[tuple[str, str], Numbers]) -> Iterator[str]:
    """A line for each training set and method, in px and %, > for a bound."""
    yield "| trained on | method | " + " | ".join(PANELS) + " |"
    yield "|---" * (len(PANELS) + 2) + "|"
    for (dataset, method), one in found.items():
        cells = []
        for panel in PANELS:
            seeds = list(one.values.get(panel, {}).values())
            mean = float(np.mean(seeds)) if seeds else None
            octaves = panel in DETAILS or panel == COST
            shown = "-" if mean is None else f"{2**mean:.2f}" if octaves else f"{100 * mean:.0f}"
            cells.append(("bound " if panel in one.bounds else "") + shown)
        yield f"| {dataset} | {method} | " + " | ".join(cells) + " |"


def tests(found: Mapping[tuple[str, str], Numbers]) -> Iterator[str]:
    """Pairs of the sweep, paired by seed, by Holm over the panels of a pair and a training set."""
    for dataset in COLOURS:
        for a, b in load("acuity").pairs:
            if (dataset, a) not in found or (dataset, b) not in found:
                continue
            one, other = found[dataset, a], found[dataset, b]
            shared = [panel for panel in PANELS if panel in one.values and panel in other.values]
            family = [told for panel in shared if (told := _paired(panel, one.values[panel], other.values[panel]))]
            add_holm(family)
            for told in family:
                octaves = told["panel"] in DETAILS or told["panel"] == COST
                shown = f"{2 ** told['mean']:.2f} times" if octaves else f"{100 * told['mean']:+.0f} points"
                yield (
                    f"{dataset}: {a} against {b}, {told['panel']}: {shown}, p {told['p']:.3f}, "
                    f"Holm {told['p_holm']:.3f}"
                )


def _paired(panel: str, one: Seeds, other: Seeds) -> dict[str, Any] | None:
    """The mean difference over the seeds of both with Student's interval and p; None without."""
    told = paired_seeds(one, other, span=SPAN)
    if told["ci"] is None:
        return None
    seeds = sorted(one.keys() & other.keys())
    p = float(ttest_rel([one[seed] for seed in seeds], [other[seed] for seed in seeds]).pvalue)
    return {"panel": panel, **told, "p": p}


def main() -> None:
    """Prints the table and the tests, and writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of the numbers of runs, of other machines too")
    parser.add_argument("--out", type=Path, default=Path("docs/acuity.png"))
    asked = parser.parse_args()
    parts = gather(asked.runs, asked.keep)
    if asked.keep:
        keep(parts, asked.keep)
    found = collect(parts)
    for line in (*table(found), "", *tests(found)):
        print(line)
    save(draw(found), asked.out)
    print(asked.out)


if __name__ == "__main__":
    main()
