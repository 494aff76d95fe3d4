"""From trials to the numbers of a result: what is read at each level, thresholds, what was still rising.

Two curves, both with chance 1/2. *Readable* is the area under the ROC curve over test images, whose nuisances are
independent: the share right of a choice between two unlike scenes. *Present* is the share of pairs, which differ in the
factor alone, that are in the right order. Present and not readable: nuisances hide it; neither: it is not there, or
more training pairs would be needed (`rising`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from probekit.exams.conflict import DISAGREEING, ELEMENT, RADII, WHOLE, followed
from probekit.exams.items import BASE_SIZE, Item
from probekit.exams.psychometric import Grid, Kind, Threshold, areas, means, orders, resampled, threshold
from probekit.exams.trials import Output, Trial, Trials
from probekit.statistics import ROUNDING, percentiles

CHANCE, RISING = 0.5, 0.05  # more than that between half of the training pairs and all of them is still rising
SEED = 0  # of bootstraps: the same pairs are drawn for every observer
KINDS: tuple[Kind, ...] = ("readable", "present")
OWN = "own"  # the pooling of what is an embedding as it is


def item_numbers(item: Item, size: int, trials: Trials) -> list[dict[str, Any]]:
    """The numbers of each output: its curves by level, its read-out at the easiest level, its thresholds.

    For each output: layer, pool; areas, orders `[L]`; easy, `read_at` of the easiest level; all, of all levels, for
    what is an embedding; rising; regimen; and, where there are several levels, threshold {readable, present} and fit
    {mu, sd, lapse}.
    """
    return [_numbers(item, size, output, trial) for output, trial in trials.items()]


def _numbers(item: Item, size: int, output: Output, trial: Trial) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(("layer", "pool"), output, strict=True))
    found |= {"areas": _list(areas(trial.values).mean(0)), "orders": _list(orders(trial.values).mean(0))}
    found["easy"] = read_at(trial.values[:, -1:])
    if output[1] == OWN:
        found["all"] = read_at(trial.values)
    gained = areas(trial.values)[:, -1].mean() - areas(trial.half)[:, -1].mean()
    found |= {"rising": bool(gained > RISING), "regimen": ", ".join(dict.fromkeys(trial.regimen))}
    if len(item.levels) > 1:
        px = item.px(size)
        found["threshold"] = {kind: px_of(threshold(px, trial.values, kind=kind, seed=SEED)) for kind in KINDS}
        fit = Grid(px).fit(areas(trial.values).mean(0), np.full(len(px), trial.values.shape[2] // 2))
        found["fit"] = {name: float(np.ravel(getattr(fit, name))[0]) for name in ("mu", "sd", "lapse")}
    return found


def px_of(found: Threshold) -> dict[str, Any]:
    """A threshold as results keep it."""
    return {
        "value": float(found.value),
        "ci": [float(end) for end in found.ci],
        "beyond": found.beyond,
        "ci_beyond": list(found.ci_beyond),
    }


def read_at(values: NDArray[np.float32]) -> dict[str, Any]:
    """What is read at some levels, the mean over them, from answers `[S, L, 2n]`.

    Gives readable and present {value, ci}, the intervals from resamples of pairs within levels and of seeds; p,
    one-sided, that the area is not above chance.
    """
    found: dict[str, Any] = {}
    for kind, measure in zip(KINDS, (areas, orders), strict=True):
        draws = resampled(values, kind=kind, seed=SEED).mean(axis=1)
        found[kind] = {"value": float(measure(values).mean()), "ci": percentiles(draws)}
        if kind == "readable":
            error, gap = float(draws.std()), found[kind]["value"] - CHANCE
            # Answers that never vary are all right, or all alike.
            found["p"] = float(norm.sf(gap / error)) if error > ROUNDING else float(gap <= 0)
    return found


def changed_numbers(plain: Trials, changed: Trials) -> list[dict[str, Any]]:
    """What a read-out keeps of the easiest level when the images change in a way that it was not trained on.

    For each output: layer, pool, area, ci, and kept, (2 area - 1) over that without the change; None where nothing was
    read without it.
    """
    found = []
    for output, trial in changed.items():
        before = float(areas(plain[output].values)[:, -1].mean())
        now = read_at(trial.values)["readable"]
        kept = (2 * now["value"] - 1) / (2 * before - 1) if before > TOLD else None
        found.append({"layer": output[0], "pool": output[1], "area": now["value"], "ci": now["ci"], "kept": kept})
    return found


TOLD = 0.75  # an area that must be reached before it is asked what remains of it


def conflict_numbers(trials: Mapping[str, Trials], size: int) -> list[dict[str, Any]]:
    """What each output follows where the cues disagree, by radius of the elements.

    For each output: layer, pool; whole, element: areas `[R]` of each cue alone; follows `[R]`, the share of answers for
    the whole, and ci `[R]`, from resamples of scenes and of seeds; equal: the radius in px at which both are followed
    alike, None where none is.
    """
    found = []
    for output, trial in trials[DISAGREEING].items():
        shares = followed(trial).mean(axis=3)  # [S, R, n]
        follows = shares.mean(axis=(0, 2))
        found.append(
            {
                "layer": output[0],
                "pool": output[1],
                "whole": _list(areas(trials[WHOLE][output].values).mean(0)),
                "element": _list(areas(trials[ELEMENT][output].values).mean(0)),
                "follows": _list(follows),
                "ci": [percentiles(radius) for radius in means(shares, seed=SEED).T],
                "equal": _crossing([radius * size / BASE_SIZE for radius in RADII], follows),
            }
        )
    return found


def _crossing(px: Sequence[float], shares: NDArray[np.float64]) -> float | None:
    """Where the shares first reach one half, between two radii along the logarithm."""
    for (x0, y0), (x1, y1) in pairwise(zip(px, shares, strict=True)):
        if y0 != y1 and (y0 - CHANCE) * (y1 - CHANCE) <= 0:
            t = (CHANCE - y0) / (y1 - y0)
            return float(2 ** (np.log2(x0) + t * (np.log2(x1) - np.log2(x0))))
    return None


def _list(values: NDArray[np.floating]) -> list[float]:
    return [float(value) for value in values]
