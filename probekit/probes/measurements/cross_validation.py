"""Cross-validation of the linear probe on train, for sets whose test labels are hidden (ConRec paper, section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Table, scored
from probekit.probes import FOLDS, METRICS, PROTOCOLS, REPEATS
from probekit.probes.measurements.base import Probe, by_row, grades
from probekit.probes.measurements.sgd import RECIPES
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.probes.cross_validation import Predict
    from probekit.probes.measure import Conditions, Source


class Folds(TypedDict):
    mean: m.Number | None
    ci: m.Interval
    pooled: m.Number | None
    pooled_ci: m.Interval


class FoldsRow(m.Named):
    metric: str
    folds: m.Count
    repeats: m.Count
    n: m.Count
    decodings: dict[str, dict[str, Folds]]
    recipe: NotRequired[str]


@dataclass(frozen=True)
class CrossValidation(Probe):
    folds: int = m.option(FOLDS, "--cv", "Also K-fold cross-validation on train.", asks=True, metavar="K")
    metric: str = m.option("accuracy", "--metric", "The metric of --cv.", choices=tuple(METRICS))
    repeats: int = m.option(REPEATS, "--repeats", "How often --cv divides train anew.", least=1)
    sgd: str | None = m.option(
        None, "--cv-sgd", "Have --cv train a head in each fold, as --sgd does.", choices=tuple(RECIPES)
    )

    name = "cv"
    title = "Cross-validation on train"
    about = (
        "{fitted}, {repeats} x {folds}-fold cross-validation on train, stratified; {metric}; "
        "intervals: 95 % Nadeau-Bengio over folds; of pooled out-of-fold values 95 % percentile bootstrap over images."
    )
    shape = FoldsRow
    baselines = (RANDOM, m.CHANCE)  # others have more features than there are images: 25 fits take minutes
    needs = ("train",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds < 2:
            raise ValueError(f"expected 2 folds or more, found {self.folds}; type: --cv {FOLDS}")

    @property
    def decodings(self) -> tuple[str, ...]:
        """How the class of an image is read, by name, as `cross_validate` and the recipes have it."""
        if self.sgd is not None:
            return ("cumulative" if RECIPES[self.sgd].ordinal else "plain",)
        return ("cumulative", "plain") if self.metric == "kappa" else ("plain",)

    def check(self, conditions: "Conditions") -> None:
        from probekit.probes.cross_validation import divide

        part = conditions.labels.parts["train"]
        divide(part.y, folds=self.folds, seed=0, repeat=0, groups=part.groups)

    def how(self, conditions: "Conditions") -> str:
        graded = self.metric == "kappa" or (self.sgd is not None and RECIPES[self.sgd].ordinal)
        order = f" (grades: {grades(conditions.classes)})" if graded else ""
        probe = f"Linear probe, protocol {PROTOCOLS[conditions.protocol]}"
        fitted = probe if self.sgd is None else f"Linear head ({RECIPES[self.sgd].summary}), trained anew in each fold"
        return self.about.format(**self.options | {"fitted": fitted, "metric": METRICS[self.metric] + order})

    def protocol(self, conditions: "Conditions") -> str:
        return self.sgd or super().protocol(conditions)

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.cross_validation import cross_validate

        trained = self.sgd if source.opened is not None else None  # chance is not
        row = cross_validate(
            source.name,
            source.kind,
            source.part(conditions.labels, "train"),
            among=conditions.among,
            predict=None if trained is None else self._trainer(source, conditions),
            folds=self.folds,
            repeats=self.repeats,
            metric=self.metric,
            **conditions.fitting(source),
        )
        if self.sgd is None:
            return row
        if trained is None:  # the commonest class is that by any decoding
            (decoding,) = self.decodings
            return row | {"decodings": {decoding: row["decodings"]["plain"]}, "recipe": self.sgd}
        return row | {"protocol": trained, "recipe": trained}

    def _trainer(self, source: "Source", conditions: "Conditions") -> "Predict":
        from probekit.data.split import open_split
        from probekit.probes.head import folds_trainer

        assert source.opened is not None
        assert self.sgd is not None
        opened, info = source.opened, conditions.labels.info
        train = open_split(
            info.path, "train", opened.device, cut=True, max_size=opened.header["max_size"], crop=info.first.crop
        )

        def say(place: tuple[int, int], done: int, total: int) -> None:
            if done == total:
                told = f"repeat {place[0] + 1} of {self.repeats}, fold {place[1] + 1} of {self.folds}"
                conditions.console.print(f"  {source.name}: {told} is trained")

        return folds_trainer(
            opened.encoder,
            train.images,
            conditions.labels.parts["train"].y,
            classes=len(conditions.classes),
            recipe=RECIPES[self.sgd],
            seed=conditions.seed,
            progress=say,
        )

    def tables(self, result: m.Result) -> list[Table]:
        rows = result["rows"]
        decodings = by_row(rows, lambda row: row["decodings"])
        metrics = by_row(rows, lambda row: next(iter(row["decodings"].values())))
        columns = {
            f"{decoding}, {metric}{kind}": _column(decoding, metric, name, ends)
            for decoding in decodings
            for metric in metrics
            for kind, name, ends in (("", "mean", "ci"), (", pooled", "pooled", "pooled_ci"))
        }
        less = frozenset(f"{decoding}, accuracy, pooled" for decoding in decodings if len(metrics) > 1)
        return [m.rows_table("scores", self.title, columns, rows, details=less)]

    def named(self) -> tuple[str, ...]:
        metrics = dict.fromkeys((self.metric, "accuracy"))
        return tuple(f"{_called(self.sgd)} {metric}, {decoding}" for decoding in self.decodings for metric in metrics)

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """The mean over folds of each metric and decoding, the metric that was asked for first."""
        found = {
            f"{_called(row.get('recipe'))} {metric}, {decoding}": m.Score(
                kept["mean"], kept["ci"], -1.0 if metric == "kappa" else 0.0
            )
            for decoding, metrics in row["decodings"].items()
            for metric, kept in metrics.items()
        }
        return {name: found[name] for name in sorted(found, key=lambda name: row["metric"] not in name)}


def _called(recipe: str | None) -> str:
    return "cross-validated" if recipe is None else f"cross-validated {recipe}"


def _column(decoding: str, metric: str, name: str, ends: str) -> Callable[[m.Row], Cell]:
    def cell(row: m.Row) -> Cell:
        found = row["decodings"].get(decoding, {}).get(metric, {})
        return scored(found.get(name), found.get(ends))

    return cell
