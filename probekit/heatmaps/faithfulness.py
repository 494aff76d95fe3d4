"""What masking by a map does to a class's probability, and the counterfactual swap curve: functions of arrays.

Average Drop and Increase are printed wrongly in the cross-correlation paper (no 1/N, a factor 10, a sign for an
indicator); these are the standard forms (Grad-CAM++, Chattopadhay et al. 2018), and Average Gain is Opti-CAM's
(Zhang et al. 2023). A map of ones scores 0, 0, 0, and one that hides almost nothing nearly as well as any, so the mean
of the map belongs beside them.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def average_drop(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Each image's share of Average Drop, in [0, 100], lower is better: `max(0, Y - O) / Y`.

    Args:
        before: `[N]`, the class's probability Y on the image.
        after: `[N]`, O, on the image seen through its map.

    Returns:
        `[N]`; NaN where Y is 0. The mean is AD %.
    """
    y, o = before.astype(np.float64), after.astype(np.float64)
    drop: NDArray[np.float64] = 100 * np.maximum(0, y - o) / np.where(y > 0, y, np.nan)
    return drop


def average_increase(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Each image's share of Average Increase, 0 or 100, higher is better: `O > Y`. Arguments as `average_drop`."""
    return np.where(after > before, 100.0, 0.0)


def average_gain(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Each image's share of Average Gain, in [0, 100], higher is better: `max(0, O - Y) / (1 - Y)`.

    Arguments as `average_drop`; NaN where Y is 1.
    """
    y, o = before.astype(np.float64), after.astype(np.float64)
    gain: NDArray[np.float64] = 100 * np.maximum(0, o - y) / np.where(y < 1, 1 - y, np.nan)
    return gain


def swap_order(
    values: Floats, differs: NDArray[np.bool_], *, steps: int, seed: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Which pixels are replaced by the counterfactual's, in the order of a map, highest first.

    Pixels where both images agree change nothing, so only those that differ count as stops; ties are in random order.

    Args:
        values: `[H, W]`, the raw map.
        differs: bool `[H, W]`, D: where the image and its counterfactual differ; at least one pixel.
        steps: Stops after the first, at equal numbers of replaced pixels of D.
        seed: Decides the order of ties.

    Returns:
        The pixels replaced by each of the `steps + 1` stops, flat indices, the first none and the last all of D; and x,
        the share of the image's pixels that the map had put first by then, in [0, 1].
    """
    shuffled = np.random.default_rng(seed).permutation(values.size)
    order = shuffled[np.argsort(-values.ravel()[shuffled], kind="stable")]
    places = np.flatnonzero(differs.ravel()[order])
    stops = np.ceil(np.linspace(0, len(places), steps + 1)).astype(int)
    replaced = [order[places[:stop]] for stop in stops]
    # Halfway between the last pixel of D that is replaced and the next: reversing the map mirrors the stops.
    begins, ends = np.append(places, places[-1] + 1), np.insert(places + 1, 0, places[0])
    return replaced, (begins[stops] + ends[stops]) / (2 * values.size)


def area_below(x: Floats, y: Floats) -> float:
    """The area below a swap curve over all pixels, from its stops: level before the first and after the last.

    Args:
        x: `[S]`, as `swap_order` gives it.
        y: `[S]`, the target at each stop.
    """
    return float(np.trapezoid(np.r_[y[0], y, y[-1]], np.r_[0.0, x, 1.0]))
