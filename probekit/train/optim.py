"""The optimizer of a run, and its learning rates."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from probekit.config import OptimizerName, ScalingName, ScheduleName
from probekit.methods.base import Rate
from probekit.registry import nearest
from probekit.train.lars import LARC, LARS

OF_RATES = ("share", "schedule", "start", "first", "final")  # what a group of the optimizer keeps of a `Rate`


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
    BYOL, Barlow Twins, VICReg), nor does what a part names in `no_weight_decay()`: a transformer's tokens, in timm. A
    ValueError if the name is unknown.

    Args:
        name: "lars", "larc", "sgd" or "adamw".
        momentum: Momentum of the buffer; AdamW's beta 1.
        weight_decay: For the weights that decay.
        decay: "weights", or "all" for biases and normalisation, too (MoCo, SimSiam, SwAV).
        rates: Parameters whose rate is another; each makes groups of its own, after the others.
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
    if name == "adamw":
        betas = (momentum, 0.999)
        on_gpu = any(p.is_cuda for p in parameters)  # capturable: a CUDA graph may hold the step
        return torch.optim.AdamW(groups, lr, betas, weight_decay=weight_decay, fused=True, capturable=on_gpu)
    raise ValueError(nearest("optimizer", name, get_args(OptimizerName)))


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
    """The peak learning rate for a batch of so many images: "sqrt" is SimCLR's, "linear" that of the other papers.

    A ValueError if the scaling is unknown.
    """
    if scaling == "sqrt":
        return lr * math.sqrt(batch_size)
    if scaling == "linear":
        return lr * batch_size / 256
    if scaling == "none":
        return lr
    raise ValueError(nearest("scaling", scaling, get_args(ScalingName)))


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step; a function of the step alone, so that a resumed run needs no state of it.

    Attributes:
        name: "constant", or "cosine" down to `final` at `total`.
        warmup: Steps of linear rise to the peak; the last of them is at the peak.
        final: The last rate of "cosine", as a share of the peak.
        first: The first rate of the warm-up, as a share of the peak; 0 is that of an even rise from 0, whose first step
            is at 1 / `warmup`.
    """

    peak: float
    name: str
    warmup: int
    total: int
    final: float = 0.0
    first: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in get_args(ScheduleName):
            raise ValueError(nearest("schedule", self.name, get_args(ScheduleName)))

    def at(
        self, step: int, schedule: str | None = None, first: float | None = None, final: float | None = None
    ) -> float:
        """The rate of a step, counted from 0; the others make another course to the same peak, as `Rate` has it."""
        if step < self.warmup:
            first = (self.first if first is None else first) or 1 / self.warmup
            return self.peak * (first + (1 - first) * step / max(1, self.warmup - 1))
        if (schedule or self.name) == "constant":
            return self.peak
        final = self.final if final is None else final
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.peak * (final + (1 - final) * cosine)
