"""`probekit probe --every`: the same numbers for every encoder that a run kept on its way (ConRec paper, Figure 5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console

from probekit.commands.protocols import SECTIONS, Row, Settings
from probekit.commands.results import refuse_replaced
from probekit.commands.sources import Source
from probekit.models.encoder import kept_checkpoints, load_encoder
from probekit.restore.embeddings import trained_embedder
from probekit.restore.pooled import OF_BRANCHES, with_pool
from probekit.run import Run, encoder_file, split_checkpoint

EVERY = "Along pretraining"
HOW = (
    "Each encoder that was kept, scored as in the sections of the same names, with the same settings and intervals. "
    "Scored on test for the eye: no checkpoint is chosen by it."
)


def kept_encoders(run: Run, checkpoint: str) -> list[str]:
    """The kept checkpoints of a run, then the one asked for if it is none of them and a later epoch; pooled as that is.

    Raises:
        ValueError: If none was kept, or a branch is to pool, which they do not hold.
    """
    _, pool = split_checkpoint(checkpoint)
    if pool in OF_BRANCHES:
        raise ValueError(
            f"expected --every with --pool gap, max, norm or attention, found {pool}: kept encoders hold no branch"
        )
    kept = [with_pool(name, pool) for name in kept_checkpoints(run.path)]
    if not kept:
        raise ValueError(
            f"expected kept encoders in {run.checkpoints}, found none; "
            "type: probekit pretrain METHOD --set train.keep_every=20"
        )
    epochs = [load_encoder(run.path, name)[1]["epoch"] for name in (kept[-1], checkpoint)]
    return [*kept, checkpoint] if epochs[1] > epochs[0] else kept


def along_checkpoints(
    run: Run,
    kept: Sequence[str],
    wanted: Sequence[str],
    rows: Mapping[str, Sequence[Row]],
    settings: Settings,
    *,
    device: torch.device,
    console: Console,
) -> dict[str, Any]:
    """Scores every kept encoder.

    Args:
        run: The run.
        kept: Names of checkpoints, the earliest first.
        wanted: Sections; those without scores to follow are passed over.
        rows: Of each section, as they were just measured: the floors come from there.
        settings: As for them.
        device: Where encoders compute.
        console: Where messages go.

    Returns:
        {"run", "data", "protocol", "sections", "how", "points", "floors", ...}: points [{checkpoint, checkpoint_hash,
        epoch, scores {name: {value, ci}}}] and floors [{name, scores}].
    """
    info = settings.labels.info
    followed = [name for name in wanted if SECTIONS[name].scores is not None]
    points = []
    for checkpoint in kept:
        console.print(f"  {checkpoint} ...")
        embedder, header = trained_embedder(run, checkpoint, device)
        source = Source(checkpoint, "encoder", lambda split, embed=embedder: embed(info, split))  # type: ignore[misc]
        scores: dict[str, Any] = {}
        for name in followed:
            scores |= _scores(name, SECTIONS[name].row(source, settings))
        measured = embedder.key["encoder"]
        refuse_replaced(info, encoder_file(run.path, checkpoint), measured)
        points.append(
            {
                "checkpoint": checkpoint,
                "checkpoint_hash": measured,
                "epoch": header["epoch"],
                "scores": scores,
            }
        )
    floors: dict[str, dict[str, Any]] = {}
    for name in followed:
        for row in rows[name]:
            if row["kind"] == "floor":
                floors.setdefault(row["name"], {}).update(_scores(name, row))
    return {
        "run": run.name,
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
