"""The sections from probe results: the table with floors, confusion matrices, and the label-free health."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import sqrt
from typing import Any

from probekit.output.charts import draw_bars, draw_confusion, draw_lines
from probekit.output.document import (
    Block,
    Cell,
    Chart,
    Note,
    Section,
    Table,
    command,
    count,
    estimate,
    number,
    percent,
    percent_interval,
    percents,
    text,
)
from probekit.probe import PROTOCOLS
from probekit.probe.scores import against_floors
from probekit.probe.table import encoders_first
from probekit.report.compare import with_branches

MOST_CELLS = 60  # classes up to which the counts also stand in a table


def lead(run: Mapping[str, Any]) -> str:
    """The run in a sentence: its first probe, and the highest floor."""
    method = f"{with_branches(run['config'])}, seed {run['config']['seed']}, on {run['dataset']['name']}"
    if not run["probes"]:
        return (
            f"{method}; {'several labels an image, see Further protocols' if run['multilabel'] else 'not probed yet'}."
        )
    probe = run["probes"][0]
    encoder, *others = encoders_first(probe["rows"])
    ends = "" if encoder["ci"] is None else f" {percent_interval(encoder['ci']).text}"
    where = "" if probe["data_hash"] == run["dataset"]["hash"] else f" of {probe['data']}"
    scored = (
        f"{100 * encoder['accuracy']:.1f} % of {encoder['n']} test images{where} right"
        f"{ends}, linear probe, protocol {probe['protocol']}, "
        f"checkpoint {probe['checkpoint']}"
    )
    if not others:
        return f"{method}: {scored}; no floors were probed with it."
    highest = max(others, key=lambda row: float(row["accuracy"]))
    told = against_floors([encoder, *others]).get(highest["name"])
    said = "" if told is None else f", which the encoder is {told}"
    return f"{method}: {scored}; the highest floor, {highest['name']}, {100 * highest['accuracy']:.1f} %{said}."


def probe_section(run: Mapping[str, Any], key: str) -> Section:
    """A table and a chart for each probe."""
    blocks: list[Block] = []
    for i, probe in enumerate(run["probes"]):
        rows = encoders_first(probe["rows"])
        title = f"{_title(probe)} on {probe['data']}"
        how = _how(run, probe)
        chance = next((row["accuracy"] for row in rows if row["name"] == "chance"), None)
        blocks += [
            _table(rows, f"{key}-probe-{i}", f"Linear probe and floors: {title}", how),
            Chart(
                f"{key}-bars-{i}",
                f"Test accuracy: {title}",
                "The accuracies of the table above; whiskers: its 95 % Wilson intervals. Grey: floors; dashed: chance. "
                + _brief(run, probe),
                partial(draw_bars, rows, chance=chance),
            ),
            *map(Note, probe["notes"]),
        ]
    return Section(f"{key}-probe", "Linear probe", blocks or [_unprobed(run)])


def confusion_section(run: Mapping[str, Any], key: str) -> Section:
    """The encoder's confusion matrix in each probe."""
    blocks: list[Block] = []
    for i, probe in enumerate(run["probes"]):
        row = encoders_first(probe["rows"])[0]
        title = f"{row['name']}, {_title(probe)}"
        how = (
            "Rows: true class, columns: what the probe predicts, both in the file's order. Counts of test images; "
            f"the tint is the share of the true class. No intervals: the probe's table has them. {_brief(run, probe)}"
        )
        draw = partial(draw_confusion, row["confusion"], row["classes"])
        blocks.append(Chart(f"{key}-confusion-{i}", f"Confusion matrix: {title}", how, draw))
        if len(row["classes"]) <= MOST_CELLS:
            blocks.append(_counts(row, f"{key}-counts-{i}", f"Counts: {title}", how))
    return Section(f"{key}-confusion", "Confusion matrices", blocks or [_unprobed(run)])


def health_section(run: Mapping[str, Any], key: str) -> Section:
    """Effective ranks, the spectrum and the deviations, once for each encoder and dataset."""
    blocks: list[Block] = []
    seen: set[tuple[str, str]] = set()
    for i, probe in enumerate(run["probes"]):
        rows = [row for row in encoders_first(probe["rows"]) if row.get("health")]
        which = (probe["checkpoint"], probe["data_hash"])
        if rows and which not in seen:
            seen.add(which)
            blocks += _health(run, probe, rows, f"{key}-health-{i}")
    if not blocks:
        again = command("probekit", "probe", *run["argument"])
        told = Note("No spectrum of the embedding yet. It is written by typing:", again)
        blocks = [_unprobed(run) if run["multilabel"] else told]
    return Section(f"{key}-health", "Label-free health", blocks)


def _health(
    run: Mapping[str, Any], probe: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], key: str
) -> list[Block]:
    first = rows[0]["health"]
    again = f"Again: {_again(run, probe)}"
    source = (
        f"Embeddings of the {first['n']} test images of {probe['data']}, checkpoint {probe['checkpoint']}; no labels."
    )
    even = 1 / sqrt(first["dim"])
    columns = (
        "encoder",
        "RankMe, uncentred",
        "RankMe, centred",
        "participation ratio",
        "mean deviation",
        "dead dimensions",
        "dimensions",
    )
    spectra, spreads = [], []
    for row in rows:
        for kind in ("centred", "uncentred"):
            sigma = row["health"]["singular_values"][kind]
            top = max(sigma, default=0.0)
            kept = [value / top for value in sigma if top > 0 and value > 1e-6 * top]
            spectra.append((f"{row['name']}, {kind}", range(1, len(kept) + 1), kept))
        spread = sorted(row["health"]["deviation"], reverse=True)
        spreads.append((row["name"], range(1, len(spread) + 1), spread))
    return [
        Table(
            key,
            f"Effective rank: {_title(probe)}",
            f"{source} RankMe: exp of the entropy of the singular values (Garrido et al. 2023), of the embeddings as "
            "they are (as in the paper) and centred, where a common offset no longer counts. Participation ratio: of "
            "the variances. Mean deviation: of a dimension after rows are scaled to length 1; about 1/sqrt(D) = "
            f"{even:.3f} when healthy; dead: below a hundredth of it. An alarm for collapse, no score: noise has the "
            f"highest rank. No intervals. {again}",
            columns,
            [_ranks(row) for row in rows],
            strong=frozenset({0}),
        ),
        Chart(
            f"{key}-spectrum",
            f"Spectrum of the embedding: {_title(probe)}",
            f"{source} Singular values, divided by the largest; those below a millionth of it are not drawn. {again}",
            partial(draw_lines, spectra, x="number of the singular value", y="singular value / largest", log=True),
        ),
        Chart(
            f"{key}-deviation",
            f"Deviation of each dimension: {_title(probe)}",
            f"{source} Standard deviation of each dimension after rows are scaled to length 1 (SimSiam, Chen and He "
            f"2021), the largest first; dashed: 1/sqrt(D) = {even:.3f}. {again}",
            partial(draw_lines, spreads, x="dimension, sorted", y="standard deviation", floor=even),
        ),
    ]


def _ranks(row: Mapping[str, Any]) -> list[Cell]:
    found = row["health"]
    spread = found["deviation"]
    ranks = (found["rankme"]["uncentred"], found["rankme"]["centred"], found["participation_ratio"])
    return [
        text(row["name"]),
        *(number(rank, 1) for rank in ranks),
        number(sum(spread) / len(spread) if spread else None),
        count(found["dead"]),
        count(found["dim"]),
    ]


def _factor(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"value": None, "ci": None} if found is None else {"value": found["accuracy"], "ci": found["ci"]}


def _table(rows: Sequence[Mapping[str, Any]], key: str, title: str, how: str) -> Table:
    factors = list(dict.fromkeys(name for row in rows for name in row["factors"]))
    has_top5 = any("top5" in row for row in rows)
    told_apart = against_floors(rows)
    top5 = ["top-5 %"] * has_top5
    columns = (
        "features",
        "accuracy %",
        "95 % interval",
        "encoder is",
        *top5,
        "balanced %",
        "macro F1 %",
        "log-loss",
        "C",
        "dimensions",
    )
    cells = [
        [
            text(row["name"]),
            percent(row["accuracy"]),
            percent_interval(row["ci"]),
            text(told_apart.get(row["name"], "-")),
            *([percents(row.get("top5"), row.get("top5_ci"))] * has_top5),
            percents(row["balanced_accuracy"], row.get("balanced_accuracy_ci")),
            percents(row["macro_f1"], row.get("macro_f1_ci")),
            estimate({"mean": row["log_loss"], "ci": row.get("log_loss_ci")}),
            Cell("-", None) if row["C"] is None else Cell(f"{row['C']:g}", row["C"]),
            count(row["dim"]),
            *(percents(**_factor(row["factors"].get(factor))) for factor in factors),
        ]
        for row in rows
    ]
    strong = frozenset(i for i, row in enumerate(rows) if row["kind"] == "encoder")
    notes = [f"{row['name']}: {row['note']}." for row in rows if row["note"]]
    told = f" {' '.join(notes)}" if notes else ""
    return Table(key, title, how + told, (*columns, *(f"{factor} %" for factor in factors)), cells, strong)


def _counts(row: Mapping[str, Any], key: str, title: str, how: str) -> Table:
    titles = [name if name == str(i) else f"{i} {name}" for i, name in enumerate(row["classes"])]
    rows = [[text(title), *map(count, counts)] for title, counts in zip(titles, row["confusion"], strict=True)]
    return Table(key, title, how, ("true class", *titles), rows, folded=True)


def _title(probe: Mapping[str, Any]) -> str:
    return f"protocol {probe['protocol']}, checkpoint {probe['checkpoint']}"


def _how(run: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    row = encoders_first(probe["rows"])[0]
    if probe["protocol"] not in PROTOCOLS:  # a head of its own kind, which says how
        return f"{probe.get('how', '')} Encoder after {probe['after']}. Again: {_again(run, probe)}"
    protocol = PROTOCOLS[probe["protocol"]]
    return (
        f"Logistic regression on frozen features, protocol {protocol}; fitted on {row['n_train']} train images of "
        f"{probe['data']}, scored once on its {row['n']} test images. Encoder after {probe['after']}, checkpoint "
        f"{probe['checkpoint']}; seed {probe['seed']}. Intervals: 95 % Wilson, over test images; they do not cover the "
        f"seed of the pretraining. The encoder is above or below a floor where McNemar's exact test on the same images "
        f"(against chance, the exact binomial test) says so (5 %, Holm over the floors). Again: {_again(run, probe)}"
    )


def _brief(run: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    """`_how` for a chart that stands by its table."""
    row = encoders_first(probe["rows"])[0]
    return f"Under {_title(probe)}, {row['n']} test images of {probe['data']}. Again: {_again(run, probe)}"


def _again(run: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    if probe["protocol"] not in PROTOCOLS and "command" in probe:
        return str(probe["command"])
    other = [] if probe["data"] == run["dataset"]["path"] else ["--data", probe["data"]]
    options = ("--protocol", probe["protocol"], "--checkpoint", probe["checkpoint"], "--seed", str(probe["seed"]))
    return command("probekit", "probe", *run["argument"], *other, *options)


def _unprobed(run: Mapping[str, Any]) -> Note:
    if run["multilabel"]:
        return Note("Images have several labels: their average precision stands under Further protocols.")
    told = "Not probed yet. Probe it by typing (images without labels: with --data LABELLED.h5):"
    return Note(told, command("probekit", "probe", *run["argument"]))
