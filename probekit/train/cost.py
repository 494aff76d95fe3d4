"""What a training step asks of a machine, counted on tensors without values: launches, traffic and arithmetic."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from probekit.branches.base import begin_on_noise, has_loss, running_branches, sources_of
from probekit.config import Config
from probekit.methods.base import Method, Step
from probekit.restore.build import build_method
from probekit.train.health import batch_health, projection_health
from probekit.train.optim import Layerwise
from probekit.train.step import build_step, clip_each
from probekit.views.recipes import Recipe, ViewMaker, Views, recipe_of, size_of

# Of a step. The model: its convolutions and matrix products, and all else in its modules (normalisation, activations,
# casts, upsampling). The rest is ours.
MODEL = ("products", "modules")
OURS = ("views", "losses", "health", "optimizer")
PARTS = ("views", *MODEL, *OURS[1:])


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
        bytes: What they read and write: every operand and every result once, expanded ones as they lie in memory.
        flops: Those of convolutions and matrix products; a multiplication and an addition are two.
        flops32: Those of them in float32.
        elements: What these products read and write.
    """

    launches: int = 0
    bytes: int = 0
    flops: int = 0
    flops32: int = 0
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


def count(job: Callable[[], Any]) -> Counted:
    """What a job launches, moves and computes; on meta tensors, which take a GPU's way, nothing is computed.

    Its backward pass must run on the tensors' own thread.
    """
    total = Counted()

    def add(func: OpOverload, cost: Counted) -> None:
        nonlocal total
        total += cost

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
    operands = _tensors((args, kwargs, out))
    flops = formula(*args, **kwargs, out_val=out)
    full = flops * (operands[0].dtype == torch.float32)
    return Counted(1, moved, flops, full, sum(x.numel() for x in operands))


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


@dataclass(frozen=True)
class StepCost:
    """One step: the least of forward, losses and backward, without views and the optimizer; and all of it.

    Attributes:
        flops: Those of convolutions and matrix products; a multiplication and an addition are two.
        elements: Tensor elements that these read and write, each operand once: all else fused into them.
        operators: Launches on a GPU, about, one kernel at a time.
        parameters: Trained ones.
        parts: All of the step, by the names in `PARTS`.
        memory: Bytes that it holds at once: "weights" (with buffers), "gradients", the "optimizer"'s state, and
            "activations", what backward reads again.
    """

    flops: int
    elements: int
    operators: int
    parameters: int
    parts: dict[str, Counted]
    memory: dict[str, int] = field(default_factory=dict)


def step_cost(config: Config, *, channels: int, size: tuple[int, int], classes: int = 2) -> StepCost:
    """Counts one step of a method with its branches; nothing is computed, the tensors have shapes only.

    Views are counted as a GPU makes them: all of each operation, where a CPU computes the chosen ones. The fused
    optimizers cannot be traced everywhere: what they read and write follows from their state. `config`: the settings;
    precision "auto" counts as "fp32"; `size`: (h, w) of the views, and of the images.
    """
    batch, recipe = config.train.batch_size, recipe_of(config.views)
    with torch.device("meta"):  # where a backbone may read its own numbers, as it may not among fake tensors
        method = build_method(config, channels=channels, classes=classes).train()
        stride = method.encoder.stride
    begin_on_noise(method, config.train.epochs, images=batch, size=size)
    parts = dict.fromkeys(PARTS, Counted())
    with FakeTensorMode(allow_non_fake_inputs=True):
        method.to_empty(device="cpu")
        sources, parts["views"] = _pasted(method, recipe, torch.empty(batch, channels, *size, dtype=torch.uint8))
        views = _empty_views(recipe, batch, channels, size, stride)
        kept: list[Tensor] = []
        with sorted_by_part(parts), saved_for_backward(kept):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.train.precision == "bf16"):
                step = method.step(views)
                step.views = views
                loss, more = _with_branches(method, step, views.inputs)
            loss.backward()  # type: ignore[no-untyped-call]
        parts["health"] = count(
            lambda: batch_health(step.features.pooled, batch) | projection_health(step.projections, batch)
        )
        parts["optimizer"] = _update(config, method)
    parts["views"] += _made(recipe, batch, sources, channels, size, stride)
    if more:
        parts["views"] += _made(recipe.first, more, more, channels, size, stride)
    least = [parts[name] for name in (*MODEL, "losses")]
    flops, elements, launches = (sum(getattr(c, name) for c in least) for name in ("flops", "elements", "launches"))
    trained = [p for p in method.parameters() if p.requires_grad]
    memory = _memory(config, [*method.parameters(), *method.buffers()], trained, kept)
    return StepCost(flops, elements, launches, sum(p.numel() for p in trained), parts, memory)


def _with_branches(method: Method, step: Step, x: Tensor) -> tuple[Tensor, int]:
    """The loss of a step with those of the branches, and how many images these have encoded besides."""
    loss, more, index = step.loss, 0, torch.zeros(x.shape[1], dtype=torch.int64)
    for branch in running_branches(method):
        companions = branch.companions(index, torch.Generator())
        if companions is not None:
            more += len(companions)
            step.companions[branch.name] = method.encode(torch.empty(len(companions), *x.shape[2:]))
        if has_loss(branch):
            loss = loss + branch.weight * branch.loss(step)
    return loss, more


def _pasted(method: Method, recipe: Recipe, images: Tensor) -> tuple[int, Counted]:
    """From how many images the views of a batch are cut, and what it takes to paste them."""
    index = torch.zeros(len(images), dtype=torch.int64)
    found = [images]
    branches, generator = running_branches(method), torch.Generator()
    spent = count(lambda: found.append(sources_of(branches, index, images, recipe, generator)))
    return len(found[-1]), spent


def _made(recipe: Recipe, batch: int, sources: int, channels: int, size: tuple[int, int], stride: int) -> Counted:
    """What the views of a batch take, cut from so many images, on meta tensors."""
    with torch.device("meta"):
        images = torch.empty(sources, channels, *size, dtype=torch.uint8)
        maker = ViewMaker(recipe, images.shape[1:], size=size, stride=stride)
    return count(lambda: maker(images, maker.draw(batch, meta_generator())))


@contextmanager
def saved_for_backward(kept: list[Tensor]) -> Iterator[None]:
    """Collects what autograd keeps of what runs in it."""

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield


def held(tensors: Iterable[Tensor], *, beside: Iterable[Tensor] = ()) -> int:
    """Bytes of the memory that tensors lie in, each block once, without that of others."""
    blocks = {x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in tensors}
    return sum(blocks[key] for key in blocks.keys() - {x.untyped_storage()._cdata for x in beside})


def _memory(config: Config, model: list[Tensor], trained: list[nn.Parameter], kept: list[Tensor]) -> dict[str, int]:
    size = held(trained)
    return {
        "weights": held(model),
        "gradients": size,
        "optimizer": _states(config) * size,
        "activations": held(kept, beside=model),
    }


def _states(config: Config) -> int:
    """Numbers that an optimizer keeps of each weight."""
    return 2 if config.optimizer.name == "adamw" else 1


@contextmanager
def sorted_by_part(parts: dict[str, Counted]) -> Iterator[None]:
    """Adds what runs in it to "products" and "modules", for what modules do, forward and backward, or to "losses".

    Autograd numbers its nodes as they are made, so a module's have the numbers from its call to its return.
    """
    nodes: set[int] = set()
    entered: list[int] = []  # modules within modules
    next_node: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]

    def enter(module: nn.Module, args: Any) -> None:
        entered.append(next_node())

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        nodes.update(range(entered.pop(), next_node()))

    def add(func: OpOverload, cost: Counted) -> None:
        node: Any = torch._C._current_autograd_node()
        of_model = entered if node is None else node.name().endswith("AccumulateGrad") or node._sequence_nr() in nodes
        part = "losses" if not of_model else "products" if cost.flops else "modules"
        parts[part] += cost

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        with Counter(add):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _update(config: Config, method: Method) -> Counted:
    """Clipping, the optimizer's step and moving averages, of fake parameters that have gradients."""
    batch, channels = config.train.batch_size, method.encoder.spec["channels"]
    optimizer = build_step(config, method, torch.empty(batch, channels, 8, 8, dtype=torch.uint8)).optimizer
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    spent = count(method.after_step)
    if config.optimizer.clip:
        spent += count(lambda: clip_each([p.grad for p in trained if p.grad is not None], config.optimizer.clip))
    if isinstance(optimizer, Layerwise):
        optimizer.make_state()
        return spent + count(optimizer.step)
    state = _states(config)
    size = sum(p.numel() * p.element_size() for p in trained)
    groups = sum(bool(group["params"]) for group in optimizer.param_groups)
    return spent + Counted(groups, (3 + 2 * state) * size)  # weights and state read and written, gradients read


def _empty_views(recipe: Recipe, batch: int, channels: int, size: tuple[int, int], stride: int) -> Views:
    """Views of the recipe's shapes, with labels."""

    def empty(n: int, size: tuple[int, int]) -> Views:
        x = torch.empty(n, batch, channels, *size)
        boxes, flipped = torch.zeros(n, batch, 4, dtype=torch.int64), torch.zeros(n, batch, dtype=torch.bool)
        return Views(x, x, boxes, flipped, torch.zeros(batch, dtype=torch.int64))

    views = empty(recipe.views, size)
    for kind in recipe.crops:
        if kind.side < 1:
            views.local = empty(kind.n, size_of(kind, size, stride))
    return views
