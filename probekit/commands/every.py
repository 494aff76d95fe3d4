"""`probekit probe --every`: the same numbers for every encoder that a run kept on its way (ConRec paper, Figure 5)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from probekit.commands.protocols import SECTIONS, Row, Settings
from probekit.probe.sources import Source
from probekit.registry import POOLS
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.weights import KEPT, Weights, kept_checkpoints

EVERY = "Along pretraining"
HOW = (
    "Each encoder that was kept, scored as in the sections of the same names, with the same settings and intervals. "
    "Scored on test for the eye: no checkpoint is chosen by it."
)


def kept_encoders(opened: OpenedRun) -> list[Weights]:
    """The kept weights of a run, then the ones asked for if they are of a later epoch; pooled as those are.

    Raises:
        ValueError: If none was kept, or a branch is to pool, which they do not hold.
    """
    pool, run = opened.weights.pool, opened.run
    if pool and POOLS[pool].of_branch:
        raise ValueError(
            f"expected --every with --pool {' or '.join(name for name, kind in POOLS.items() if not kind.of_branch)}, "
            f"found {pool}: kept encoders hold no branch"
        )
    kept = [Weights(name, pool) for name in kept_checkpoints(run.path)]
    if not kept:
        raise ValueError(
            f"expected kept encoders in {run.checkpoints}, found none; "
            f"type: probekit pretrain {opened.config.method if opened.config else 'METHOD'} --set train.keep_every=20"
        )
    return [*kept, opened.weights] if opened.header["epoch"] > int(kept[-1].checkpoint.removeprefix(KEPT)) else kept


def along_checkpoints(
    opened: OpenedRun,
    kept: Sequence[Weights],
    wanted: Sequence[str],
    rows: Mapping[str, Sequence[Row]],
    settings: Settings,
) -> dict[str, Any]:
    """Scores every kept encoder.

    Args:
        opened: The encoder of the run that was asked for.
        kept: Its weights, the earliest first.
        wanted: Sections; those without scores to follow are passed over.
        rows: Of each section, as they were just measured: the floors come from there.
        settings: As for them.

    Returns:
        {"run", "data", "protocol", "sections", "how", "points", "floors", ...}: points [{checkpoint, checkpoint_hash,
        epoch, scores {name: {value, ci}}}] and floors [{name, scores}].
    """
    info = settings.labels.info
    followed = [name for name in wanted if SECTIONS[name].scores is not None]
    points = []
    for weights in kept:
        settings.console.print(f"  {weights} ...")
        found = opened if weights == opened.weights else open_encoder(opened.run, weights, opened.device)
        source = Source(str(weights), "encoder", partial(found.embed, info))
        scores: dict[str, Any] = {}
        for name in followed:
            scores |= _scores(name, SECTIONS[name].row(source, settings))
        found.refuse_replaced(info)
        points.append(
            {
                "checkpoint": str(weights),
                "checkpoint_hash": found.hash,
                "epoch": found.header["epoch"],
                "scores": scores,
            }
        )
    floors: dict[str, dict[str, Any]] = {}
    for name in followed:
        for row in rows[name]:
            if row["kind"] == "floor":
                floors.setdefault(row["name"], {}).update(_scores(name, row))
    return {
        "run": opened.run.name,
        "data": str(info.path),
        "protocol": settings.protocol,
        "sections": followed,
        "how": HOW,
        "points": points,
        "floors": [{"name": name, "scores": scores} for name, scores in floors.items()],
        "data_hash": info.content_hash,
        "seed": settings.seed,
    }


def _scores(name: str, row: Row) -> dict[str, Any]:
    scores = SECTIONS[name].scores
    assert scores is not None
    return {key: {"value": found["value"], "ci": found["ci"]} for key, found in scores(row).items()}
