"""From an opened encoder and a dataset file to results: every measurement that was asked for, each encoder read once."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probekit.data.split import check_channels
from probekit.h5 import DatasetInfo
from probekit.measurement import BASELINE, Row
from probekit.probe import PROTOCOLS
from probekit.probe.measurements.base import Probe
from probekit.probe.sources import Conditions, sources
from probekit.restore.opened import OpenedRun
from probekit.weights import Weights


def measure(
    opened: OpenedRun, asked: Sequence[Probe], conditions: Conditions, *, baselines: bool, data: Path | None
) -> dict[str, dict[str, Any]]:
    """Measures an encoder, and beside it what needs no learning.

    Args:
        opened: The encoder.
        asked: What is measured.
        conditions: Under which; each `check` has passed.
        baselines: Whether there are rows beside the encoder's.
        data: The dataset file if one was named, for the command that makes the same again.

    Returns:
        For each measurement by name what its results file holds; `measurement.About` has the keys.

    Raises:
        ValueError: If the data do not fit the encoder, or either was replaced meanwhile.
    """
    info = conditions.labels.info
    check_channels(info, opened.header["spec"]["channels"])
    notes: list[str] = []
    rows: dict[str, list[Row]] = {each.name: [] for each in asked}
    seconds = dict.fromkeys(rows, 0.0)
    for source in sources(opened, info, baselines=baselines, seed=conditions.seed, say=notes.append):
        for each in asked:
            if not each.needs and not each.baselines:  # made of the others
                continue
            if source.kind == BASELINE and source.name not in each.baselines:
                continue
            if len(asked) > 1:
                conditions.console.print(f"  {source.name}: {each.title.lower()} ...")
            started = time.monotonic()
            rows[each.name].append(each.row(source, conditions))
            seconds[each.name] += time.monotonic() - started
    for each in asked:
        each.rest(opened, conditions, rows)
    opened.refuse_replaced(info)
    for line in notes:
        conditions.console.print(f"note: {line}")
    return {
        each.name: {
            "schema": each.schema(),
            "run": opened.run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "protocol": each.protocol(conditions),
            "how": each.how(conditions),
            "command": _command(opened, each, conditions, data),
            "options": each.options,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            "epoch": opened.header["epoch"],
            "seed": conditions.seed,
            "notes": notes,
            "rows": rows[each.name],
            "seconds": round(seconds[each.name], 2),
        }
        for each in asked
    }


def stem(result: dict[str, Any], name: str, data: Path | None) -> str:
    """How a result's files are called: measurement, protocol, checkpoint, and another dataset than the run's own."""
    parts = dict.fromkeys((name, result["protocol"], result["checkpoint"]))
    return "-".join((*parts, *([] if data is None else [data.stem])))


def choose(labels_of: DatasetInfo, typed: Sequence[Probe], defaults: Sequence[Probe]) -> list[Probe]:
    """What is measured: the defaults that the data allow, then what was typed."""
    raise NotImplementedError


def _command(opened: OpenedRun, each: Probe, conditions: Conditions, data: Path | None) -> str:
    """What to type for the same numbers."""
    words = each.typed(conditions)
    if conditions.protocol != next(iter(PROTOCOLS)):
        words += ["--protocol", conditions.protocol]
    if data is not None:
        words += ["--data", str(data)]
    if conditions.seed:
        words += ["--seed", str(conditions.seed)]
    if opened.weights != Weights():
        words += ["--checkpoint", str(opened.weights)]
    return shlex.join(["probekit", "probe", opened.run.argument, *words])
