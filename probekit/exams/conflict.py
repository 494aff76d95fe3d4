"""Whole against parts: what an observer follows where the two cues of a figure disagree.

The figure is navon: a circle or a square made of discs or squares, of equal ink. A read-out is trained where both cues
agree (a circle of discs, a square of squares) and asked where they do not. Beside it stands how well each cue is read
alone, with the other drawn at random: a cue that is not read cannot be followed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators import GENERATORS
from probekit.exams.draw import EXPOSED, LEVEL_STRIDE, TEST_SEED, Frame, Pixels, flat
from probekit.exams.observers import Floats, Observer, Output
from probekit.exams.readout import ridge
from probekit.exams.trials import Trial, Trials

FIGURE = "navon"
RADII = (2.0, 4.0, 7.0)  # px at 128 of the elements: the salience of the parts
CELLS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (whole, element)
AGREE, DISAGREE = [0, 3], [1, 2]


@dataclass(frozen=True)
class Plan:
    """How many scenes a radius, each drawn in all four cells."""

    train: int
    test: int


PLANS = {"quick": Plan(60, 30), "full": Plan(200, 100)}


def draw(radius: float, n: int, frame: Frame, *, seed: int, split: str) -> Pixels:
    """Scenes `[n, 4, H, W]` in `CELLS`, that differ in these two factors, and in their noise, alone."""
    settings = {"element_radius": radius, **EXPOSED, "noise_sd": frame.noise}
    drawer = GENERATORS[FIGURE](size=frame.size, parameters=settings)
    first = RADII.index(radius) * LEVEL_STRIDE
    factors = drawer.sample(seed, f"exam-conflict/{split}", np.arange(first, first + n, dtype=np.int64))
    factors["whole"] = factors["element"] = 0
    other = drawer.counterfactual(factors, "whole", 1)
    cells = [factors, drawer.counterfactual(factors, "element", 1), other, drawer.counterfactual(other, "element", 1)]
    return drawer.render_images(np.stack(cells, axis=1).ravel()).reshape(n, 4, frame.size, frame.size)


def answer(observer: Observer, plan: Plan, frame: Frame, seeds: Sequence[int]) -> dict[str, Trials]:
    """What an observer answers, by question; the levels are `RADII`.

    WHOLE and ELEMENT: pairs that differ in one cue, the other as often the one as the other. DISAGREEING: a circle of
    squares, then a square of discs, above 0 for what a square of squares has.
    """
    found: dict[str, dict[Output, list[list[Floats]]]] = {question: {} for question in QUESTIONS}
    for radius in RADII:
        test = draw(radius, plan.test, frame, seed=TEST_SEED, split="test")
        shown = observer.read(flat(test))
        for number, seed in enumerate(seeds):
            features = observer.read(flat(draw(radius, plan.train, frame, seed=seed, split="train")))
            for output, x in features.items():
                cells, asked = (y.reshape(-1, len(CELLS), y.shape[1]) for y in (x, shown[output]))
                for question, values in _answers(cells, asked).items():
                    found[question].setdefault(output, [[] for _ in seeds])[number].append(values)
    return {
        question: {output: _trial(np.array(values)) for output, values in outputs.items()}
        for question, outputs in found.items()
    }


def _trial(values: Floats) -> Trial:
    return Trial(values, values, ("",) * len(values))


def _answers(cells: Floats, asked: Floats) -> dict[str, Floats]:
    """The answers `[2n]` to each question of one output at one radius, from `[m, 4, D]` and `[n, 4, D]`."""
    found = {}
    for question, pairs in QUESTIONS.items():
        x = pairs(cells)
        readout = ridge(x.reshape(2 * len(x), -1))
        shown = asked[:, DISAGREE] if question == DISAGREEING else pairs(asked)
        found[question] = readout.values(shown.reshape(2 * len(shown), -1))
    return found


def _whole(cells: Floats) -> Floats:
    """`[m, 2, D]`: circle and square, made of the same elements, of discs and of squares by turns."""
    scene = np.arange(len(cells))
    return np.stack([cells[scene, scene % 2], cells[scene, 2 + scene % 2]], axis=1)


def _element(cells: Floats) -> Floats:
    """`[m, 2, D]`: of discs and of squares, which form the same, a circle and a square by turns."""
    scene = np.arange(len(cells))
    return np.stack([cells[scene, 2 * (scene % 2)], cells[scene, 2 * (scene % 2) + 1]], axis=1)


WHOLE, ELEMENT, DISAGREEING = "whole", "element", "disagreeing"
QUESTIONS: dict[str, Callable[[Floats], Floats]] = {
    WHOLE: _whole,
    ELEMENT: _element,
    DISAGREEING: lambda cells: cells[:, AGREE],
}


def followed(trial: Trial) -> NDArray[np.float64]:
    """Whether each answer to a figure whose cues disagree is its whole's, `[S, R, n, 2]`; of neither, one half."""
    values = trial.values.reshape(*trial.values.shape[:2], -1, 2)
    found: NDArray[np.float64] = 0.5 + 0.5 * np.sign(values) * np.array([-1.0, 1.0])
    return found
