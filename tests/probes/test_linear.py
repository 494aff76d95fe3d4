"""The solver against tightly converged scikit-learn; its reductions. Alone: pytest tests/probes/test_linear.py."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from probekit.probes.linear import LinearProbe, Space, fit, fit_path

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def features(n: int, dim: int, classes: int, *, scale: float = 1.0) -> tuple[Floats, Ints]:
    """ReLU features whose classes overlap, with means and scales that differ a hundredfold."""
    rng = np.random.default_rng(n + dim + classes)
    y = np.arange(n) % classes
    centres = rng.normal(size=(classes, dim)) / np.sqrt(dim)
    x = np.maximum(0, rng.normal(size=(n, dim)) + 2 * centres[y] + 0.5)
    return scale * x * 10 ** rng.uniform(-1, 1, dim), y


def objective(log_probability: Floats, weight: Floats, y: Ints, C: float) -> float:
    """scikit-learn's objective; two classes share one weight vector there, the difference of our two rows."""
    if len(weight) == 2:
        weight = weight[1:] - weight[:1]
    return float(-C * log_probability[np.arange(len(y)), y].sum() + (weight**2).sum() / 2)


def oracle(x: Floats, y: Ints, C: float) -> LogisticRegression:
    with threadpool_limits(1):
        return LogisticRegression(C=C, tol=1e-9, max_iter=100_000).fit(x, y)


@pytest.mark.parametrize(
    ("n", "dim", "classes", "C"),
    [(300, 20, 4, 1.0), (300, 20, 2, 1.0), (120, 400, 3, 1.0), (120, 400, 2, 0.1), (200, 50, 10, 100.0)],
)
def test_paper_protocol_reaches_the_optimum_of_lbfgs(n: int, dim: int, classes: int, C: float) -> None:
    x, y = features(n, dim, classes)
    other, _ = features(n + 1, dim, classes)
    space = Space.of(x, standardise=False)
    probe = fit(space.z, y, C=C)
    converged = oracle(x, y, C)
    ours = probe.log_probability(space.project(other), classes=classes)
    np.testing.assert_allclose(np.exp(ours), converged.predict_proba(other), atol=2e-3)
    assert (ours.argmax(1) == converged.predict(other)).mean() > 0.99
    best = objective(converged.predict_log_proba(x), converged.coef_, y, C)
    found = objective(probe.log_probability(space.z, classes=classes), probe.weight, y, C)
    assert found == pytest.approx(best, rel=1e-4)


def test_it_ends_closer_to_the_optimum_than_the_published_settings() -> None:
    x, y = features(400, 900, 4)
    space = Space.of(x, standardise=False)
    probe = fit(space.z, y, C=1.0)
    with threadpool_limits(1):
        published = LogisticRegression(C=1.0, max_iter=10_000, random_state=0).fit(x, y)
    found = objective(probe.log_probability(space.z, classes=4), probe.weight, y, 1.0)
    assert found <= objective(published.predict_log_proba(x), published.coef_, y, 1.0) + 1e-6


def test_standardised_fit_agrees_with_a_standardising_pipeline() -> None:
    x, y = features(200, 30, 3)
    other, _ = features(201, 30, 3)
    space = Space.of(x, standardise=True)
    ours = fit(space.z, y, C=0.1).log_probability(space.project(other), classes=3)
    mean, sd = x.mean(0), x.std(0)
    theirs = oracle((x - mean) / sd, y, 0.1).predict_proba((other - mean) / sd)
    np.testing.assert_allclose(np.exp(ours), theirs, atol=1e-3)


@pytest.mark.parametrize("standardise", [False, True])
def test_row_space_keeps_every_inner_product(standardise: bool) -> None:
    x, _ = features(40, 5000, 4)  # more columns than one block of the solver
    other, _ = features(41, 5000, 4)
    space = Space.of(x, standardise=standardise)
    assert space.z.shape == (40, 39)  # centring takes one dimension
    mean, sd = x.mean(0), x.std(0) if standardise else np.ones(5000)
    full, full_other = (x - mean) / sd, (other - mean) / sd
    np.testing.assert_allclose(space.z @ space.z.T, full @ full.T, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(space.project(other) @ space.z.T, full_other @ full.T, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(space.project(x), space.z, atol=1e-5)


def test_row_space_keeps_directions_of_little_variance() -> None:
    """A class hidden in a direction ten thousand times smaller than the others counts all the same."""
    x, y = features(60, 200, 2)
    directions, _ = np.linalg.qr(x.T)
    hidden = (x @ directions) * 10.0 ** np.linspace(0, -4, 60)
    hidden[:, -1] = 1e-3 * (2 * y - 1)
    space = Space.of(hidden @ directions.T, standardise=False)
    np.testing.assert_allclose(space.z @ space.z.T, (hidden - hidden.mean(0)) @ (hidden - hidden.mean(0)).T, atol=1e-9)
    assert (fit(space.z, y, C=1e12).log_probability(space.z, classes=2).argmax(1) == y).all()
    assert space.z.shape == (60, 59)


def predict(x: Floats, y: Ints, other: Floats, *, standardise: bool) -> Floats:
    space = Space.of(x, standardise=standardise)
    return np.exp(fit(space.z, y, C=1.0).log_probability(space.project(other), classes=int(y.max()) + 1))


@pytest.mark.parametrize("dim", [25, 150])
def test_paper_protocol_ignores_rotations_and_shifts(dim: int) -> None:
    x, y = features(100, dim, 3)
    other, _ = features(101, dim, 3)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    plain = predict(x, y, other, standardise=False)
    turned = predict(x @ rotation + 5, y, other @ rotation + 5, standardise=False)
    np.testing.assert_allclose(plain, turned, atol=1e-3)


@pytest.mark.parametrize("dim", [25, 150])
def test_standardised_fit_ignores_the_scale_of_each_feature(dim: int) -> None:
    x, y = features(100, dim, 3)
    other, _ = features(101, dim, 3)
    scales = 10 ** np.random.default_rng(0).uniform(-6, 6, dim)
    plain = predict(x, y, other, standardise=True)
    np.testing.assert_allclose(plain, predict(x * scales, y, other * scales, standardise=True), atol=1e-3)


def test_tiny_features_are_fitted_not_given_up() -> None:
    """An untrained encoder's features are small: scikit-learn's tolerance stops there before the first step."""
    x, y = features(300, 20, 4)
    ours = fit(1e-4 * (x - x.mean(0)), y, C=1e8)
    theirs = fit(x - x.mean(0), y, C=1.0)
    np.testing.assert_allclose(ours.weight * 1e-4, theirs.weight, atol=1e-4)


@pytest.mark.parametrize("scale", [1e8, 1e10])
def test_features_of_a_diverged_encoder_are_fitted(scale: float) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y = (scale * rng.normal(size=(13, 13))).astype(np.float32), rng.integers(0, 4, 13)
        z = Space.of(x, standardise=False).z
        fitted = fit(z, y, C=1.0)
        assert (fitted.log_probability(z, classes=4).argmax(axis=1) == y).all()  # as many features as samples


@pytest.mark.parametrize("standardise", [False, True])
def test_constant_features_leave_the_class_frequencies(standardise: bool) -> None:
    x = np.full((10, 3), 0.1, dtype=np.float32)
    space = Space.of(x, standardise=standardise)
    y = np.array([0, 0, 0, 2, 2, 2, 2, 2, 2, 2])
    log_probability = fit(space.z, y, C=1.0).log_probability(space.project(x), classes=4)
    np.testing.assert_allclose(np.exp(log_probability), np.tile([0.3, 0.0, 0.7, 0.0], (10, 1)))


def test_a_feature_constant_in_training_is_not_blown_up() -> None:
    x, y = features(60, 5, 2)
    x[:, 2] = 0.3
    x[0, 2] += 1e-8  # float32 rounding
    other = x.copy()
    other[:, 2] = 1.0
    np.testing.assert_allclose(predict(x, y, x, standardise=True), predict(x, y, other, standardise=True))


def test_path_ends_where_single_fits_end() -> None:
    x, y = features(200, 30, 3)
    z = Space.of(x, standardise=True).z
    grid = [1e-3, 1.0, 10.0]
    path: list[LinearProbe] = fit_path(z, y, grid=grid)
    assert [probe.C for probe in path] == grid
    for probe in path:
        np.testing.assert_allclose(probe.weight, fit(z, y, C=probe.C).weight, atol=5e-3)


@pytest.mark.parametrize("y", [np.zeros(5, dtype=np.int64), np.empty(0, dtype=np.int64)])
def test_one_class_is_refused_in_one_line(y: Ints) -> None:
    with pytest.raises(ValueError, match="expected at least two classes") as caught:
        fit(np.ones((len(y), 2)), y, C=1.0)
    assert "\n" not in str(caught.value)
