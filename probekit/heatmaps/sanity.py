"""The parameter-randomisation check (Adebayo et al. 2018): does a map change when the weights do?

Pass or fail, never a ranking: maps that say nothing pass too.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from probekit.heatmaps.base import Target
from probekit.heatmaps.rows import Questions, Subject, map_rows

FIRST_SEED = 1_000_000  # of random networks: no run's own seed, whose first weights its maps may resemble
NETWORKS = 4  # independent random networks: 6 pairs for the null
IMAGES = 16  # ours: their mean moves by some .03
SAME = 0.95  # ours: random networks whose maps agree more than this make maps that hardly feel the weights

Fresh = Callable[[int], Subject]  # a subject with random weights, from a seed


@dataclass(frozen=True)
class Verdict:
    """The outcome for one row."""

    passes: bool  # whether the map depends on the weights
    similarity: float  # mean Spearman correlation of |map| with all weights random
    null: tuple[float, float]  # smallest and largest of the same between pairs of random networks
    stages: tuple[str, ...]  # what is random so far, from the head down
    cascade: tuple[float, ...]  # the correlation at each stage
    n: int  # images

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.__dict__, "null": list(self.null), "stages": list(self.stages), "cascade": list(self.cascade)}


def check(names: list[str], subject: Subject, fresh: Fresh, questions: Questions, *, seed: int) -> dict[str, Verdict]:
    """Verdicts by map, over all of a map's targets.

    The head goes first (the direction that a map explains, and the projection), then one block of the encoder after
    the other. A map passes if its maps with all weights random are no more like the trained ones than random networks'
    maps are like each other, and these are not all alike.
    """
    trained = _maps(names, subject, questions)
    seeds = [FIRST_SEED + seed + k for k in range(NETWORKS)]
    randoms = [fresh(k) for k in seeds]
    maps = [_maps(names, random, _random_head(questions, k)) for k, random in zip(seeds, randoms, strict=True)]
    asked = _random_head(questions, seeds[0])
    half = replace(randoms[0], encoder=copy.deepcopy(subject.encoder))  # random head, trained encoder
    stages, cascades = ["head"], [_maps(names, half, asked)]
    for name, block in half.encoder.blocks.items():
        block.load_state_dict(randoms[0].encoder.blocks[name].state_dict())
        stages.append(name)
        cascades.append(_maps(names, half, asked))
    return {
        name: judge(
            trained[name],
            [random[name] for random in maps],
            dict(zip(stages, [then[name] for then in cascades], strict=True)),
        )
        for name in trained
    }


def judge(
    trained: NDArray[np.float32], randoms: Sequence[NDArray[np.float32]], cascade: Mapping[str, NDArray[np.float32]]
) -> Verdict:
    """The verdict on one map from its maps `[N, h, w]`.

    `randoms`: of independent encoders with random weights, two at least; `cascade`: of the trained encoder with more
    and more of it random, by what went last.
    """
    null = [similarity(a, b) for a, b in combinations(randoms, 2)]
    final = float(np.mean([similarity(trained, random) for random in randoms]))
    steps = tuple(similarity(trained, maps) for maps in cascade.values())
    passes = final <= max(null) and max(null) <= SAME
    return Verdict(passes, final, (min(null), max(null)), tuple(cascade), steps, len(trained))


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The mean over images of Spearman's correlation of absolute maps `[N, h, w]`; a constant map correlates 0."""
    ranks = [rankdata(np.abs(maps).reshape(len(maps), -1), axis=1) for maps in (a, b)]
    x, y = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    products = (x * y).sum(axis=1)
    return float(np.where(scale > 0, products / np.where(scale > 0, scale, 1), 0.0).mean())


def _maps(names: list[str], subject: Subject, questions: Questions) -> dict[str, NDArray[np.float32]]:
    rows, _ = map_rows(names, subject, questions, encoder="trained")
    return {name: np.concatenate([row.maps for row in rows if row.name == name]) for name in names}


def _random_head(questions: Questions, seed: int) -> Questions:
    """The same images, asked about random directions of the same lengths."""
    generator = torch.Generator().manual_seed(seed)

    def turned(target: Target) -> Target:
        direction = torch.randn(target.direction.shape, generator=generator).to(target.direction.device)
        lengths = target.direction.norm(dim=1, keepdim=True) / direction.norm(dim=1, keepdim=True)
        return Target(direction * lengths, target.offset)

    targets = {name: turned(target) for name, target in questions.targets.items()}
    return replace(questions, targets=targets)
