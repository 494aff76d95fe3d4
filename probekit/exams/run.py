"""From opened encoders to results of the exam: who sits it, what was kept of earlier ones, and what is written."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from generators import GENERATORS
from generators.certificates import shipped, told
from probekit.data.locate import run_or_newest
from probekit.device import choose_device
from probekit.exams import conflict, scoring
from probekit.exams.chart import draw_exam
from probekit.exams.compared import Examined, differences
from probekit.exams.draw import CHANGES, Frame, draw_changed, draw_test
from probekit.exams.examine import MORE, PLANS, answer, known
from probekit.exams.items import BASE_SIZE, CHANGED, ITEMS, Item
from probekit.exams.layers import Reader
from probekit.exams.measurement import Exam
from probekit.exams.observers import IDEAL, ITSELF, PLAIN, TEMPLATE, Observer
from probekit.exams.psychometric import areas
from probekit.exams.trials import Sets, kept
from probekit.measurement import BASELINE, ENCODER
from probekit.output.pictures import names_of, save
from probekit.probes.measure import said_of_random
from probekit.restore.load import adopt_alone
from probekit.restore.opened import Opened, OpenedRun, open_encoder
from probekit.restore.outside import Outside
from probekit.results import joined_name, refuse_twice, stem_of, typed_again, write_result
from probekit.weights import RANDOM, Weights

TEST, CONFLICT = "test", "conflict"  # the set of an item itself; what is no item
SHARED = ".exam"  # beside the runs: trials that do not depend on a run
RANDOM_SEED = 0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sitter:
    """Who sits the exam."""

    name: str
    kind: str
    folder: Path  # where its trials are kept
    depends: Mapping[str, Any]  # JSON-able: what they depend on beside the images; none of who needs no read-out
    observer: Callable[[], Observer]  # made when something must be read
    strides: Mapping[str, int | None]


def exam_runs(
    names: Sequence[str],
    outside: Outside | None,
    asked: Exam,
    *,
    weights: Weights,
    device: str,
    runs: Path,
    reports: Path,
    console: Console,
) -> dict[str, Any]:
    """Examines encoders, one after another; several share a chart, in `reports`, and a table of their differences.

    `names`: runs, by name or path, none is the newest; `outside`: an encoder from elsewhere in their place. Gives
    {"results": as `exam_run`, "arguments": what names each run, "differences": as `compared.differences`}. A ValueError
    as of `exam_run`, or if a run is named twice.
    """
    if outside is not None:
        if names:
            raise ValueError(f"expected runs or --encoder, found both, {names[0]} and {outside.encoder}; leave one out")
        alone = adopt_alone(outside, size=asked.size, measured=weights, device=device, runs=runs, console=console)
        names = [str(runs / alone)]
    found = [run_or_newest(name, runs, console) for name in names or (None,)]
    refuse_twice(found)
    examined = []
    for run in found:
        console.print(f"examining {run.name}, {asked.preset} ...")
        examined.append(exam_run(open_encoder(run, weights, choose_device(device)), asked, console=console))
    results = [each.result for each in examined]
    told = {"results": results, "arguments": [run.argument for run in found], "differences": differences(examined)}
    if len(found) > 1:
        chart = reports / f"exam-{joined_name(found)}.png"
        console.print(f"chart of all: {names_of(save(draw_exam(results), chart))}")
    return told


def exam_run(opened: OpenedRun, asked: Exam, *, console: Console) -> Examined:
    """Examines a run's encoder beside observers whose answers are known, and writes results/ and figures/.

    Gives what was written (docs/exam.md), and what the embedding answered. A ValueError if the encoder does not take
    images of this size, or has no such layer.
    """
    started, run = time.monotonic(), opened.run
    with run.locked("exam"):
        reader = _reader(opened, asked)
        untrained = opened.beside(RANDOM_SEED, (asked.size, asked.size))
        notes = [*reader.left_out, *said_of_random(untrained, RANDOM_SEED)]
        for note in notes:
            console.print(f"note: {note}")
        sitters = [_trained(opened, reader), *_others(opened, untrained, asked)]
        frame = Frame(asked.size, asked.noise)
        sat = [sit(sitter, asked, frame, lambda line: console.print(f"  {line} ...")) for sitter in sitters]
        rows = [
            *(_row(sitter, sets, asked, frame) for sitter, sets in zip(sitters, sat, strict=True)),
            *_knowing(asked, frame),
        ]
        opened.refuse_replaced()
        result = _result(opened, asked, rows, notes)
        result["seconds"] = round(time.monotonic() - started, 2)
        stem = stem_of((asked.name, result["checkpoint"]), None)
        figure = draw_exam([result])
        written = write_result(run, asked, result, stem, {"chart": figure})
        console.print(f"wrote {' and '.join(map(str, written))}")
    return Examined(result, {name: found[TEST] for name, found in sat[0].items() if TEST in found})


def _result(opened: OpenedRun, asked: Exam, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> dict[str, Any]:
    """What is kept of an exam."""
    return {
        "schema": asked.schema(),
        "run": opened.run.name,
        "data": f"drawings of {asked.size} px, noise {asked.noise:g}",
        "data_hash": _hash(asked),
        "protocol": asked.preset,
        "how": _how(asked),
        "command": typed_again("exam", opened.run, opened.weights, asked.words),
        "options": asked.options,
        "checkpoint": str(opened.weights),
        "checkpoint_hash": opened.hash,
        "epoch": opened.header["epoch"],
        "method": opened.header["method"],
        "seed": scoring.SEED,
        "notes": list(notes),
        **_about(asked),
        "rows": list(rows),
    }


def _trained(opened: OpenedRun, reader: Reader) -> Sitter:
    pooling = opened.weights.reading.removeprefix("@") or opened.header["spec"]["pooling"]
    depends = {"encoder": opened.hash, "pooling": pooling, "device": opened.device.type}
    return _reading(reader, opened.row, ENCODER, opened.run.path / "exam", depends)


def _others(opened: OpenedRun, untrained: Opened | None, asked: Exam) -> Iterator[Sitter]:
    """Random weights of the same architecture, and who reads pixels."""
    shared = opened.run.path.parent / SHARED
    if untrained is not None:
        depends = {
            "untrained": untrained.header["spec"],
            "seed": untrained.seed,
            "torch": torch.__version__,
            "pooling": opened.weights.pool,
            "branches": opened.run.read()["config"].get("branches", {}) if opened.weights.pool else {},
            "device": opened.device.type,
        }
        yield _reading(_reader(untrained, asked), RANDOM, BASELINE, shared, depends)
    for name in PLAIN:
        yield Sitter(name, BASELINE, shared, {"observer": name}, partial(PLAIN.__getitem__, name), {})


def _reader(opened: Opened, asked: Exam) -> Reader:
    layers = asked.layers[0] if asked.layers in (("all",), ("last",)) else asked.layers
    return Reader(opened, layers=layers, pools=asked.pools, size=asked.size)


def _reading(reader: Reader, name: str, kind: str, folder: Path, depends: Mapping[str, Any]) -> Sitter:
    """Who reads layers: which ones, too, decides what he answers."""
    outputs = [list(output) for output in reader.names]
    strides = {layer: reader.stride(layer) for layer, _ in reader.names}
    return Sitter(name, kind, folder, {**depends, "outputs": outputs}, lambda: reader, strides)


def sit(sitter: Sitter, asked: Exam, frame: Frame, say: Say) -> dict[str, Sets]:
    """All that one sitter answers, by item; CONFLICT is one, too."""
    found = {name: _item(sitter, name, item, asked, frame, say) for name, item in asked.asked_items.items()}
    if "conflict" in asked.parts:
        plan = conflict.PLANS[asked.preset]
        drawn = {"radii": conflict.RADII, "version": ITEMS[conflict.FIGURE].version}
        depends = _depends(sitter, asked, frame) | drawn | {"plan": asdict(plan)}

        def make() -> Sets:
            say(f"{sitter.name}: {CONFLICT}")
            return conflict.answer(sitter.observer(), plan, frame, asked.training_seeds)

        found[CONFLICT] = kept(sitter.folder, CONFLICT, depends, make)
    return found


def _row(sitter: Sitter, sets: Mapping[str, Sets], asked: Exam, frame: Frame) -> dict[str, Any]:
    """What a sitter answered, as results keep it."""
    items = asked.asked_items
    changed = sets[CHANGED] if "invariance" in asked.parts else {}
    return {
        "name": sitter.name,
        "kind": sitter.kind,
        "strides": dict(sitter.strides),
        "items": {name: scoring.item_numbers(item, frame.size, sets[name][TEST]) for name, item in items.items()},
        "invariance": {
            name: scoring.changed_numbers(changed[TEST], trials) for name, trials in changed.items() if name != TEST
        },
        "conflict": scoring.conflict_numbers(sets[CONFLICT], frame.size) if CONFLICT in sets else [],
    }


def _item(sitter: Sitter, name: str, item: Item, asked: Exam, frame: Frame, say: Say) -> Sets:
    plan, n = PLANS[asked.preset], _tests(asked, item)
    changes = CHANGES if name == CHANGED else {}  # whatever the parts, so that another look costs no pass
    depends = _depends(sitter, asked, frame) | {"plan": asdict(plan), "test": n, "changes": changes}

    def make() -> Sets:
        say(f"{sitter.name}: {name}")
        tests = [draw_test(item, n, frame), *(draw_changed(item, change, n, frame) for change in changes)]
        found = answer(item, sitter.observer(), plan, tests, frame, asked.training_seeds)
        return dict(zip([TEST, *changes], found, strict=True))

    return kept(sitter.folder, name, depends | {"declared": asdict(item)}, make)


def _depends(sitter: Sitter, asked: Exam, frame: Frame) -> dict[str, Any]:
    return {**sitter.depends, "frame": asdict(frame), "seeds": asked.training_seeds}


def _tests(asked: Exam, item: Item) -> int:
    """Test pairs a level."""
    return PLANS[asked.preset].test if len(item.levels) > 1 else MORE[asked.preset]


def _knowing(asked: Exam, frame: Frame) -> list[dict[str, Any]]:
    """The rows of the known template and of the ideal reader, whose numbers of an item count if it is never wrong."""
    rows: dict[str, dict[str, Any]] = {}
    for name, item in asked.asked_items.items():
        for who, trials in known(item, _tests(asked, item), frame).items():
            empty = {"name": who, "kind": BASELINE, "strides": {}, "items": {}, "invariance": {}, "conflict": []}
            row = rows.setdefault(who, empty)
            if who == TEMPLATE or (areas(trials[ITSELF].values) == 1).all():
                row["items"][name] = scoring.item_numbers(item, frame.size, trials)
    return [rows[who] for who in (TEMPLATE, IDEAL) if who in rows]


def _about(asked: Exam) -> dict[str, Any]:
    """What a result says of the exam itself."""
    plan, scenes = PLANS[asked.preset], conflict.PLANS[asked.preset]
    return {
        "size": asked.size,
        "noise": asked.noise,
        "radii": [radius * asked.size / BASE_SIZE for radius in conflict.RADII],
        "items": {
            name: {
                "about": item.about,
                "kind": item.kind,
                "parameter": item.parameter,
                "px": item.px(asked.size) if item.parameter else [],
                "version": item.version,
                "certificate": certificate(item),
            }
            for name, item in asked.asked_items.items()
        },
        "pairs": {**asdict(plan), "test of one level": MORE[asked.preset], "scenes in conflict": scenes.test},
        "seeds": list(asked.training_seeds),
    }


def certificate(item: Item) -> str:
    """What is proved of an item's factor, at its generator's own settings; "" where nothing is."""
    found = shipped(GENERATORS[item.generator]())
    lines = [] if found is None else told(found)
    return next((line.partition(": ")[2] for line in lines if line.startswith(f"{item.factor}: ")), "")


def _hash(asked: Exam) -> str:
    """The hash of all that decides the images: results of one hash may be compared."""
    items = {name: asdict(item) for name, item in asked.asked_items.items()}
    others = [conflict.RADII, ITEMS[conflict.FIGURE].version, CHANGES]
    text = json.dumps([items, asked.size, asked.noise, others], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _how(asked: Exam) -> str:
    plan, seeds = PLANS[asked.preset], asked.training_seeds
    return (
        f"Drawings of {asked.size} px in grey, noise {asked.noise:g}; linear read-outs of {plan.train} training pairs, "
        f"{plan.test} test pairs a level ({MORE[asked.preset]} where there is one level), "
        f"training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    )
