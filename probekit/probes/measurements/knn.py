"""Weighted nearest neighbours in train: nothing is fitted (Wu et al. 2018)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Table, by, count, plain
from probekit.probes.measurements.base import Probe, answer_scores, share
from probekit.probes.measurements.linear import Answers

if TYPE_CHECKING:
    from probekit.probes.measure import Conditions, Source


class Monitor(TypedDict):
    k: m.Count
    temperature: m.Number
    accuracy: m.Share
    ci: m.Interval


class KNNRow(Answers):
    k: m.Count | None
    temperature: m.Number | None
    monitor: list[Monitor]


@dataclass(frozen=True)
class KNN(Probe):
    name = "knn"
    title = "Nearest neighbours"
    help = "Also classify by k nearest neighbours."
    about = (
        "Weighted k nearest neighbours in train by cosine, weights exp(cosine / T); k and T chosen on validation; "
        "accuracy on test; intervals: 95 % Wilson over test images."
    )
    shape = KNNRow
    fits = False
    names = ("kNN", "kNN, top-5", "kNN, k=")

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.knn import knn, majority

        train, test, val = conditions.parts(source)
        about: dict[str, Any] = {"classes": conditions.classes, "seed": conditions.seed}
        if source.name == m.CHANCE:
            return majority(train.y, test.y, classes=conditions.classes, seed=conditions.seed)
        return knn(source.name, source.kind, train, test, device=conditions.device, val=val, **about)

    def tables(self, result: m.Result) -> list[Table]:
        rows = result["rows"]
        fixed = max((row["monitor"] for row in rows), key=len)

        def monitor(place: int) -> Callable[[m.Row], Cell]:
            return share("accuracy", "ci", lambda row: row["monitor"][place] if row["monitor"] else {})

        columns = {
            "accuracy %": share("accuracy", "ci"),
            **({"top-5 %": share("top5")} if any("top5" in row for row in rows) else {}),
            "balanced %": share("balanced_accuracy"),
            "k": by("k", count),
            "T": by("temperature", plain),
            **{f"k={found['k']}, T={found['temperature']:g} %": monitor(i) for i, found in enumerate(fixed)},
        }
        how = "Last columns: the monitors of the papers, nothing chosen." if fixed else ""
        return [m.rows_table("scores", self.title, columns, rows, how=how)]

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        found = answer_scores("kNN", row)
        fixed = {f"kNN, k={kept['k']}, T={kept['temperature']:g}": kept for kept in row["monitor"]}
        return found | {name: m.Score(kept["accuracy"], kept["ci"]) for name, kept in fixed.items()}
