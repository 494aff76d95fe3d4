"""One step: recorded as a CUDA graph or launched kernel by kernel, in fp32 or bf16, the training is the same.

Alone: pytest tests/train/test_step.py
"""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from probekit.config import CHOICES, Config, resolve
from probekit.registry import BRANCHES, METHODS, get
from probekit.train.build import build_method
from probekit.train.optim import Schedule, build_optimizer, rates_on_device, set_rates
from probekit.train.step import WARM_UP, RecordedStep, TrainingStep, fastest_step

CPU = torch.device("cpu")


def configured(method: str = "conrec", *branches: str, preset: str = "quick", **options: Any) -> Config:
    small = {"model.width": 4, "train.batch_size": 8, "train.precision": "fp32"}
    kinds = {branch: get(BRANCHES, "branch", branch) for branch in branches}
    kind = get(METHODS, "method", method)
    return resolve(method, kind, preset=preset, seed=0, options=small | options, branches=kinds)


def step_of(config: Config, device: torch.device = CPU) -> TrainingStep:
    torch.manual_seed(0)  # dropout
    method = build_method(config, channels=1).to(device).train()
    settings = config.optimizer
    optimizer = build_optimizer(method, name=settings.name, lr=1e-3, momentum=0.9, weight_decay=1e-4)
    rates_on_device(optimizer, device)
    pixels = torch.randint(0, 256, (32, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TrainingStep(config, method, optimizer, pixels.to(device), torch.Generator(device).manual_seed(0))


def losses(step: TrainingStep | RecordedStep, count: int, device: torch.device = CPU) -> Tensor:
    batches = [torch.arange(8, device=device) + 8 * (i % 4) for i in range(count)]
    images = (step.step if isinstance(step, RecordedStep) else step).images
    return torch.stack([step(index, images[index]) for index in batches])


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that do nothing, so that the recording's own logic runs anywhere."""
    stream = SimpleNamespace(wait_stream=lambda other: None, device=CPU)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())


def test_what_cannot_be_recorded_goes_on_and_says_so_once(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("operation not permitted\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    said: list[str] = []
    config = configured()
    recorded = losses(RecordedStep(step_of(config), said.append), WARM_UP + 4)
    assert said == [
        "the step cannot be recorded as a CUDA graph, and is launched kernel by kernel: operation not permitted"
    ]
    assert torch.equal(recorded, losses(step_of(config), WARM_UP + 4))


def test_a_recording_is_replayed_on_the_new_index(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a graph whose replay calls the step again; the recording itself must not count as a step."""
    config = configured()
    recorded = RecordedStep(step_of(config), pytest.fail)
    seen: list[list[int]] = []

    class Graph:
        def register_generator_state(self, generator: torch.Generator) -> None:
            assert generator is recorded.step.generator

        def replay(self) -> None:
            seen.append(recorded.index.tolist())
            assert torch.equal(recorded.images, recorded.step.images[recorded.index])

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: nullcontext())
    losses(recorded, WARM_UP + 4)
    assert seen == [[8 * (i % 4) + k for k in range(8)] for i in range(WARM_UP, WARM_UP + 4)]


@pytest.mark.parametrize(("branches", "recorded"), [([], True), (["lcr"], True), (["lcr", "xcorr"], False)])
def test_a_step_that_brings_other_images_is_not_recorded(branches: list[str], recorded: bool, no_gpu: None) -> None:
    step = step_of(configured("simclr", *branches))
    step.images = SimpleNamespace(device=SimpleNamespace(type="cuda"))  # type: ignore[assignment]
    assert isinstance(fastest_step(step, pytest.fail), RecordedStep) == recorded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("names", "preset"),
    [
        (["conrec"], "paper"),
        (["conrec"], "quick"),
        (["moco-v2"], "paper"),
        (["swav"], "paper"),
        (["moco-v2", "lcr"], "quick"),
    ],
)
def test_recorded_steps_are_the_launched_ones_on_a_gpu(names: list[str], preset: str) -> None:
    """With every optimizer: LARS, AdamW, SGD, LARC."""
    device = torch.device("cuda")
    config = configured(*names, preset=preset)
    recorded = losses(RecordedStep(step_of(config, device), pytest.fail), 20, device)
    launched = losses(step_of(config, device), 20, device)
    torch.testing.assert_close(recorded, launched, rtol=1e-3, atol=1e-4)  # atomic sums come in any order


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_after_a_failed_recording_the_steps_are_the_launched_ones_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that waits for the GPU fails as it is recorded; views and dropout go on as if it had not been tried."""
    device = torch.device("cuda")
    config = configured()
    launched = losses(step_of(config, device), 20, device)
    step, said = step_of(config, device), list[str]()
    stream = torch.cuda.current_stream()
    monkeypatch.setattr(step.method, "after_step", torch.cuda.synchronize)
    recorded = losses(RecordedStep(step, said.append), 20, device)
    assert len(said) == 1
    assert torch.cuda.current_stream() == stream
    torch.testing.assert_close(recorded, launched, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CHOICES["optimizer.name"])
def test_a_rate_may_be_a_tensor(name: str) -> None:
    weights = []
    for as_tensor in (False, True):
        model = torch.nn.Linear(5, 3)
        torch.nn.init.constant_(model.weight, 0.5)
        torch.nn.init.constant_(model.bias, 0.1)
        optimizer = build_optimizer(model, name=name, lr=0.1, momentum=0.9, weight_decay=0.01)
        for group in optimizer.param_groups if as_tensor else ():
            group["lr"] = torch.tensor(0.1)
        for rate in (0.1, 0.3):
            set_rates(optimizer, Schedule(peak=rate, name="constant", warmup=0, total=1), 0)
            model.zero_grad()
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
        weights.append(model.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CHOICES["optimizer.name"])
def test_no_optimizer_reads_a_rate_that_is_a_tensor(name: str) -> None:
    """A GPU would be waited for at each step, and no graph could hold it. Fake tensors have no value to read."""
    with FakeTensorMode():
        model = torch.nn.Linear(5, 3)
        optimizer = build_optimizer(model, name=name, lr=0.1, momentum=0.9, weight_decay=0.01)
        for group in optimizer.param_groups:
            group["lr"] = torch.empty(())
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.empty_like(p)
            optimizer.step()
        assert all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)


def test_bf16_and_fp32_reach_the_same_losses() -> None:
    """Means over 25 steps, in 200 steps from the same start: within 5 % of each other, and both falling."""
    means = [
        losses(step_of(configured("conrec", **{"train.precision": precision})), 200)[:, 0].view(8, 25).mean(1)
        for precision in ("fp32", "bf16")
    ]
    torch.testing.assert_close(means[0], means[1], rtol=0.05, atol=0.0)
    assert all(m[-1] < 0.9 * m[0] for m in means)


@pytest.mark.parametrize("clip", [0.0, 0.05, 1e6])
def test_each_gradient_is_clipped_to_a_norm(clip: float) -> None:
    """One step of plain SGD moves each parameter by the rate times its clipped gradient."""
    moved: dict[float, list[float]] = {}
    for limit in (0.0, clip):
        options: dict[str, Any] = {"optimizer.name": "sgd", "optimizer.clip": limit}
        step = step_of(configured("simclr", **options))
        for group in step.optimizer.param_groups:
            group |= {"momentum": 0.0, "weight_decay": 0.0, "lr": 1.0}
        before = [p.detach().clone() for p in step.method.parameters()]
        losses(step, 1)
        moved[limit] = [float((p.detach() - b).norm()) for p, b in zip(step.method.parameters(), before, strict=True)]
    free = moved[0.0]
    assert min(free) < 0.05 < max(free)
    assert moved[clip] == pytest.approx([min(norm, clip) if clip else norm for norm in free], rel=1e-3, abs=1e-6)
