"""A faster copy of a frozen network: each batch norm in the convolution before it, channels last."""

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
    """A copy in which batch norms are part of convolutions; None where no copy can be made.

    Which norm follows which convolution is seen in a pass. That nothing else does is for the caller to see, by what
    the copy gives. `network`: in eval mode, is not changed; `batch`: images, which `run` passes through a network.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in network.modules()):
        return None
    try:
        copy = deepcopy(network)
        names = {module: name for name, module in copy.named_modules(remove_duplicate=False)}
        for convolution, norm in _pairs(copy, batch, run):
            _replace(copy, names[convolution], fuse_conv_bn_eval(convolution, norm))
            _replace(copy, names[norm], _after(norm))
        return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    except Exception:  # a user's module may refuse whatever it likes, and is then read as it is
        return None


def _pairs(network: nn.Module, batch: Tensor, run: Callable[[nn.Module, Tensor], Any]) -> list[tuple[Any, Any]]:
    """Convolutions and the batch norms that take what they give, each called once in a pass."""
    calls: Counter[nn.Module] = Counter()
    given: dict[int, tuple[nn.Module, Tensor]] = {}  # by the identity of tensors, which are kept so that none returns
    pairs: list[tuple[Any, Any]] = []

    def watch(module: nn.Module, taken: Any, output: Any) -> None:
        calls[module] += 1
        if isinstance(module, CONVOLUTIONS):
            given[id(output)] = (module, output)
        elif taken and id(taken[0]) in given:
            pairs.append((given[id(taken[0])][0], module))

    parts = [m for m in network.modules() if isinstance(m, CONVOLUTIONS) or _is_norm(m)]
    hooks = [part.register_forward_hook(watch) for part in parts if not _is_watched(part)]
    run(network, batch)
    for hook in hooks:
        hook.remove()
    followed = Counter(convolution for convolution, _ in pairs)
    return [pair for pair in pairs if followed[pair[0]] == calls[pair[0]] == calls[pair[1]] == 1]


def _is_norm(module: Any) -> bool:
    if module.__class__.__name__ == "BatchNormAct2d" and module.__class__.__module__.startswith("timm."):
        return module.running_mean is not None
    return type(module) in NORMS and module.running_mean is not None


def _is_watched(module: nn.Module) -> bool:
    """Whether something else takes part in its calls: hooks of a user's, weights that are made anew."""
    return bool(module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))


def _after(norm: Any) -> nn.Module:
    """What is left of a norm: the activation that timm's have."""
    return nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
