"""An encoder read at a layer or at its class token, against the formulas of DINO's and DINOv2's linear probes.

Alone: pytest tests/models/test_read.py
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probekit.models.backbones import import_timm
from probekit.models.layers.read import TOKENS, Together, layers_of
from probekit.registry import POOLS
from probekit.restore.load import load
from probekit.restore.opened import Opened
from probekit.weights import Weights
from tests.exams.reads import Own, of_module, watched

SIZE = 48
PATCHES = (SIZE // 16) ** 2
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


class LikeDINOv2(nn.Module):
    """What DINOv2 calls its tokens: a class token, registers, then patches; blocks, and a norm over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 16, 16, 16)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        self.register_tokens = nn.Parameter(torch.randn(1, 4, 16))
        block = import_timm().models.vision_transformer.Block
        self.blocks = nn.ModuleList([block(16, 2) for _ in range(5)])
        self.norm = nn.LayerNorm(16)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        own = torch.cat([self.cls_token, self.register_tokens], dim=1).expand(len(x), -1, -1)
        tokens = torch.cat([own, patches], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.norm(tokens)[:, 0]
        return found


def scaled(opened: Opened) -> Opened:
    """With a final norm that is not the identity."""
    for name, tensor in opened.encoder.state_dict().items():
        if ".norm." in name:
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
    return opened


NETWORKS: dict[str, tuple[Callable[[], Opened], str, int]] = {  # how it is made, its root, and tokens before patches
    "timm": (lambda: scaled(load("timm:test_vit", size=SIZE)), "model", 1),
    "registers": (lambda: scaled(of_module(Own("test_vit", img_size=SIZE, reg_tokens=3), SIZE, 3)), "module.net", 4),
    "DINOv2": (lambda: of_module(LikeDINOv2(), SIZE, 3), "module", 5),
}


def images(height: int = SIZE, width: int = SIZE) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(3))


def at(opened: Opened, layer: str | None, pool: str | None) -> Opened:
    return Opened(opened.name, opened.encoder, opened.header, opened.device, weights=Weights("last", pool, layer))


def normed_blocks(opened: Opened, root: str, x: Tensor) -> list[Tensor]:
    """Every block's tokens after the final norm: what `get_intermediate_layers` gives in both projects."""
    model: Any = opened.encoder.backbone.get_submodule(root)
    with watched({str(i): block for i, block in enumerate(model.blocks)}) as seen, torch.no_grad():
        opened.encoder(x)
        return [model.norm(seen[str(i)]) for i in range(len(model.blocks))]


@pytest.mark.parametrize("name", NETWORKS)
def test_class_tokens_are_those_of_the_published_linear_probes(name: str) -> None:
    make, root, prefix = NETWORKS[name]
    opened, x = make(), images()
    tokens = normed_blocks(opened, root, x)
    assert tokens[0].shape[1] == prefix + PATCHES
    last = [found[:, 0] for found in tokens[-4:]]
    mean = torch.stack([tokens[-1][:, prefix + t] for t in range(PATCHES)]).mean(0)
    expected = {
        "cls": last[-1],
        "cls+gap": torch.cat([last[-1], mean], dim=1),  # DINO's ViT-B; DINOv2's with n = 1
        "last4": torch.cat(last, dim=1),  # DINO's ViT-S, the earliest block first
        "last4+gap": torch.cat([*last, mean], dim=1),  # DINOv2's with n = 4
    }
    assert expected.keys() == TOKENS.keys()
    for pool, values in expected.items():
        read = at(opened, None, pool)
        with torch.no_grad():
            found = read.encoder(x)
        torch.testing.assert_close(found.pooled, values, **CLOSE)
        assert found.pooled.dtype == torch.float32
        assert read.encoder.dim == values.shape[1]
        assert not read.encoder.has_map
        patches = tokens[-1][:, prefix:].transpose(1, 2).reshape(2, -1, 3, 3)
        torch.testing.assert_close(found.map, patches, **CLOSE)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_by_number_is_a_block_after_the_final_norm(name: str) -> None:
    make, root, prefix = NETWORKS[name]
    opened, x = make(), images()
    tokens = normed_blocks(opened, root, x)
    for number in (1, 3, len(tokens)):
        for pool in (None, "gap", "max", "cls", "cls+gap"):
            read = at(opened, str(number), pool)
            block = tokens[number - 1]
            assert read.weights.layer is not None
            assert read.weights.layer.endswith(f"blocks.{number - 1}")
            assert read.weights.pool == (pool or "gap")
            patches = block[:, prefix:]
            parts = {"gap": [patches.mean(1)], "max": [patches.amax(1)], "cls": [block[:, 0]]}
            parts["cls+gap"] = parts["cls"] + parts["gap"]
            with torch.no_grad():
                found = read.encoder(x)
            torch.testing.assert_close(found.pooled, torch.cat(parts[pool or "gap"], dim=1), **CLOSE)
    assert at(opened, "1", None).encoder.stride == 16


def test_the_last_block_averaged_is_what_the_encoder_of_timm_gives_without_a_layer() -> None:
    opened = scaled(load("timm:test_vit", size=SIZE))
    with torch.no_grad():
        torch.testing.assert_close(at(opened, "6", "gap").encoder(images()).pooled, opened.encoder(images()).pooled)


def test_other_layers_are_read_as_they_are_and_images_need_not_be_square() -> None:
    for name, layer, path in (("timm:test_vit", "patch_embed", "patch_embed"), ("timm:test_resnet", "2", "layer1")):
        opened, x = load(name, size=SIZE), images(32, 64)
        model: Any = opened.encoder.backbone.get_submodule("model")
        with watched({"it": model.get_submodule(path)}) as seen, torch.no_grad():
            opened.encoder(x)
            found = at(opened, layer, "max").encoder(x)
        expected = (
            seen["it"] if path == "layer1" else seen["it"].permute(0, 3, 1, 2)
        )  # timm has patches in a grid there
        torch.testing.assert_close(found.map, expected)
        torch.testing.assert_close(found.pooled, expected.amax((2, 3)))


def test_a_view_leaves_the_encoder_as_it_was() -> None:
    opened, x = load("unet", size=32, channels=1), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        before = opened.encoder(x).pooled
        read = at(opened, "level2", "max")
        assert read.encoder(x).pooled.shape[1] != before.shape[1]
        torch.testing.assert_close(opened.encoder(x).pooled, before, rtol=0, atol=0)
    assert read.weights.layer == "level2"
    assert opened.weights.layer is None


def test_several_layers_in_one_pass_are_each_of_them() -> None:
    for name in ("timm:test_vit", "timm:test_resnet"):
        opened, x = load(name, size=SIZE), images()
        views = [opened.at(layer) for layer in opened.layers.known if layer != "embedding"]
        passes: list[int] = []
        hook = opened.encoder.backbone.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        with torch.no_grad():
            joined = Together([view.encoder for view in views])(x)
            assert passes == [1]
            torch.testing.assert_close(joined, torch.cat([view.encoder(x).pooled for view in views], dim=1))
        hook.remove()


@pytest.mark.parametrize(
    ("name", "layer", "pool", "message"),
    [
        (
            "unet",
            None,
            "cls",
            "expected a class token for --pool cls, found none in level1, level2, level3, level4; type",
        ),
        ("timm:test_resnet", None, "last4", "found none in act1, layer1, layer2, layer3, layer4; type: --pool gap"),
        ("timm:test_vit", "patch_embed", "cls", "class token for --pool cls, found patch_embed; type: --layer norm"),
        ("timm:test_vit", "7", None, "expected --layer 1 to 6, found 7: these blocks are blocks.0 to blocks.5"),
        ("unet", "0", None, "expected --layer 1 to 4, found 0: these layers are level1 to level4"),
        ("timm:test_vit", "blocks.9", None, "unknown layer 'blocks.9'; known: .* did you mean 'blocks.5'"),
        ("timm:test_vit", "embedding", "gap", "expected a map or tokens of layer embedding to pool, found a vector"),
        ("timm:test_vit", "3", "last4", "expected --pool gap, max, norm, cls, cls.gap with --layer 3, found last4"),
        ("timm:test_vit", "3", "branch", "with --layer 3, found branch"),
        ("timm:test_vit", "a@b", None, "expected the name or number of a layer, without an @, found 'a@b'"),
        ("unet", None, "attentive", "a probe of its own; type: probekit probe RUN --attentive shared"),
    ],
)
def test_what_cannot_be_read_is_one_line(name: str, layer: str | None, pool: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(name, size=32, layer=layer, pool=pool)
    assert "\n" not in str(caught.value)


def test_three_blocks_have_no_last_four() -> None:
    with pytest.raises(
        ValueError, match="expected 4 blocks with a class token for --pool last4, found 3; type: --pool"
    ):
        at(of_module(Own("test_vit", img_size=SIZE, depth=3), SIZE, 3), None, "last4")


def test_random_weights_are_read_at_the_same_layer() -> None:
    read = load("timm:test_vit", size=32, layer="2", pool="cls")
    random = read.beside(0, (32, 32))
    assert random is not None
    assert random.weights == read.weights
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert random.encoder(x).pooled.shape == read.encoder(x).pooled.shape
        assert not np.allclose(random.encoder(x).pooled, read.encoder(x).pooled)


def test_gradients_reach_images_through_a_layer() -> None:
    for pool in ("gap", "cls"):
        x = torch.rand(1, 3, 32, 32, requires_grad=True)
        load("timm:test_vit", size=32, layer="2", pool=pool).encoder(x).pooled[0, 0].backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_layers_are_told_once_and_pools_of_tokens_are_in_the_registry() -> None:
    opened = load("timm:test_vit", size=32)
    assert opened.layers is opened.layers
    assert layers_of(opened.encoder, (32, 32)).blocks == opened.layers.blocks == tuple(f"blocks.{i}" for i in range(6))
    assert all(POOLS[pool].of_tokens for pool in TOKENS)
