"""What to type next, where that depends on the data or the run."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from probekit.config import SIDE
from probekit.run import Run
from probekit.weights import LAST, Weights

if TYPE_CHECKING:
    from probekit.h5 import DatasetInfo, Shard


def after_shard(out: Path, shard: "Shard") -> str:
    """What to type once a shard is written, in the folder `out`."""
    return f"shard {shard}; next, when all are there: probekit show {quote(str(out))} --verify"


def after_data(info: "DatasetInfo") -> str:
    """For a dataset file that was written or shown."""
    height, width, file = info.first.height, info.first.width, quote(str(info.path))
    if height % SIDE or width % SIDE:
        fits = max(SIDE, min(height, width) // SIDE * SIDE)
        return (
            f"next: write the file anew with --size {fits} --overwrite, to pretrain on it: "
            f"sides must be divisible by {SIDE}, found {height}x{width}"
        )
    if "train" not in info.splits:
        return f"next: probekit export-embeddings RUN --data {file}   (it has no train split to pretrain on)"
    scored = info.splits.get("test") or info.splits.get("val")
    found = info.splits["train"].boxed and scored is not None and scored.boxed
    boxed = f"   or   probekit detect RUN --data {file}" if found else ""
    return f"next: probekit pretrain conrec --data {file}{boxed}"


def after_pretraining(run: Run, info: "DatasetInfo") -> str:
    """For a run that has ended: a probe, if its data can be probed."""
    named = quote(run.argument)
    look = f"probekit show {named}"
    pool = _pool_of(run.read()["config"].get("branches", {}).get("lcr"))
    missing = unprobeable(info)
    if missing is not None:
        return f"next: {look}   or   probekit probe {named} --data LABELLED.h5   ({info.path} has {missing})"
    return f"next: probekit probe {named}{pool}   or   {look}"


def _pool_of(lcr: Mapping[str, Any] | None) -> str:
    """The pooling at test time of a run with these settings of LCR, as the paper's table has it (docs/branches.md)."""
    if lcr is None or (lcr.get("head") == "linear" and lcr.get("train_pool") != "bilinear"):
        return ""
    return " --pool bilinear" if lcr.get("train_pool") == "bilinear" else " --pool branch"


def after_drawing(run: Run, info: "DatasetInfo") -> str:
    """For a run that was drawn on a dataset file."""
    trained = Path(run.read()["dataset"]["path"])
    given = "" if info.path == trained else f" --data {quote(str(info.path))}"
    return f"next: probekit probe {quote(run.argument)}{' --data LABELLED.h5' if unprobeable(info) else given}"


def as_typed(weights: Weights, data: Path | None = None, **others: object) -> str:
    """What was typed and decides the numbers, for another command to be typed with it; "" where all is default.

    `data`: the file that was named; `others`: by the names of their options, None and 0 where they are not typed.
    """
    words = [] if data is None else ["--data", str(data)]
    words += [] if weights.checkpoint == LAST.checkpoint else ["--checkpoint", weights.checkpoint]
    words += weights.words
    for name, value in others.items():
        words += [f"--{name.replace('_', '-')}", str(value)] if value else []
    return "".join(f" {quote(word)}" for word in words)


def unprobeable(info: "DatasetInfo") -> str | None:
    """What a dataset file lacks for a probe of its labels, one or several an image, in words, or None."""
    parts = [info.splits.get(split) for split in ("train", "test")]
    for split, part in zip(("train", "test"), parts, strict=True):
        if part is None:
            return f"no {split} split"
    if not all(part and part.labelled for part in parts):
        return "no labels"
    return "one class only" if len(info.classes) < 2 and not info.multilabel else None
