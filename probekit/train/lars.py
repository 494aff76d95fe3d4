"""Layer-wise adaptive rates: LARS as the ConRec authors run it, and LARC."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

TRUST = 0.001  # the trust coefficient: ConRec, authors' code; SwAV, official code


class Layerwise(Optimizer, ABC):
    """An optimizer with a momentum buffer whose update is made of a group at once, without a wait for the device.

    `lr`: learning rate; a group's may be a scalar tensor, which a recorded step reads anew each time; `weight_decay`:
    added to the gradient.
    """

    settings: ClassVar[Mapping[str, Any]] = {"trust": TRUST}  # of every group, further ones

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, **self.settings})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; no host synchronisation."""
        assert closure is None, "layer-wise optimizers take no closure"
        self.make_state()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                gradients = [w.grad for w in weights if w.grad is not None]
                self._update(group, weights, gradients, [self.state[w]["momentum"] for w in weights])
        return None

    def make_state(self) -> None:
        """A momentum of zeros for every parameter that has a gradient and none yet."""
        for w in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            if "momentum" not in self.state[w]:
                self.state[w]["momentum"] = torch.zeros_like(w)

    @abstractmethod
    def _update(
        self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor], velocity: list[Tensor]
    ) -> None:
        """Changes the weights and the buffers of a group, and leaves the gradients as they are."""


def norms(weights: list[Tensor], gradients: list[Tensor]) -> tuple[Tensor, ...]:
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

    def _update(
        self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor], velocity: list[Tensor]
    ) -> None:
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

    def _update(
        self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor], velocity: list[Tensor]
    ) -> None:
        w_norm, g_norm = norms(weights, gradients)
        ratio = group["trust"] * w_norm / (g_norm + group["weight_decay"] * w_norm + 1e-8)
        ratio = or_one(ratio, w_norm, g_norm)
        steps = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(steps, list(ratio.unbind()))
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, steps)
        torch._foreach_sub_(weights, list(torch._foreach_mul(velocity, group["lr"])))
