"""From an opened encoder and a dataset file to results: all that was asked for, each encoder read once."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from generators.certificates import told
from probekit.data.split import check_channels
from probekit.h5 import DatasetInfo
from probekit.measurement import BASELINE, CHANCE, measurements
from probekit.output.document import in_a_line
from probekit.output.hints import unprobeable
from probekit.probe import PROTOCOLS
from probekit.probe.measurements.base import Probe
from probekit.probe.sources import Conditions, read_labels, sources
from probekit.registry import METHODS, get, nearest
from probekit.restore.opened import OpenedRun
from probekit.results import stem_of, write_result
from probekit.weights import Weights


def measure(
    opened: OpenedRun, conditions: Conditions, *, baselines: bool, data: Path | None
) -> dict[str, dict[str, Any]]:
    """Measures an encoder, and beside it what needs no learning: by name, what each results file holds.

    `conditions`: each `check` has passed. `data`: the file if one was named, for the command that makes the same again.
    A ValueError if the data do not fit the encoder, or either was replaced meanwhile.
    """
    info = conditions.labels.info
    check_channels(info, opened.header["spec"]["channels"])
    asked = [each for each in conditions.asked.values() if isinstance(each, Probe)]
    notes: list[str] = []
    rows: dict[str, list[dict[str, Any]]] = {each.name: [] for each in asked}
    seconds = dict.fromkeys(rows, 0.0)
    for source in sources(opened, info, baselines=baselines, seed=conditions.seed, say=notes.append):
        for each in asked:
            if not each.rows_of_sources or (source.kind == BASELINE and source.name not in each.baselines):
                continue
            if len(asked) > 1:
                conditions.console.print(f"  {source.name}: {in_a_line(each.title)} ...")
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
            "options": each.settled(conditions.asked),
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            "epoch": opened.header["epoch"],
            "seed": conditions.seed,
            "notes": notes,
            "rows": rows[each.name],
            "seconds": round(seconds[each.name], 2),
            **({"certificate": told(info.certificate)} if info.certificate and CHANCE in each.baselines else {}),
        }
        for each in asked
    }


def choose(info: DatasetInfo, typed: Sequence[Probe], named: str) -> list[Probe]:
    """What is measured: what the data allow unasked, in the order of the registry, then what was typed.

    `named`: the run or encoder as a command line takes it. A ValueError if the file allows nothing of it, or not what
    was typed.
    """
    lacking = unprobeable(info)
    known = {each.name for each in typed}
    unasked = [each for each in measurements("probe") if isinstance(each, Probe) and each.name not in known]
    asked = [*(each for each in unasked if lacking is None and each.unasked(info)), *typed]
    if not asked:
        raise ValueError(
            f"expected a train and a test split with labels of 2 classes or more, found {lacking} in {info.path}; "
            f"type: probekit probe {named} --data LABELLED.h5 (probekit import SOURCE --test-fraction 0.2 makes one)"
        )
    for each in asked:
        missing = [split for split in each.needs if split not in info.splits or not info.splits[split].labelled]
        if missing:
            raise ValueError(f"expected labels in the split {missing[0]} for --{each.name}, found none in {info.path}")
        if info.multilabel and not each.several:
            raise ValueError(f"expected one label an image for --{each.name}, found several in {info.path}")
    return asked


def conditions_for(
    info: DatasetInfo,
    typed: Sequence[Probe],
    named: str,
    *,
    protocol: str,
    seed: int,
    device: str,
    console: Console,
    opened: OpenedRun | None = None,
) -> Conditions:
    """All that is asked of a dataset file, as of `probe_run`, once it is possible; a ValueError if it is not."""
    if protocol not in PROTOCOLS:
        raise ValueError(nearest("protocol", protocol, PROTOCOLS))
    asked = {each.name: each for each in choose(info, typed, named)}
    conditions = Conditions(read_labels(info), protocol, seed, device, console, asked, opened)
    for each in asked.values():
        each.check(conditions)
    return conditions


def probe_run(
    opened: OpenedRun,
    typed: Sequence[Probe],
    *,
    data: Path | None = None,
    protocol: str = next(iter(PROTOCOLS)),
    baselines: bool = True,
    seed: int = 0,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Measures a run's encoder, writes results/ and figures/, and gives what `measure` does.

    `typed`: what was asked for beside what the data allow unasked. `data` None is the run's own. The seed decides all
    that is random: the validation part, random weights, subsets, folds, bootstraps. A ValueError if there is no such
    protocol, or the data do not fit or lack what is asked for.
    """
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    method = opened.header["method"]
    if method in METHODS and get(METHODS, "method", method).needs_labels:
        console.print(
            f"note: {opened.run.name} was taught with the labels of train, so what is chosen or scored on train "
            "(C, --cv, best_val) is too good; test is not"
        )
    named = shlex.quote(opened.run.argument)
    about: dict[str, Any] = {"protocol": protocol, "seed": seed, "device": str(opened.device), "console": console}
    conditions = conditions_for(info, typed, named, opened=opened, **about)
    beside = ", and the baselines" if baselines else ""
    console.print(f"probing {opened.run.name}, {opened.after}{beside}, protocol {PROTOCOLS[protocol]} ...")
    with opened.run.locked("probe"):  # two at once would write one result
        results = measure(opened, conditions, baselines=baselines, data=data)
        for each in conditions.asked.values():
            found = results[each.name]
            stem = stem_of((each.name, found["protocol"], found["checkpoint"]), data)
            written = write_result(opened.run, each, found, stem)
            pictures = f", and {len(written) - 1} in {opened.run.figures}" if written[1:] else ""
            console.print(f"wrote {written[0]}{pictures}")
    return results


def _command(opened: OpenedRun, each: Probe, conditions: Conditions, data: Path | None) -> str:
    """What to type for the same numbers."""
    words = each.typed(conditions)
    if each.fits and conditions.protocol != next(iter(PROTOCOLS)):
        words += ["--protocol", conditions.protocol]
    if data is not None:
        words += ["--data", str(data)]
    if conditions.seed:
        words += ["--seed", str(conditions.seed)]
    if opened.weights != Weights():
        words += ["--checkpoint", str(opened.weights)]
    return shlex.join(["probekit", "probe", opened.run.argument, *words])
