"""Where a map points, against a mask: four scores of one image, in [0, 1], NaN where undefined; and their means.

Raw maps come in, at the size of the mask; negative values count as they are, except for the mass. All scores are those
of diagnostics that are exact about ties: a constant map scores the mask's share of the image, or AUROC 1/2.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from probekit.heatmaps.base import Row
from probekit.heatmaps.means import OverImages

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
SCORES = ("pointing", "relevance_mass", "rank_accuracy", "auroc")
THREADS = 2  # sorting releases the interpreter's lock
CHUNK = 64  # maps at the image's size at a time: bounds memory
PerImage = NDArray[np.float64]  # [N, M, 4]: images, masks, SCORES
Masks = Mapping[str, NDArray[np.bool_]]  # by name, [N, H, W]


def score_maps(maps: Floats, masks: Mask) -> NDArray[np.float64]:
    """Every score of every raw, finite map `[N, H, W]` against every mask `[M, N, H, W]`: `[N, M, 4]`, as `SCORES`."""
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

    `inside` `[K]`: the map's values in the mask, K > 0; `ascending` `[H * W]`: all values, sorted. Among pixels that
    tie for the highest, each is as likely.
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
    """The chance that a pixel of the mask is higher than one outside it, ties counting half; NaN for a full mask."""
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


def localise(rows: Sequence[Row], masks: Masks, means: OverImages) -> list[dict[str, Any]]:
    """Scores of each row: {mask: {score: {mean, ci, n, undefined, normalised}}}; nothing without masks."""
    if not masks:
        return [{} for _ in rows]
    truth = np.stack(list(masks.values()))
    flat, size = chance(truth), (truth.shape[2], truth.shape[3])
    ceilings: dict[tuple[int, int], PerImage] = {}
    results = []
    for row in rows:
        grid = (row.maps.shape[1], row.maps.shape[2])
        if grid not in ceilings:
            ceilings[grid] = ceiling_scores(truth, grid)
        parts = [score_maps(upsample(row.maps[at], size), truth[:, at]) for at in _chunks(len(row.maps))]
        results.append(_summarise(np.concatenate(parts), flat, ceilings[grid], list(masks), means))
    return results


def localise_ceiling(masks: Masks, grid: tuple[int, int], means: OverImages) -> dict[str, Any]:
    """The scores of the ceiling itself on a grid, as `localise`; normalised they are 1."""
    truth = np.stack(list(masks.values()))
    scores = ceiling_scores(truth, grid)
    return _summarise(scores, chance(truth), scores, list(masks), means)


def ceiling_scores(truth: NDArray[np.bool_], grid: tuple[int, int]) -> PerImage:
    """What each true mask, seen through the grid, scores against itself, `[N, M, 4]`, from masks `[M, N, H, W]`."""
    by_mask = []
    for mask in truth:
        parts = [
            score_maps(upsample(area_average(mask[at], grid), mask.shape[1:]), mask[None, at])
            for at in _chunks(mask.shape[0])
        ]
        by_mask.append(np.concatenate(parts)[:, 0])
    return np.stack(by_mask, axis=1)


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]


def _summarise(
    scores: PerImage, flat: PerImage, highest: PerImage, names: Sequence[str], means: OverImages
) -> dict[str, Any]:
    """Means with intervals. Normalised: how far from chance (0) to the ceiling (1) a score lies; it may pass both."""
    gain, room = scores - flat, highest - flat
    return {
        mask: {
            score: means.mean(scores[:, m, s]) | {"normalised": means.ratio(gain[:, m, s], room[:, m, s])}
            for s, score in enumerate(SCORES)
        }
        for m, mask in enumerate(names)
    }


def upsample(maps: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps `[N, h, w]` at the image's (H, W), bilinear, cell centres on the centres of what they cover."""
    grid = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    if tuple(grid.shape[-2:]) != size:
        # In double precision, so that what ties on the grid ties afterwards: scores count ties.
        grid = F.interpolate(grid.double(), size, mode="bilinear", align_corners=False).float()
    return grid[:, 0].numpy()


def area_average(masks: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Masks `[N, H, W]` as the share of each cell of a grid that they cover, `[N, h, w]`.

    Upsampled again, that is the ceiling: a reference for what a map of that grid can reach, not a strict bound.
    """
    truth = torch.from_numpy(masks).float()[:, None]
    return F.interpolate(truth, grid, mode="area")[:, 0].numpy()


def explanation(maps: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each pixel its map `[N, h, w]` shows, `[N, H, W]` in [0, 1]: negatives cut, resized, then stretched.

    As the cross-correlation paper has it (eq. 8 and the text after it): cut after resizing, negative neighbours would
    eat into positive cells. A map without a positive value shows nothing, an even one everything. For explanation
    images (Average Drop) only; localisation scores take raw maps.
    """
    positive = upsample(np.maximum(maps, 0), size)
    low = positive.min(axis=(1, 2), keepdims=True)
    span = positive.max(axis=(1, 2), keepdims=True) - low
    constant = span == 0
    stretched = (positive - low) / np.where(constant, 1, span)
    return np.where(constant, (positive > 0).astype(np.float32), stretched)
