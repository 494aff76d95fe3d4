"""LARS as the ConRec authors run it, AdamW, and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from probekit.config import CHOICES
from probekit.registry import nearest


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling in its classic form: the rate stands inside the momentum buffer (authors' code).

    For weights with adaptation: `g += decay * w; t = trust * |w| / |g|` (1 where a norm is 0; |g| includes the decay);
    for all: `v = momentum * v + lr * t * g; w -= v`. Groups with `adapt=False` (biases, batch norm) skip decay and t.

    Args:
        params: Parameters or groups; a group may set `adapt`.
        lr: Learning rate; a group's may be a scalar tensor, which a recorded step reads anew each time.
        momentum: Of the buffer v.
        weight_decay: Added to the gradient of adapted weights.
        trust: The trust coefficient.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        trust: float = 0.001,  # authors' code
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; no host synchronisation."""
        assert closure is None, "LARS takes no closure"
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update(group, weights)
        return None

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        gradients = [w.grad for w in weights if w.grad is not None]
        for w in weights:
            if "momentum" not in self.state[w]:
                self.state[w]["momentum"] = torch.zeros_like(w)
        velocity = [self.state[w]["momentum"] for w in weights]
        if group["adapt"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            w_norm = torch.stack(torch._foreach_norm(weights))
            g_norm = torch.stack(torch._foreach_norm(gradients))
            ratio = group["trust"] * w_norm / g_norm
            ratio = torch.where((w_norm > 0) & (g_norm > 0), ratio, torch.ones_like(ratio))
            torch._foreach_mul_(gradients, list((ratio * group["lr"]).unbind()))
        else:
            gradients = list(torch._foreach_mul(gradients, group["lr"]))
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, gradients)
        torch._foreach_sub_(weights, velocity)


def build_optimizer(modules: nn.Module, *, name: str, lr: float, momentum: float, weight_decay: float) -> Optimizer:
    """The optimizer over `modules`; biases and normalisation get neither decay nor adaptation (authors' code).

    Nor does what a part of them names in `no_weight_decay()`: a transformer's tokens and positions, in timm.

    Args:
        modules: What to train.
        name: "lars" or "adamw".
        lr: Learning rate.
        momentum: LARS's momentum, or AdamW's beta 1.
        weight_decay: For all other weights.

    Raises:
        ValueError: If the name is unknown.
    """
    parameters = [p for p in modules.parameters() if p.requires_grad]
    spared = {id(p) for p in parameters if p.ndim <= 1} | _spared(modules)
    weights = [p for p in parameters if id(p) not in spared]
    vectors = [p for p in parameters if id(p) in spared]
    if name == "lars":
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": vectors, "adapt": False}]
        return LARS(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "adamw":
        groups = [{"params": weights}, {"params": vectors, "weight_decay": 0.0}]
        betas = (momentum, 0.999)
        on_gpu = any(p.is_cuda for p in parameters)  # capturable: a CUDA graph may hold the step
        return torch.optim.AdamW(groups, lr, betas, weight_decay=weight_decay, fused=True, capturable=on_gpu)
    raise ValueError(nearest("optimizer", name, CHOICES["optimizer.name"]))


def _spared(modules: nn.Module) -> set[int]:
    """Parameters that a module names in `no_weight_decay()`, by id; a name with a star stands for all that fit."""
    found: set[int] = set()
    for module in modules.modules():
        patterns: set[str] = getattr(module, "no_weight_decay", set)()
        own = module.named_parameters() if patterns else ()
        found |= {id(p) for name, p in own if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return found


def rates_on_device(optimizer: Optimizer, device: torch.device) -> None:
    """On a GPU, makes every group's rate a scalar tensor there: a CUDA graph would freeze a number."""
    if device.type == "cuda":
        for group in optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets every group's learning rate, without a wait for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def scaled_rate(lr: float, *, scaling: str, batch_size: int) -> float:
    """The peak learning rate: "sqrt" is SimCLR's `lr * sqrt(batch size)`, with batch size in images.

    Raises:
        ValueError: If the scaling is unknown.
    """
    if scaling == "sqrt":
        return lr * math.sqrt(batch_size)
    if scaling == "none":
        return lr
    raise ValueError(nearest("scaling", scaling, CHOICES["optimizer.scaling"]))


def rate_at(step: int, *, peak: float, schedule: str, warmup: int, total: int) -> float:
    """The learning rate of a step.

    Args:
        step: Counted from 0.
        peak: The highest rate.
        schedule: "constant", or "cosine" down to 0 at `total`.
        warmup: Steps of linear rise to the peak.
        total: Steps of the whole run.

    Raises:
        ValueError: If the schedule is unknown.
    """
    if schedule not in CHOICES["optimizer.schedule"]:
        raise ValueError(nearest("schedule", schedule, CHOICES["optimizer.schedule"]))
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    done = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
