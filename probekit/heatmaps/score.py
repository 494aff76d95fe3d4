"""Where a map points, against a mask: four scores of one image, in [0, 1], NaN where undefined.

Raw maps come in, at the size of the mask; negative values count as they are, except for the mass. All scores are those
of diagnostics that are exact about ties: a constant map scores the mask's share of the image, or AUROC 1/2.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

SCORES = ("pointing", "relevance_mass", "rank_accuracy", "auroc")
THREADS = 2  # sorting releases the interpreter's lock


def score_maps(maps: Floats, masks: Mask) -> NDArray[np.float64]:
    """Every score of every map against every mask.

    Args:
        maps: `[N, H, W]`, raw and finite.
        masks: `[M, N, H, W]`.

    Returns:
        float64 `[N, M, 4]`, in the order of `SCORES`.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        rows = pool.map(lambda i: score_map(maps[i], [mask[i] for mask in masks]), range(len(maps)))
        return np.array(list(rows), dtype=np.float64).reshape(len(maps), len(masks), len(SCORES))


def score_map(values: Floats, masks: Sequence[Mask]) -> NDArray[np.float64]:
    """One map `[H, W]` against masks of its size, `[M, 4]`; the map is sorted once for all."""
    flat = values.ravel()
    ascending = np.sort(flat)
    positive = np.maximum(flat, 0)
    total = float(positive.sum(dtype=np.float64))
    scores = np.full((len(masks), len(SCORES)), np.nan)
    for row, mask in enumerate(masks):
        inside = mask.ravel()
        if not inside.any():
            continue
        values_in = flat[inside]
        mass = float(positive[inside].sum(dtype=np.float64)) / total if total > 0 else np.nan
        scores[row] = (
            pointing(values_in, ascending),
            mass,
            relevance_rank(values_in, ascending),
            auroc(values_in, ascending),
        )
    return scores


def pointing(inside: Floats, ascending: Floats) -> float:
    """The pointing game (Zhang et al. 2018) without tolerance: the chance that the highest pixel lies in the mask.

    Among pixels that tie for the highest, each is as likely.

    Args:
        inside: `[K]`, the map's values in the mask, K > 0.
        ascending: `[H * W]`, all values, sorted.
    """
    highest = ascending[-1]
    ties = len(ascending) - int(np.searchsorted(ascending, highest, side="left"))
    return float((inside == highest).sum()) / ties


def relevance_rank(inside: Floats, ascending: Floats) -> float:
    """Relevance rank accuracy (CLEVR-XAI, Arras et al. 2022): the share of the K highest pixels that lie in the mask.

    K is the mask's area. Pixels that tie at the K-th place are drawn from in expectation. Arguments as `pointing`.
    """
    k = len(inside)
    border = ascending[-k]
    above = len(ascending) - int(np.searchsorted(ascending, border, side="right"))
    ties = len(ascending) - above - int(np.searchsorted(ascending, border, side="left"))
    above_in, ties_in = int((inside > border).sum()), int((inside == border).sum())
    return (above_in + (k - above) * ties_in / ties) / k


def auroc(inside: Floats, ascending: Floats) -> float:
    """The chance that a pixel of the mask is higher than one outside it, ties counting half; NaN for a full mask.

    Arguments as `pointing`.
    """
    k, n = len(inside), len(ascending)
    if k == n:
        return float("nan")
    keys = np.sort(inside)  # sorted keys are found twice as fast
    lower = np.searchsorted(ascending, keys, side="left")
    tied = (ascending[1:] == ascending[:-1]).any()
    upper = np.searchsorted(ascending, keys, side="right") if tied else lower + 1
    ranks = (lower + upper + 1.0) / 2  # mid-ranks, from 1
    return float((ranks.sum() - k * (k + 1) / 2) / (k * (n - k)))


def chance(masks: Mask) -> NDArray[np.float64]:
    """What a constant map scores, `[N, M, 4]`, from masks `[M, N, H, W]`; NaN where a score is undefined."""
    area = masks.mean(axis=(2, 3)).T
    area[area == 0] = np.nan
    half = np.where((area > 0) & (area < 1), 0.5, np.nan)
    return np.stack([area, area, area, half], axis=2)
