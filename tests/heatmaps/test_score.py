"""Localisation scores: naive references, scikit-learn, and what the definitions promise.

Alone: pytest tests/heatmaps/test_score.py
"""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from probekit.heatmaps.score import SCORES, area_average, chance, explanation, score_map, score_maps, upsample
from probekit.statistics import mean_over_images, ratio_over_images

POINTING, MASS, RANK, AUROC = range(4)

# Few values, so that ties abound.
small_maps = hnp.arrays(np.float32, (2, 3), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0]))
small_masks = hnp.arrays(np.bool_, (2, 3))


def scores(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = score_map(values.astype(np.float32), [mask])[0]
    return found


@given(small_maps, small_masks)
def test_ties_count_in_expectation(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    """The mean over every order of the pixels of what a plain argmax and a plain sort would give."""
    k = int(mask.sum())
    if k == 0:
        assert np.isnan(scores(values, mask)).all()
        return
    flat, inside = values.ravel(), mask.ravel()
    points, ranks = [], []
    for order in itertools.permutations(range(flat.size)):
        descending = sorted(order, key=lambda i: -flat[i])  # stable: ties in the order of the permutation
        points.append(inside[descending[0]])
        ranks.append(np.mean([inside[i] for i in descending[:k]]))
    got = scores(values, mask)
    assert got[POINTING] == pytest.approx(np.mean(points))
    assert got[RANK] == pytest.approx(np.mean(ranks))


@given(small_maps, small_masks)
def test_mass_is_the_share_of_positive_values(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    total = inside = 0.0
    for value, hit in zip(values.ravel(), mask.ravel(), strict=True):
        total += max(0.0, float(value))
        inside += max(0.0, float(value)) * bool(hit)
    got = scores(values, mask)[MASS]
    if total == 0 or not mask.any():
        assert np.isnan(got)
    else:
        assert got == pytest.approx(inside / total)


@given(small_maps, small_masks)
def test_auroc_is_scikit_learns(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    if mask.all() or not mask.any():
        assert np.isnan(scores(values, mask)[AUROC])
    else:
        assert scores(values, mask)[AUROC] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))


def discs(n: int = 5, size: int = 32) -> NDArray[np.bool_]:
    y, x = np.mgrid[:size, :size]
    return np.stack([(x - 8 - 3 * i) ** 2 + (y - 14) ** 2 < 30 for i in range(n)])


def test_the_mask_scores_one_its_inverse_zero_and_a_constant_its_share() -> None:
    masks = discs()
    right = score_maps(masks.astype(np.float32), masks[None])[:, 0]
    wrong = score_maps(1 - masks.astype(np.float32), masks[None])[:, 0]
    flat = score_maps(np.full(masks.shape, 3, np.float32), masks[None])[:, 0]
    np.testing.assert_array_equal(right, 1)
    np.testing.assert_array_equal(wrong, 0)
    np.testing.assert_allclose(flat, chance(masks[None])[:, 0])
    np.testing.assert_allclose(flat[:, :3], masks.mean(axis=(1, 2))[:, None].repeat(3, 1))


def test_a_constant_map_never_hits_for_sure() -> None:
    """Quantus counts any tied maximum, so that a map of zeros always hits."""
    mask = discs(1)[0]
    assert scores(np.zeros(mask.shape), mask)[POINTING] == pytest.approx(mask.mean())


def test_an_empty_mask_is_undefined_and_counted() -> None:
    masks = discs()
    masks[2] = False
    found = score_maps(np.random.default_rng(0).random(masks.shape).astype(np.float32), masks[None])[:, 0]
    assert np.isnan(found[2]).all()
    interval = mean_over_images(found[:, RANK], seed=0)
    assert (interval["n"], interval["undefined"]) == (4, 1)
    assert interval["mean"] == pytest.approx(np.nanmean(found[:, RANK]))


def test_several_masks_are_scored_as_each_by_itself() -> None:
    masks = np.stack([discs(), ~discs()])
    maps = np.random.default_rng(1).normal(size=masks.shape[1:]).astype(np.float32)
    both = score_maps(maps, masks)
    assert both.shape == (5, 2, len(SCORES))
    for m in range(2):
        np.testing.assert_array_equal(both[:, m], score_maps(maps, masks[m : m + 1])[:, 0])


def test_the_ceiling_of_the_finest_grid_is_the_mask_and_coarser_ones_are_lower() -> None:
    masks = discs()
    size = (32, 32)
    np.testing.assert_array_equal(upsample(area_average(masks, size), size), masks)
    ranks = [
        score_maps(upsample(area_average(masks, (g, g)), size), masks[None])[:, 0, RANK].mean() for g in (2, 8, 32)
    ]
    assert ranks[0] < ranks[1] < ranks[2] == 1


def test_upsampling_keeps_cell_centres() -> None:
    """By hand: 2 cells over 4 pixels, centres at 1 and 3, so pixels at .5, 1.5, 2.5, 3.5."""
    row = upsample(np.array([[[0.0, 4.0]]]), (1, 4))[0, 0]
    np.testing.assert_allclose(row, [0, 1, 3, 4])


@pytest.mark.parametrize("value", [0.3, -7.123, 1e-7])
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (3, 7)])
def test_a_constant_map_stays_constant(value: float, grid: tuple[int, int]) -> None:
    """Rounding must not order what ties."""
    flat = upsample(np.full((1, *grid), value), (50, 23))
    assert len(np.unique(flat)) == 1
    assert flat[0, 0, 0] == np.float32(value)


def test_explanation_maps_are_stretched_to_the_unit_range() -> None:
    maps = np.array([[[-3.0, 0.0], [1.0, 2.0]], [[5.0, 5.0], [5.0, 5.0]], [[-1.0, -1.0], [0.0, 0.0]]])
    expected = np.array([[[0, 0], [0.5, 1]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    np.testing.assert_allclose(explanation(maps, (2, 2)), expected)


def test_negative_cells_are_cut_before_resizing() -> None:
    """By hand: cell centres at 0.5 and 2.5 of 4 px. Cut afterwards, -3 would leave 0, 0, 0, 1."""
    np.testing.assert_allclose(explanation(np.array([[[-3.0, 1.0]]]), (1, 4)), [[[0, 0.25, 0.75, 1]]])


def test_intervals_are_those_of_the_bootstrap() -> None:
    values = np.random.default_rng(2).beta(0.5, 3, size=150)
    ours = mean_over_images(values, seed=0)
    oracle = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    width = oracle.high - oracle.low
    assert ours["mean"] == pytest.approx(values.mean())
    np.testing.assert_allclose(ours["ci"], oracle, atol=0.08 * width)


def test_a_ratio_of_means_keeps_pairs_together() -> None:
    rng = np.random.default_rng(3)
    below = rng.uniform(0.5, 1.5, 100)
    exact = ratio_over_images(0.25 * below, below, seed=0)
    assert exact is not None
    assert exact == {"mean": pytest.approx(0.25), "ci": None}, "0.25 in every resample"
    wide = ratio_over_images(below[::-1], below, seed=0)
    assert wide is not None
    assert wide["ci"][0] < wide["mean"] < wide["ci"][1]
    assert ratio_over_images(below, np.zeros(100), seed=0) is None
    assert ratio_over_images(below, -below, seed=0) is None


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for trial in range(200):
        low, high = mean_over_images(rng.normal(1.0, 1.0, 100), seed=trial)["ci"]
        hits += low <= 1.0 <= high
    assert 178 <= hits <= 200  # 95 % of 200 is 190; below 178 has probability 1e-4
