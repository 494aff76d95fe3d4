"""Networks that do what networks do beside a plain sequence are read as they are, or not at all.

Alone: pytest tests/exams/test_odd_layers.py
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.exams.layers import Reader
from probekit.models import Features
from tests.exams.reads import SIZE, check_pools, close, drawings, of_module, plainly


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
        self.parts = nn.Sequential(nn.Conv2d(6, 8, 1), nn.Conv2d(8, 5, 1))
        self.idle = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        x = self.same(self.twice(self.pool(x)))
        x = self.table(self.pair(x)[1][0])["map"]
        x = self.fork(x)
        for part in self.parts:  # a sequence that is not called itself
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


def test_an_activation_that_is_shared_stands_for_none() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.act(self.second(self.act(self.first(x))))
            return found

    opened = of_module(Shared())
    reader, images = Reader(opened, size=SIZE), drawings(3)
    assert [*reader.layers] == ["first", "second", "map", "embedding"]
    values = reader.read(images)
    seen = plainly(opened, images, ["first", "second"], opened.encoder.backbone.module)
    for name in ("first", "second", "map"):
        check_pools(values, name, seen[name])


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
    assert reader.stride("layers.2") == 1  # 30 cells of 32 px
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


@pytest.mark.filterwarnings("ignore")
def test_of_torchscript_the_map_and_the_embedding_are_read() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 3, 3)
            rest = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.rest = torch.jit.trace(rest, torch.rand(1, 3, 30, 30))  # type: ignore[no-untyped-call]

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.rest(self.first(x))
            return found

    reader = Reader(of_module(Half()), size=SIZE)
    assert [*reader.layers] == ["first", "map", "embedding"]
    assert reader.left_out == ["what is TorchScript: its layers cannot be watched"]
    assert not reader.is_fused
    assert reader.read(drawings(2))["map", "gap"].shape == (2, 4)


def test_a_network_that_takes_channels_first_alone_is_read_so() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(1, 3, 9, 8)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.map(x)
            return found.view(len(x), -1)

    opened = of_module(Viewing())
    reader, images = Reader(opened, size=SIZE), drawings(3)
    assert not reader.is_fused
    assert [*reader.layers] == ["module.map", "embedding"]  # "map" is what the encoder pools
    seen = opened.encoder.backbone.module.map(torch.from_numpy(images)[:, None] / 255).detach()
    values = reader.read(images)
    check_pools(values, "module.map", seen)
    close(values["embedding", "own"], seen.flatten(1))


@pytest.mark.parametrize(("factor", "found"), [(1e30, "1e[+]30"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_features_that_no_read_out_takes_are_one_line(factor: float, found: str) -> None:
    """Not on the images that the encoder was tried with."""

    class Bursts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x.mean((1, 2, 3), keepdim=True) > 0.9, torch.full_like(x, factor), x)

    reader = Reader(of_module(Bursts()), size=SIZE)
    images = drawings(4)
    images[-1] = 255
    with pytest.raises(ValueError, match=rf"^expected features between .* from .*, found {found} in .*, "):
        reader.read(images)
