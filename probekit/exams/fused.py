"""A faster copy of a frozen network: norms within convolutions, activations in place, channels last."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from probekit.models.unet import BatchNorm1d, BatchNorm2d

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNorm1d, BatchNorm2d)


def fused(network: nn.Module, batch: Tensor, run: Callable[[nn.Module, Tensor], Any]) -> nn.Module | None:
    """A copy in which batch norms are part of convolutions, and activations take no memory of their own.

    None where no copy can be made. What follows what is seen in a pass. That nothing else does is for the caller to
    see, by what the copy gives. `network`: in eval mode, is not changed; `batch`: images, which `run` passes through a
    network.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in network.modules()):
        return None
    try:
        copy = deepcopy(network)
        names = {module: name for name, module in copy.named_modules(remove_duplicate=False)}
        pairs, activations = _followers(copy, batch, run)
        for convolution, norm in pairs:
            _replace(copy, names[convolution], fuse_conv_bn_eval(convolution, norm))
            _replace(copy, names[norm], _after(norm))
        for activation in activations:
            activation.inplace = True
        return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    except Exception:  # a user's module may refuse whatever it likes, and is then read as it is
        return None


def _followers(
    network: nn.Module, batch: Tensor, run: Callable[[nn.Module, Tensor], Any]
) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """What may be joined: of convolutions, norms and activations, each that alone takes what the one before it gives.

    Gives pairs of convolutions and batch norms, each called once in a pass, and the activations, however often called.
    """
    calls: Counter[nn.Module] = Counter()
    given: dict[int, tuple[nn.Module, Tensor]] = {}  # by the identity of tensors, which are kept so that none returns
    found: list[tuple[nn.Module, nn.Module]] = []

    def watch(module: nn.Module, taken: Any, output: Any) -> None:
        calls[module] += 1
        if taken and id(taken[0]) in given:
            found.append((given[id(taken[0])][0], module))
        if not _is_activation(module):
            given[id(output)] = (module, output)

    parts = [m for m in network.modules() if isinstance(m, CONVOLUTIONS) or _is_norm(m) or _is_activation(m)]
    hooks = [part.register_forward_hook(watch) for part in parts if not _is_watched(part)]
    run(network, batch)
    for hook in hooks:
        hook.remove()
    followed = Counter(before for before, _ in found)
    alone = [(before, module) for before, module in found if followed[before] == calls[before]]
    pairs = [(a, b) for a, b in alone if isinstance(a, CONVOLUTIONS) and _is_norm(b) and calls[a] == calls[b] == 1]
    takes = Counter(module for _, module in alone if _is_activation(module))
    return pairs, [activation for activation, count in takes.items() if count == calls[activation]]


def _is_norm(module: Any) -> bool:
    if module.__class__.__name__ == "BatchNormAct2d" and module.__class__.__module__.startswith("timm."):
        return module.running_mean is not None
    return type(module) in NORMS and module.running_mean is not None


def _is_activation(module: nn.Module) -> bool:
    """One of PyTorch's that may write to the memory of what it takes."""
    return type(module).__module__ == nn.ReLU.__module__ and hasattr(module, "inplace")


def _is_watched(module: nn.Module) -> bool:
    """Whether something else takes part in its calls: hooks of a user's, weights that are made anew."""
    return bool(module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))


def _after(norm: Any) -> nn.Module:
    """What is left of a norm: the activation that timm's have."""
    return nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
