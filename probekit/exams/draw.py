"""The images of the exam: drawings of `generators` in grey, each with noise of its own.

Without noise no threshold exists: a deterministic encoder tells any two drawings apart. Levels, splits and pairs share
no nuisance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from generators import GENERATORS, Generator
from probekit.exams.items import Item

Pixels = NDArray[np.uint8]

GROUND, INK = 0.15, 0.85  # grey levels: room for noise on both sides
CONTRAST = (INK - GROUND) / (1.0 - GROUND)
EXPOSED = {"background": GROUND, "contrast": CONTRAST, "independent_noise": True}
LEVEL_STRIDE = 1 << 20  # numbers of images that a level has for itself
TEST_SEED = 0  # of the test images: they are the exam

CHANGES: dict[str, tuple[tuple[int, int] | None, dict[str, float]]] = {
    # What is changed of landolt at its easiest level after training: the values of the factor, the settings.
    "mirrored": ((2, 1), {}),
    "dark on light": (None, {"dark": True}),
    "a quarter of the contrast": (None, {"contrast": CONTRAST / 4}),
    "half the size": (None, {"gap": 4.0}),
    "farther out": (None, {"place": 60.0}),
}


@dataclass(frozen=True)
class Frame:
    """What all images of an exam have in common: side in px, noise in grey levels of range [0, 1]."""

    size: int
    noise: float


def drawer(
    item: Item, level: int, frame: Frame, *, clean: bool = False, changed: Mapping[str, float] = {}
) -> Generator:
    """The generator at one of an item's levels, counted from the hardest.

    `clean`: white on black without noise, as ideal readers want it; `changed`: other settings.
    """
    own = {item.parameter: item.levels[level]} if item.parameter else {}
    exposed = {} if clean else {**EXPOSED, "noise_sd": frame.noise}
    return _drawer(item.generator, frame.size, tuple({**item.settings, **own, **exposed, **changed}.items()))


@lru_cache(maxsize=64)
def _drawer(name: str, size: int, settings: tuple[tuple[str, float], ...]) -> Generator:
    return GENERATORS[name](size=size, parameters=dict(settings))


def pairs(item: Item, made: Generator, level: int, *, seed: int, split: str, n: int) -> Pixels:
    """Pairs `[n, 2, H, W]` that differ in the factor, and in their noise, alone; of any n the first are the same.

    `made`: `drawer` of this level; images of two values of `split` have nothing in common.
    """
    factors = made.sample(seed, f"exam/{split}", np.arange(n, dtype=np.int64) + level * LEVEL_STRIDE)
    factors[item.factor] = item.values[0]
    other = made.counterfactual(factors, item.factor, item.values[1])
    return made.render_images(np.stack((factors, other), axis=1).ravel()).reshape(n, 2, made.size, made.size)


def draw_training(item: Item, level: NDArray[np.int64], frame: Frame, seed: int) -> Pixels:
    """Images `[p, 2, H, W]` of pairs at the levels `[p]`."""
    images = np.empty((len(level), 2, frame.size, frame.size), np.uint8)
    for number in np.unique(level):
        rows = np.flatnonzero(level == number)
        made = drawer(item, int(number), frame)
        images[rows] = pairs(item, made, int(number), seed=seed, split="train", n=len(rows))
    return images


def draw_test(item: Item, n: int, frame: Frame, *, clean: bool = False) -> Pixels:
    """Images `[L, n, 2, H, W]`; clean ones are the same drawings, white on black without noise."""
    made = [drawer(item, level, frame, clean=clean) for level in range(len(item.levels))]
    return np.stack([pairs(item, own, level, seed=TEST_SEED, split="test", n=n) for level, own in enumerate(made)])


def draw_changed(item: Item, change: str, n: int, frame: Frame) -> Pixels:
    """Images `[1, n, 2, H, W]` at the easiest level, with one of `CHANGES`."""
    values, settings = CHANGES[change]
    level = len(item.levels) - 1
    own = item if values is None else replace(item, values=values)
    made = drawer(item, level, frame, changed=settings)
    return pairs(own, made, level, seed=TEST_SEED, split=f"changed/{change}", n=n)[None]


def flat(images: Pixels) -> Pixels:
    """`[..., H, W] -> [N, H, W]`."""
    return images.reshape(-1, *images.shape[-2:])
