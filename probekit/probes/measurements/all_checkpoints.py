"""The same numbers for every encoder that a run kept on its way (ConRec paper, Figure 5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired

from probekit import measurement as m
from probekit.output.document import Chart, Table, count
from probekit.probes.measurements.base import Probe, by_row
from probekit.probes.measurements.curves import Curve, curve, kept_scores, known, of_run, score_columns
from probekit.registry import POOLS
from probekit.weights import KEPT, Weights, kept_checkpoints

if TYPE_CHECKING:
    from probekit.probes.measure import Conditions
    from probekit.restore.opened import Opened, OpenedRun


class CheckpointRow(m.Named):
    epoch: NotRequired[m.Count]
    checkpoint: NotRequired[str]
    scores: dict[str, m.Estimate]


@dataclass(frozen=True)
class AllCheckpoints(Curve):
    name = "all-checkpoints"
    title = "Along pretraining"
    help = "Also measure every kept encoder, along pretraining (--set train.keep_every=20 keeps them)."
    about = (
        "Each encoder that was kept, scored as in the tables of the same names, with the same settings and intervals. "
        "Scored on test for the eye: no checkpoint is chosen by it."
    )
    shape = CheckpointRow

    def check(self, conditions: "Conditions") -> None:
        if conditions.opened is None:
            raise ValueError("expected --all-checkpoints for a run of pretrain, found it with --encoder; leave it out")
        _kept(of_run(conditions.opened))
        if not self._followed(conditions):
            asked = " and ".join(name for name in conditions.asked if name != self.name)
            raise ValueError(f"expected something to follow with --all-checkpoints, found only {asked}")

    def made_of(self, asked: Mapping[str, m.Measurement]) -> dict[str, m.Measurement]:
        return {name: each for name, each in asked.items() if isinstance(each, Probe) and each.followable}

    def rest(self, opened: "Opened", conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]]) -> None:
        from probekit.probes.measure import Source
        from probekit.restore.opened import open_encoder

        run, info = of_run(opened), conditions.labels.info
        followed = self._followed(conditions)
        for weights in _kept(run):
            conditions.console.print(f"  {weights} ...")
            found = run if weights == run.weights else open_encoder(run.run, weights, run.device)
            source = Source(str(weights), m.ENCODER, partial(found.embed, info), opened=found)
            scores: dict[str, Any] = {}
            for each in followed:
                scores |= kept_scores(each, each.row(source, conditions))
            found.refuse_replaced(info)
            about = {"checkpoint": str(weights), "checkpoint_hash": found.hash, "epoch": found.header["epoch"]}
            rows[self.name].append({"name": str(weights), "kind": m.ENCODER, **about, "scores": scores})
        rows[self.name] += self._flat(conditions, rows)

    def tables(self, result: m.Result) -> list[Table]:
        points, others = _divided(result)
        names = by_row([*points, *others], lambda row: row["scores"])
        columns = {"epoch": lambda row: count(row.get("epoch")), **score_columns(names, [*points, *others])}
        return [m.rows_table("along", self.title, columns, [*points, *others])]

    def charts(self, result: m.Result) -> list[Chart]:
        points, others = _divided(result)
        charts, beside = [], "; grey: baselines" * bool(others)
        for i, name in enumerate(by_row(points, lambda row: row["scores"])):
            seen = known(name, points)
            if len(seen) > 1:
                title, drawn = f"Along pretraining: {name}", curve(name, seen, others, axis="epoch", x="epoch")
                charts.append(Chart(f"curve-{i}", title, f"Band: intervals{beside}.", drawn))
        return charts

    def proposed(self, run: Mapping[str, Any]) -> bool:
        return bool(run["config"]["train"].get("keep_every"))


def _kept(opened: "OpenedRun") -> list[Weights]:
    """The kept weights of a run, then the ones asked for if they are of a later epoch; pooled as those are."""
    pool, run = opened.weights.pool, opened.run
    if pool and POOLS[pool].of_run:
        known = " or ".join(name for name, kind in POOLS.items() if not kind.of_run)
        raise ValueError(
            f"expected --all-checkpoints with --pool {known}, found {pool}: kept encoders hold no branch and no head"
        )
    kept = [replace(opened.weights, checkpoint=name) for name in kept_checkpoints(run.path)]
    if not kept:
        raise ValueError(
            f"expected kept encoders in {run.checkpoints}, found none; "
            f"type: probekit pretrain {opened.config.method if opened.config else 'METHOD'} --set train.keep_every=20"
        )
    return [*kept, opened.weights] if opened.header["epoch"] > int(kept[-1].checkpoint.removeprefix(KEPT)) else kept


def _divided(result: m.Result) -> tuple[list[m.Row], list[m.Row]]:
    """Encoders by epoch, and baselines."""
    points = [row for row in result["rows"] if row["kind"] == m.ENCODER]
    return sorted(points, key=lambda row: int(row["epoch"])), [r for r in result["rows"] if r["kind"] != m.ENCODER]
