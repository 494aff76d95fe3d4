"""Of a network's fused copy, activations take no memory of their own where nothing else needs what they took.

Alone: pytest tests/exams/test_fused.py
"""

from typing import Any

from torch import Tensor, nn

from probekit.exams.layers import Reader
from probekit.restore.opened import Opened
from tests.exams.reads import SIZE, check_pools, drawings, of_module, plainly


class Chain(nn.Module):
    """Convolutions, norms and activations, none of which is in place, in the ways that they follow each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.both = nn.ReLU6()  # called twice, as the blocks of EfficientNet do
        self.fork, self.left, self.right = nn.Conv2d(6, 5, 1), nn.SiLU(), nn.Conv2d(5, 5, 1)
        self.sum = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.both(self.norm(self.stem(x)))
        x = self.both(self.second(x))
        x = self.fork(x)
        y: Tensor = self.left(x)
        x = y + self.right(x)
        found: Tensor = self.sum(x)
        return found + x


def _in_place(network: nn.Module, name: str, inside: str = "encoder.backbone.module") -> bool:
    activation: Any = network.get_submodule(f"{inside}.{name}")
    return bool(activation.inplace)


def _same(opened: Opened, reader: Reader, names: list[str]) -> None:
    images = drawings(4)
    values = reader.read(images)
    modules = [name for name in names if name != "map"]
    seen = plainly(opened, images, modules, opened.encoder.backbone.module)
    for name in names:
        check_pools(values, name, seen[name])


def test_activations_are_in_place_where_they_alone_take_what_a_convolution_gives() -> None:
    opened = of_module(Chain())
    reader = Reader(opened, size=SIZE)
    assert reader.is_fused
    assert _in_place(reader.network, "both")
    assert not _in_place(reader.network, "left")  # what it takes, a convolution takes, too
    assert not _in_place(reader.network, "sum")  # of what no convolution gives
    assert not _in_place(opened.encoder, "both", "backbone.module")
    _same(opened, reader, ["norm", "second", "left", "right", "map"])


def test_an_activation_is_not_in_place_where_a_function_takes_the_same() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.act, self.last = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            found: Tensor = self.last(x - self.act(x))
            return found

    opened = of_module(Skips())
    reader = Reader(opened, size=SIZE)
    assert not reader.is_fused
    assert not _in_place(reader.network, "act")
    _same(opened, reader, ["act", "last"])
