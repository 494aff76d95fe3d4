"""Evidence is corrupted, a decoder rebuilds it: is what it makes nearer to the image or to its counterfactual?

Every question is asked of both sides, with the image as the truth and with its counterfactual as the truth, under the
same corruption. What does not depend on what is seen is then right once and wrong once: 0.5 exactly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from probekit.probes.measurements.reconstruction import ALL, ONE, OWN
from probekit.statistics import mean_over_images
from probekit.views.corrupt import CorruptionTables, bend_intensity

Pictures = NDArray[np.float32]  # [n, H, W] in [0, 1]
Regions = NDArray[np.bool_]  # [n, H, W]

MARGINS = (0, 4)  # px around it that are hidden, too, by in-painting
BLUR = 1 / 16  # sd of the blur, as a share of the image's side: as that of maps' fills
RADIUS = 3  # px that the neighbours' copy looks at; OpenCV's own examples
TIE = 1e-6  # of the largest possible difference: rounding
EIGHT = 8  # neighbours of a pixel that belongs to the same place


@dataclass(frozen=True)
class Side:
    """One side of a question, n images each."""

    true: Pictures  # the images
    other: Pictures  # their counterfactuals
    inputs: Pictures  # the images with the region corrupted
    region: Regions  # what of them is corrupted


@dataclass(frozen=True)
class Question:
    """What is hidden, how, and both sides."""

    factor: str
    places: str
    margin: int
    corruption: str
    sides: tuple[Side, Side]


Rebuild = Callable[[Side], Pictures]


def questions(images: Pictures, others: dict[str, Pictures], *, mean: float, seed: int) -> Iterator[Question]:
    """Every question about some images.

    `others`: by class factor, their counterfactuals; the evidence is where they differ. `mean`: of the training images.
    The seed decides what the corruptions draw, the same for both sides of an image.
    """
    asked = [(margin, each) for margin in MARGINS for each in enumerate(corruptions(mean).items())]
    for factor, other in others.items():
        evidence = images != other
        for places in (ALL, ONE):
            for margin, (number, (name, corrupt)) in asked:
                if margin and name != OWN:
                    continue
                region = hidden(evidence, places, margin)
                told = (region & evidence).any((1, 2))
                if places == ONE:  # something of it must still be seen
                    told &= (evidence & ~region).any((1, 2))
                x, y, where = images[told], other[told], region[told]
                own, swapped = (
                    np.where(where, corrupt(side, where, np.random.default_rng([seed, number])), side)
                    if len(side)
                    else side
                    for side in (x, y)
                )
                yield Question(factor, places, margin, name, (Side(x, y, own, where), Side(y, x, swapped, where)))


def hidden(evidence: Regions, places: str, margin: int) -> Regions:
    """What is hidden: all of the evidence, or the largest of its connected places, and so many pixels around it.

    A place is connected, diagonally too; of two as large the one that begins higher up, or further left.
    """
    found = evidence if places == ALL else np.stack([_largest(each) for each in evidence])
    if not margin:
        return found
    around = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    return np.stack([cv2.dilate(each.astype(np.uint8), around) for each in found]).astype(bool)


def _largest(evidence: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(evidence.astype(np.uint8), connectivity=EIGHT)
    areas = stats[1:, cv2.CC_STAT_AREA]
    found: NDArray[np.bool_] = labels == (1 + int(areas.argmax()) if len(areas) else -1)
    return found


Corrupt = Callable[[Pictures, Regions, np.random.Generator], Pictures]


def corruptions(mean: float) -> dict[str, Corrupt]:
    """By name; of what each makes only the region is taken.

    The first three are ConRec's own, of a region in place of drawn rectangles; its fourth, out-painting, would be
    in-painting here. In-painting, mean and noise leave nothing of the region; the others do.
    """
    return {
        "in-painting": lambda x, _, rng: np.broadcast_to(rng.random((len(x), 1, 1), np.float32), x.shape),
        "pixel-shuffling": _shuffled,
        "intensity": _bent,
        "mean": lambda x, *_: np.full_like(x, mean),
        "noise": lambda x, _, rng: rng.random(x.shape, np.float32),
        "blur": _blurred,
    }


def _blurred(images: Pictures, regions: Regions, rng: np.random.Generator) -> Pictures:
    sd = BLUR * max(images.shape[1:])
    return np.stack([cv2.GaussianBlur(image, (0, 0), sd) for image in images]).astype(np.float32)


def _shuffled(images: Pictures, regions: Regions, rng: np.random.Generator) -> Pictures:
    """The pixels of each region change places among themselves."""
    made = images.copy()
    for image, region in zip(made, regions, strict=True):
        image[region] = image[region][rng.permutation(int(region.sum()))]
    return made


def _bent(images: Pictures, regions: Regions, rng: np.random.Generator) -> Pictures:
    n, height, width = images.shape
    curve = torch.from_numpy(rng.random((n, 4), np.float32))
    inverted = torch.from_numpy(rng.random(n) < 0.5)  # ConRec authors' code
    views = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    return bend_intensity(views, curve, inverted, CorruptionTables(1, height, width))[:, 0].numpy()


def neighbours(side: Side) -> Pictures:
    """The region filled from what is around it (Telea 2004, OpenCV)."""
    levels = np.rint(side.inputs * 255).astype(np.uint8)
    pairs = zip(levels, side.region.astype(np.uint8), strict=True)
    made = np.stack([cv2.inpaint(each, where, RADIUS, cv2.INPAINT_TELEA) for each, where in pairs])
    return (made / 255).astype(np.float32)


def baselines(mean: Pictures) -> dict[str, Rebuild]:
    """What needs no decoder, by name; `mean` is the mean training image, `[1, H, W]`."""
    return {
        "input as it is": lambda side: side.inputs,
        "neighbours copied": neighbours,
        "mean training image": lambda side: np.broadcast_to(mean, side.true.shape),
    }


def nearer(rebuilt: Pictures, side: Side) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whether what was rebuilt is nearer to the truth, by squared distance in the region.

    Outside the evidence image and counterfactual agree, so the distances to both grow alike there. Gives `[n]`, 1 where
    it is nearer to the truth, 0.5 for a tie; and `[n]`, how far it is on the way: 1 at the truth, 0 halfway, -1 at the
    counterfactual, as far as it lies along their difference.
    """
    step = np.where(side.region, side.true.astype(np.float64) - side.other, 0.0)
    along = (step * (2.0 * rebuilt - side.true - side.other)).sum((1, 2)) / (step**2).sum((1, 2))
    return np.where(abs(along) <= TIE, 0.5, along > 0), along


def answer(question: Question, rebuild: Rebuild, *, seed: int) -> dict[str, Any]:
    """How often the truth is rebuilt, and how much of it, means over images of both sides.

    Gives factor, places, margin, corruption, n, right {value, ci}, restored {value, ci}; None where n is 0.
    """
    found = [nearer(rebuild(side), side) for side in question.sides] if len(question.sides[0].true) else []
    means = [mean_over_images(np.mean(each, axis=0), seed=seed) for each in zip(*found, strict=True)]
    right, restored = means or [{"mean": None, "ci": None}] * 2
    return {
        "factor": question.factor,
        "places": question.places,
        "margin": question.margin,
        "corruption": question.corruption,
        "n": len(question.sides[0].true),
        "right": {"value": right["mean"], "ci": right["ci"]},
        "restored": {"value": restored["mean"], "ci": restored["ci"]},
    }
