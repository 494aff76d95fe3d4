"""Every row's scores against every mask, raw and between chance and ceiling, with intervals over images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.heatmaps.resample import area_average, upsample
from probekit.heatmaps.rows import Row
from probekit.heatmaps.score import SCORES, chance, score_maps
from probekit.statistics import mean_over_images, ratio_over_images

CHUNK = 64  # maps at the image's size at a time: bounds memory

PerImage = NDArray[np.float64]  # [N, M, 4]: images, masks, SCORES
Masks = Mapping[str, NDArray[np.bool_]]  # by name, [N, H, W]


def localise(rows: Sequence[Row], masks: Masks, *, seed: int) -> list[dict[str, Any]]:
    """Scores of each row: {mask: {score: {mean, ci, n, undefined, normalised}}}; nothing without masks.

    Args:
        rows: Maps and baselines.
        masks: What they are scored against.
        seed: Decides the intervals.
    """
    if not masks:
        return [{} for _ in rows]
    truth = np.stack(list(masks.values()))
    flat = chance(truth)
    ceilings: dict[tuple[int, int], PerImage] = {}
    results = []
    for row in rows:
        grid = (row.maps.shape[1], row.maps.shape[2])
        if grid not in ceilings:
            ceilings[grid] = ceiling_scores(truth, grid)
        scores = _score(row.maps, truth)
        results.append(_summarise(scores, flat, ceilings[grid], list(masks), seed))
    return results


def localise_ceiling(masks: Masks, grid: tuple[int, int], *, seed: int) -> dict[str, Any]:
    """The scores of the ceiling itself on a grid, as `localise`; normalised they are 1."""
    truth = np.stack(list(masks.values()))
    scores = ceiling_scores(truth, grid)
    return _summarise(scores, chance(truth), scores, list(masks), seed)


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


def _score(maps: NDArray[np.float32], truth: NDArray[np.bool_]) -> PerImage:
    size = (truth.shape[2], truth.shape[3])
    return np.concatenate([score_maps(upsample(maps[at], size), truth[:, at]) for at in _chunks(len(maps))])


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]


def _summarise(scores: PerImage, flat: PerImage, highest: PerImage, names: Sequence[str], seed: int) -> dict[str, Any]:
    """Means with intervals. Normalised: how far from chance (0) to the ceiling (1) a score lies; it may pass both."""
    gain, room = scores - flat, highest - flat
    return {
        mask: {
            score: mean_over_images(scores[:, m, s], seed=seed)
            | {"normalised": ratio_over_images(gain[:, m, s], room[:, m, s], seed=seed)}
            for s, score in enumerate(SCORES)
        }
        for m, mask in enumerate(names)
    }
