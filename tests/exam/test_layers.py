"""Every layer of an encoder is read as plain hooks would, and pooled as PyTorch pools.

Alone: pytest tests/exam/test_layers.py
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.exam.layers import Reader
from probekit.restore.load import load
from probekit.restore.opened import Opened

SIZE = 64


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


@contextmanager
def watched(modules: dict[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """The oracle: what plain hooks see, the last call of each module, copied at once."""
    seen: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda m, x, y, name=name: seen.__setitem__(name, y.clone()))
        for name, module in modules.items()
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def plainly(opened: Opened, images: NDArray[np.uint8], names: list[str], root: nn.Module) -> dict[str, Tensor]:
    x = torch.from_numpy(images)[:, None].float() / 255
    with watched({name: root.get_submodule(name) for name in names}) as seen, torch.no_grad():
        features = opened.encoder(x.repeat(1, opened.encoder.spec["channels"], 1, 1))
    return {**seen, "embedding": features.pooled, "map": features.map}


def close(found: NDArray[np.float32], expected: Tensor) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))


def check_maps(found: dict[tuple[str, str], NDArray[np.float32]], maps: dict[str, Tensor]) -> None:
    for (name, pool), value in found.items():
        if name in maps and pool in ("gap", "max", "grid4"):
            x = maps[name]
            grid = F.adaptive_avg_pool2d(x, min(4, x.shape[2])).flatten(1)  # of a smaller map its own cells
            how = {"gap": F.adaptive_avg_pool2d(x, 1).flatten(1), "max": x.amax((2, 3)), "grid4": grid}
            close(value, how[pool])


# What timm itself says of its stages is the oracle of names, widths and strides.
STAGES = ("test_resnet", "resnet18", "efficientnet_lite0", "convnext_atto", "mobilenetv3_small_050")


@pytest.mark.parametrize("name", STAGES)
def test_stages_of_timm_are_layers(name: str) -> None:
    opened = settled(load(f"timm:{name}", size=SIZE))
    reader = Reader(opened, size=SIZE)
    model = opened.encoder.backbone.model
    stages = {stage["module"]: (stage["num_chs"], stage["reduction"]) for stage in model.feature_info}
    found = {layer: (reader.layers[layer].form.dim, reader.stride(layer)) for layer in reader.layers}
    assert {layer: found[layer] for layer in stages} == stages
    assert list(found)[-1] == "embedding"
    assert reader.is_fused
    images = drawings(5)
    values = reader.read(images)
    assert list(values) == reader.names
    seen = plainly(opened, images, [layer for layer in reader.layers if layer not in ("map", "embedding")], model)
    check_maps(values, {layer: seen[layer] for layer in stages})
    close(values["embedding", "own"], seen["embedding"])
