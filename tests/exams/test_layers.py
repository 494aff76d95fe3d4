"""Every layer of an encoder is read as plain hooks would, and pooled as PyTorch pools.

Alone: pytest tests/exams/test_layers.py
"""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.exams import layers as reading
from probekit.exams.layers import Reader
from probekit.models.unet import UNetEncoder
from probekit.restore.load import load
from tests.datasets import small_shapes
from tests.exams.reads import SIZE, Own, check_pools, close, drawings, of_module, plainly, settled
from tests.typed import typed

# What timm itself says of its stages is the oracle of names, widths and strides. The last gives channels last.
STAGES = ("test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_050", "test_mambaout")


@pytest.mark.parametrize("name", STAGES)
def test_stages_of_timm_are_layers(name: str) -> None:
    opened = settled(load(f"timm:{name}", size=2 * SIZE))
    reader = Reader(opened, size=2 * SIZE)
    model = opened.encoder.backbone.model
    stages = {stage["module"]: (stage["num_chs"], stage["reduction"]) for stage in model.feature_info}
    found = {layer: (reader.layers[layer].form.dim, reader.stride(layer)) for layer in reader.layers}
    assert {layer: found[layer] for layer in stages} == stages
    assert list(found)[-1] == "embedding"
    assert found["embedding"] == (opened.encoder.dim, None)
    assert reader.is_fused
    images = drawings(5, 2 * SIZE)
    values = reader.read(images)
    assert list(values) == reader.names
    seen = plainly(opened, images, list(stages), model)
    for layer in stages:
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        x = seen[layer].permute(0, 3, 1, 2) if last else seen[layer]
        pools = [pool for other, pool in values if other == layer]
        assert "gap" in pools
        check_pools(values, layer, x, pools)
    close(values["embedding", "own"], seen["embedding"])


def test_layers_of_a_densenet_are_blocks_and_what_is_between() -> None:
    """Its one child holds all, and what follows the last block is not left out."""
    small = Own("densenet121", growth_rate=4, block_config=(2, 2, 2, 2))
    reader = Reader(of_module(small, channels=3), size=SIZE)
    between = (f"{part}{n}" for n in (1, 2, 3) for part in ("denseblock", "transition"))
    parts = ("norm0", *between, "denseblock4", "norm5")
    assert list(reader.layers) == [*(f"net.features.{part}" for part in parts), "embedding"]
    assert [reader.stride(f"net.features.{part}") for part in parts] == [2, 4, 8, 8, 16, 16, 32, 32, 32]
    assert reader.is_fused
    assert [pool for layer, pool in reader.names if layer == "net.features.norm5"] == ["gap"]  # one cell has one value
    assert reader.left_out == []


REGISTER: dict[str, Any] = {"reg_tokens": 1, "class_token": False, "global_pool": "avg"}
TRANSFORMERS: tuple[
    tuple[str, dict[str, Any], int, bool], ...
] = (  # tokens before those of patches, and whether the class has one
    ("test_vit", {}, 1, True),
    ("test_vit", REGISTER, 1, False),
    ("deit_tiny_distilled_patch16_224", {"depth": 2, "embed_dim": 24}, 2, True),
)


@pytest.mark.parametrize(("name", "settings", "prefix", "has_class"), TRANSFORMERS)
def test_blocks_of_a_transformer_are_layers_with_class_and_patch_tokens(
    name: str, settings: dict[str, Any], prefix: int, has_class: bool
) -> None:
    opened = of_module(Own(name, img_size=48, **settings), size=48, channels=3)
    reader = Reader(opened, size=48)
    model = opened.encoder.backbone.module
    blocks = [f"net.blocks.{n}" for n in range(len(model.net.blocks))]
    assert set(blocks) < set(reader.layers)
    images = drawings(3, 48)
    values = reader.read(images)
    seen = plainly(opened, images, blocks, model)
    for block in blocks:
        assert reader.stride(block) == 16
        assert ((block, "cls") in values) == has_class
        if has_class:
            close(values[block, "cls"], seen[block][:, 0])
        patches = seen[block][:, prefix:]
        check_pools(values, block, patches.reshape(3, 3, 3, -1).permute(0, 3, 1, 2))
    close(values["embedding", "own"], seen["embedding"])


def test_a_transformer_of_timm_is_read_in_every_block() -> None:
    reader = Reader(load("timm:test_vit", size=32), size=32)
    tokens = ("gap", "max", "grid4", "cls")
    expected = {"patch_embed": tokens[:3], **{f"blocks.{n}": tokens for n in range(6)}, "norm": tokens}
    pools = {name: tuple(pool for other, pool in reader.names if other == name) for name in reader.layers}
    assert pools == expected | {"embedding": ("own",)}


def test_a_network_with_channels_last_is_told_by_the_side_of_its_maps() -> None:
    small: dict[str, Any] = {"embed_dim": 8, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4}
    module = Own("swin_tiny_patch4_window7_224", strict_img_size=False, img_size=64, **small)
    opened = of_module(module, size=64, channels=3)
    reader = Reader(opened, size=64)
    images = drawings(3, 64)
    names = ["net.layers.0", "net.layers.1"]
    seen = plainly(opened, images, names, opened.encoder.backbone.module)
    assert [reader.stride(name) for name in names] == [4, 8]
    for name, width in zip(names, (8, 16), strict=True):
        assert seen[name].shape[3] == width
        assert reader.layers[name].form.dim == width


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    small_shapes(folder / "d.h5", n=16, n_test=4, size=16)
    words = ("--data", "d.h5", "--epochs", "1", "--batch-size", "8", "--set", "model.width=4", "--name", "run")
    assert typed("pretrain", "simclr", *words, cwd=folder).returncode == 0
    return folder / "runs/run"


def test_a_run_has_its_levels_and_its_projection(run: Path) -> None:
    images = drawings(4)
    for opened in (load(run), load(run).random(3)):
        reader = Reader(opened, size=SIZE)
        levels = {f"level{n}": 2 ** (n - 1) for n in range(1, 5)}
        assert {name: reader.stride(name) for name in levels} == levels
        assert [*reader.layers] == [*levels, "embedding", "projection"]
        assert reader.is_fused
        values = reader.read(images)
        backbone = opened.encoder.backbone
        assert isinstance(backbone, UNetEncoder)
        seen = plainly(opened, images, [f"levels.{n}" for n in range(4)], backbone)
        for n, level in enumerate(levels):
            check_pools(values, level, seen[f"levels.{n}"])
        close(values["embedding", "own"], seen["embedding"])
        assert opened.method is not None
        assert opened.method.projection is not None
        close(values["projection", "own"], opened.method.projection(seen["embedding"]).detach())


def test_an_encoder_of_vectors_has_its_embedding_alone() -> None:
    class Blocks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(x, 2).flatten(1)

    reader = Reader(of_module(Blocks(), size=256), size=256)
    assert reader.names == [("embedding", "own")]
    images = drawings(2, 256)
    means = images.reshape(2, 128, 2, 128, 2).mean((2, 4), dtype=np.float64).reshape(2, -1) / 255
    np.testing.assert_allclose(reader.read(images)["embedding", "own"], means, atol=1e-6)


def test_no_map_outlives_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else 800 drawings of 128 px would need gigabytes."""
    alive: list[int] = []
    maps: list[weakref.ref[Tensor]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)])

        def forward(self, x: Tensor) -> Tensor:
            for part in self.parts:
                x = part(x)
                maps.append(weakref.ref(x))
                alive.append(sum(found() is not None for found in maps))
            return x

    reader = Reader(of_module(Watched()), size=SIZE)
    monkeypatch.setattr(reading, "BATCH_SIZE", 2)
    alive.clear()
    maps.clear()
    values = reader.read(drawings(9))
    assert len(maps) == 3 * 5
    assert max(alive) <= 2  # a layer's own and the one before
    assert all(len(value) == 9 for value in values.values())
    together = Reader(of_module(Watched()), layers="last", size=SIZE)
    assert together.names == [("parts.2", "gap"), ("parts.2", "max"), ("parts.2", "grid4"), ("embedding", "own")]


def test_drawings_are_read_each_by_itself_in_any_batch(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, images = Reader(load(run), size=SIZE), drawings(5)
    whole = reader.read(images)
    monkeypatch.setattr(reading, "BATCH_SIZE", 2)
    for name, value in reader.read(images[::-1]).items():
        np.testing.assert_allclose(value[::-1], whole[name], atol=1e-5 * np.abs(whole[name]).max())
    assert {name: value.shape[0] for name, value in reader.read(images[:0]).items()} == dict.fromkeys(whole, 0)


def test_layers_and_pools_are_chosen_by_name(run: Path) -> None:
    opened = load(run)
    assert Reader(opened, layers="last", size=SIZE).names == [
        ("level4", "gap"), ("level4", "max"), ("level4", "grid4"), ("embedding", "own"), ("projection", "own"),
    ]  # fmt: skip
    reader = Reader(opened, layers=["embedding", "level2"], pools=["own", "max"], size=SIZE)
    assert reader.names == [("level2", "max"), ("embedding", "own")]
    assert list(reader.read(drawings(2))) == reader.names
    with pytest.raises(ValueError, match=r"unknown layer of run 'level9'; known: .*did you mean 'level"):
        Reader(opened, layers=["level9"], size=SIZE)
    with pytest.raises(ValueError, match="unknown pool 'mean'; known: cls, gap, grid4, max, own"):
        Reader(opened, pools=["mean"], size=SIZE)
    with pytest.raises(ValueError, match="expected layers and pools of run that go together, found level1 by cls"):
        Reader(opened, layers="level1", pools=["cls"], size=SIZE)
    with pytest.raises(ValueError, match="expected an encoder that takes drawings of 4x4, found that run fails"):
        Reader(opened, size=4)


def test_a_grid_of_many_numbers_is_left_out_and_sides_fit_patches() -> None:
    wide = nn.Sequential(nn.Conv2d(1, 384, 3), nn.Conv2d(384, 400, 1))
    reader = Reader(of_module(wide), layers=["0", "1"], pools=["grid4"], size=SIZE)
    assert reader.names == [("0", "grid4")]
    assert reader.left_out == ["1, grid4: 6400 numbers, above 6144"]
    with pytest.raises(ValueError, match="divisible by 16, the patches of timm:test_vit, found 40 px; type: --size 32"):
        Reader(load("timm:test_vit", size=32), size=40)
