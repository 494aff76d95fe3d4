"""Every layer of an encoder is read as plain hooks would, and pooled as PyTorch pools.

Alone: pytest tests/exam/test_layers.py
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.exam import layers as reading
from probekit.exam.layers import Reader
from probekit.models import Features
from probekit.models.backbones import import_timm
from probekit.models.unet import UNetEncoder
from probekit.restore.load import load
from probekit.restore.opened import Opened
from tests.commands.typed import typed
from tests.datasets import small_shapes

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


class Own(nn.Module):
    """A model of timm's, smaller, in a module of a user's."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__()
        self.net = import_timm().create_model(name, num_classes=0, **settings)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found


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


class Odd(nn.Module):
    """What networks do beside a plain sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.same = self.twice
        self.pair = Pair(6)
        self.table = Table(6)
        self.fork = Fork(6)
        self.parts = nn.ModuleList([nn.Conv2d(6, 8, 1), nn.Conv2d(8, 5, 1)])
        self.idle = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        x = self.same(self.twice(self.pool(x)))
        x = self.table(self.pair(x)[1][0])["map"]
        x = self.fork(x)
        for part in self.parts:
            x = part(x)
        return F.relu_(x)  # in place, behind the last module


class Pair(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> tuple[None, list[Tensor]]:
        return None, [self.norm(x)]


class Table(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"map": self.layer(x), "other": x}


class Fork(nn.Module):
    """A convolution whose output is used beside its batch norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(dim, dim, 1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        found: Tensor = x + self.norm(x)
        return found


def test_an_odd_network_is_read_as_it_is() -> None:
    """Activations stand for what they follow, a module that is called twice gives its last call, and unlike what the
    fused copy would give, all is right where a convolution has two followers."""
    opened = of_module(Odd())
    before = {name: tensor.clone() for name, tensor in opened.encoder.state_dict().items()}
    reader = Reader(opened, size=SIZE)
    assert not reader.is_fused
    names = ["act", "twice", "pair", "table", "fork", "parts.0", "parts.1"]
    assert [*reader.layers] == [*names, "map", "embedding"]
    assert reader.stride("act") == 1
    assert reader.stride("twice") == 2
    assert reader.left_out == []
    images = drawings(4)
    values = reader.read(images)
    module = opened.encoder.backbone.module
    inner = {"pair": "pair.norm", "table": "table.layer"}
    seen = plainly(opened, images, [inner.get(name, name) for name in names], module)
    for name in names:
        check_pools(values, name, seen[inner.get(name, name)])
    check_pools(values, "map", seen["map"])
    assert values["parts.1", "max"].min() < 0 <= values["map", "max"].min()
    assert all(torch.equal(tensor, before[name]) for name, tensor in opened.encoder.state_dict().items())
    assert not any(part._forward_hooks for part in opened.encoder.modules())


def test_what_cannot_be_copied_is_read_itself_in_float32_and_left_as_it_was() -> None:
    class Fast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.copies = 1

        def __deepcopy__(self, memo: object) -> "Fast":
            self.copies -= 1
            if self.copies < 0:
                raise RuntimeError("not again")
            return self  # `load` has the first

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layers(x)
            return found

    opened = of_module(Fast())
    reader = Reader(opened, size=SIZE)
    assert not reader.is_fused
    assert reader.stride("layers.2") == 2  # 30 cells of 32 px
    images = drawings(3)
    with torch.autocast("cpu", torch.bfloat16):
        values = reader.read(images)
    check_pools(values, "layers.2", plainly(opened, images, ["layers.2"], opened.encoder.backbone.module)["layers.2"])
    assert not any(part._forward_hooks for part in opened.encoder.modules())


def test_maps_of_as_many_channels_as_rows_are_told_by_a_wider_image() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1) * self.scale

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(SIZE))

    class Both(nn.Module):
        def __init__(self, fixed: bool) -> None:
            super().__init__()
            self.first, self.last, self.fixed = nn.Conv2d(1, SIZE, 3, padding=1), Last(), fixed

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2] == x.shape[3] or not self.fixed
            found: Tensor = self.last(self.first(x))
            return found.permute(0, 3, 1, 2)

    opened = of_module(Both(fixed=False))
    reader = Reader(opened, size=SIZE)
    images = drawings(3)
    seen = plainly(opened, images, ["first", "last"], opened.encoder.backbone.module)
    values = reader.read(images)
    check_pools(values, "first", seen["first"])
    check_pools(values, "last", seen["last"].permute(0, 3, 1, 2))
    reader = Reader(of_module(Both(fixed=True)), size=SIZE)
    assert [*reader.layers] == ["map", "embedding"]
    assert [line.split(":")[0] for line in reader.left_out] == ["first", "last"]
    assert "nothing tells which are which" in reader.left_out[0]


class Tokens(nn.Module):
    """A transformer of another library's: tokens `[B, T, D]`, and nothing that says what they are."""

    def __init__(self, prefix: int, *, norm: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 10, 8, 8)
        self.first = nn.Parameter(torch.randn(1, prefix, 10))
        part = [nn.LayerNorm(10)] if norm else []
        self.blocks = nn.ModuleList([nn.Sequential(*part, nn.Linear(10, 10)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = x + block(x)
        return x.mean(1)


@pytest.mark.parametrize(
    ("prefix", "norm", "read"), [(0, True, True), (1, True, True), (2, True, False), (1, False, False)]
)
def test_tokens_are_read_where_it_is_plain_what_they_are(prefix: int, norm: bool, read: bool) -> None:
    opened = of_module(Tokens(prefix, norm=norm))
    reader = Reader(opened, size=SIZE)
    found = [name for name in reader.layers if name.startswith("blocks")]
    assert found == (["blocks.0", "blocks.1"] if read else [])
    assert [line.split(":")[0] for line in reader.left_out] == ([] if read else ["blocks.0", "blocks.1"])
    if read:
        images = drawings(3)
        values = reader.read(images)
        seen = plainly(opened, images, found, opened.encoder.backbone.module)
        patches = seen["blocks.1"][:, prefix:]
        check_pools(values, "blocks.1", patches.reshape(3, 4, 4, 10).permute(0, 3, 1, 2))
        assert (("blocks.1", "cls") in values) == (prefix > 0)


def test_what_has_no_form_is_left_out_with_a_line() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halves, self.rows = nn.Conv2d(1, 4, 3), nn.Conv1d(1, 4, 3)

        def forward(self, x: Tensor) -> Features:
            parts = self.halves(torch.cat([x[..., :16], x[..., 16:]]))
            rows = self.rows(x.mean(2))
            feature_map = parts[: len(x)] + rows.mean(2)[:, :, None, None]
            return Features([], feature_map, feature_map.amax((2, 3)), None)

    reader = Reader(of_module(Windows()), size=SIZE)
    assert [*reader.layers] == ["map", "embedding"]
    assert reader.left_out[0].startswith("halves: gives [6, 4, 30, 14] of 3 images")
    assert reader.left_out[1].startswith("rows: gives [4, 30] an image, and no norm")


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
