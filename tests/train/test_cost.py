"""The floor of a step: its FLOPs are those written out by hand, and the command prints what it promises.

Alone: pytest tests/train/test_cost.py
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from probekit.cli import app
from probekit.config import resolve
from probekit.registry import METHODS, get
from probekit.train import cost as train_cost
from probekit.train.build import build_method
from probekit.train.cost import Rates, StepCost, measured_rates, step_cost, step_times
from probekit.train.step import TrainingStep
from probekit.views import Views

CPU = torch.device("cpu")


def cost(method: str, *, width: int, size: int, batch: int) -> StepCost:
    options = {"model.width": width, "train.batch_size": batch}
    config = resolve(method, get(METHODS, "method", method), preset="paper", seed=0, options=options)
    return step_cost(config, channels=1, size=(size, size))


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


@pytest.mark.parametrize(("width", "size", "batch"), [(64, 128, 16), (16, 64, 16), (8, 32, 48)])
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


def test_the_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    rates = Rates("toy", {"fp32": 100.0, "bf16": 400.0}, 8.0)
    spent = StepCost(flops=1000, elements=6, operators=1, parameters=1)
    assert rates.floor(spent, "fp32") == (10.0, 3.0)
    assert rates.floor(spent, "bf16") == (2.5, 1.5)


def test_measured_rates_and_times_are_of_this_machine() -> None:
    rates = measured_rates(CPU, "fp32")
    assert rates.flops["fp32"] > 1e8
    assert rates.bytes > 1e7
    kind = get(METHODS, "method", "simclr")
    small = {"model.width": 4, "train.batch_size": 4, "train.precision": "fp32"}
    config = resolve("simclr", kind, preset="quick", seed=0, options=small)
    assert all(seconds > 0 for seconds in step_times(config, channels=3, size=32, device=CPU, say=print))


def test_bench_step_prints_and_returns_the_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--size", "32", "--batch-size", "4", "--set", "model.width=4", "--precision", "fp32"]
    ran = CliRunner().invoke(app, ["bench", "step", "conrec", *small, "--json"])
    assert ran.exit_code == 0, ran.output
    result = json.loads(ran.stdout)
    assert result["flops"] == cost("conrec", width=4, size=32, batch=4).flops
    here, *known = result["floors"]
    assert here["ms"] == max(here["arithmetic_ms"], here["memory_ms"])
    assert [row["machine"] for row in known] == ["H200, on paper"]
    assert result["measured_ms"] > 0
    explained = CliRunner().invoke(app, ["bench", "step", "conrec", *small, "--explain"])
    assert "GFLOP" in explained.stdout
    assert "measured:" not in explained.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--size", "30"], "divisible by 8"), (["--channels", "2"], "--channels 1 or 3")]
)
def test_bench_step_refuses_in_one_line(arguments: list[str], message: str) -> None:
    ran = CliRunner().invoke(app, ["bench", "step", *arguments, "--explain"])
    assert isinstance(ran.exception, ValueError)
    assert message in str(ran.exception)


def test_bench_step_json_is_one_object_also_where_the_step_has_something_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unrecordable(step: TrainingStep, say: Callable[[str], None]) -> TrainingStep:
        say("the step cannot be recorded")
        return step

    monkeypatch.setattr(train_cost, "fastest_step", unrecordable)
    small = ["--size", "32", "--batch-size", "4", "--set", "model.width=4", "--precision", "fp32"]
    ran = CliRunner().invoke(app, ["bench", "step", "simclr", *small, "--json"])
    assert json.loads(ran.stdout)["method"] == "simclr"
