"""One pass of a network, in which every layer that is read is pooled."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probekit.models.encoder import Encoder, Features
from probekit.models.extract import eval_mode
from probekit.models.layers.outputs import Form, first_tensor

MAP, EMBEDDING, PROJECTION = "map", "embedding", "projection"  # layers that are no module of the backbone

PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

Found = dict[tuple[str, str], Tensor]  # by (layer, pool)


@dataclass
class Layer:
    """What is read of a network.

    Attributes:
        path: Of the module in `Whole` that gives it; "" for `MAP`, `EMBEDDING` and `PROJECTION`.
        pools: In which ways it is pooled.
    """

    path: str
    form: Form
    pools: Sequence[str] = ()


class Whole(nn.Module):
    """An encoder, and the head behind it or None. `[B, C, H, W] -> (features, [B, P] or None)`."""

    def __init__(self, encoder: Encoder, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> tuple[Features, Tensor | None]:
        """Encodes and projects."""
        features = self.encoder(x)
        return features, None if self.head is None else self.head(features.pooled)


def run(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """What a `Whole` gives beside its modules, by name; eval mode, no gradient, no autocast."""
    with torch.no_grad(), torch.autocast(batch.device.type, enabled=False), eval_mode(network):
        features, projected = network(batch)
    found = {MAP: features.map, EMBEDDING: features.pooled}
    return found if projected is None else found | {PROJECTION: projected}


def read_pass(network: nn.Module, layers: Mapping[str, Layer], batch: Tensor) -> Found:
    """Every layer, pooled while the batch passes: no map outlives the layer that needs it."""
    found: Found = {}

    def take(name: str, taken: Any, output: Any) -> None:
        tensor, layer = first_tensor(output), layers[name]
        assert tensor is not None
        for pool in layer.pools:
            found[name, pool] = layer.form.pooled(tensor, pool)

    with hooked(network, {layer.path: partial(take, name) for name, layer in layers.items() if layer.path}):
        others = run(network, batch)
    for name, output in others.items():
        if name in layers:
            take(name, None, output)
    return {(name, pool): found[name, pool] for name, layer in layers.items() for pool in layer.pools}


@contextmanager
def hooked(network: nn.Module, calls: Mapping[str, Callable[[Any, Any], None]]) -> Iterator[None]:
    """Inside, what each module at a path took and gave is handed to its call; TorchScript takes no hooks."""

    def hook(call: Callable[[Any, Any], None], module: nn.Module, taken: Any, output: Any) -> None:
        call(taken, output)

    modules = [(network.get_submodule(path), call) for path, call in calls.items()]
    hooks = [
        module.register_forward_hook(partial(hook, call))
        for module, call in modules
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
