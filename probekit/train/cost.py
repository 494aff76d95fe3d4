"""What a training step costs: its arithmetic and memory traffic, a machine's rates, and the time that it takes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from probekit.config import Config
from probekit.data import shrink
from probekit.train.build import build_method, on_device
from probekit.train.pretrain import describe_device
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


_ATEN = torch.ops.aten
# Operators that only allocate, or name what is there already.
FREE = {
    *(_ATEN.empty, _ATEN.empty_like, _ATEN.empty_strided, _ATEN.new_empty, _ATEN.new_empty_strided, _ATEN.resize_),
    *(_ATEN._unsafe_view, _ATEN.set_, _ATEN.lift, _ATEN.lift_fresh),
}
OVERWRITE = {_ATEN.copy_, _ATEN.fill_, _ATEN.zero_, _ATEN._foreach_copy_, _ATEN._foreach_zero_}  # read nothing of it


@dataclass(frozen=True)
class Counted:
    """What some tensor code asks of a device.

    Attributes:
        launches: Operators that compute or copy. One over lists of tensors is one, unless the other list's tensors are
            scalars: torch then goes through them one by one.
        bytes: That they read and write: every operand and every result once, expanded ones as they lie in memory.
        flops: Of convolutions and matrix products; a multiplication and an addition are two.
        elements: That these read and write.
    """

    launches: int = 0
    bytes: int = 0
    flops: int = 0
    elements: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands what every operator under it costs to `each`, with the operator."""

    def __init__(self, each: Callable[[OpOverload, Counted], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.each = each

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "aten" and not func.is_view and func._overloadpacket not in FREE:
            self.each(func, _cost_of(func, args, kwargs, out))
        return out


def count(job: Callable[[], Any], each: Callable[[OpOverload, Counted], None] | None = None) -> Counted:
    """What a job launches, moves and computes; on meta tensors, which take a GPU's way, nothing is computed.

    Args:
        job: Tensor code, its backward pass on the tensors' own thread.
        each: Is called after every operator that counts, with it and its cost.
    """
    total = Counted()

    def add(func: OpOverload, cost: Counted) -> None:
        nonlocal total
        total += cost
        if each is not None:
            each(func, cost)

    with Counter(add):
        job()
    return total


def meta_generator() -> torch.Generator:
    """A generator for draws on meta tensors, for which torch has none."""
    return _Nowhere()


class _Nowhere(torch.Generator):
    device = torch.device("meta")


def _cost_of(func: OpOverload, args: Any, kwargs: Any, out: Any) -> Counted:
    read, written = [], []
    for argument, value in (*zip(func._schema.arguments, args, strict=False), *_named(func, kwargs)):
        operands = _tensors(value)
        mutable = argument.alias_info is not None and argument.alias_info.is_write
        read += [] if argument.is_out or (mutable and func._overloadpacket in OVERWRITE) else operands
        written += operands if mutable else []
    results = zip(func._schema.returns, (out,) if len(func._schema.returns) == 1 else out or (), strict=False)
    written += [x for returned, value in results if returned.alias_info is None for x in _tensors(value)]
    moved = sum(_bytes(x) for x in (*read, *written))
    formula = FLOPS.get(func._overloadpacket)
    if formula is None:
        return Counted(_launches(func, args), moved)
    elements = sum(x.numel() for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
    return Counted(1, moved, formula(*args, **kwargs, out_val=out), elements)


def _named(func: OpOverload, kwargs: Any) -> list[tuple[Any, Any]]:
    return [(argument, kwargs[argument.name]) for argument in func._schema.arguments if argument.name in kwargs]


def _tensors(value: Any) -> list[Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]


def _bytes(x: Tensor) -> int:
    """In memory; what is expanded lies there once."""
    return x.element_size() * math.prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride or not n)


def _launches(func: OpOverload, args: Any) -> int:
    """One; an operator over lists whose second list has scalar tensors takes torch's slow way, one tensor at a time."""
    by_list = func._schema.name.startswith("aten::_foreach_") and len(args) > 1 and isinstance(args[1], (list, tuple))
    return len(args[0]) if by_list and any(isinstance(x, Tensor) and x.ndim == 0 for x in args[1]) else 1


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
        counted = count(lambda: method.step(views).loss.backward())  # type: ignore[no-untyped-call]
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return StepCost(counted.flops, counted.elements, counted.launches, trained)


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
