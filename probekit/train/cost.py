"""What a training step costs: its arithmetic and memory traffic, a machine's rates, and the time that it takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from probekit.config import Config
from probekit.data import shrink
from probekit.device import describe_device
from probekit.train.build import build_method, on_device
from probekit.train.step import WARM_UP, build_step, fastest_step
from probekit.views import RECIPES, Recipe, Views, size_of

BYTES = {"fp32": 4, "bf16": 2}
ROUNDS = 5  # of a measured rate; the fastest counts
STEPS = 20  # of a measured step
SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is timed
COPIED = {"cpu": 2**26, "cuda": 2**30}  # bytes, more than the caches hold


@dataclass(frozen=True)
class StepCost:
    """Forward, losses and backward of one step; views and the optimizer, which cost little, are left out.

    Attributes:
        flops: Of convolutions and matrix products; a multiplication and an addition are two.
        elements: Tensor elements that these read and write, each operand once: all else fused into them.
        operators: Launches on a GPU, about, one kernel at a time.
        parameters: Trained ones.
    """

    flops: int
    elements: int
    operators: int
    parameters: int


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second.

    Attributes:
        name: For the reader.
        flops: Of a matrix product, by precision.
        bytes: Of memory traffic.
    """

    name: str
    flops: dict[str, float]
    bytes: float

    def floor(self, cost: StepCost, precision: str) -> tuple[float, float]:
        """Seconds that the arithmetic alone and the traffic alone take; no step is faster than the longer."""
        return cost.flops / self.flops[precision], BYTES[precision] * cost.elements / self.bytes


# bf16 and memory: what large products and copies reach; fp32: the data sheet, without tf32, which the trainer avoids.
KNOWN = (Rates("H200, on paper", {"bf16": 790e12, "fp32": 67e12}, 4.3e12),)


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    shapes = gradient.shape, q.shape, k.shape, v.shape
    return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]


FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # torch lacks these two
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what runs under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.elements = self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators += func.namespace == "aten" and not func.is_view
        count = FLOPS.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
            self.elements += sum(x.numel() for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
        return out


def step_cost(config: Config, *, channels: int, size: tuple[int, int]) -> StepCost:
    """Counts one step of a method; nothing is computed, the tensors have shapes only.

    Args:
        config: The settings.
        channels: Of the images, 1 or 3.
        size: (h, w) of the views.
    """
    with torch.device("meta"):  # where a backbone may read its own numbers, as it may not among fake tensors
        method = build_method(config, channels=channels).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        method.to_empty(device="cpu")
        batch = config.train.batch_size
        views = _empty_views(RECIPES[config.views.recipe], batch, channels, size, method.encoder.stride)
        with _Count() as counted:
            method.step(views).loss.backward()  # type: ignore[no-untyped-call]
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return StepCost(counted.flops, counted.elements, counted.operators, trained)


def _empty_views(recipe: Recipe, batch: int, channels: int, size: tuple[int, int], stride: int) -> Views:
    """Views of the recipe's shapes, with labels."""

    def empty(n: int, size: tuple[int, int]) -> Views:
        x = torch.empty(n, batch, channels, *size)
        return Views(x, x, torch.empty(0), torch.empty(0), torch.zeros(batch, dtype=torch.int64))

    views = empty(recipe.views, size)
    for kind in recipe.crops:
        if kind.side < 1:
            views.local = empty(kind.n, size_of(kind, size, stride))
    return views


def measured_rates(device: torch.device, precision: str) -> Rates:
    """The rates of the machine at hand: a square matrix product in "fp32" or "bf16", and a copy."""
    side, size = SIDES[device.type], COPIED[device.type]
    a = torch.rand(side, side, device=device).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    flops = 2 * side**3 / _fastest(lambda: a @ a, device)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    traffic = 2 * size / _fastest(lambda: target.copy_(source), device)
    return Rates(f"here, {describe_device(device)}", {precision: flops}, traffic)


def step_on_noise(
    config: Config, *, channels: int, size: int, n: int, device: torch.device, say: Callable[[str], None]
) -> Callable[[], Tensor]:
    """A job that makes a whole step, as the trainer makes it, on random images out of n.

    Args:
        config: The settings, the precision resolved.
        channels: Of the images, 1 or 3.
        size: Pixels a side of the images.
        n: Images on the device, at least a batch.
        device: Where.
        say: Takes a line for the user.
    """
    noise = torch.randint(256, (n, channels, size, size), dtype=torch.uint8)
    images = shrink(noise, config.data.max_size).to(device)
    method = on_device(build_method(config, channels=channels), device)
    step = fastest_step(build_step(config, method.train(), images, np.zeros(n, np.int64)), say)
    index = torch.randperm(n, device=device)[: config.train.batch_size]
    return lambda: step(index, images[index])


def step_times(
    config: Config, *, channels: int, size: int, device: torch.device, say: Callable[[str], None]
) -> list[float]:
    """Seconds of each of `STEPS` whole steps; arguments as `step_on_noise`."""
    n = config.train.batch_size
    job = step_on_noise(config, channels=channels, size=size, n=n, device=device, say=say)
    return _times(job, device, warm_up=WARM_UP + 2, rounds=STEPS)


def _times(job: Callable[[], Any], device: torch.device, *, warm_up: int, rounds: int) -> list[float]:
    """Seconds of each round after the first few."""
    times = []
    for _ in range(warm_up + rounds):
        started = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return times[warm_up:]


def _fastest(job: Callable[[], Any], device: torch.device) -> float:
    """Seconds, the best of some."""
    return min(_times(job, device, warm_up=1, rounds=ROUNDS))
