"""What is probed: the run's encoder first, then the baselines, each as arrays of features for every split."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from probekit.data.split import read_chunks
from probekit.h5 import DatasetInfo, read_split
from probekit.measurement import BASELINE, ENCODER, Measurement, measurement
from probekit.probe.baselines import BASELINES
from probekit.probe.protocol import Part
from probekit.probe.retrieval import Factor
from probekit.restore.opened import Opened
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
