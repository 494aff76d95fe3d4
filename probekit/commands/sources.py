"""What is probed: the run's encoder first, then the floors, each as arrays of features for every split."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.data.split import read_chunks, shrunk_size
from probekit.h5 import DatasetInfo, read_split
from probekit.probe.fingerprint import Factor
from probekit.probe.floors import FLOORS
from probekit.probe.protocol import Part
from probekit.restore.embeddings import Network, random_embedder, trained_embedder
from probekit.run import Run

RANDOM = "random weights"
NOTHING_RANDOM = f"{RANDOM} are left out: no weights of this encoder can be drawn anew, so they would be its own again"


@dataclass(frozen=True)
class Labels:
    """All of a dataset file but its images.

    Attributes:
        info: What the file says.
        parts: Each labelled split, its features still empty `[0, 0]`.
        factors: What the images of a split may have in common.
    """

    info: DatasetInfo
    parts: Mapping[str, Part]
    factors: Mapping[str, Mapping[str, Factor]]


@dataclass(frozen=True)
class Source:
    """Features under a name.

    Attributes:
        name: Of the row.
        kind: "encoder" or "floor".
        features: Split -> `[N, D]`, computed at most once.
        protocol: In place of the one that was asked for, or None.
        network: What makes the features, built when asked for; None for what is no network.
    """

    name: str
    kind: str
    features: Callable[[str], NDArray[np.floating]]
    protocol: str | None = None
    network: Callable[[], Network] | None = None

    def part(self, labels: Labels, split: str) -> Part:
        """A labelled split with these features."""
        return replace(labels.parts[split], x=self.features(split))


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
            factors[name] = {f["name"]: Factor(columns[f["name"]], f["kind"]) for f in info.factors if _can_share(f)}
    return Labels(info, parts, factors)


def _can_share(factor: Mapping[str, Any]) -> bool:
    return factor["kind"] in ("class", "real", "ordinal", "circular")


def sources(
    run: Run,
    info: DatasetInfo,
    checkpoint: str,
    *,
    floors: bool,
    seed: int,
    device: torch.device,
    say: Callable[[str], None],
) -> Iterator[Source]:
    """The encoder, and with `floors` random weights and every floor, one at a time: none is kept in memory.

    Args:
        run: The run.
        info: The dataset.
        checkpoint: Which weights.
        floors: Whether there is more than the encoder.
        seed: Of the random weights; the next, if the encoder's own are those.
        device: Where networks compute.
        say: Is given a line if the random weights are of another seed, or left out.

    Raises:
        ValueError: If the run has no such checkpoint.
    """
    embedder, header = trained_embedder(run, checkpoint, device)
    name = f"{header['method']} {'best_test (paper protocol)' if checkpoint == 'best_test' else checkpoint}"
    yield Source(name, "encoder", lambda split: embedder(info, split), network=embedder.network)
    if not floors:
        return
    size = shrunk_size(info.first.height, info.first.width, header["max_size"])
    found = random_embedder(run, header, checkpoint, seed, device, beside=embedder.network(), size=size)
    for line in said_of_random(None if found is None else found[0], seed):
        say(line)
    if found is not None:
        untrained = found[1]
        yield Source(RANDOM, "floor", lambda split: untrained(info, split), network=untrained.network)
    for title, floor in FLOORS.items():
        yield Source(title, "floor", lru_cache(_of_images(info, floor.features)), floor.protocol)


def said_of_random(drawn: int | None, seed: int) -> list[str]:
    """What is to be said of random weights of the seed `drawn` where `seed` was asked for; None is without any."""
    if drawn is None:
        return [NOTHING_RANDOM]
    if drawn != seed:
        return [f"{RANDOM}: of seed {drawn}, since those of seed {seed} are the encoder's own"]
    return []


def _of_images(
    info: DatasetInfo, features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> Callable[[str], NDArray[np.float32]]:
    return lambda split: np.concatenate([features(images) for images in read_chunks(info, split)])
