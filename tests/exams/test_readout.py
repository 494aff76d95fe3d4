"""Read-outs against scikit-learn's ridge and closed forms; what is equal stays equal, bit for bit.

Alone: pytest tests/exams/test_readout.py
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from probekit.exams.psychometric import areas
from probekit.exams.readout import STRENGTHS, _Table, ridge, train

Floats = NDArray[np.float32]


def pairs(n: int, dim: int, apart: float, *, seed: int, along: int = 0) -> Floats:
    """Rows `[2n, dim]` of unit noise; class 1 has more of one feature."""
    x = np.random.default_rng(seed).standard_normal((2 * n, dim))
    x[1::2, along] += apart
    return x.astype(np.float32)


def area(values: Floats) -> float:
    return float(areas(values[None, None])[0, 0])


@pytest.mark.parametrize("dim", [7, 300], ids=["few features", "many features"])
@pytest.mark.parametrize("strength", [1e-4, 1.0, 1e3])
def test_the_weights_are_scikit_learns(dim: int, strength: float) -> None:
    x = pairs(40, dim, 2.0, seed=0) * np.linspace(0.5, 3, dim, dtype=np.float32) + 5
    scale = x.std(axis=0)
    expected = Ridge(alpha=strength * len(x)).fit((x - x.mean(axis=0)) / scale, np.tile([-1.0, 1.0], 40))
    other = pairs(30, dim, 1.0, seed=1)
    found = ridge(x, strengths=[strength])
    np.testing.assert_allclose(
        found.weights, expected.coef_ / scale, rtol=2e-3, atol=2e-3 * np.abs(found.weights).max()
    )
    values = expected.predict((other - x.mean(axis=0)) / scale)
    np.testing.assert_allclose(found.values(other), values, rtol=2e-3, atol=2e-3 * np.abs(values).max())


@pytest.mark.parametrize("dim", [7, 300])
def test_some_of_the_pairs_are_fitted_about_their_own_mean(dim: int) -> None:
    x = pairs(40, dim, 2.0, seed=0)
    x[:40] += 4
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = Ridge(alpha=0.1 * 40).fit(z[:40], np.tile([-1.0, 1.0], 20))
    found = _Table(x).fit(np.arange(20), 0.1)
    np.testing.assert_allclose(found.weights * x.std(axis=0), expected.coef_, atol=2e-3 * np.abs(expected.coef_).max())
    np.testing.assert_allclose(found.values(x), expected.predict(z), atol=0.01)


@pytest.mark.parametrize("dim", [7, 300])
def test_the_strength_is_chosen_by_area_on_every_fourth_pair(dim: int) -> None:
    x = pairs(60, dim, 1.0, seed=3)
    chooses = np.repeat(np.arange(60) % 4 == 3, 2)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    y = np.arange(len(x)) % 2
    fits = [Ridge(alpha=each * 90).fit(z[~chooses], 2.0 * y[~chooses] - 1) for each in STRENGTHS]
    scores = [roc_auc_score(y[chooses], fit.predict(z[chooses])) for fit in fits]
    best = STRENGTHS[int(np.argmax(scores))]
    assert len(set(scores)) > 1
    np.testing.assert_allclose(ridge(x).weights, ridge(x, strengths=[best]).weights, rtol=1e-5)


def test_closed_forms() -> None:
    """A class apart by 1, with noise .3; and with a nuisance of sd 2 beside it that both of a pair share."""
    n, rng = 2000, np.random.default_rng(0)
    label = np.tile([0.0, 1.0], n)[:, None]
    noise, nuisance = 0.3 * rng.standard_normal((2 * n, 1)), 2 * np.repeat(rng.standard_normal((n, 1)), 2, axis=0)
    for x, expected in (
        (label + noise, norm.cdf(1 / np.hypot(0.3, 0.3))),
        (label + nuisance + noise, norm.cdf(1 / np.sqrt(2 * (4 + 0.09)))),
    ):
        half = x.astype(np.float32)
        assert area(ridge(half[:n]).values(half[n:])) == pytest.approx(expected, abs=0.02)


def test_constant_features_are_at_chance_exactly_and_weigh_nothing() -> None:
    for dim in (3, 400):
        blind = ridge(np.full((40, dim), 0.1, np.float32))
        assert (blind.weights == 0).all()
        assert area(blind.values(np.full((20, dim), 0.1, np.float32))) == 0.5
        x = pairs(20, dim, 3.0, seed=0)
        x[:, 1] = 0.1
        found = ridge(x)
        assert found.weights[1] == 0
        assert found.weights[0] > 0


def test_a_feature_that_hardly_varies_is_not_blown_up() -> None:
    """Rounding noise of 1e-6 beside a feature of sd 1: its weight counts as if its sd were 1e-3."""
    x = pairs(200, 2, 1.0, seed=0)
    x[:, 1] = 1 + 1e-6 * x[:, 1] + 1e-7 * np.tile([0, 1], 200)
    found = ridge(x, strengths=[1.0])
    assert abs(found.weights[1]) * x[:, 1].std() < 1e-3 * abs(found.weights[0]) * x[:, 0].std()


@given(st.integers(1, 70), st.integers(1, 40), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_equal_rows_have_equal_values_wherever_they_stand(dim: int, m: int, columns: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    readout = ridge(pairs(8, dim, 1.0, seed=seed))
    x = rng.standard_normal((m, dim)).astype(np.float32)
    order = rng.integers(m, size=3 * m)
    asked = np.asfortranarray(x[order]) if columns else x[order]
    np.testing.assert_array_equal(readout.values(asked), readout.values(x)[order])
    assert readout.values(asked).dtype == np.float32
    twins = np.repeat(x, 2, axis=0)
    assert area(readout.values(twins)) == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_collapsed_features_are_read_too(seed: int) -> None:
    """All of 3,000 features say the same thing, as those of a collapsed encoder do: nearly singular, never refused."""
    rng = np.random.default_rng(seed)
    told = pairs(120, 1, 1.5, seed=seed)
    x = np.maximum(told @ rng.standard_normal((1, 3000)) + 10 * rng.standard_normal(3000), 0).astype(np.float32)
    found = ridge(x).values(x)
    assert area(found) == pytest.approx(area(told[:, 0]), abs=0.01)


def test_what_all_features_have_more_of_and_their_units_do_not_matter() -> None:
    x, other = pairs(40, 20, 1.0, seed=0), pairs(40, 20, 1.0, seed=1)
    plain = ridge(x).values(other)
    np.testing.assert_allclose(ridge(8 * x + 3).values(8 * other + 3), plain, atol=1e-4)
    moved = ridge(x).values(x)
    assert abs(moved.mean()) < 1e-5, "0 is half way"
    half = x.astype(np.float16)
    np.testing.assert_allclose(ridge(half).values(half), moved, atol=0.05)


def test_features_that_are_not_finite_are_refused() -> None:
    x = pairs(8, 3, 1.0, seed=0)
    for bad in (np.nan, np.inf):
        x[3, 1] = bad
        with pytest.raises(ValueError, match=r"^expected finite features, found NaN or infinity; type --layers"):
            ridge(x)


def levels(each: int, held: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs of levels 0, 1, 2 (hard to easy), more of the easiest, then held ones at level 1."""
    level = np.concatenate([np.repeat([0, 1, 2], [each, each, 2 * each]), np.full(held, 1)])
    return level, np.arange(len(level)) >= 4 * each


def graded(level: NDArray[np.int64], *, telling: int, seed: int) -> Floats:
    """Hard levels tell by feature 0, the easiest by feature `telling`."""
    x = np.random.default_rng(seed).standard_normal((len(level), 2, 30))
    x[level < 2, 1, 0] += 3.0
    x[level == 2, 1, telling] += 4.0
    return x.reshape(2 * len(level), 30).astype(np.float32)


def test_the_regimen_is_that_which_reads_the_held_pairs_better() -> None:
    level, held = levels(40, 30)
    small = train(graded(level, telling=1, seed=0), level, held, [2])
    assert small.regimen == "all", "the easy level does not teach the hard ones"
    assert small.held_auc > 0.85
    noisy = graded(level, telling=0, seed=0).reshape(-1, 2, 30)
    noisy[(level < 2) & ~held] = np.random.default_rng(1).standard_normal((80, 2, 30))
    assert train(noisy.reshape(-1, 30), level, held, [2]).regimen == "easy", "hard levels are noise"
    one = train(graded(level, telling=0, seed=0), np.zeros_like(level), held, [0])
    assert one.regimen == "one"
    unheld = train(graded(level, telling=0, seed=0), np.zeros_like(level), np.zeros_like(held), [0])
    assert np.isnan(unheld.held_auc), "of one level nothing need be chosen"


def test_a_regimen_is_fitted_on_its_pairs_and_a_half_on_half_of_each_level() -> None:
    level, held = levels(16, 30)
    order = np.random.default_rng(0).permutation(len(level))
    level, held = level[order], held[order]
    for telling, name in ((1, "all"), (0, "easy")):
        x = graded(level, telling=telling, seed=1)
        if name == "easy":
            x.reshape(-1, 2, 30)[(level < 2) & ~held] = 0.0
        found = train(x, level, held, [2])
        assert found.regimen == name
        of = {each: np.flatnonzero((level == each) & ~held) for each in (0, 1, 2)}
        chosen = of[2] if name == "easy" else np.concatenate([of[0], of[1], of[2][:16]])
        halved = of[2][:16] if name == "easy" else np.concatenate([of[each][:8] for each in (0, 1, 2)])
        for readout, those in ((found.readout, chosen), (found.half, halved)):
            alone = ridge(x.reshape(-1, 2, 30)[those].reshape(-1, 30))
            assert np.corrcoef(readout.weights, alone.weights)[0, 1] > 0.5  # a half has the strength of the whole
            np.testing.assert_allclose(readout.mean, alone.mean, atol=1e-5)
        values = found.readout.values(x).reshape(-1, 2)[held]
        assert found.held_auc == pytest.approx(area(values.ravel()))


def test_half_reads_less_where_more_pairs_would_help() -> None:
    level = np.zeros(120, np.int64)
    held = np.arange(120) >= 80
    gained = []
    for seed in range(4):
        found, test = train(pairs(120, 300, 3.0, seed=seed), level, held, [0]), pairs(300, 300, 3.0, seed=10 + seed)
        gained.append(area(found.readout.values(test)) - area(found.half.values(test)))
    assert np.mean(gained) > 0.04
