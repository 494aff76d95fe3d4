"""From a sweep file and the options to named runs, and the commands that each of them still needs.

What is done is read from the run folders alone, so that nothing needs to be kept in step: any process may be killed.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from probekit.checked import key_of
from probekit.config import SECTIONS, Config, resolve
from probekit.measurement import CHANCE, measurement
from probekit.probes.measurements.base import Probe
from probekit.registry import METHODS, POOLS, get
from probekit.run import Run
from probekit.settings import flatten, parse_overrides
from probekit.sweep.datasets import Dataset
from probekit.sweep.definition import Row, Sweep
from probekit.sweep.measures import LINEAR, Measure, baseline_rows, find_result, read_scores, split_pooled
from probekit.weights import Weights

if TYPE_CHECKING:
    from probekit.methods.base import Method


@dataclass(frozen=True)
class PlannedRun:
    """One run: a row on a dataset with a seed."""

    name: str  # of its folder
    dataset: str
    row: Row  # with the dataset's settings before its own
    config: Config
    measure: Measure  # what row and dataset allow
    gpus: int = 1  # over so many machines
    nodes: int = 1
    log: str | None = None  # its loggers, as `pretrain --log` takes them

    @property
    def seed(self) -> int:
        """Decides everything random in it."""
        return self.config.seed

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.config.train.epochs


def plan_runs(
    sweep: Sweep, name: str, *, preset: str, epochs: int | None, seeds: Sequence[int]
) -> tuple[PlannedRun, ...]:
    """Every run of a sweep: all of the first seed, then all of the second, so that a sweep cut short is a whole table.

    `name`: the folder's, with which run names begin. A ValueError if a row's settings are none of the method's, or two
    runs would have the same name.
    """
    options = {} if epochs is None else {"train.epochs": epochs}
    names = run_names(sweep, name, seeds)
    if len(set(names)) < len(names):
        twice = next(run for run in names if names.count(run) > 1)
        raise ValueError(f"expected different runs, found {twice} twice; rename a dataset or a row")
    cells = [(seed, dataset, row) for seed in seeds for dataset in sweep.datasets for row in sweep.rows]
    planned = []
    for run, (seed, dataset, row) in zip(names, cells, strict=True):
        kind = get(METHODS, "method", row.method)
        row = replace(row, settings=(*dataset.pretrain, *row.settings))
        try:
            config = resolve(
                row.method,
                kind,
                preset=preset,
                seed=seed,
                overrides=row.settings,
                options=options,
                branches=row.branches,
            )
        except ValueError as error:
            raise ValueError(f"{error} (row {row.name} of sweep {sweep.name})") from error
        measure = sweep.measures[dataset.name]
        planned.append(PlannedRun(run, dataset.name, row, config, measure, sweep.gpus, sweep.nodes))
    return tuple(planned)


WATCHING = ("train.eval_every", "train.monitor", "train.monitored")  # a run, and changing nothing of it


def uneven_pairs(sweep: Sweep, planned: Sequence[PlannedRun]) -> list[str]:
    """A line for each pair of one method's rows that a preset's recipes for their branches train differently."""
    configs = {run.row.name: run for run in planned}
    lines = []
    for pair in sweep.pairs:
        first, second = (configs[split_pooled(side)[0]] for side in pair)
        if first.row.method != second.row.method:
            continue
        asked = {*parse_overrides(first.row.settings), *parse_overrides(second.row.settings)}
        ours, theirs = (_without_branches(run.config) for run in (first, second))
        others = [key for key in ours if ours[key] != theirs[key] and key not in (*asked, *WATCHING)]
        told = [f"{key} {ours[key]} and {theirs[key]}" for key in others]
        if told:
            lines.append(
                f"warning: preset {first.config.preset} has a recipe for each branch, so the pair {', '.join(pair)} "
                f"differs in more than its rows: {', '.join(told)}"
            )
    return lines


def _without_branches(config: Config) -> dict[str, Any]:
    """A run's settings by dotted names, but those of branches."""
    plain = config.to_dict()
    sections = {name: plain[name] for name in SECTIONS}
    return flatten({**sections, "method": plain["method_options"]})


def run_names(sweep: Sweep, name: str, seeds: Sequence[int]) -> list[str]:
    """The names of every run folder, in the order of `plan_runs`."""
    return [
        f"{name}-{dataset.name}-{row.name}-seed{seed}"
        for seed in seeds
        for dataset in sweep.datasets
        for row in sweep.rows
    ]


def definition(sweep: Sweep) -> dict[str, Any]:
    """What of a sweep file decides its runs, as sweep.json keeps it: rows and datasets."""
    datasets = [replace(dataset, measure={}) for dataset in sweep.datasets]  # which may change
    return {"datasets": list(map(_plain, datasets)), "rows": list(map(_plain, sweep.rows))}


def check_run(run: Run, planned: PlannedRun, data_hash: str) -> None:
    """Refuses a run folder that other settings or other images made."""
    if not run.path.exists():
        return
    content = run.read()
    told = f"{run.path} was made with other settings than the sweep's"
    ways = "type --overwrite to replace the sweep's runs, or --name NAME for another sweep"
    try:
        found = Config.from_dict(content["config"])
        images = content["dataset"]["hash"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a run of this version in {run.path}, found another; {ways}") from error
    if found != (wanted := settled_as(planned.config, found)):
        ours, theirs = wanted.to_dict(), found.to_dict()
        part = next(key for key in ours if ours[key] != theirs[key])
        raise ValueError(f"{told}: expected {part} {ours[part]}, found {theirs[part]}; {ways}")
    if images != data_hash:
        raise ValueError(f"{run.path} was trained on other images than the sweep's; {ways}")
    measured = read_scores(run, epochs=planned.epochs, measure=planned.measure) is not None
    if content["state"] == "finished" and not measured and not _started(run):
        raise ValueError(
            f"expected the checkpoints of {run.path}, which is finished and not yet measured, found none; "
            "leave [measure] as it was, remove that folder to train it again, or type --name NAME for another sweep"
        )


def settled_as(config: Config, found: Config) -> Config:
    """The settings with `train.precision`, where it is left to the machine of a run, as that run found it."""
    if config.train.precision != "auto":
        return config
    return replace(config, train=replace(config.train, precision=found.train.precision))


def commands_left(run: Run, planned: PlannedRun, *, data: str, device: str) -> list[list[str]]:
    """What is to be run for a planned run, one after another, as arguments of `probekit`; none: it is done."""
    if read_scores(run, epochs=planned.epochs, measure=planned.measure) is not None:
        return []  # also where the checkpoints were not kept
    place, steps, config = ["--device", device], planned.measure.steps, planned.config
    many = ["--gpus", str(planned.gpus)] if planned.gpus > 1 else []
    many += [] if planned.log is None else ["--log", planned.log]
    if not run.path.exists() or not _started(run):
        branches = [part for branch in planned.row.branches for part in ("--branch", branch)]
        settings = [part for setting in planned.row.settings for part in ("--set", setting)]
        again = ["--overwrite"] if run.path.exists() else []
        numbers = ["--preset", config.preset, "--epochs", str(config.train.epochs), "--seed", str(config.seed)]
        named = ["--data", data, "--name", planned.name]
        first = [["pretrain", planned.row.method, *branches, *named, *numbers, *settings, *place, *many, *again]]
    elif run.read()["state"] != "finished":
        first = [["pretrain", "--resume", "--name", planned.name, *place, *many]]
    else:
        first = []
        steps = [step for step in steps if step.read(run, epochs=planned.epochs) is None] or steps[:1]
    return [*first, *(step.words(planned.name, device) for step in steps)]


def next_baselines(run: Run, planned: PlannedRun, *, device: str) -> list[str] | None:
    """The probe with baselines that a dataset still needs, on a finished run; None: it has all.

    First what is measured, under the encoder's own pooling; then the linear probe as the monitor has it, C = 1.
    """
    first = next((step for step in planned.measure.steps if step.command == "probe"), None)
    if first is None:
        return None
    always = [each for each in first.asked if isinstance(each, Probe) and CHANCE in each.baselines]
    for each in always:  # others may have none, however often they are measured
        result = find_result(run, each, Weights(), epochs=planned.epochs, asked=first.asked)
        if not baseline_rows(result, each):
            return first.words(planned.name, device, baselines=True)
    linear = measurement(LINEAR)
    if linear in first.asked and planned.config.train.monitor == "linear":
        found = find_result(run, linear, Weights(), epochs=planned.epochs, protocol="fixed")
        if not baseline_rows(found, linear):
            return ["probe", planned.name, "--protocol", "fixed", "--device", device]
    return None


def choose(planned: Sequence[PlannedRun], only: Sequence[str]) -> list[PlannedRun]:
    """The runs that `--only` asks for: datasets or else rows, of that name or, if there is none, with it in theirs."""
    datasets = list(dict.fromkeys(run.dataset for run in planned))
    rows = list(dict.fromkeys(run.row.name for run in planned))
    of_datasets, of_rows = set[str](), set[str]()
    for text in only:
        if found := _named(text, datasets):
            of_datasets.update(found)
        elif found := _named(text, rows):
            of_rows.update(found)
        else:
            raise ValueError(f"expected --only part of {', '.join(datasets + rows)}, found {text!r}")
    return [
        run
        for run in planned
        if (not of_datasets or run.dataset in of_datasets) and (not of_rows or run.row.name in of_rows)
    ]


def _plain(entry: Dataset | Row) -> dict[str, Any]:
    """As the file had it and JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps({key_of(part): getattr(entry, part.name) for part in fields(entry)}))
    return plain


def _named(text: str, names: Sequence[str]) -> list[str]:
    return [text] if text in names else [name for name in names if text in name]


def _started(run: Run) -> bool:
    """Whether there is something to go on with."""
    return (run.checkpoints / "last.pt").exists()


def built(planned: Sequence[PlannedRun], device: str | None) -> tuple[PlannedRun, ...]:
    """The runs as `pretrain` would resolve them there, each measured under the poolings that its row allows.

    Every row's method is built once, without memory: what its constructor refuses is refused before anything runs.
    `device` None: other machines', each of which settles the precision.
    """
    import torch

    from probekit.device import find_device, with_precision
    from probekit.restore.build import build_method, with_normalise

    pools = dict[tuple[str, ...], list[str]]()
    planned = [replace(run, config=with_normalise(run.config)) for run in planned]
    if device is not None:
        place = find_device(device)
        planned = [replace(run, config=with_precision(run.config, place)) for run in planned]
    wanted = list(dict.fromkeys(pool for run in planned for pool in run.measure.pools))
    for key, run in {_key(run): run for run in planned}.items():
        try:
            with torch.device("meta"):
                method = build_method(run.config, channels=1)
        except ValueError as error:
            raise ValueError(f"{error} (row {run.row.name})") from error
        pools[key] = _allowed(method, wanted)
    for pool in wanted:
        if not any(pool in allowed for allowed in pools.values()):
            raise ValueError(f"expected pools in [measure] that a row can pool with, found {pool!r}, which none can")
    found = []
    for run in planned:
        own = tuple(pool for pool in run.measure.pools if pool in pools[_key(run)])
        found.append(replace(run, measure=replace(run.measure, pools=own)))
    return tuple(found)


def _key(run: PlannedRun) -> tuple[str, ...]:
    """Runs of one key have one method: a row with the settings of a dataset."""
    return run.row.name, *run.row.settings


def _allowed(method: "Method", pools: Sequence[str]) -> list[str]:
    """Those poolings that a method and its branches have."""
    from torch import nn

    from probekit.branches.base import branches_of
    from probekit.restore.pooled import Parts, pooling

    found = []
    of_class = any(isinstance(getattr(module, "cls_token", None), nn.Parameter) for module in method.encoder.modules())
    for pool in pools if method.encoder.has_map else ():
        with suppress(ValueError):
            if not POOLS[pool].of_tokens:
                pooling(pool, method.encoder, Parts(branches_of(method), method.projection))
            if of_class or not POOLS[pool].of_tokens:
                found.append(pool)
    return found
