"""The chapter that puts several runs side by side."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from probekit.measurement import measurement, score_cell, score_title
from probekit.output import document as doc
from probekit.output.charts import draw_bars, draw_differences, draw_lines
from probekit.probes import MONITORED, MONITORS, PROTOCOLS, SIGNED
from probekit.statistics import BOOTSTRAP_SEED, DRAWS, LEVEL, MIN_FLIPS, MIN_PAIRS

MOST_PAIRS = 15  # differences in a chart, and in a table that is not folded
MOST_LINES = 12  # runs in a chart of learning curves
NOT_BY_IMAGE = "The answers to single images are not kept of these scores: they are paired by seed alone."
BY_SEEDS = "Paired differences of methods, by seed"
ONE_SEED = "No two of these runs differ in nothing but the seed: nothing is said over seeds."
AGAIN = "The command at the head of this report makes it again."
BY_SEED = (
    f"interval: 95 % Student t over seeds, from {MIN_PAIRS} seeds on; p: exact two-sided sign-flip test, from "
    f"{MIN_FLIPS} seeds on (fewer cannot reach 0.05); Holm: adjusted for all that are tested."
)


def comparison_chapter(report: Mapping[str, Any]) -> doc.Chapter:
    """Every question that two runs or more answer, and what could not be compared."""
    found = report["comparison"]
    sections = [group_section(group, f"compare-{i}") for i, group in enumerate(found["groups"])]
    sections += [scores_section(group, f"compare-scores-{i}") for i, group in enumerate(found["scores"])]
    blocks: list[doc.Block] = [doc.Note(line) for line in found["left_out"]]
    blocks += _curves(report["runs"])
    if not found["groups"] and not found["scores"]:
        blocks.insert(
            0, doc.Note("No two of these runs were probed on the same images with the same protocol and checkpoint.")
        )
    lead = f"{len(report['runs'])} runs; differences are paired: the same test images, or the same seeds."
    sections += [doc.Section("compare-rest", "Beside each other", blocks)] if blocks else []
    return doc.Chapter("compare", "Comparison", lead, sections)


def group_section(group: Mapping[str, Any], key: str) -> doc.Section:
    """One question and its answers: runs, paired differences by image, methods over seeds."""
    title, what = _asked(group), measurement(group["measurement"]).title
    source = (
        f"{what} ({group['score']}) of each run's encoder, on {group['n']} images of {group['data']} (content hash "
        f"{group['data_hash'][:12]}), protocol {PROTOCOLS.get(group['protocol'], group['protocol'])}, checkpoint "
        f"{group['checkpoint']}."
    )
    bars = doc.Chart(
        f"{key}-bars",
        "Test accuracy of each run",
        f"The accuracies of the table of runs, {group['n']} test images; whiskers: its 95 % Wilson intervals. "
        f"Overlapping whiskers do not mean equal runs: see the paired differences. {AGAIN}",
        partial(draw_bars, [{"name": row["run"], "kind": "encoder", **row} for row in group["runs"]], chance=None),
    )
    how = f"{source} Intervals: 95 % Wilson, over test images. {AGAIN}"
    runs = doc.table(f"{key}-runs", "Runs", how, RUNS, group["runs"])
    pairs, *charts = _pairs(group, key, source)
    by_seed, by_image = _over_seeds(group, key, source), [runs, pairs, bars, *charts]
    return doc.Section(key, title, by_image + by_seed if group["over_seeds"] is None else by_seed + by_image)


RUNS: dict[str, Callable[[Any], doc.Cell]] = {
    "run": doc.by("run"),
    "method": doc.by("method"),
    "seed": doc.by("seed", doc.count),
    "epoch": lambda row: _epoch(row["after"]),
    "accuracy %": doc.by("accuracy", doc.percent),
    "95 % interval": doc.by("ci", doc.percent_interval),
}
PAIRS: dict[str, Callable[[Any], doc.Cell]] = {
    "a": doc.by("a"),
    "b": doc.by("b"),
    "a - b, points": doc.by("difference", doc.points),
    "95 % interval": doc.by("ci", partial(doc.percent_interval, sign=True)),
    "only a right": doc.by("only_a", doc.count),
    "only b right": doc.by("only_b", doc.count),
    "p": doc.by("p", doc.probability),
    "p (Holm)": doc.by("p_holm", doc.probability),
    "a is": lambda pair: doc.text(f"{pair['verdict']} b" if pair["verdict"] else "-"),
}
METHODS: dict[str, Callable[[Any], doc.Cell]] = {
    "method": doc.by("method"),
    "mean %": doc.by("mean", doc.percent),
    "95 % interval": doc.by("ci", doc.percent_interval),
    "seeds": doc.by("n", doc.count),
    "which": lambda row: doc.text(", ".join(map(str, row["seeds"]))),
}


def _pairs(group: Mapping[str, Any], key: str, source: str) -> list[doc.Block]:
    tested = [pair for pair in group["pairs"] if pair["why"] is None]
    how = (
        f"{source} Difference a - b in percentage points over the same images; interval: 95 % percentile bootstrap "
        f"over images ({DRAWS:,} draws, seed {BOOTSTRAP_SEED}); p: McNemar's exact test on the images that only one "
        f"gets right; Holm: adjusted for all of them ({len(tested)}); a is above or below b where that is "
        f"under {LEVEL}. Neither covers the seed of the pretraining: they compare these two runs. {AGAIN}"
    )
    why = {"no test because": lambda pair: doc.Cell(pair["why"] or "", pair["why"])}
    columns = PAIRS | (why if len(tested) < len(group["pairs"]) else {})
    title, folded = "Paired differences of runs, by image", len(group["pairs"]) > MOST_PAIRS
    blocks: list[doc.Block] = [doc.table(f"{key}-pairs", title, how, columns, group["pairs"], folded=folded, names=2)]
    drawn = [(f"{pair['a']} - {pair['b']}", pair["difference"], pair["ci"]) for pair in tested if pair["ci"]][
        :MOST_PAIRS
    ]
    if drawn:
        told = "" if len(drawn) == len(tested) else f" The first {len(drawn)} of {len(tested)} pairs are drawn."
        chart = partial(draw_differences, drawn)
        drawing = (
            f"The differences of the table by image, {group['n']} test images; lines: its 95 % bootstrap intervals, "
            f"blue where they leave out zero.{told} {AGAIN}"
        )
        blocks.append(doc.Chart(f"{key}-differences", "Paired differences of runs", drawing, chart))
    return blocks


def _over_seeds(group: Mapping[str, Any], key: str, source: str) -> list[doc.Block]:
    found = group["over_seeds"]
    if found is None:
        return [doc.Note(ONE_SEED)]
    means = (
        f"{source} Runs that differ in the seed alone are one method; of two with the same seed the first counts. "
        f"Mean over seeds; interval: 95 % Student t over seeds. {AGAIN}"
    )
    blocks: list[doc.Block] = [doc.table(f"{key}-methods", "Methods over seeds", means, METHODS, found["methods"])]
    if found["pairs"]:
        how = f"{source} Difference a - b of runs with the same seed, in percentage points; {BY_SEED} {AGAIN}"
        columns = ("a", "b", "a - b, points", "95 % interval", "seeds", "p", "p (Holm)")
        lines = list(map(_seed_pair, found["pairs"]))
        blocks.append(doc.Table(f"{key}-seed-pairs", BY_SEEDS, how, columns, lines, names=2))
    return blocks


def scores_section(group: Mapping[str, Any], key: str) -> doc.Section:
    """Scores of one protocol: of each run, and paired differences of methods over seeds."""
    title, what = f"{_asked(group)}, further scores", measurement(group["measurement"]).title
    after = {row["run"]: row["after"] for score in group["scores"] for row in score["runs"]}
    source = f"{what} of each run's encoder, on {group['data']} (content hash {group['data_hash'][:12]})."
    scores = group["scores"]
    found = {(row["run"], score["score"]): row for score in scores for row in score["runs"]}
    names = [score["score"] for score in scores]
    by_name = {score["score"]: score["runs"][0] for score in scores}
    rows = [
        [doc.text(run), _epoch(told), *(score_cell(found.get((run, name))) for name in names)]
        for run, told in after.items()
    ]
    blocks: list[doc.Block] = [
        doc.Table(
            f"{key}-runs",
            "Runs",
            f"{source} Intervals: those of each run's own results. {NOT_BY_IMAGE} {AGAIN}",
            ("run", "epoch", *(score_title(name, by_name[name]) for name in names)),
            rows,
        )
    ]
    over = [(doc.text(score["score"]), score["over_seeds"]) for score in scores if score["over_seeds"]]
    means = [
        [name, method, score_cell({**by_name[name.number], "value": m["mean"], "ci": m["ci"]}), seeds, which]
        for name, found_over in over
        for m in found_over["methods"]
        for method, seeds, which in [[METHODS[key](m) for key in ("method", "seeds", "which")]]
    ]
    pairs = [[name, *_seed_pair(pair)] for name, found_over in over for pair in found_over["pairs"]]
    if not over:
        blocks.append(doc.Note(ONE_SEED))
    else:
        how = f"{source} Mean over seeds; interval: 95 % Student t over seeds. {AGAIN}"
        named = ("score", "method", "mean", "seeds", "which")
        blocks.append(
            doc.Table(
                f"{key}-methods", "Methods over seeds", how, named, means, folded=len(means) > MOST_PAIRS, names=2
            )
        )
    if pairs:
        how = f"{source} Difference a - b of runs with the same seed, in hundredths; {BY_SEED} {AGAIN}"
        named_pairs = ("score", "a", "b", "a - b, x 100", "95 % interval", "seeds", "p", "p (Holm)")
        folded = len(pairs) > MOST_PAIRS
        blocks.append(doc.Table(f"{key}-pairs", BY_SEEDS, how, named_pairs, pairs, folded=folded, names=3))
    return doc.Section(key, title, blocks)


def _asked(group: Mapping[str, Any]) -> str:
    """What was measured how, on which images, of which weights."""
    reader = measurement(group["measurement"])
    how = ", ".join(
        (f"protocol {group['protocol']}", *reader.unusual(group["options"]), f"checkpoint {group['checkpoint']}")
    )
    return f"{reader.title}: {group['data']}, {how}"


def _epoch(after: str) -> doc.Cell:
    return doc.text(after.removeprefix("epoch "))


def _seed_pair(pair: Mapping[str, Any]) -> list[doc.Cell]:
    untestable = doc.Cell("not testable", None)
    return [
        doc.text(pair["a"]),
        doc.text(pair["b"]),
        doc.points(pair["mean"]),
        doc.percent_interval(pair["ci"], sign=True) if pair["testable"] else untestable,
        doc.count(pair["n"]),
        *(untestable if pair[key] is None else doc.probability(pair[key]) for key in ("p", "p_holm")),
    ]


def _curves(runs: Sequence[Mapping[str, Any]]) -> list[doc.Block]:
    """The monitor's scores in one chart, of all runs with the first one's monitor."""
    series = []
    trained = [run["config"]["train"] for run in runs]
    kinds = [(train.get("monitor", "linear"), train.get("monitored", "embedding")) for train in trained]
    for run, kind in zip(runs, kinds, strict=True):
        scored = [line for line in run["metrics"] if "val" in line]
        if scored and kind == kinds[0]:
            series.append((run["name"], [line["epoch"] for line in scored], [line["val"] for line in scored]))
    if len(series) < 2:
        return []
    monitor, monitored = kinds[0]
    told = "" if len(series) <= MOST_LINES else f" The first {MOST_LINES} of {len(series)} runs are drawn."
    how = (
        f"From each run's metrics.jsonl: {MONITORS.get(monitor, monitor)}{MONITORED[monitored]}, on the validation "
        f"part of train, which is not the same for runs on other data or with other seeds. No intervals.{told}"
    )
    percents = monitor not in SIGNED
    y = f"validation, {'%' if percents else monitor}"
    draw = partial(draw_lines, series[:MOST_LINES], x="epoch", y=y, percents=percents, marker="o")
    return [doc.Chart("compare-curves", "The monitor while they trained", how, draw)]
