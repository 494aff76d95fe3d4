"""Thresholds against simulated observers, scipy and scikit-learn; intervals by how often they hold the truth.

Alone: pytest tests/exams/test_psychometric.py
"""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import beta, binom, chi2, norm
from sklearn.metrics import roc_auc_score

from probekit.exams.psychometric import Fit, Grid, Threshold, areas, difference, means, orders, resampled, threshold
from probekit.statistics import auc

LEVELS = 2.0 ** np.linspace(0, 3, 7)


def observer(
    px: float, *, n: int, seed: int, spread: float = 0.5, shared: float = 0.0, seeds: int = 1
) -> NDArray[np.float64]:
    """Values `[S, L, 2n]` of an observer whose area is .75 at `px`; `shared` of the variance is alike within pairs."""
    rng = np.random.default_rng(seed)
    pc = 0.5 + 0.5 * norm.cdf(np.log2(LEVELS / px) / spread)
    apart = np.sqrt(2) * norm.ppf(np.minimum(pc, 1 - 1e-6))
    values = np.sqrt(shared) * rng.standard_normal((len(LEVELS), n, 1)) + np.sqrt(1 - shared) * rng.standard_normal(
        (len(LEVELS), n, 2)
    )
    values[..., 1] += apart[:, None]
    values = values + 0.3 * rng.standard_normal((seeds, *values.shape)) * (seeds > 1)
    rows: NDArray[np.float64] = values.reshape(seeds, len(LEVELS), 2 * n)
    return rows


def test_an_area_is_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (2, 3, 40)).astype(np.float32)
    y = np.arange(40) % 2
    expected = [[roc_auc_score(y, row) for row in rows] for rows in values]
    np.testing.assert_allclose(areas(values), expected, atol=1e-12)
    assert areas(values)[0, 0] == pytest.approx(auc(values[0, 0], y == 1))


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_areas_ask_for_order_alone_and_roles_change_sides(seed: int) -> None:
    values = np.random.default_rng(seed).integers(-4, 5, (1, 2, 16)).astype(np.float64)
    np.testing.assert_array_equal(areas(np.exp(values)), areas(values))
    exchanged = values.reshape(1, 2, 8, 2)[..., ::-1].reshape(values.shape)
    np.testing.assert_allclose(areas(values) + areas(exchanged), 1)
    np.testing.assert_allclose(orders(values) + orders(exchanged), 1)


def test_orders_are_counted_pair_by_pair() -> None:
    values = np.array([[[0.0, 1.0, 0.0, -1.0, 2.0, 2.0, 3.0, 3.0 + 1e-5, 5.0, 6.0]]])
    by_hand = [1.0, 0.0, 0.5, 0.5, 1.0]  # 1e-5 is a tie: under 1e-4 of the standard deviation
    assert orders(values)[0, 0] == pytest.approx(np.mean(by_hand))


def test_the_same_values_in_both_roles_are_at_chance_exactly() -> None:
    values = np.repeat(np.random.default_rng(0).standard_normal((1, 7, 40)), 2, axis=-1)
    assert (areas(values) == 0.5).all()
    assert (orders(values) == 0.5).all()
    assert (areas(np.zeros((1, 7, 40))) == 0.5).all()


def test_what_is_shared_hides_a_class_from_areas_but_not_from_orders() -> None:
    """Closed forms: of unit noise, .9 of it shared, areas are Phi(d / sqrt 2) and orders Phi(d / sqrt(2 * .1))."""
    values = observer(2.0, n=800, seed=0, shared=0.9)
    pc = 0.5 + 0.5 * norm.cdf(np.log2(LEVELS / 2.0) / 0.5)
    apart = np.sqrt(2) * norm.ppf(np.minimum(pc, 1 - 1e-6))
    np.testing.assert_allclose(areas(values)[0], norm.cdf(apart / np.sqrt(2)), atol=0.04)
    np.testing.assert_allclose(orders(values)[0], norm.cdf(apart / np.sqrt(0.2)), atol=0.04)


def test_the_grid_finds_what_a_minimiser_finds() -> None:
    """Of few answers, so that the priors count: as likely a function, but for the grid's steps."""
    rng = np.random.default_rng(0)
    grid, n = Grid(LEVELS), 15

    def loss(mu: float, sd: float, lapse: float, shares: NDArray[np.float64]) -> float:
        p = np.clip(0.5 + (0.5 - lapse) * norm.cdf((np.log2(LEVELS) - mu) / sd), 1e-5, 1 - 1e-5)
        likelihood = n * (shares * np.log(p) + (1 - shares) * np.log(1 - p)).sum()
        prior = 19 * np.log(1 - lapse) - np.log(sd / 0.6) ** 2 / 2
        return -float(likelihood + prior)

    def free(q: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
        return loss(q[0], np.exp(q[1]), 0.1 / (1 + np.exp(-q[2])), shares)

    for _ in range(5):
        mu, lapse = rng.uniform(1, 2), rng.choice([0.0, 0.05])
        shares = rng.binomial(n, 0.5 + (0.5 - lapse) * norm.cdf((np.log2(LEVELS) - mu) / 0.5)) / n
        best = minimize(free, (mu, np.log(0.5), -2.0), args=(shares,), method="Nelder-Mead")
        found = grid.fit(shares, n)
        assert loss(float(found.mu), float(found.sd), float(found.lapse), shares) < best.fun + 0.1
        spare = 0.5 - 0.1 / (1 + np.exp(-best.x[2]))
        expected = 2 ** (best.x[0] + np.exp(best.x[1]) * norm.ppf(0.25 / spare))
        assert float(found.threshold()) == pytest.approx(expected, rel=0.04)


def test_fits_are_of_rows_and_their_curves_pass_through_the_threshold() -> None:
    grid = Grid(LEVELS)
    shares = 0.5 + 0.5 * norm.cdf(np.log2(LEVELS / np.array([[[1.5], [2.0]], [[3.0], [4.0]]])) / 0.5)
    fit = grid.fit(shares, np.full(7, 1000))
    assert fit.mu.shape == (2, 2)
    assert fit.curve(LEVELS).shape == (2, 2, 7)
    np.testing.assert_allclose(fit.threshold(), [[1.5, 2.0], [3.0, 4.0]], rtol=0.02)
    np.testing.assert_allclose(fit.curve(LEVELS), shares, atol=0.02)
    for share in (0.6, 0.75, 0.85):
        at = np.array(
            [fit.curve(px)[i, j, 0] for (i, j), px in np.ndenumerate(fit.threshold(share)[..., None][..., 0])]
        )
        np.testing.assert_allclose(at, share, atol=1e-9)


@pytest.mark.parametrize(
    ("n", "shared", "spread"),
    [
        (40, 0.0, 0.5),
        (40, 0.9, 0.5),
        (160, 0.5, 0.25),
        (40, 0.5, 0.1),
        (160, 0.0, 0.1),
        (40, 0.0, 0.05),
        (40, 0.5, 1.0),
    ],
)
def test_thresholds_are_unbiased_and_their_intervals_cover(n: int, shared: float, spread: float) -> None:
    """Of 40 observers 38 should be held; 34 are a chance of 4 %. A spread of .1 octave rises between two levels."""
    rng, held, off = np.random.default_rng(1), 0, []
    for seed in range(40):
        px = 2 ** rng.uniform(0.8, 2.2)
        found = threshold(LEVELS, observer(px, n=n, seed=seed, spread=spread, shared=shared), draws=200, seed=0)
        held += found.ci[0] <= px <= found.ci[1]
        off.append(np.log(found.value / px))
        assert found.ci[0] <= found.value <= found.ci[1]
    assert held >= 34
    assert abs(np.mean(off)) < 0.02 + 2 * np.std(off) / np.sqrt(40)


def test_more_pairs_make_the_interval_narrower_and_several_seeds_a_joint_one() -> None:
    def width(values: NDArray[np.float64]) -> float:
        ci = threshold(LEVELS, values, seed=0).ci
        return float(np.log2(ci[1] / ci[0]))

    ratio = np.mean([width(observer(2.5, n=40, seed=s)) / width(observer(2.5, n=160, seed=s)) for s in range(6)])
    assert ratio == pytest.approx(2, rel=0.2)
    apart = np.concatenate([observer(px, n=400, seed=0) for px in (1.5, 2.5, 4.0)])
    assert width(apart) > 2 * max(width(row[None]) for row in apart), "seeds that disagree count"


def test_what_lies_beyond_the_levels_is_said_to_and_never_extrapolated() -> None:
    above = threshold(LEVELS, np.random.default_rng(0).standard_normal((1, 7, 80)), seed=0)
    assert (above.value, above.beyond, above.ci[1], above.ci_beyond[1]) == (8.0, ">", 8.0, ">")
    below = threshold(LEVELS, observer(0.2, n=40, seed=0), seed=0)
    assert (below.value, below.beyond, below.ci[0], below.ci_beyond[0]) == (1.0, "<", 1.0, "<")
    edge = threshold(LEVELS, observer(7.5, n=20, seed=0), seed=0)
    assert (edge.beyond, edge.ci_beyond) == ("", ("", ">"))
    assert difference(above, above) is None
    found = difference(above, edge)
    assert found is not None
    assert found[0] == pytest.approx(8.0 / edge.value)
    assert (below.log2_draws >= 0).all()
    assert (above.log2_draws <= 3).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_have_no_threshold(value: float) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 20)).astype(np.float32)
    values[1, 2, 7] = value
    with pytest.raises(ValueError, match="expected finite features of test pairs, found NaN or infinity"):
        threshold([1, 2, 4], values, seed=0)


def test_a_curve_that_rises_between_two_levels_is_known_to_lie_there_and_no_better() -> None:
    values = np.zeros((1, 7, 80))
    values[:, 3:, 1::2] = 1.0
    found = threshold(LEVELS, values, seed=0)
    assert found.steep
    gap = np.log2(LEVELS[2]), np.log2(LEVELS[3])
    low, high = np.log2(found.ci)
    assert gap[0] < low < gap[0] + 0.15
    assert gap[1] - 0.15 < high < gap[1]
    assert not threshold(LEVELS, observer(2.0, n=40, seed=0), seed=0).steep


def test_where_a_steep_curve_rises_is_known_better_near_a_level() -> None:
    """The answers at that level tell: half a gap away nothing does."""

    def width(px: float) -> float:
        found = [threshold(LEVELS, observer(px, n=160, seed=seed, spread=0.1), draws=100, seed=0) for seed in range(5)]
        return float(np.mean([np.log2(each.ci[1] / each.ci[0]) for each in found]))

    assert width(LEVELS[3]) < 0.15
    assert width(LEVELS[3] * 2**0.25) > 0.2


def test_the_interval_holds_that_of_the_resamples_1_1_times_as_wide() -> None:
    for seed in range(6):
        found = threshold(LEVELS, observer(2.5, n=160, seed=seed, shared=0.5), seed=0)
        value, ends = np.log2(found.value), np.log2(found.ci)
        low, high = np.percentile(found.log2_draws, (2.5, 97.5))
        assert ends[0] <= value - 1.1 * (value - low) + 1e-9
        assert ends[1] >= value + 1.1 * (high - value) - 1e-9


def test_areas_that_vary_less_have_narrower_intervals() -> None:
    """What both of a pair share hardly moves areas: they are worth more counted answers."""

    def width(shared: float) -> float:
        found = [threshold(LEVELS, observer(2.5, n=40, seed=seed, shared=shared), seed=0) for seed in range(4)]
        return float(np.mean([np.log2(each.ci[1] / each.ci[0]) for each in found]))

    assert width(0.8) < 0.75 * width(0.0)


def test_a_profile_is_that_of_plain_loops() -> None:
    """Scipy's likelihoods; those of an interval 1.1 times as wide lie 1.21 times as far below the highest."""
    shares, n = np.array([0.5, 0.55, 0.5, 0.65, 0.9, 1.0, 0.95]), 40
    grid = Grid(LEVELS, fine=True)
    chosen = np.random.default_rng(0).choice(len(grid.octaves), 4000, replace=False)
    grid.all = Fit(grid.all.mu[chosen], grid.all.sd[chosen], grid.all.lapse[chosen])
    grid.octaves, grid.odds, grid.wrong = grid.octaves[chosen], grid.odds[:, chosen], grid.wrong[:, chosen]
    grid.lapse_prior = grid.lapse_prior[chosen]
    found = []
    for mu, sd, lapse in zip(grid.all.mu, grid.all.sd, grid.all.lapse, strict=True):
        p = np.clip(0.5 + (0.5 - lapse) * norm.cdf((np.log2(LEVELS) - mu) / sd), 1e-5, 1 - 1e-5)
        likelihood = float(binom.logpmf(np.rint(shares * n), n, p).sum() + beta.logpdf(lapse, 1, 20))
        found.append((likelihood, mu + sd * norm.ppf(0.25 / (0.5 - lapse))))
    highest = max(found)[0]
    held = [px for likelihood, px in found if likelihood >= highest - 1.1**2 * chi2.ppf(0.95, 1) / 2]
    assert grid.profile(shares, n) == pytest.approx((min(held), max(held)), abs=0.02)
    assert max(held) - min(held) > 0.2


def test_differences_are_paired() -> None:
    """Two observers that share their noise are told apart where their own intervals overlap."""

    def apart(a: Threshold, b: Threshold) -> tuple[float, float, float]:
        found = difference(a, b)
        assert found is not None
        return found[0], *found[1]

    a = threshold(LEVELS, observer(2.0, n=40, seed=0), seed=0)
    b = threshold(LEVELS, observer(2.25, n=40, seed=0), seed=0)
    assert a.ci[1] > b.ci[0]
    ratio, low, high = apart(b, a)
    assert 1 < low < ratio < high
    assert ratio == pytest.approx(2.25 / 2, rel=0.05)
    assert apart(a, a) == (1, 1, 1)
    inverse = apart(a, b)
    assert inverse == pytest.approx((1 / ratio, 1 / high, 1 / low), rel=1e-6)


@pytest.mark.parametrize("kind", ["readable", "present"])
def test_draws_spread_as_those_of_pairs_drawn_one_by_one(kind: Literal["readable", "present"]) -> None:
    values = observer(2.5, n=60, seed=0, shared=0.5, seeds=2)
    found = resampled(values, kind=kind, draws=400, seed=0)
    assert found.shape == (400, 7)
    rng, drawn = np.random.default_rng(1), []
    for _ in range(300):
        chosen = values[rng.integers(2, size=2)].reshape(2, 7, 60, 2)
        again = np.stack([chosen[:, level, rng.integers(60, size=60)] for level in range(7)], axis=1)
        drawn.append({"readable": areas, "present": orders}[kind](again.reshape(2, 7, 120)).mean(axis=0))
    np.testing.assert_allclose(found.mean(axis=0), np.mean(drawn, axis=0), atol=0.012)
    np.testing.assert_allclose(found.std(axis=0), np.std(drawn, axis=0), rtol=0.25, atol=0.003)


def test_a_seed_decides_the_draws() -> None:
    values = observer(2.0, n=20, seed=0, seeds=3)
    one, same, other = (threshold(LEVELS, values, draws=50, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.log2_draws, same.log2_draws)
    assert not np.array_equal(one.log2_draws, other.log2_draws)
    assert one.value == other.value


def test_three_seeds_spread_as_their_mean_does() -> None:
    """The standard error of a mean of three is their deviation over the root of three; S of S draws have .82 of it."""
    of_seeds = np.array([0.2, 0.5, 0.8])
    drawn = means(np.broadcast_to(of_seeds[:, None, None], (3, 1, 40)), draws=4000, seed=0)
    assert drawn.std() == pytest.approx(of_seeds.std(ddof=1) / np.sqrt(3), rel=0.03)
