"""The cost of a step: what is counted is what is written out by hand.

Alone: pytest tests/train/test_cost.py
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probekit.config import Config, resolve
from probekit.registry import BRANCHES, METHODS, get
from probekit.restore.build import build_method
from probekit.train import dry_run
from probekit.train.cost import (
    MODEL,
    OURS,
    PARTS,
    Counted,
    Counter,
    StepCost,
    count,
    held,
    meta_generator,
    saved_for_backward,
    sorted_by_part,
    step_cost,
)
from probekit.train.dry_run import Rates, measured_rates, step_times
from probekit.train.step import build_step
from probekit.views.recipes import Views, make_views

CPU = torch.device("cpu")


def configured(method: str, **options: Any) -> Config:
    return resolve(method, get(METHODS, "method", method), preset="paper", seed=0, options=options)


def cost(method: str, *, width: int, size: int, batch: int, precision: str = "fp32", depth: int = 4) -> StepCost:
    options = {"model.width": width, "model.depth": depth, "train.batch_size": batch, "train.precision": precision}
    return step_cost(configured(method, **options), channels=1, size=(size, size))


def convolutions(width: int, size: int, *, decoder: bool) -> list[tuple[int, int, int, int]]:
    """(channels in, channels out, kernel, side) of every convolution of the U-Net, the first one first."""
    widths = [width * 2**i for i in range(4)]
    layers = []
    for i, (a, b) in enumerate(zip([1, *widths], widths, strict=False)):
        layers += [(a, b, 3, size // 2**i), (b, b, 3, size // 2**i)]
    if decoder:
        for i in (2, 1, 0):
            low, high, side = widths[i], widths[i + 1], size // 2**i
            layers += [(low, low, 1, side), (low + high, low, 3, side), (low, low, 3, side)]
        layers.append((width, 1, 1, size))
    return layers


@pytest.mark.parametrize(("width", "size", "batch"), [(64, 128, 16), (8, 32, 48)])
@pytest.mark.parametrize(("method", "decoder"), [("simclr", False), ("conrec", True)])
def test_flops_and_traffic_are_those_written_out(method: str, decoder: bool, width: int, size: int, batch: int) -> None:
    counted = cost(method, width=width, size=size, batch=batch)
    flops = elements = 0
    for number, (a, b, kernel, side) in enumerate(convolutions(width, size, decoder=decoder)):
        values, weights = 2 * batch * side**2, a * b * kernel**2
        products = 3 if number else 2  # nobody asks for the images' gradient
        flops += products * 2 * values * weights
        forward = values * (a + b) + weights
        backward = values * (a + b) + weights + weights + (values * a if number else 0)
        elements += forward + backward
    # The rest: biases, heads, attention, similarities.
    assert flops < counted.flops < 1.02 * flops
    assert elements < counted.elements < 1.03 * elements


@pytest.mark.parametrize(("name", "tolerance"), [("test_resnet", 0.0), ("test_vit", 0.01)])
def test_flops_of_other_backbones_are_torchs(name: str, tolerance: float) -> None:
    """Torch counts a real step, and attention as plain products, whose backward does not compute the scores again."""
    pytest.importorskip("timm")
    options = {"model.backbone": f"timm:{name}", "train.batch_size": 2}
    config = resolve("simclr", get(METHODS, "method", "simclr"), preset="paper", seed=0, options=options)
    views = torch.rand(2, 2, 3, 64, 64)
    none = torch.empty(0)
    method = build_method(config, channels=3).train()
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        method.step(Views(views, views, none, none)).loss.backward()  # type: ignore[no-untyped-call]
    ours = step_cost(config, channels=3, size=(64, 64)).flops
    assert ours == pytest.approx(counted.get_total_flops(), rel=tolerance)


def test_launches_and_bytes_are_those_written_out() -> None:
    x, y = torch.ones(6, 4), torch.ones(6, 4)
    row = torch.ones(4).expand(6, 4)
    few, scalars = [torch.ones(5), torch.ones(7)], list(torch.ones(2).unbind())
    jobs: list[tuple[Callable[[], Any], int, int]] = [
        (lambda: x.view(24)[:3].unsqueeze(0), 0, 0),
        (lambda: torch.empty(1000), 0, 0),
        (lambda: x + y, 1, 3 * 96),
        (lambda: x + row, 1, 2 * 96 + 16),  # what is expanded lies in memory once
        (lambda: x.add_(y), 1, 3 * 96),
        (lambda: x.copy_(y), 1, 2 * 96),  # the target is not read
        (lambda: torch.add(x, x, out=y), 1, 3 * 96),
        (lambda: x.bfloat16(), 1, 96 + 48),
        (lambda: torch._foreach_mul_(few, 2.0), 1, 2 * 48),
        (lambda: torch._foreach_mul_(few, scalars), 2, 2 * 48 + 8),  # torch goes through them one by one
        (lambda: torch.stack([x, y]), 1, 4 * 96),
    ]
    for job, launches, moved in jobs:
        counted = count(job)
        assert (counted.launches, counted.bytes, counted.flops) == (launches, moved, 0)
    a, b = torch.ones(3, 4), torch.ones(4, 5).bfloat16()
    assert count(lambda: a @ b.float()) == Counted(2, 2 * 20 + 4 * 20 + 4 * 47, 120, 120, 47)
    assert count(lambda: a.bfloat16() @ b) == Counted(2, 4 * 12 + 2 * 12 + 2 * 47, 120, 0, 47)


def test_each_operator_is_handed_over_with_its_cost() -> None:
    seen: list[tuple[str, int]] = []
    with Counter(lambda func, spent: seen.append((str(func), spent.bytes))):
        torch.ones(3).mul(2).sum()
    assert seen == [("aten.ones.default", 12), ("aten.mul.Tensor", 24), ("aten.sum.default", 16)]
    total = count(lambda: torch.ones(3).mul(2).sum())
    assert (total.launches, total.bytes) == (3, 52)


def test_views_are_counted_as_a_gpu_makes_them() -> None:
    """On meta tensors each operation is made of all views: more launches, and the same ones whatever is drawn."""
    images = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
    here = count(lambda: make_views("conrec", images, torch.Generator().manual_seed(0)))
    there = [count(lambda: make_views("conrec", images.to("meta"), meta_generator())) for _ in range(2)]
    assert there[0] == there[1]
    assert there[0].bytes > here.bytes


def test_modules_and_losses_are_told_apart_forward_and_backward() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU())
    x, n = torch.rand(4, 2, 8, 8), 4 * 3 * 64
    parts = dict.fromkeys(PARTS, Counted())
    with sorted_by_part(parts):
        model(x).exp().mean().backward()
    out = torch.rand(4, 3, 8, 8, requires_grad=True)
    assert parts["losses"] == count(lambda: out.exp().mean().backward())  # type: ignore[no-untyped-call]
    ways = (512 + 6 + n) + (n + 512 + 6 + 6)  # images, weights, result; backward nobody asks for the images' gradient
    assert parts["products"] == Counted(2, 4 * ways, 2 * 2 * n * 2, 2 * 2 * n * 2, ways)
    # Batch norm reads and writes n forward, reads 2 n and writes n backward; ReLU as well. The rest: statistics.
    least = 4 * (2 * n + 2 * n + 3 * n + 3 * n)
    assert least < parts["modules"].bytes < least + 1000
    assert parts["modules"].launches == 5  # batch norm counts its batches, too
    assert model[0].weight.grad is not None


@pytest.mark.parametrize("method", list(METHODS))
def test_every_part_of_every_method_is_counted(method: str) -> None:
    parts = cost(method, width=4, depth=2, size=32, batch=4).parts
    assert set(parts) == set(MODEL) | set(OURS)
    assert all(part.launches > 0 and part.bytes > 0 for part in parts.values())
    assert all((part.flops > 0) == (part.elements > 0) for part in parts.values())


def test_bf16_halves_the_traffic_of_products_and_keeps_losses_in_fp32() -> None:
    full, reduced = (cost("conrec", width=16, depth=2, size=64, batch=8, precision=p) for p in ("fp32", "bf16"))
    assert (full.flops, full.elements) == (reduced.flops, reduced.elements)
    assert reduced.parts["products"].bytes == pytest.approx(full.parts["products"].bytes / 2, rel=0.01)
    assert full.parts["products"].flops32 == full.parts["products"].flops
    assert reduced.parts["products"].flops32 < 0.01 * reduced.parts["products"].flops
    assert reduced.parts["losses"].flops32 == full.parts["losses"].flops
    assert reduced.parts["modules"].launches > full.parts["modules"].launches  # casts of weights


@pytest.mark.parametrize(("name", "moved"), [("sgd", 5), ("adamw", 7), ("lars", 15)])
def test_an_optimizer_moves_its_weights_gradients_and_state(name: str, moved: int) -> None:
    """Fused: each number once. LARS: gradients with decay, two norms, the ratio, momentum by the rate, two sums."""
    config = configured("simclr", **{"model.width": 16, "train.batch_size": 4, "optimizer.name": name})
    counted = step_cost(config, channels=1, size=(32, 32))
    assert counted.parts["optimizer"].bytes == pytest.approx(4 * moved * counted.parameters, rel=0.02)


def test_the_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    rates = Rates("toy", {"fp32": 100.0, "bf16": 400.0}, 8.0)
    spent = StepCost(flops=1000, elements=6, operators=1, parameters=1, parts={})
    assert rates.floor(spent, "fp32") == (10.0, 3.0)
    assert rates.floor(spent, "bf16") == (2.5, 1.5)


def test_a_prediction_is_the_longer_of_both_as_far_as_reached_and_the_launches() -> None:
    rates = Rates("toy", {"fp32": 100.0, "bf16": 400.0}, 8.0, launch=0.5)
    parts = {"long sums": Counted(2, 36, 1000, 300), "long ways": Counted(4, 720, 10, 10)}
    # 700 at half of 400 and 300 at seven tenths of 100; 720 at nine tenths of 8.
    assert rates.predicted(parts) == pytest.approx({"long sums": 3.5 + 30 / 7 + 1, "long ways": 100 + 2})


def test_measured_rates_and_times_are_of_this_machine() -> None:
    rates = measured_rates(CPU, "fp32")
    assert rates.flops["fp32"] > 1e8
    assert rates.bytes > 1e7


def test_steps_on_a_gpu_are_timed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """By events: nobody waits for the GPU between steps. The clock here shows how often the step was made."""
    made: list[int] = []
    waits: list[int] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = -1

        def record(self) -> None:
            self.at = len(made)

        def synchronize(self) -> None:
            waits.append(len(made))

        def elapsed_time(self, other: "Event") -> float:
            return 1e3 * (other.at - self.at)  # a second a step

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waits.append(len(made)))
    times = step_times(lambda: made.append(1), torch.device("cuda"))
    assert times == pytest.approx([1.0] * len(times))
    assert len(made) - len(times) * 20 < 20  # the rest is for warming up
    assert waits == [len(made) - 20 * k for k in reversed(range(len(times)))]


def test_no_further_round_begins_when_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "ENOUGH", -1.0)
    made: list[int] = []
    assert len(step_times(lambda: made.append(1), CPU)) == 1
    assert len(made) == 2  # one to warm up


def test_what_backward_reads_again_is_counted_once() -> None:
    """Two products share the tensor between them; weights are the model's, and a view lies where its tensor lies."""
    first, second = nn.Linear(8, 16, bias=False), nn.Linear(16, 2, bias=False)
    kept: list[Tensor] = []
    with saved_for_backward(kept):
        second(first(torch.ones(4, 8)).relu()).sum()
    assert held(kept, beside=[first.weight, second.weight]) == 4 * (4 * 8 + 4 * 16)
    x = torch.ones(6)
    assert held([x, x[:3], torch.ones(2)]) == 4 * 8


@pytest.mark.parametrize(("name", "states"), [("sgd", 1), ("lars", 1), ("adamw", 2)])
def test_memory_of_weights_gradients_and_state_is_theirs(name: str, states: int) -> None:
    config = configured("simclr", **{"model.width": 4, "train.batch_size": 4, "optimizer.name": name})
    images = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
    step = build_step(config, build_method(config, channels=1).train(), images)
    step(torch.arange(4), images)
    trained = [p for p in step.method.parameters() if p.grad is not None]
    found = step_cost(config, channels=1, size=(32, 32)).memory
    assert found["gradients"] == sum(p.grad.nbytes for p in trained if p.grad is not None)
    state = [x for values in step.optimizer.state.values() for x in values.values() if isinstance(x, Tensor) and x.ndim]
    assert found["optimizer"] == sum(x.nbytes for x in state) == states * found["gradients"]
    assert found["weights"] == sum(x.nbytes for x in (*step.method.parameters(), *step.method.buffers()))


@pytest.mark.parametrize("name", list(BRANCHES))
def test_a_branch_costs_what_it_adds(name: str) -> None:
    """XCorr encodes as many companions again as it has positives."""
    small = {"model.width": 4, "model.depth": 2, "train.batch_size": 4}
    kind = get(METHODS, "method", "simclr")
    one = resolve("simclr", kind, preset="quick", seed=0, options=small)
    two = resolve("simclr", kind, preset="quick", seed=0, options=small, branches=[name])
    without, with_it = (step_cost(config, channels=1, size=(32, 32)) for config in (one, two))
    if name in ("contrastive-crop", "dilo"):  # which change where views are cut, or from what
        assert (with_it.parameters, with_it.flops) == (without.parameters, without.flops)
        assert with_it.memory["weights"] > without.memory["weights"]
        assert (with_it.parts["views"].bytes > without.parts["views"].bytes) == (name == "dilo")
        return
    assert (with_it.parameters > without.parameters) == (name != "cvsa")  # which has none
    assert with_it.flops > without.flops
    if name == "xcorr":
        factor = (2 + two.branches[name]["positives"]) / 2
        assert with_it.parts["products"].flops == pytest.approx(factor * without.parts["products"].flops, rel=0.05)
        assert with_it.parts["views"].launches > without.parts["views"].launches
