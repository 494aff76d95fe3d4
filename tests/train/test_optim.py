"""LARS against the written-out recurrence of the authors' code; schedules; scaling.

Alone: pytest tests/train/test_optim.py
"""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probekit.train.lars import LARS
from probekit.train.optim import Schedule, build_optimizer, scaled_rate

RATES = [0.3, 0.3, 0.1, 0.05, 0.3]  # a changing rate tells whether it stands inside the momentum buffer


def recurrence(w: NDArray[np.float64], gradients: list[NDArray[np.float64]], *, adapt: bool) -> NDArray[np.float64]:
    v = np.zeros_like(w)
    for lr, g in zip(RATES, gradients, strict=True):
        trust = 1.0
        if adapt:
            g = g + 1e-4 * w
            w_norm, g_norm = math.sqrt((w**2).sum()), math.sqrt((g**2).sum())
            trust = 0.001 * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
        v = 0.9 * v + lr * trust * g
        w = w - v
    return w


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("start", ["random", "zero weights", "zero gradients"])
def test_lars_is_the_recurrence(adapt: bool, start: str) -> None:
    rng = np.random.default_rng(0)
    w = np.zeros((4, 3)) if start == "zero weights" else rng.normal(size=(4, 3))
    gradients = [np.zeros((4, 3)) if start == "zero gradients" else rng.normal(size=(4, 3)) for _ in RATES]
    p = nn.Parameter(torch.from_numpy(w.copy()))
    optimizer = LARS([{"params": [p], "adapt": adapt}], lr=0.3, momentum=0.9, weight_decay=1e-4)
    for lr, g in zip(RATES, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.from_numpy(g)
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), recurrence(w, gradients, adapt=adapt), rtol=1e-12, atol=1e-14)


def test_lars_leaves_gradients_as_they_are() -> None:
    p = nn.Parameter(torch.ones(3, 3))
    p.grad = torch.full((3, 3), 2.0)
    LARS([p], lr=0.1, momentum=0.9, weight_decay=0.1).step()
    assert torch.equal(p.grad, torch.full((3, 3), 2.0))


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_biases_and_normalisation_are_not_decayed(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = build_optimizer(model, name=name, lr=0.1, momentum=0.9, weight_decay=0.01)
    decayed, plain = optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {4, 2}
    assert {p.ndim for p in plain["params"]} == {1}
    assert decayed["weight_decay"] == 0.01
    assert plain.get("adapt") is False or plain["weight_decay"] == 0.0


def test_unknown_optimizer_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known: adamw, larc, lars, sgd"):
        build_optimizer(nn.Linear(2, 2), name="lion", lr=0.1, momentum=0.9, weight_decay=0.0)


def test_paper_rate_is_three_tenths() -> None:
    assert scaled_rate(0.075, scaling="sqrt", batch_size=16) == pytest.approx(0.3)
    assert scaled_rate(0.001, scaling="none", batch_size=16) == 0.001


def test_schedules() -> None:
    def rate(step: int, schedule: str, warmup: int) -> float:
        return Schedule(peak=2.0, name=schedule, warmup=warmup, total=110).at(step)

    assert [rate(s, "constant", 0) for s in (0, 50, 109)] == [2.0, 2.0, 2.0]
    assert [rate(s, "cosine", 10) for s in (0, 4, 9, 10)] == [0.2, 1.0, 2.0, 2.0]
    assert rate(60, "cosine", 10) == pytest.approx(1.0)
    assert rate(109, "cosine", 10) == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.99)))
    with pytest.raises(ValueError, match="known: constant, cosine"):
        rate(0, "linear", 0)
