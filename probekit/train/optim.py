"""The optimizer of a run, LARS and LARC among them, and its learning rates."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from probekit.methods.base import Rate

TRUST = 0.001  # the trust coefficient: ConRec, authors' code; SwAV, official code

Tensors = list[Tensor]
OF_RATES = ("share", "schedule", "start", "first", "final")  # what a group of the optimizer keeps of a `Rate`


class Layerwise(Optimizer, ABC):
    """An optimizer with a momentum buffer whose update is made of a group at once, without a wait for the device.

    `lr`: learning rate; a group's may be a scalar tensor, which a recorded step reads anew each time; `weight_decay`:
    added to the gradient.
    """

    settings: ClassVar[Mapping[str, Any]] = {"trust": TRUST}  # of every group, further ones

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, **self.settings})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; no host synchronisation. It takes no closure."""
        self.make_state()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                gradients = [w.grad for w in weights if w.grad is not None]
                self._update(group, weights, gradients, [self.state[w]["momentum"] for w in weights])

    def make_state(self) -> None:
        """A momentum of zeros for every parameter that has a gradient and none yet."""
        for w in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            if "momentum" not in self.state[w]:
                self.state[w]["momentum"] = torch.zeros_like(w)

    @abstractmethod
    def _update(self, group: dict[str, Any], weights: Tensors, gradients: Tensors, velocity: Tensors) -> None:
        """Changes the weights and the buffers of a group, and leaves the gradients as they are."""


def norms(weights: Tensors, gradients: Tensors) -> tuple[Tensor, ...]:
    """Two times `[n]`."""
    return torch.stack([*torch._foreach_norm(weights), *torch._foreach_norm(gradients)]).chunk(2)


def or_one(ratio: Tensor, w_norm: Tensor, g_norm: Tensor) -> Tensor:
    """The ratio `[n]`, in place, and 1 where one of the norms is 0."""
    return ratio.masked_fill_(torch.minimum(w_norm, g_norm) == 0, 1)


class LARS(Layerwise):
    """Layer-wise adaptive rate scaling in its classic form: the rate stands inside the momentum buffer (authors' code).

    For weights with adaptation: `g += decay * w; t = trust * |w| / |g|` (1 where a norm is 0; |g| includes the decay);
    for all: `v = momentum * v + lr * t * g; w -= v`. Groups with `adapt=False` (biases, batch norm) skip decay and t.
    """

    settings: ClassVar[Mapping[str, Any]] = {"trust": TRUST, "adapt": True}

    def _update(self, group: dict[str, Any], weights: Tensors, gradients: Tensors, velocity: Tensors) -> None:
        if group["adapt"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            w_norm, g_norm = norms(weights, gradients)
            ratio = or_one(group["trust"] * w_norm / g_norm, w_norm, g_norm)
            torch._foreach_mul_(gradients, list((ratio * group["lr"]).unbind()))
        else:
            gradients = list(torch._foreach_mul(gradients, group["lr"]))
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, gradients)
        torch._foreach_sub_(weights, velocity)


class LARC(Layerwise):
    """Layer-wise adaptive rates around SGD with momentum, without clipping: what SwAV trains with (NVIDIA Apex).

    `t = trust * |w| / (|g| + decay * |w| + 1e-8)` (1 where a norm is 0), `g = t * (g + decay * w)`,
    `v = momentum * v + g; w -= lr * v`. The rate stands outside the buffer, the decay outside the norm of the
    gradient, and every parameter is adapted, biases and normalisation too.
    """

    def _update(self, group: dict[str, Any], weights: Tensors, gradients: Tensors, velocity: Tensors) -> None:
        w_norm, g_norm = norms(weights, gradients)
        ratio = group["trust"] * w_norm / (g_norm + group["weight_decay"] * w_norm + 1e-8)
        ratio = or_one(ratio, w_norm, g_norm)
        steps = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(steps, list(ratio.unbind()))
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, steps)
        torch._foreach_sub_(weights, list(torch._foreach_mul(velocity, group["lr"])))


def build_optimizer(
    modules: nn.Module,
    *,
    name: str,
    lr: float,
    momentum: float,
    weight_decay: float,
    decay: str = "weights",
    rates: Sequence[Rate] = (),
) -> Optimizer:
    """The optimizer over `modules`.

    With `decay` "weights" biases and normalisation get neither decay nor adaptation (ConRec authors' code, SimCLR,
    BYOL, Barlow Twins, VICReg), nor does what a part names in `no_weight_decay()`: a transformer's tokens, in timm.
    `name`: "lars", "larc", "sgd" or "adamw". `momentum`: momentum of the buffer; AdamW's beta 1. `decay`: "weights", or
    "all" for biases and normalisation, too (MoCo, SimSiam, SwAV). `rates`: parameters whose rate is another; each makes
    groups of its own, after the others.
    """
    parameters = [p for p in modules.parameters() if p.requires_grad]
    spared = {id(p) for p in parameters if p.ndim <= 1} | _spared(modules) if decay == "weights" else set()
    own = {id(p): rate for rate in rates for p in rate.parameters}
    groups: list[dict[str, Any]] = []
    for rate in (None, *rates):
        mine = [p for p in parameters if own.get(id(p)) is rate]
        of_rate = {} if rate is None else {key: getattr(rate, key) for key in OF_RATES}
        for free in (False, True):
            chosen = [p for p in mine if (id(p) in spared) == free]
            if chosen or rate is None:
                plain = {"adapt": False} if name == "lars" else {"weight_decay": 0.0}
                groups.append({"params": chosen, **of_rate, **(plain if free else {})})
    if name == "lars":
        return LARS(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "larc":
        return LARC(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "sgd":
        # fused reads a rate that is a tensor on the device; torch's other forms read it back, which no graph may hold
        return torch.optim.SGD(groups, lr, momentum, weight_decay=weight_decay, fused=True)
    assert name == "adamw", name
    betas = (momentum, 0.999)
    on_gpu = any(p.is_cuda for p in parameters)  # capturable: a CUDA graph may hold the step
    return torch.optim.AdamW(groups, lr, betas, weight_decay=weight_decay, fused=True, capturable=on_gpu)


def _spared(modules: nn.Module) -> set[int]:
    """Parameters that a module names in `no_weight_decay()`, by id; a name with a star stands for all that fit."""
    found: set[int] = set()
    for module in modules.modules():
        patterns: set[str] = getattr(module, "no_weight_decay", set)()
        own = module.named_parameters() if patterns else ()
        found |= {id(p) for name, p in own if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return found


def lay_as_weights(parameters: Iterable[Tensor]) -> None:
    """Copies each gradient whose strides are not its parameter's, at dimensions of size 1 too, into these strides.

    Some convolutions' backward passes give such ones. A fused optimizer refuses them on a GPU, and on a CPU takes their
    numbers in the wrong order. Its other forms read a rate that is a tensor back to the host.
    """
    for p in parameters:
        if p.grad is not None and p.grad.stride() != p.stride():
            p.grad = torch.empty_like(p).copy_(p.grad)


def rates_on_device(optimizer: Optimizer, device: torch.device) -> None:
    """On a GPU, makes every group's rate a scalar tensor there: a CUDA graph would freeze a number."""
    if device.type == "cuda":
        for group in optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)


def set_rates(optimizer: Optimizer, schedule: "Schedule", step: int) -> None:
    """Sets every group's learning rate for a step, without a wait for the device.

    A group that starts late then has its state made new: AdamW has averaged in the zeros of a frozen weight's
    gradient, and would take steps of several times the rate; a momentum has gathered the decay.
    """
    for group in optimizer.param_groups:
        start = group.get("start", 0)
        if 0 < start == step:
            for value in (v for p in group["params"] for v in optimizer.state.get(p, {}).values()):
                value.zero_()
        begun = step >= start
        course = {key: group.get(key) for key in ("schedule", "first", "final")}  # older checkpoints have fewer
        lr = group.get("share", 1.0) * schedule.at(step, **course) if begun else 0.0
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def scaled_rate(lr: float, *, scaling: str, batch_size: int) -> float:
    """The peak learning rate for a batch of so many images: "sqrt" is SimCLR's, "linear" that of the other papers."""
    return lr * {"none": 1.0, "sqrt": math.sqrt(batch_size), "linear": batch_size / 256}[scaling]


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step; a function of the step alone, so that a resumed run needs no state of it.

    `name`: "constant", or "cosine" down to `final` at `total`. `warmup`: steps of linear rise to the peak; the last of
    them is at the peak. `final`: the last rate of "cosine", as a share of the peak. `first`: the first rate of the
    warm-up, as a share of the peak; 0 is that of an even rise from 0, whose first step is at 1 / `warmup`.
    """

    peak: float
    name: str
    warmup: int
    total: int
    final: float = 0.0
    first: float = 0.0

    def at(
        self, step: int, schedule: str | None = None, first: float | None = None, final: float | None = None
    ) -> float:
        """The rate of a step, counted from 0; the others make another course to the same peak, as `Rate` has it."""
        if step < self.warmup:
            first = (self.first if first is None else first) or 1 / self.warmup
            return self.peak * (first + (1 - first) * step / max(1, self.warmup - 1))
        course = schedule or self.name
        if course == "constant":
            return self.peak
        assert course == "cosine", course
        final = self.final if final is None else final
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.peak * (final + (1 - final) * cosine)
