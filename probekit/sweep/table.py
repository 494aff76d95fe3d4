"""A sweep's results as tables: table.md has all and its caveats, a terminal the honest scores in 80 columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.measurement import CHANCE
from probekit.sweep.definition import CURVES
from probekit.sweep.measures import BEST_TEST, FIRST, SCORES, title, without_pool
from probekit.visible import visible

_BANDS = (
    "Above chance: the levels at which the whole interval is, of rows over seeds, of baselines over test images; the\n"
    "mean of a row also above the interval of chance over test images. Intervals are not corrected for their number."
)
COVERED = {True: "yes", False: "no", None: "one seed"}


def markdown(results: Mapping[str, Any]) -> str:
    """Lays out what `results.collect` found."""
    epochs, seeds = " or ".join(map(str, results["epochs"])), ", ".join(map(str, results["seeds"]))
    parts = [
        f"# {results['name']}",
        results["about"],
        f"Preset {results['preset']}, epochs: {epochs}, seeds: {seeds}; "
        f"{results['finished']} of {results['planned']} runs finished.",
    ]
    if results["curves"]:
        parts.append(f"![Curves]({CURVES})")
        for curve in results["curves"]:
            parts.append(f"## {curve['name']} over {curve['parameter']}: {title(curve['score'])}")
            parts.append(_grid(curve_lines(curve, intervals=True)))
        parts.append(_BANDS)
    for dataset in results["datasets"]:
        rows = [row for row in results["rows"] if row["dataset"] == dataset["name"]]
        baselines = [entry for entry in results["baselines"] if entry["dataset"] == dataset["name"]]
        parts.append(f"## {dataset['name']}")
        parts.append(f"{dataset['origin']}; {dataset['n_train']} training and {dataset['n_test']} test images.")
        names = measured(name for row in rows for name in row["scores"])
        lines, others = _score_lines("row", rows, baselines, names)
        parts.append(_grid([*lines, *([f"*{name}*", *cells] for name, *cells in others)]))
        if any(row["paper"] for row in rows):
            titles = ["row", "score", "ours", "the paper's", "difference", "interval covers it"]
            parts += ["The paper's numbers, each beside its own score:", _grid([titles, *beside(rows)])]
        if any(row["factors"] for row in rows):
            parts += ["Each class factor by itself (last, linear probe):", _factors(rows)]
        pairs = [pair for pair in results["pairs"] if pair["dataset"] == dataset["name"] and pair["n"]]
        if pairs:
            parts += ["Pairs, over the seeds that both rows have:", _pairs(pairs)]
    parts += [_unfinished(results), _legend(results)]
    return visible("\n\n".join(filter(None, parts))) + "\n"


def percent(fraction: float | None) -> str:
    """0.964 -> "96.4"; None -> "-"."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def with_interval(interval: Mapping[str, Any] | None) -> str:
    """`{"mean": 0.76, "ci": [0.731, 0.789]}` -> "76.0 ± 2.9"; the ends where one is clipped; "-" for None."""
    if interval is None:
        return "-"
    if interval["ci"] is None:
        return percent(interval["mean"])
    below, above = interval["mean"] - interval["ci"][0], interval["ci"][1] - interval["mean"]
    if abs(below - above) > 5e-4:
        return f"{percent(interval['mean'])} [{percent(interval['ci'][0])}, {percent(interval['ci'][1])}]"
    return f"{percent(interval['mean'])} ± {percent(above)}"


def of_images(entry: Mapping[str, Any]) -> str:
    """A baseline with its interval over images: "37.6 [33.5, 41.9]"."""
    ends = "" if entry["ci"] is None else " [{}, {}]".format(*map(percent, entry["ci"]))
    return percent(entry["value"]) + ends


def signed(fraction: float | None) -> str:
    """-0.021 -> "-2.1", with its sign; None -> "-"."""
    return "-" if fraction is None else f"{100 * fraction:+.1f}"


def beside(rows: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """For each number of a paper: row, score, ours, the paper's, the difference, and whether our interval covers it."""
    lines = []
    for row in rows:
        for paper in row["paper"]:
            score, pool = without_pool(paper["score"])
            label = row["row"] if pool is None else f"{row['row']}@{pool}"
            covered = COVERED[paper["covered"]] if paper["difference"] is not None else "-"
            ours = with_interval(row["scores"].get(paper["score"]))
            published = f"{100 * paper['value']:.2f}".removesuffix("0")
            lines.append([label, title(score), ours, published, signed(paper["difference"]), covered])
    return lines


def difference(pair: Mapping[str, Any] | None) -> str:
    """A pair's mean difference with its interval, or that it is not testable."""
    if pair is None or not pair["n"]:
        return "-"
    if not pair["testable"]:
        return f"{signed(pair['mean'])}, not testable"
    if pair["ci"] is None:
        return signed(pair["mean"])
    low, high = pair["ci"]
    return f"{signed(pair['mean'])} [{signed(low)}, {signed(high)}]"


def curve_lines(curve: Mapping[str, Any], *, intervals: bool) -> list[list[str]]:
    """A collected curve: a line of names, and one for each of its lines, with the levels where it is above chance."""

    def cell(line: Mapping[str, Any], point: Mapping[str, Any]) -> str:
        if not intervals:
            return percent(point["value"])
        return of_images(point) if line["kind"] == "baseline" else with_interval({**point, "mean": point["value"]})

    over = ", ".join(filter(None, (curve["parameter"], curve["unit"])))
    lines = [[over, *(f"{level:g}" for level in curve["levels"]), "above chance at"]]
    for line in curve["lines"]:
        told = ", ".join(f"{level:g}" for level in above_chance(curve, line)) or "-"
        told = "chance unknown" if all(value is None for value in curve["chance"]) else told
        lines.append([line["name"], *(cell(line, point) for point in line["points"]), told])
    return [*lines, [CHANCE, *map(percent, curve["chance"]), ""]]


def above_chance(curve: Mapping[str, Any], line: Mapping[str, Any]) -> list[float]:
    """The levels of a collected curve at which one of its lines is above chance.

    A baseline where its whole interval, over test images, is above. A row where its whole interval over seeds is, and
    its mean above the interval that chance has over test images; the latter alone where all seeds are alike.
    """
    found = []
    points = zip(curve["levels"], curve["chance"], curve["chance_ci"], line["points"], strict=True)
    for level, chance, spread, point in points:
        row = line["kind"] == "row"
        alike = point["value"] if row and point["n"] > 1 else None
        low = alike if point["ci"] is None else point["ci"][0]
        if chance is None or low is None or low <= chance:
            continue
        if not row or spread is None or point["value"] > spread[1]:
            found.append(level)
    return found


def lines_of(row: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A row's lines, one for each pooling that was measured, its own first: (label, {score without pooling: score})."""
    lines: dict[str | None, dict[str, Any]] = {None: {}}
    for name, score in row["scores"].items():
        plain, pool = without_pool(name)
        lines.setdefault(pool, {})[plain] = score
    return [(row["row"] if pool is None else f"{row['row']}@{pool}", scores) for pool, scores in lines.items()]


def measured(entries: Iterable[str]) -> list[str]:
    """Names of scores, those of most sweeps first, then what `[measure]` added, without poolings."""
    found = dict.fromkeys(without_pool(name)[0] for name in entries)
    first = [name for name in SCORES if name in found or not found]
    return list(dict.fromkeys([*first, *found]))


def _score_lines(
    first: str, rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """The scores of rows under each of their poolings, a line of names first; and those of the baselines."""
    lines = [[first, "n", *map(title, names)]]
    for row in rows:
        for label, scores in lines_of(row):
            n = max((scores[name]["n"] for name in names if name in scores), default=0)
            lines.append([label, str(n), *(with_interval(scores.get(name)) for name in names)])
    known = {name.partition("/")[2]: name for name in names if name.startswith("last/")}
    others = []
    for name in dict.fromkeys(entry["name"] for entry in baselines if entry["score"] in known):
        under = {known.get(entry["score"]): of_images(entry) for entry in baselines if entry["name"] == name}
        others.append([name, "", *(under.get(score, "-") if score in known.values() else "" for score in names)])
    return lines, others


def _factors(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["factors"]))
    lines = [["row", *names]]
    lines += [[row["row"], *(with_interval(row["factors"].get(name)) for name in names)] for row in rows]
    return _grid(lines)


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> str:
    shown = [s for s in measured(p["score"] for p in pairs) if s in (FIRST, BEST_TEST) or s not in SCORES]
    lines = [["first minus second, points", "n", *map(title, shown)]]
    for a, b in dict.fromkeys((pair["a"], pair["b"]) for pair in pairs):
        own = {pair["score"]: pair for pair in pairs if (pair["a"], pair["b"]) == (a, b)}
        n = max(pair["n"] for pair in own.values())
        lines.append([f"{a} - {b}", str(n), *(difference(own.get(score)) for score in shown)])
    return _grid(lines)


def _unfinished(results: Mapping[str, Any]) -> str:
    broken = [run for run in results["runs"] if run["state"] in ("failed", "interrupted")]
    if not broken:
        return ""
    log = f"sweeps/{results['name']}/logs/RUN.log"
    return f"Not finished, {log} says why: " + ", ".join(f"{run['name']} ({run['state']})" for run in broken) + "."


def _legend(results: Mapping[str, Any]) -> str:
    sources = dict.fromkeys(paper["source"] for row in results["rows"] for paper in row["paper"])
    lines = [
        "Accuracy on the test split in %: the mean over n seeds ± its 95 % Student-t interval, or [from, to] where an",
        "end would lie beyond 0 or 100; one seed has none, nor have seeds that are alike. It covers the seed, not the",
        "choice of test images. Baselines are in italics; their intervals are over the test images. Intervals of",
        "pairs are paired by seed and not corrected for their number; fewer than 3 seeds are not testable.",
        "Where it is kappa, which `train.monitor=kappa` has the monitor score: 100 times it, from -100 to 100.",
        "`best_test` is chosen on the test split: it serves only to compare with papers.",
        "docs/protocols.md says what checkpoints and protocols mean.",
    ]
    if any(name not in SCORES for row in results["rows"] for name in row["scores"]):
        lines += [
            "Columns without a checkpoint are of `last`. ROW@POOL: the same runs, their map pooled in another way",
            "(docs/branches.md). AUROC, rank accuracy: of attribution maps against the evidence of a class factor",
            "(docs/heatmaps.md).",
        ]
    if sources:
        lines += [
            f"The paper's numbers: {'; '.join(sources)}.",
            "Their predictions of single images are not known: no paired test can be made, and a number outside the",
            "interval is no verdict on either.",
        ]
    return "\n".join(lines)


def _grid(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded: it should be readable as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines]
    rule = ["-" * width for width in widths]
    return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


def terminal_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One table a curve, and one for each other dataset, with baselines; and one for each score with its pairs."""
    for curve in results["curves"]:
        first, *lines = curve_lines(curve, intervals=False)
        yield _table([f"{curve['name']}: {first[0]}", *first[1:]], lines)
    drawn = {name for curve in results["curves"] for name in curve["datasets"]}
    for name in (dataset["name"] for dataset in results["datasets"]):
        rows, baselines, pairs = (
            [entry for entry in results[kind] if entry["dataset"] == name] for kind in ("rows", "baselines", "pairs")
        )
        shown = measured(name for row in rows for _, scores in lines_of(row) for name in scores)
        # The linear probe and the first that `[measure]` added, or the papers' choice.
        shown = [*(score for score in shown if score == FIRST or score not in SCORES), BEST_TEST][:2]
        if name not in drawn:
            (first, *lines), others = _score_lines(name, rows, baselines, shown)
            yield _table([*first[:2], *(f"{head}, %" for head in first[2:])], lines, others)
        if published := beside(rows):
            yield _table([f"{name}: the paper's", "score", "ours, %", "paper's", "diff.", "covered"], published)
        for score in shown:
            tested = [pair for pair in pairs if pair["n"] and pair["score"] == score]
            if tested and score != BEST_TEST:
                lines = [[f"{pair['a']} - {pair['b']}", str(pair["n"]), difference(pair)] for pair in tested]
                yield _table([f"{name}: {title(score)}, points", "n", "difference"], lines)


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]], others: Sequence[Sequence[str]] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, head in enumerate(titles):
        table.add_column(head, justify="right" if number else "left", no_wrap=number == 0)
    for line in lines:
        table.add_row(*map(Text, line))
    table.add_section()
    for line in others:
        table.add_row(*map(Text, line), style="dim")
    return table
