"""Several labels an image: average precision of each class, and its mean (XCorr paper, section 3.3)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Table, by, count, percents, text
from probekit.probes import AP_FORMS
from probekit.probes.measurements.base import Probe, share
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.h5 import DatasetInfo
    from probekit.probes.measure import Conditions, Source
    from probekit.probes.protocol import Part

MOST_CLASSES = 40  # beyond, the table of classes is folded
FIRST = "voc2010"  # of the forms


class OfClass(TypedDict):
    name: str
    ap: dict[str, m.Number | None]
    ap_ci: NotRequired[dict[str, m.Interval]]
    positives: m.Count
    difficult: m.Count
    note: str


class MultilabelRow(m.Named):
    n: m.Count
    undefined: m.Count
    map: dict[str, m.Estimate]
    per_class: list[OfClass]


def precision_tables(result: m.Result, title: str) -> list[Table]:
    """Mean average precision in its three forms, and that of each class."""
    first = m.encoder_row(result)
    forms = [form for form in AP_FORMS if form in first["map"]]
    meanings = "; ".join(f"{form}: {AP_FORMS[form]}" for form in forms)

    def mean(form: str) -> Callable[[m.Row], Cell]:
        return share("value", "ci", lambda row: row["map"].get(form, {}))

    columns = {f"mAP {form} %": mean(form) for form in forms}
    columns |= {"classes left out": by("undefined", count), "images": by("n", count)}
    beside = [
        (row["name"], {found["name"]: found["ap"].get(FIRST) for found in row["per_class"]})
        for row in m.encoders_first(result["rows"])[1:]
        if FIRST in forms
    ]
    classes = [
        [
            text(found["name"]),
            *(percents(found["ap"].get(form), found.get("ap_ci", {}).get(form)) for form in forms),
            *(percents(known.get(found["name"]), None) for _, known in beside),
            count(found["positives"]),
            count(found["difficult"]),
            text(found["note"]),
        ]
        for found in first["per_class"]
    ]
    own, others = [f"AP {form} %" for form in forms], [f"AP {FIRST} %, {name}" for name, _ in beside]
    named = ("class", *own, *others, "images with it", "difficult", "left out because")
    return [
        m.rows_table("scores", title, columns, result["rows"], how=f"{meanings}."),
        Table("classes", f"Each class, {first['name']}", "", named, classes, folded=len(classes) > MOST_CLASSES),
    ]


def precision_scores(row: m.Row) -> dict[str, m.Score]:
    """The mean in each form, that of VOC from 2010 on first."""
    forms = sorted(row["map"], key=lambda form: form != FIRST)
    return {f"mAP, {form}": m.score_of(row["map"][form]) for form in forms}


@dataclass(frozen=True)
class Multilabel(Probe):
    name = "multilabel"
    title = "Mean average precision"
    help = "Also average precision of each class; with several labels an image this is done unasked."
    about = (
        "One logistic probe a class, protocol {protocol}, fitted on train, difficult labels left out; mean average "
        "precision on test; intervals: 95 % percentile bootstrap over test images."
    )
    shape = MultilabelRow
    baselines = (RANDOM, m.CHANCE)  # photographs have no ink, and raw pixels would be fitted once a class
    several = True
    replaces = ("linear",)
    offered = False  # it is measured unasked where it makes sense
    names = (*(f"mAP, {form}" for form in AP_FORMS), "AP, ")

    def unasked(self, info: "DatasetInfo") -> bool:
        return info.multilabel

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.average_precision import multilabel

        train, test, val = (part and _of_each_class(part, len(conditions.classes)) for part in conditions.parts(source))
        assert train is not None
        assert test is not None
        return multilabel(source.name, source.kind, train, test, val=val, **conditions.fitting(source))

    def tables(self, result: m.Result) -> list[Table]:
        return precision_tables(result, self.title)

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        return precision_scores(row)

    def numbers(self, row: m.Row) -> dict[str, m.Score]:
        """The AP of each class, too."""
        return precision_scores(row) | {
            f"AP, {found['name']}": m.Score(found["ap"].get(FIRST), found.get("ap_ci", {}).get(FIRST))
            for found in row["per_class"]
        }


def _of_each_class(part: "Part", k: int) -> "Part":
    """Labels `[N, K]`, present or absent, where there is one an image."""
    import numpy as np

    return part if part.y.ndim == 2 else replace(part, y=np.eye(k, dtype=np.int64)[part.y])
