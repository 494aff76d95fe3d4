"""The procedure: images of an item are read by an observer, and answered by read-outs that were trained on others.

Training pairs, test pairs and levels share no nuisance. Test images are the same for every observer and every seed, so
that observers are compared on the same pairs; a seed decides the training pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit.exams.draw import Frame, Pixels, draw_test, draw_training, drawer, flat
from probekit.exams.items import Item
from probekit.exams.observers import IDEAL, ITSELF, TEMPLATE, Floats, Observer, Output, ideal, template
from probekit.exams.readout import train
from probekit.exams.trials import Trial, Trials

EASY = 3  # levels that the regimen "easy" trains on


@dataclass(frozen=True)
class Plan:
    """How many pairs."""

    train: int  # to fit a read-out, in each regimen
    held: int  # to choose the regimen, at the level in the middle
    test: int  # at each level

    def training(self, levels: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The level `[p]` of each training pair, and whether it is held out: enough for both regimens, which share.

        Where there is one level, there is nothing to choose, and all are fitted.
        """
        if levels == 1:
            return np.zeros(self.train + self.held, np.int64), np.zeros(self.train + self.held, bool)
        each, easy = -(-self.train // levels), -(-self.train // EASY)
        counts = [easy if level >= levels - EASY else each for level in range(levels)]
        level = np.repeat([*range(levels), levels // 2], [*counts, self.held])
        return level, np.arange(len(level)) >= sum(counts)


PLANS = {
    "quick": Plan(train=160, held=40, test=40),  # thresholds then have a half-width of some 14 %
    "full": Plan(train=480, held=80, test=160),  # some 7 %
}
# Read-outs of one level have no curve that joins them, so that their test sets are larger.
MORE = {"quick": 60, "full": 160}


def answer(
    item: Item, observer: Observer, plan: Plan, tests: Sequence[Pixels], frame: Frame, seeds: Sequence[int]
) -> list[Trials]:
    """The trials of an observer of sets of test images, after it was trained on pairs of the item.

    `tests`: each `[L, n, 2, H, W]`; `seeds`: of training pairs, each with a read-out of its own.
    """
    read = [observer.read(flat(images)) for images in tests]
    values: list[dict[Output, list[tuple[Floats, Floats]]]] = [{} for _ in tests]
    regimens: dict[Output, list[str]] = {}
    easy = range(len(item.levels) - EASY, len(item.levels))
    for seed in seeds:
        level, held = plan.training(len(item.levels))
        images = draw_training(item, level, frame, seed)
        for output, features in observer.read(flat(images)).items():
            trained = train(features, level, held, easy)
            regimens.setdefault(output, []).append(trained.regimen)
            for found, features_of, shown in zip(values, read, tests, strict=True):
                full, half = (
                    part.values(features_of[output]).reshape(len(shown), -1)  # `[L, 2n]`
                    for part in (trained.readout, trained.half)
                )
                found.setdefault(output, []).append((full, half))
    return [
        {
            output: Trial(
                np.stack([full for full, _ in answers]),
                np.stack([half for _, half in answers]),
                tuple(regimens[output]),
            )
            for output, answers in found.items()
        }
        for found in values
    ]


def known(item: Item, n: int, frame: Frame) -> Mapping[str, Trials]:
    """What the two observers answer that learn nothing, by name."""
    images, drawings = draw_test(item, n, frame), draw_test(item, n, frame, clean=True)
    found = {}
    for name, values in (
        (TEMPLATE, [template(*pair) for pair in zip(images, drawings, strict=True)]),
        (
            IDEAL,
            [ideal(item, drawer(item, level, frame, clean=True), shown) for level, shown in enumerate(drawings)],
        ),
    ):
        stacked = np.stack(values)[None]
        found[name] = {ITSELF: Trial(stacked, stacked, ("",))}
    return found
