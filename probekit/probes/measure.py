"""From an opened encoder and a dataset file to results: all that was asked for, each source of features read once."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from generators.certificates import told
from probekit.data.split import check_channels, read_chunks
from probekit.h5 import CentreCrop, DatasetInfo, read_split
from probekit.measurement import BASELINE, CHANCE, ENCODER, Measurement, measurement, measurements
from probekit.output.document import in_a_line
from probekit.output.hints import unprobeable
from probekit.probes import PROTOCOLS
from probekit.probes.baselines import BASELINES
from probekit.probes.measurements.base import Probe
from probekit.probes.protocol import Part
from probekit.probes.retrieval import Factor
from probekit.registry import METHODS, check_named, get
from probekit.restore.opened import Opened, OpenedRun
from probekit.results import stem_of, typed_again, write_result
from probekit.weights import RANDOM

NOTHING_RANDOM = f"{RANDOM} are left out: no weights of this encoder can be drawn anew, so they would be its own again"


@dataclass(frozen=True)
class Labels:
    """All of a dataset file but its images."""

    info: DatasetInfo
    parts: Mapping[str, Part]  # each labelled split, its features still empty `[0, 0]`
    factors: Mapping[str, Mapping[str, Factor]]  # what the images of a split may have in common


@dataclass(frozen=True)
class Source:
    """Features under a name."""

    name: str
    kind: str  # "encoder" or "baseline"
    features: Callable[[str], NDArray[np.floating]]  # split -> `[N, D]`, computed at most once
    protocol: str | None = None  # in place of the one that was asked for
    opened: Opened | None = None  # the network that makes the features; None for what is none

    def part(self, labels: Labels, split: str) -> Part:
        """A labelled split with these features."""
        return replace(labels.parts[split], x=self.features(split))


@dataclass(frozen=True)
class Conditions:
    """What every row is made under."""

    labels: Labels
    protocol: str
    seed: int  # decides all that is random: the validation part, subsets, folds, bootstraps
    device: str  # where neighbours are looked for, "cpu" or "cuda[:i]"
    console: Console
    asked: Mapping[str, Measurement] = field(default_factory=dict)  # some are made of others
    opened: Opened | None = None  # the encoder that is measured; None before there is one
    among: NDArray[np.bool_] | None = None  # `[N]` of train: the images whose labels are known; None is all

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.labels.info.classes

    def parts(self, source: "Source") -> tuple[Part, Part, Part | None]:
        """Train, test, and val where it has labels and all of train's are known; only then with class factors."""
        train, test = (source.part(self.labels, split) for split in ("train", "test"))
        if self.among is not None:
            groups = None if train.groups is None else train.groups[self.among]
            return Part(train.x[self.among], train.y[self.among], groups=groups), test, None
        return train, test, source.part(self.labels, "val") if "val" in self.labels.parts else None

    def fitting(self, source: "Source") -> dict[str, Any]:
        """Arguments of all that fits a linear probe."""
        return {"classes": self.classes, "protocol": source.protocol or self.protocol, "seed": self.seed}

    def measurement(self, name: str) -> Measurement:
        """A measurement with what was typed for it."""
        return self.asked.get(name) or measurement(name)


def read_labels(info: DatasetInfo) -> Labels:
    """Labels, pairs and factors of every labelled split."""
    parts, factors = {}, {}
    for name, split in info.splits.items():
        if split.labelled:
            rows = read_split(info.path, name, images=False)
            y, columns = rows.labels, rows.factors
            assert y is not None
            classes = {f["name"]: columns[f["name"]] for f in info.factors if f["kind"] == "class"}
            parts[name] = Part(np.empty((0, 0)), y, classes, columns.get("pair_id"))
            shared = [f for f in info.factors if f["kind"] in ("class", "real", "ordinal", "circular")]
            factors[name] = {f["name"]: Factor(columns[f["name"]], f["kind"]) for f in shared}
    return Labels(info, parts, factors)


def sources(
    opened: Opened, info: DatasetInfo, *, baselines: bool, seed: int, say: Callable[[str], None]
) -> Iterator[Source]:
    """The encoder, and with `baselines` random weights and every other, one at a time: none is kept in memory.

    The random weights are of the seed, or of the next if the encoder's own are those: `say` is given a line then, or if
    they are left out.
    """
    yield Source(opened.row, ENCODER, partial(opened.embed, info), opened=opened)
    if not baselines:
        return
    random = opened.beside(seed, opened.size(info))
    for line in said_of_random(random, seed):
        say(line)
    if random is not None:
        yield Source(RANDOM, BASELINE, partial(random.embed, info), opened=random)
    for title, known in BASELINES.items():
        yield Source(title, BASELINE, lru_cache(_of_images(info, known.features)), known.protocol)


def said_of_random(random: Opened | None, seed: int) -> list[str]:
    """What is to be said of the random weights where those of `seed` were asked for; None is without any."""
    if random is None:
        return [NOTHING_RANDOM]
    if random.seed != seed:
        return [f"{RANDOM}: of seed {random.seed}, since those of seed {seed} are the encoder's own"]
    return []


def _of_images(
    info: DatasetInfo, features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> Callable[[str], NDArray[np.float32]]:
    return lambda split: np.concatenate([features(images) for images in read_chunks(info, split)])


def measure(
    opened: OpenedRun,
    conditions: Conditions,
    *,
    baselines: bool,
    data: Path | None,
    test_crop: CentreCrop | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures an encoder, and beside it what needs no learning: by name, what each results file holds.

    `conditions`: each `check` has passed. `data`, `test_crop`: what was named, for the command that makes the same
    again. A ValueError if the data or the encoder were replaced meanwhile.
    """
    info = conditions.labels.info
    every = (each for each in conditions.asked.values() if isinstance(each, Probe))
    asked = [each for each in every if each.takes(opened, conditions)]
    notes = [] if info.first.crop is None else [info.first.crop.sentence]
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
            "command": _command(opened, each, conditions, data, test_crop),
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
    check_named("protocol", protocol, PROTOCOLS)
    if opened is not None:
        check_channels(info, opened.header["spec"]["channels"])
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
    test_crop: CentreCrop | None = None,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Measures a run's encoder, writes results/ and figures/, and gives what `measure` does.

    `typed`: what was asked for beside what the data allow unasked. `data` None is the run's own. The seed decides all
    that is random: the validation part, random weights, subsets, folds, bootstraps. `test_crop`: how photographs are
    seen, in place of the file's own way. A ValueError if there is no such protocol, or the data do not fit or lack what
    is asked for.
    """
    info, known = opened.dataset(data, test_crop)
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
        results = measure(opened, conditions, baselines=baselines, data=data, test_crop=test_crop)
        for name, found in results.items():
            each = conditions.asked[name]
            seen = [] if test_crop is None else [f"{test_crop.resize}-{test_crop.side}"]
            stem = stem_of((each.name, found["protocol"], found["checkpoint"], *seen), data)
            written = write_result(opened.run, each, found, stem)
            pictures = f", and {len(written) - 1} in {opened.run.figures}" if written[1:] else ""
            console.print(f"wrote {written[0]}{pictures}")
    return results


def _command(
    opened: OpenedRun, each: Probe, conditions: Conditions, data: Path | None, test_crop: CentreCrop | None
) -> str:
    """What to type for the same numbers."""
    words = each.typed(conditions)
    if each.fits and conditions.protocol != next(iter(PROTOCOLS)):
        words += ["--protocol", conditions.protocol]
    words += [] if test_crop is None else ["--test-crop", str(test_crop)]
    return typed_again("probe", opened.run, opened.weights, words, data=data, seed=conditions.seed)
