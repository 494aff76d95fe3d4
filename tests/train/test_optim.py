"""LARS and LARC against written-out recurrences; who decays, and at what rate; schedules; scaling.

Alone: pytest tests/train/test_optim.py
"""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probekit.config import DecayName, OptimizerName
from probekit.methods.base import Rate
from probekit.train.optim import LARC, LARS, Schedule, build_optimizer, lay_as_weights, scaled_rate, set_rates
from tests.train.test_step import configured, losses, step_of

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


def test_paper_rate_is_three_tenths() -> None:
    assert scaled_rate(0.075, scaling="sqrt", batch_size=16) == pytest.approx(0.3)
    assert scaled_rate(0.001, scaling="none", batch_size=16) == 0.001


def test_schedules() -> None:
    def rate(step: int, schedule: str, warmup: int) -> float:
        return Schedule(peak=2.0, name=schedule, warmup=warmup, total=110).at(step)

    assert [rate(s, "constant", 0) for s in (0, 50, 109)] == [2.0, 2.0, 2.0]
    assert [rate(s, "cosine", 10) for s in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert rate(60, "cosine", 10) == pytest.approx(1.0)
    assert rate(109, "cosine", 10) == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.99)))


# --- LARC.


def larc_in_numpy(w: NDArray[np.float64], gradients: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """LARC without clipping around SGD: the rate outside the buffer, the decay outside the gradient's norm."""
    v = np.zeros_like(w)
    for lr, g in zip(RATES, gradients, strict=True):
        w_norm, g_norm = math.sqrt((w**2).sum()), math.sqrt((g**2).sum())
        trust = 0.001 * w_norm / (g_norm + 1e-2 * w_norm + 1e-8) if w_norm > 0 and g_norm > 0 else 1.0
        v = 0.9 * v + trust * (g + 1e-2 * w)
        w = w - lr * v
    return w


@pytest.mark.parametrize("shape", [(4, 3), (5,)])  # biases are adapted, too
@pytest.mark.parametrize("start", ["random", "zero weights", "zero gradients"])
def test_larc_is_the_recurrence(start: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    w = np.zeros(shape) if start == "zero weights" else rng.normal(size=shape)
    gradients = [np.zeros(shape) if start == "zero gradients" else rng.normal(size=shape) for _ in RATES]
    p = nn.Parameter(torch.from_numpy(w.copy()))
    optimizer = LARC([p], lr=0.3, momentum=0.9, weight_decay=1e-2)
    for lr, g in zip(RATES, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.from_numpy(g)
        optimizer.step()
        np.testing.assert_array_equal(p.grad.numpy(), g)
    np.testing.assert_allclose(p.detach().numpy(), larc_in_numpy(w, gradients), rtol=1e-12, atol=1e-14)


# --- Who decays, who is adapted, and whose rate is another.


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_with_decay_all_biases_and_normalisation_decay_too(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    groups = build_optimizer(model, name=name, lr=0.1, momentum=0.9, weight_decay=0.01, decay="all").param_groups
    decayed = [p for group in groups if group["weight_decay"] == 0.01 for p in group["params"]]
    assert {id(p) for p in decayed} == {id(p) for p in model.parameters()}
    assert all(group.get("adapt", True) for group in groups if group["params"])


@pytest.mark.parametrize("name", get_args(OptimizerName))
@pytest.mark.parametrize("decay", get_args(DecayName))
def test_every_parameter_is_trained_once_at_its_own_rate(name: str, decay: str) -> None:
    layers = [nn.Linear(2, 2) for _ in range(4)]
    layers[3].requires_grad_(False)
    rates = (
        Rate(tuple(layers[1].parameters()), share=0.5, schedule="constant"),
        Rate((layers[2].weight,), start=3),
    )
    optimizer = build_optimizer(
        nn.ModuleList(layers), name=name, lr=0.1, momentum=0.9, weight_decay=0.01, decay=decay, rates=rates
    )
    listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for part in layers[:3] for p in part.parameters())
    schedule = Schedule(peak=0.1, name="cosine", warmup=0, total=8)
    for step in (0, 2, 3, 6):
        set_rates(optimizer, schedule, step)
        found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert found[id(layers[0].weight)] == found[id(layers[2].bias)] == schedule.at(step)
        assert found[id(layers[1].weight)] == found[id(layers[1].bias)] == pytest.approx(0.05)
        assert found[id(layers[2].weight)] == (schedule.at(step) if step >= 3 else 0.0)


def test_a_rate_may_have_a_course_of_its_own() -> None:
    """XCorr's, in the paper's numbers: .3 to 3.6 and down to .0036 for the run, .015 to .03 and down to 1e-6 for it."""
    own, others = nn.Linear(2, 2), nn.Linear(2, 2)
    rates = [Rate(tuple(own.parameters()), share=0.03 / 3.6, first=0.5, final=1e-6 / 0.03)]
    optimizer = build_optimizer(
        nn.ModuleList([others, own]), name="sgd", lr=3.6, momentum=0.9, weight_decay=0.0, rates=rates
    )
    schedule = Schedule(peak=3.6, name="cosine", warmup=10, total=110, final=0.001, first=0.3 / 3.6)

    def at(step: int) -> tuple[float, float]:
        set_rates(optimizer, schedule, step)
        found = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        return found[id(others.weight)], found[id(own.weight)]

    for k in range(10):
        assert at(k) == pytest.approx((0.3 + (3.6 - 0.3) * k / 9, 0.015 + 0.015 * k / 9))
    for k in range(0, 101, 20):
        falling = (1 + math.cos(math.pi * k / 100)) / 2
        assert at(10 + k) == pytest.approx((0.0036 + (3.6 - 0.0036) * falling, 1e-6 + (0.03 - 1e-6) * falling))


def test_a_rate_that_only_starts_late_warms_up_as_the_run_does() -> None:
    """As SwAV's prototypes, frozen for an epoch."""
    layer, free = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = build_optimizer(
        nn.ModuleList([layer, free]),
        name="sgd",
        lr=1.0,
        momentum=0.0,
        weight_decay=0.0,
        rates=[Rate(tuple(layer.parameters()), start=2)],
    )
    schedule = Schedule(peak=1.0, name="cosine", warmup=5, total=9, first=0.2)
    for step in range(9):
        set_rates(optimizer, schedule, step)
        found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert found[id(free.weight)] == schedule.at(step)
        assert found[id(layer.weight)] == (schedule.at(step) if step >= 2 else 0.0)


def test_groups_of_older_checkpoints_have_the_runs_course() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": layer.parameters(), "share": 0.5, "schedule": None, "start": 0}], 1.0)
    schedule = Schedule(peak=1.0, name="cosine", warmup=4, total=20, final=0.1)
    for step in (0, 3, 9, 20):
        set_rates(optimizer, schedule, step)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * schedule.at(step))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_before_its_start_a_parameter_stays_bit_for_bit(name: str) -> None:
    """Even with a decay, and a gradient of 0, as SwAV and DINO freeze."""
    torch.manual_seed(0)
    p, q = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(3, 3))
    before = p.detach().clone()
    optimizer = build_optimizer(
        nn.ParameterList([p, q]), name=name, lr=0.1, momentum=0.9, weight_decay=0.1, rates=(Rate((p,), start=2),)
    )
    schedule = Schedule(peak=0.1, name="constant", warmup=0, total=9)
    for step in range(4):
        set_rates(optimizer, schedule, step)
        p.grad = torch.zeros(3, 3) if step < 2 else torch.ones(3, 3)
        q.grad = torch.ones(3, 3)
        optimizer.step()
        assert torch.equal(p, before) == (step < 2)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_after_its_start_a_parameter_moves_as_if_it_had_just_begun(name: str) -> None:
    """What an optimizer gathered over the zeros of a freeze is gone: AdamW's steps are no longer than the rate."""
    torch.manual_seed(0)
    weights, gradients = torch.randn(3, 3), torch.randn(40, 3, 3)
    found: list[list[torch.Tensor]] = []
    for start in (0, 30):
        p = nn.Parameter(weights.clone())
        rates = (Rate((p,), start=start),)
        optimizer = build_optimizer(
            nn.ParameterList([p]), name=name, lr=0.1, momentum=0.9, weight_decay=0.01, rates=rates
        )
        found.append([])
        for step in range(start + 10):
            set_rates(optimizer, Schedule(peak=0.1, name="constant", warmup=0, total=99), step)
            p.grad = gradients[step - start] if step >= start else torch.zeros(3, 3)
            optimizer.step()
            found[-1].append(p.detach().clone())
    torch.testing.assert_close(found[0], found[1][30:], rtol=0, atol=0)


# --- Schedules.


@pytest.mark.parametrize(
    ("warmup", "total", "final", "first"),
    [(10, 110, 0.0, 0.0), (1, 20, 0.001, 0.0), (5, 6, 0.5, 0.0), (7, 50, 1.0, 0.25), (9, 20, 0.1, 1 / 12)],
)
def test_warm_up_and_cosine_are_torchs(warmup: int, total: int, final: float, first: float) -> None:
    """LinearLR, then CosineAnnealingLR; theirs begin one step before ours, which takes no step at a rate of 0."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    rise = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=first or 1 / warmup, total_iters=max(1, warmup - 1)
    )
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=2.0 * final)
    theirs = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])
    mine = Schedule(peak=2.0, name="cosine", warmup=warmup, total=total, final=final, first=first)
    for step in range(total):
        assert mine.at(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        theirs.step()
    assert mine.at(total) == pytest.approx(2.0 * final)
    assert mine.at(total + 5) == mine.at(total)  # a finished run that is not extended


def test_linear_scaling_is_per_256_images() -> None:
    assert scaled_rate(0.2, scaling="linear", batch_size=4096) == pytest.approx(3.2)


# --- Gradients that lie otherwise than their weights.


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_gradient_of_other_strides_moves_a_weight_as_one_of_its_own(name: str) -> None:
    """Fused optimizers take the numbers of such a one in the wrong order on a CPU, and refuse it on a GPU."""
    moved = []
    for strides in ((3, 1, 1, 1), (1, 2, 1, 1)):
        p = nn.Parameter(torch.ones(2, 3, 1, 1))
        optimizer = build_optimizer(nn.ParameterList([p]), name=name, lr=0.1, momentum=0.9, weight_decay=0.0)
        for scale in (1.0, -0.3):
            p.grad = torch.empty_strided((2, 3, 1, 1), strides)
            p.grad.copy_(scale * torch.arange(6.0).view(2, 3, 1, 1))
            lay_as_weights([p])
            assert p.grad.stride() == p.stride()
            optimizer.step()
        moved.append(p.detach().flatten())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-6, atol=0)


def test_strides_are_compared_at_dimensions_of_size_1_too() -> None:
    """As torch's fused optimizers compare them; a gradient that lies right is left where it is, and none is none."""
    own, other, none = (nn.Parameter(torch.ones(4, 1, 3, 3)) for _ in range(3))
    own.grad = torch.rand(4, 1, 3, 3)
    right, values = own.grad, torch.rand(4, 1, 3, 3)
    other.grad = torch.empty_strided((4, 1, 3, 3), (9, 1, 3, 1)).copy_(values)
    lay_as_weights([own, other, none])
    assert own.grad is right
    assert other.grad.stride() == (9, 9, 3, 1)
    assert torch.equal(other.grad, values)
    assert none.grad is None


def turned(p: torch.Tensor) -> None:
    """Leaves a gradient's numbers, and lays them columns first."""
    assert p.grad is not None
    if p.ndim > 1:
        p.grad = p.grad.transpose(0, 1).clone(memory_format=torch.contiguous_format).transpose(0, 1)


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_a_step_takes_such_gradients(optimizer: str) -> None:
    found = []
    for other in (False, True):
        step = step_of(configured("simclr", **{"optimizer.name": optimizer}))
        for p in step.method.parameters() if other else ():
            p.register_post_accumulate_grad_hook(turned)  # type: ignore[no-untyped-call]
        found.append(losses(step, 3))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
