"""The linear probe: logistic regression on frozen features (ConRec paper, section 2.5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from probekit import measurement as m
from probekit.output.document import (
    Cell,
    Chart,
    Headline,
    Table,
    by,
    count,
    drawing,
    percent,
    percent_interval,
    percents,
    plain,
    scored,
    text,
)
from probekit.probes.measurements.base import Probe, answer_scores, by_row, share
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.h5 import DatasetInfo
    from probekit.probes.measure import Conditions, Source

MOST_CELLS = 60  # classes up to which the counts also stand in a table
PAIRED = (
    "The encoder is above or below a baseline where McNemar's exact test on the same images (against chance, the exact "
    "binomial test) says so (5 %, Holm over the baselines)."
)


class Answers(m.Named):
    accuracy: m.Share
    ci: m.Interval
    n: m.Count
    balanced_accuracy: m.Share
    balanced_accuracy_ci: m.Interval
    macro_f1: m.Share
    macro_f1_ci: m.Interval
    log_loss: m.Number | None
    log_loss_ci: m.Interval
    top5: NotRequired[m.Share]
    top5_ci: NotRequired[m.Interval]
    note: str
    labels: NotRequired[list[int]]
    predicted: NotRequired[list[int]]


class Factor(TypedDict):
    accuracy: m.Share | None
    ci: m.Interval
    right: NotRequired[list[bool]]


class LinearRow(Answers):
    C: m.Number | None
    classes: list[str]
    confusion: list[list[m.Count]]
    n_train: m.Count
    dim: m.Count
    factors: dict[str, Factor]


def answer_table(result: m.Result, title: str, further: m.Columns) -> Table:
    """The scores of predicted classes, one for each class factor, and further columns."""
    from probekit.probes.scores import against_baselines

    rows = m.encoders_first(result["rows"])
    told = against_baselines(rows)

    def factor(name: str) -> Callable[[m.Row], Cell]:
        return share("accuracy", "ci", lambda row: row.get("factors", {}).get(name, {}))

    columns = {
        "accuracy %": share("accuracy", "ci"),
        "encoder is": lambda row: text(told.get(row["name"], "-")),
        **({"top-5 %": share("top5")} if any("top5" in row for row in rows) else {}),
        "balanced %": share("balanced_accuracy"),
        "macro F1 %": share("macro_f1"),
        "log-loss": lambda row: scored(row["log_loss"], row["log_loss_ci"]),
        **{f"{name} %": factor(name) for name in by_row(rows, lambda row: row.get("factors", {}))},
        **further,
    }
    notes = [f"{row['name']}: {row['note']}." for row in rows if row["note"]]
    how = " ".join(("Intervals do not cover the seed of the pretraining.", *([PAIRED] if told else []), *notes))
    return m.rows_table("scores", title, columns, rows, how=how, details=frozenset(("encoder is", *further)))


def answer_charts(result: m.Result) -> list[Chart]:
    """Bars of accuracies, and where the encoder errs."""
    rows = m.encoders_first(result["rows"])
    chance = next((row["accuracy"] for row in rows if row["name"] == m.CHANCE), None)
    encoder, *others = rows
    beside = " Grey: baselines." * bool(others) + " Dashed: chance." * (chance is not None)
    return [
        Chart(
            "bars",
            "Test accuracy",
            f"The accuracies of the table; whiskers: its intervals.{beside}",
            drawing("draw_bars", rows, chance=chance),
        ),
        Chart(
            "confusion",
            f"Confusion matrix of {encoder['name']}",
            "Rows: true class, columns: what the probe predicts, both in the file's order. Counts of test images; "
            "the tint is the share of the true class. No intervals: the table of scores has them.",
            drawing("draw_confusion", encoder["confusion"], encoder["classes"]),
        ),
    ]


def counts_table(result: m.Result) -> list[Table]:
    """The confusion matrix in numbers, where it is of a size to be read."""
    row = m.encoder_row(result)
    if len(row["classes"]) > MOST_CELLS:
        return []
    titles = [name if name == str(i) else f"{i} {name}" for i, name in enumerate(row["classes"])]
    lines = [[text(title), *map(count, counts)] for title, counts in zip(titles, row["confusion"], strict=True)]
    how = "Rows: true class, columns: what the probe predicts. Counts of test images."
    return [Table("counts", f"Counts of {row['name']}", how, ("true class", *titles), lines, folded=True)]


def answer_sentences(result: m.Result) -> list[str]:
    """The encoder's accuracy, and what a paired test says of it and each baseline."""
    from probekit.probes.scores import against_baselines
    from probekit.statistics import VERDICTS

    encoder, *others = m.encoders_first(result["rows"])
    ends = percent_interval(encoder["ci"]).text if encoder["ci"] else ""
    line = " ".join(filter(None, (f"{100 * encoder['accuracy']:.1f} % of {encoder['n']} test images right", ends)))
    line += f", linear probe, protocol {result['protocol']}, checkpoint {result['checkpoint']}"
    told = against_baselines([encoder, *others])
    if not others:
        return [f"{line}; no baselines were probed with it."]
    highest = max(others, key=lambda row: float(row["accuracy"]))
    said = f", which the encoder is {told[highest['name']]}" if highest["name"] in told else ""
    line += f"; the highest baseline, {highest['name']}, {100 * highest['accuracy']:.1f} %{said}."
    named = {verdict: [name for name, found in told.items() if found == verdict] for verdict in VERDICTS}
    parts = [f"{verdict} {', '.join(names)}" for verdict, names in named.items() if names]
    if not parts:
        return [line]
    beside = f"On the same test images the encoder is {'; '.join(parts)} (docs/protocols.md, Baselines)."
    return [line, beside, *factor_sentences(encoder, others)]


def factor_sentences(encoder: m.Row, others: Sequence[m.Row]) -> list[str]:
    """Each class factor beside the same network with random weights: what training added."""
    from probekit.probes.scores import factors_beside

    random = next((row for row in others if row["name"] == RANDOM), {})
    told = factors_beside(encoder, random)
    parts = [
        f"{name} {100 * encoder['factors'][name]['accuracy']:.1f} %, {found} {RANDOM} "
        f"({100 * random['factors'][name]['accuracy']:.1f})"
        for name, found in told.items()
    ]
    return [f"Class factors: {'; '.join(parts)}; McNemar's exact test, Holm over them."] if parts else []


@dataclass(frozen=True)
class Linear(Probe):
    name = "linear"
    title = "Linear probe"
    about = (
        "Logistic regression on frozen features, protocol {protocol}; fitted on train, scored once on test; intervals: "
        "accuracies 95 % Wilson over test images (of balanced accuracy and macro F1 percentile bootstrap, of log-loss "
        "Student t)."
    )
    shape = LinearRow
    main = ("linear", "linear, top-5")
    names = ("linear", "linear, top-5", "linear: ")
    baselines = (RANDOM, m.CHANCE, "ink statistics", "raw pixels", "patch bag")

    def unasked(self, info: "DatasetInfo") -> bool:
        return not info.multilabel

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.protocol import probe

        train, test, val = conditions.parts(source)
        return probe(source.name, source.kind, train, test, val=val, **conditions.fitting(source))

    def tables(self, result: m.Result) -> list[Table]:
        title = "Linear probe and baselines" if len(result["rows"]) > 1 else self.title
        columns = {"C": by("C", plain), "dimensions": by("dim", count), "fitted on": by("n_train", count)}
        return [answer_table(result, title, columns), *counts_table(result)]

    def charts(self, result: m.Result) -> list[Chart]:
        return answer_charts(result)

    def sentences(self, result: m.Result) -> list[str]:
        return answer_sentences(result)

    def headline(self, result: m.Result) -> Headline:
        encoder, *others = m.encoders_first(result["rows"])
        shown = percents(encoder["accuracy"], encoder["ci"])
        return Headline(
            f"{shown.number} %",
            shown.ends,
            f"of {encoder['n']} test images right, by a linear probe",
            [(row["name"], f"{percent(row['accuracy']).number} %") for row in others],
            [(name, f"{percent(found['accuracy']).number} %") for name, found in encoder.get("factors", {}).items()],
        )

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        factors = row["factors"].items()
        return answer_scores("linear", row) | {
            f"linear: {name}": m.Score(kept["accuracy"], kept["ci"]) for name, kept in factors
        }
