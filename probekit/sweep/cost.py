"""GPU hours of a sweep before it runs: what `pretrain --dry-run` predicts of each of its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generators import GENERATORS
from probekit.config import fitted
from probekit.h5 import is_dataset, read_info
from probekit.settings import parse_overrides
from probekit.sweep.datasets import Dataset
from probekit.sweep.plan import PlannedRun


@dataclass(frozen=True)
class Shape:
    """What the cost of a run depends on in a dataset's training images."""

    n: int
    size: tuple[int, int]  # (h, w) in pixels
    channels: int
    classes: int


def shape_of(dataset: Dataset, path: str) -> Shape | None:
    """What a dataset's training images are, or will be; None where only an import would tell. `path`: of its file."""
    if is_dataset(Path(path)):
        info = read_info(Path(path))
        if (train := info.splits.get("train")) is None:
            found = ", ".join(info.splits)
            raise ValueError(f"expected a train split in {path}, of dataset {dataset.name}, found {found}")
        return Shape(train.n, (train.height, train.width), train.channels, len(info.classes))
    if dataset.generator is None:
        return None
    kind = GENERATORS[dataset.generator]
    return Shape(dataset.n or kind.default_n, (dataset.size, dataset.size), 1, len(kind.classes))


def run_hours(planned: Sequence[PlannedRun], shapes: Mapping[str, Shape | None]) -> list[dict[str, float] | None]:
    """GPU hours of each run's training by machine; None where its images are not known.

    Without the monitor and the measurements, and on several GPUs without what they say to each other.
    """
    from probekit.train.dry_run import predicted_hours

    known: dict[Any, dict[str, float]] = {}
    found: list[dict[str, float] | None] = []
    for run in planned:
        shape = shapes[run.dataset]
        if shape is None:
            found.append(None)
            continue
        key = run.dataset, run.row.name, run.config.train.epochs
        if key not in known:
            config, _ = fitted(run.config, typed=parse_overrides(run.row.settings), images=shape.n)
            known[key] = predicted_hours(
                config, images=shape.n, channels=shape.channels, size=shape.size, classes=shape.classes
            )
        found.append(known[key])
    return found


def summed(hours: Sequence[Mapping[str, float] | None]) -> dict[str, float]:
    """By machine, over the runs that it is known of."""
    machines = dict.fromkeys(machine for each in hours if each for machine in each)
    return {machine: sum(each[machine] for each in hours if each) for machine in machines}


def sentence(hours: Sequence[Mapping[str, float] | None]) -> str:
    """One line for a reader."""
    told = ", ".join(f"{value:.2g} on an {machine}" for machine, value in summed(hours).items())
    unknown = sum(each is None for each in hours)
    rest = f"; {unknown} runs on images that are not there yet are left out" if unknown else ""
    return f"GPU hours of training, predicted: {told or 'none'}; monitor and measurements come on top{rest}"
