"""One step: recorded as a CUDA graph or launched kernel by kernel, in fp32 or bf16, the training is the same.

Alone: pytest tests/train/test_step.py
"""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from probekit.branches.base import begin_on_noise
from probekit.config import Config, OptimizerName, resolve
from probekit.data.split import StreamedImages
from probekit.registry import BRANCHES, METHODS, VARIANTS, get
from probekit.restore.build import build_method
from probekit.settings import presets
from probekit.train.optim import Schedule, build_optimizer, rates_on_device, set_rates
from probekit.train.step import WARM_UP, RecordedStep, TrainingStep, fastest_step
from tests.chance import noise
from tests.methods.batches import HEADS

CPU = torch.device("cpu")


def configured(method: str = "conrec", *branches: str, preset: str = "quick", **options: Any) -> Config:
    few = {"branch.xcorr.clusters": 3} if "xcorr" in branches else {}
    small = {"model.width": 4, "model.depth": 2, "train.batch_size": 8, "train.precision": "fp32", **few}
    kind = get(METHODS, "method", method)
    return resolve(method, kind, preset=preset, seed=0, options=small | options, branches=branches)


def step_of(config: Config, device: torch.device = CPU) -> TrainingStep:
    torch.manual_seed(0)  # dropout
    method = build_method(config, channels=1).to(device).train()
    settings = config.optimizer
    optimizer = build_optimizer(method, name=settings.name, lr=1e-3, momentum=0.9, weight_decay=1e-4)
    rates_on_device(optimizer, device)
    method.plan(batches=4, epochs=5)
    begin_on_noise(method, 5, images=32, size=(16, 16), device=device)
    labels = torch.arange(32, device=device) % 2 if method.needs_labels else None
    pixels = noise(32, 1, 16, 16).to(device)
    return TrainingStep(config, method, optimizer, pixels, torch.Generator(device).manual_seed(0), labels)


def losses(step: TrainingStep | RecordedStep, count: int, device: torch.device = CPU) -> Tensor:
    batches = [torch.arange(8, device=device) + 8 * (i % 4) for i in range(count)]
    images = (step.step if isinstance(step, RecordedStep) else step).images
    return torch.stack([step(index, images[index]) for index in batches])


def test_what_cannot_be_recorded_goes_on_and_says_so_once(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Graph:
        def register_generator_state(self, generator: torch.Generator) -> None:
            raise RuntimeError("operation not permitted\nmore")

        def reset(self) -> None: ...

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: nullcontext())
    said: list[str] = []
    config = configured()
    recorded = losses(RecordedStep(step_of(config), said.append), WARM_UP + 4)
    (line,) = said
    assert line.startswith(
        "the step cannot be recorded as a CUDA graph, and is launched kernel by kernel: operation not "
    )
    assert "more" not in line
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
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: nullcontext())
    losses(recorded, WARM_UP + 4)
    assert seen == [[8 * (i % 4) + k for k in range(8)] for i in range(WARM_UP, WARM_UP + 4)]


@pytest.mark.parametrize(
    ("branches", "streamed", "record", "recorded"),
    [
        ([], False, "auto", True),
        ([], True, "auto", True),
        (["lcr", "xcorr"], False, "auto", True),
        (["lcr", "xcorr"], True, "auto", False),
        ([], False, "off", False),
    ],
)
def test_a_step_is_recorded_unless_it_reads_streamed_images_or_is_not_to_be(
    branches: list[str], streamed: bool, record: str, recorded: bool, no_gpu: None
) -> None:
    step = step_of(configured("simclr", *branches, **{"train.record": record}))
    gpu = SimpleNamespace(type="cuda")
    images = StreamedImages(lambda index: index, (8,), gpu) if streamed else SimpleNamespace(device=gpu)  # type: ignore
    step.images = images  # type: ignore[assignment]
    assert isinstance(fastest_step(step, pytest.fail), RecordedStep) == recorded


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("names", "preset"),
    [
        *(([method], preset) for method in METHODS for preset in presets()),
        *((["simclr", branch], "quick") for branch in [*BRANCHES, *VARIANTS]),
    ],
)
def test_recorded_steps_are_the_launched_ones_on_a_gpu(names: list[str], preset: str) -> None:
    """With every method, branch and optimizer: the check of what CONTRIBUTING asks of a step's state."""
    device = torch.device("cuda")
    config = configured(*names, preset=preset, **HEADS.get(names[0], {}))
    found = []
    for recorded in (True, False):
        step = step_of(config, device)
        whole = RecordedStep(step, pytest.fail) if recorded else step
        found.append(losses(whole, 20, device))
        assert not isinstance(whole, RecordedStep) or whole.graph is not None
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)  # atomic sums come in any order


@pytest.mark.gpu
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
    monkeypatch.undo()
    again = RecordedStep(step_of(config, device), pytest.fail)
    torch.testing.assert_close(losses(again, 20, device), launched, rtol=1e-3, atol=1e-4)
    assert again.graph is not None, "the next recording is not refused"


@pytest.mark.parametrize("name", get_args(OptimizerName))
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


@pytest.mark.parametrize("name", get_args(OptimizerName))
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
    """Means over 25 steps, in 75 steps from the same start: within 5 % of each other, and both falling."""
    whole: dict[str, Any] = {"method.decoder_width": 1.0, "views.max_size": 64}  # half of two levels hardly rebuilds
    means = [
        losses(step_of(configured("conrec", **whole, **{"train.precision": precision})), 75)[:, 0].view(3, 25).mean(1)
        for precision in ("fp32", "bf16")
    ]
    torch.testing.assert_close(means[0], means[1], rtol=0.05, atol=0.0)
    assert all(m[-1] < 0.9 * m[0] for m in means)


@pytest.mark.parametrize("name", ["barlow-twins", "vicreg"])
def test_wide_heads_reach_the_same_losses_in_bf16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over 25 steps within 5 % of each other; heads of 64 are taken for wide ones.

    In batches of 32: Barlow Twins' loss is so noisy that batches of 8 miss this with heads in fp32, too.
    """
    monkeypatch.setattr("probekit.models.heads.WIDE", 64)
    index, means = torch.arange(32), []
    for precision in ("fp32", "bf16"):
        options: dict[str, Any] = {"train.precision": precision, "method.hidden": 64, "train.batch_size": 32}
        step = step_of(configured(name, **options))
        assert step.method.projection.wide  # type: ignore[union-attr]
        means.append(torch.stack([step(index, step.images[index])[0] for _ in range(25)]).mean())
    torch.testing.assert_close(means[0], means[1], rtol=0.05, atol=0.0)
    assert not torch.equal(means[0], means[1])


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
