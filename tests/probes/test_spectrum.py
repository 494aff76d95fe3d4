"""Effective ranks against closed forms and naive loops. Alone: pytest tests/probes/test_spectrum.py."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.probes.spectrum import DEAD, deviation, health, participation_ratio, rankme, singular_values


def gaussian(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_orthonormal_columns_have_full_rank() -> None:
    q, _ = np.linalg.qr(gaussian(100, 16))
    sigma = singular_values(q)
    assert rankme(sigma) == pytest.approx(16, rel=1e-4)
    assert participation_ratio(sigma) == pytest.approx(16)


def test_rank_one_is_one() -> None:
    sigma = singular_values(np.outer(gaussian(50, 1), gaussian(1, 8)))
    assert rankme(sigma) == pytest.approx(1, abs=1e-4)
    assert participation_ratio(sigma) == pytest.approx(1)


def test_harmonic_spectrum() -> None:
    assert rankme(1 / np.arange(1, 65)) == pytest.approx(29.12, abs=0.005)  # not 4.7, which is that of sigma^2


def test_rankme_is_the_papers_formula() -> None:
    sigma = [3.0, 1.0, 0.5, 0.0]
    total = 0.0
    for value in sigma:
        p = value / 4.5 + 1e-7
        total -= p * math.log(p)
    assert rankme(np.array(sigma)) == pytest.approx(math.exp(total), rel=1e-12)


def test_an_offset_lowers_the_uncentred_rank_alone() -> None:
    x = gaussian(2000, 64)
    plain, moved = health(x), health(x + 5)
    assert plain["rankme"]["uncentred"] == pytest.approx(63.7, abs=0.1)
    assert moved["rankme"]["uncentred"] == pytest.approx(24.3, abs=0.2)
    assert moved["rankme"]["centred"] == pytest.approx(plain["rankme"]["centred"], rel=1e-6)


def test_a_collapse_has_no_rank() -> None:
    row = gaussian(1, 8)
    found = health(np.repeat(row, 20, axis=0).astype(np.float32))
    assert found["rankme"]["uncentred"] == pytest.approx(1, abs=1e-4)
    assert found["rankme"]["centred"] is None
    assert found["participation_ratio"] is None
    assert found["dead"] == 8
    noisy = np.repeat(row, 20, axis=0) * (1 + 1e-8 * gaussian(20, 8, seed=1))  # as much as float32 rounds
    assert health(noisy)["rankme"]["centred"] is None
    zeros = health(np.zeros((5, 3)))
    assert zeros["rankme"] == {"uncentred": None, "centred": None}


def test_deviation_is_one_over_root_d_when_directions_are_even() -> None:
    assert deviation(gaussian(20_000, 32)) == pytest.approx(1 / np.sqrt(32), rel=0.03)


def test_dead_dimensions_are_counted() -> None:
    x = gaussian(500, 10)
    x[:, [2, 7]] *= 0.1 * DEAD
    assert health(x)["dead"] == 2


def test_json_is_valid_and_short() -> None:
    found = json.loads(json.dumps(health(gaussian(30, 5)), allow_nan=False))
    assert len(found["deviation"]) == len(found["singular_values"]["centred"]) == 5
    assert (found["n"], found["dim"]) == (30, 5)


@given(n=st.integers(2, 12), d=st.integers(1, 12), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_ranks_stay_in_range_and_ignore_scale_and_rotation(n: int, d: int, scale: float, seed: int) -> None:
    x = gaussian(n, d, seed=seed)
    turn, _ = np.linalg.qr(gaussian(d, d, seed=seed + 1))
    found, other = health(x), health(scale * x @ turn)
    for kind in ("uncentred", "centred"):
        assert 1 - 1e-4 <= found["rankme"][kind] <= min(n, d) * (1 + 1e-4)
        assert other["rankme"][kind] == pytest.approx(found["rankme"][kind], rel=1e-6)
    assert 1 - 1e-9 <= found["participation_ratio"] <= min(n, d) + 1e-9
