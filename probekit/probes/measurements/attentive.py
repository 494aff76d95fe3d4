"""A probe that attends to the frozen tokens of an image, beside the linear probe of their embedding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Chart, Table, by, count, plain, text
from probekit.probes.measurements.base import Probe, answer_scores, other, share
from probekit.probes.measurements.linear import Answers, answer_charts, answer_sentences, answer_table, counts_table
from probekit.weights import RANDOM

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probekit.probes.measure import Conditions, Source
    from probekit.restore.opened import Opened

QUERIES = {"shared": "one query, a head for every 64 dimensions", "class": "one query a class"}


class Beside(TypedDict):
    """The linear probe of the same features, and what McNemar's test says of the attentive one against it."""

    accuracy: m.Share
    ci: m.Interval
    attentive: NotRequired[str]


class AttentiveRow(Answers):
    """A row as of the linear probe; chance attends to nothing."""

    classes: list[str]
    confusion: list[list[m.Count]]
    n_train: m.Count
    dim: m.Count
    tokens: NotRequired[m.Count]
    rate: NotRequired[m.Number]
    epochs: NotRequired[m.Count]
    linear: NotRequired[Beside]


@dataclass(frozen=True)
class Attentive(Probe):
    queries: str = m.option(
        "shared",
        "--attentive",
        "Also train a probe that attends to the tokens of an image: one query that is shared, or one a class.",
        asks=True,
        choices=tuple(QUERIES),
    )

    name = "attentive"
    title = "Attentive probe"
    about = (
        "One cross-attention over the frozen cells or patches of an image, and a linear classifier ({summary}); AdamW, "
        "cosine; rate and epochs with the lowest log-loss on validation, then trained on all of train; scored once on "
        "test; intervals: 95 % over test images."
    )
    shape = AttentiveRow
    baselines = (RANDOM, m.CHANCE)
    followable = False
    offered = False  # it takes minutes
    names = ("attentive", "attentive, top-5")

    def how(self, conditions: "Conditions") -> str:
        return self.about.format(summary=QUERIES[self.queries])

    def protocol(self, conditions: "Conditions") -> str:
        return self.queries

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        if source.opened is None:  # chance
            row = other(conditions, "linear").row(source, conditions)
            return {key: value for key, value in row.items() if key not in ("factors", "C", "protocol", "solver")}
        return _row(source, source.opened, conditions, self.queries)

    def rest(self, opened: "Opened", conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]]) -> None:
        from probekit.probes.scores import against_baselines

        linear = {row["name"]: row for row in rows.get("linear", ())}
        for row in rows[self.name]:
            if (beside := linear.get(row["name"])) is not None and "tokens" in row:
                told = against_baselines([row, {**beside, "name": "linear"}])
                said = {"attentive": told["linear"]} if "linear" in told else {}
                row["linear"] = {"accuracy": beside["accuracy"], "ci": beside["ci"], **said}

    def tables(self, result: m.Result) -> list[Table]:
        def beside(row: m.Row) -> m.Row:
            found: m.Row = row.get("linear", {})
            return found

        def than(row: m.Row) -> Cell:
            return text(beside(row).get("attentive", "-"))

        columns: dict[str, Callable[[m.Row], Cell]] = {
            "tokens": lambda row: count(row.get("tokens")),
            "rate": lambda row: plain(row.get("rate")),
            "epochs": lambda row: count(row.get("epochs")),
        }
        columns |= {"dimensions": by("dim", count), "fitted on": by("n_train", count)}
        if any("linear" in row for row in result["rows"]):
            columns = {"linear probe %": share("accuracy", "ci", beside), "than that": than, **columns}
        return [answer_table(result, self.title, columns), *counts_table(result)]

    def charts(self, result: m.Result) -> list[Chart]:
        return answer_charts(result)

    def sentences(self, result: m.Result) -> list[str]:
        told = [
            line.replace("linear probe, protocol", "attentive probe, query") for line in answer_sentences(result)[:1]
        ]
        beside = m.encoder_row(result).get("linear", {})
        if "attentive" in beside:
            told.append(
                f"On the same test images it is {beside['attentive']} the linear probe of the embedding, "
                f"{100 * beside['accuracy']:.1f} % (McNemar's exact test, 5 %)."
            )
        return told

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        return answer_scores("attentive", row)


def _row(source: "Source", opened: "Opened", conditions: "Conditions", queries: str) -> dict[str, Any]:
    import numpy as np
    from scipy.special import log_softmax

    from probekit.output.terminal import progress_bar
    from probekit.probes.attentive import Tokens, train_attentive
    from probekit.probes.frozen import Frozen
    from probekit.probes.scores import evaluate

    parts, classes = conditions.labels.parts, conditions.classes
    frozen = Frozen.of(opened, conditions.labels.info)
    kept = {name: frozen.kept(name, conditions.seed) for name in ("train", "val") if name in parts}

    def held(name: str) -> Tokens:
        groups, index = parts[name].groups, kept[name]
        return Tokens(frozen.read(name, index), parts[name].y[index], None if groups is None else groups[index])

    with progress_bar(f"{source.name}, attentive probe", conditions.console) as advance:
        trained = train_attentive(
            queries,
            held("train"),
            held("val") if "val" in kept else None,
            classes=len(classes),
            seed=conditions.seed,
            device=opened.device,
            progress=advance,
        )
    logits = np.concatenate([trained.logits(rows) for rows in frozen.chunks("test")])
    truth = parts["test"].y
    alone = "one token an image, so it is a linear probe" * (frozen.shape[0] == 1)
    return {
        "name": source.name,
        "kind": source.kind,
        **evaluate(log_softmax(logits, axis=1), truth, seed=conditions.seed),
        "note": "; ".join(filter(None, (*_left_out(kept, parts), alone, trained.note))),
        "classes": list(classes),
        "n_train": len(kept["train"]),
        "dim": frozen.shape[1],
        "tokens": frozen.shape[0],
        "rate": trained.rate,
        "epochs": trained.epochs,
        "labels": truth.tolist(),
        "predicted": logits.argmax(axis=1).tolist(),
    }


def _left_out(kept: Mapping[str, "NDArray[np.int64]"], parts: Mapping[str, Any]) -> list[str]:
    """A line for each split whose tokens are more than memory is to hold."""
    return [
        f"{len(index)} of {len(parts[name].y)} images of {name} are used, drawn by the seed: "
        "the tokens of all are more than 4 GiB"
        for name, index in kept.items()
        if len(index) < len(parts[name].y)
    ]
