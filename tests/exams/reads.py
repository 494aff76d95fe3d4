"""What tests of the exam's reader share: networks, drawings, and what plain hooks see, the oracle."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.models.backbones import import_timm
from probekit.restore.load import load
from probekit.restore.opened import Opened

SIZE = 32
Read = Mapping[tuple[str, str], NDArray[np.float32]]


def drawings(n: int, size: int = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, size, size), dtype=np.uint8)


def settled(opened: Opened) -> Opened:
    """With batch norms that have seen something, so that they are not the identity."""
    generator = torch.Generator().manual_seed(2)
    for name, tensor in opened.encoder.state_dict().items():
        if name.endswith("running_mean"):
            tensor += 0.2 * torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor *= torch.rand(tensor.shape, generator=generator) + 0.5
    return opened


def of_module(module: nn.Module, size: int = SIZE, channels: int = 1) -> Opened:
    return settled(load(module, size=size, channels=channels))


@contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """The oracle: what plain hooks see, the last call of each module, copied at once."""
    seen: dict[str, Any] = {}

    def keep(name: str, output: Any) -> None:
        seen[name] = output.clone()

    hooks = [module.register_forward_hook(lambda m, x, y, name=name: keep(name, y)) for name, module in modules.items()]
    yield seen
    for hook in hooks:
        hook.remove()


def plainly(opened: Opened, images: NDArray[np.uint8], names: Sequence[str], root: nn.Module) -> dict[str, Tensor]:
    x = torch.from_numpy(images)[:, None].float() / 255
    with watched({name: root.get_submodule(name) for name in names}) as seen, torch.no_grad():
        features = opened.encoder(x.repeat(1, opened.encoder.spec["channels"], 1, 1))
    return {**seen, "embedding": features.pooled, "map": features.map}


def close(found: NDArray[np.float32], expected: Tensor) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))


def check_pools(found: Read, name: str, x: Tensor, pools: Sequence[str] = ("gap", "max", "grid4")) -> None:
    """A layer's pools of a map `[B, D, h, w]`."""
    assert [pool for layer, pool in found if layer == name and pool != "cls"] == list(pools)
    grid = F.adaptive_avg_pool2d(x, min(4, x.shape[2])).flatten(1)  # of a smaller map its own cells
    how = {"gap": F.adaptive_avg_pool2d(x, 1).flatten(1), "max": x.amax((2, 3)), "grid4": grid}
    for pool in pools:
        close(found[name, pool], how[pool])


class Own(nn.Module):
    """A model of timm's, smaller, in a module of a user's."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__()
        self.net = import_timm().create_model(name, num_classes=0, **settings)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found
