"""What a layer of any network gives, as features that are pooled: maps of either order, tokens, vectors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.models.encoder import Features

GRID = 4  # cells a side of grid4, or as many as a smaller map has
LONGEST = 6144  # numbers of grid4: read-outs of longer ones cost more than they tell (ours)

ONE_CLASS = {0: False, 1: True}  # of other libraries' transformers: the class's alone comes first, or none


@dataclass(frozen=True)
class Form:
    """How a layer's output is read.

    Attributes:
        kind: "NCHW", "NHWC", "tokens" `[B, prefix + h * w, D]`, or "vector" `[B, D]`.
        dim: D.
        cells: (h, w); None of a vector.
        prefix: Tokens of the class and of registers, which come first.
        has_class: Whether the very first is that of the class.
    """

    kind: str
    dim: int
    cells: tuple[int, int] | None = None
    prefix: int = 0
    has_class: bool = False

    @property
    def pools(self) -> list[str]:
        """The pools that it has: of a map of one cell all averages are the same, and gap stands."""
        if self.cells is None:
            return ["own"]
        return [*(("gap", "max", "grid4") if math.prod(self.cells) > 1 else ("gap",)), *["cls"] * self.has_class]

    def length(self, pool: str) -> int:
        """Numbers that a pool gives of an image."""
        return self.dim * (math.prod(min(GRID, side) for side in self.cells or ()) if pool == "grid4" else 1)

    def pooled(self, output: Tensor, pool: str) -> Tensor:
        """`[B, length]`, float32, of what the layer gave."""
        if pool == "own":
            return output.float()
        if pool == "cls":
            return output[:, 0].float()
        return pooled_map(self.map(output).float(), pool)

    def at(self, size: tuple[int, int], side: int) -> "Form":
        """The form for images of (height, width), where it is known from square ones of `side` px."""
        if self.cells is None or size == (side, side):
            return self
        return replace(
            self, cells=(math.ceil(size[0] * self.cells[0] / side), math.ceil(size[1] * self.cells[1] / side))
        )

    def map(self, output: Tensor) -> Tensor:
        """`[B, D, h, w]`, a view."""
        assert self.cells is not None
        if self.kind == "tokens":
            patches = output[:, self.prefix :].transpose(1, 2)
            return patches.view(len(patches), self.dim, *self.cells)
        return output.permute(0, 3, 1, 2) if self.kind == "NHWC" else output


def pooled_map(found: Tensor, pool: str) -> Tensor:
    """`[B, D, h, w] -> [B, D]` by "gap" or "max", or `[B, D * 16]` by "grid4": averages of 4 x 4 parts of the map."""
    if pool == "gap":
        return found.mean((2, 3))
    if pool == "max":
        if found.device.type == "cpu" and found.is_contiguous(memory_format=torch.channels_last):
            return F.max_pool2d(found, found.shape[2:]).flatten(1)  # of few channels in 1/8 of the time of amax
        return found.amax((2, 3))
    assert pool == "grid4"
    height, width = found.shape[2:]
    return F.adaptive_avg_pool2d(found, (min(GRID, height), min(GRID, width))).flatten(1)


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of what a module gave, however it is wrapped; None without one."""
    if isinstance(output, Features):
        return output.map
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, tuple | list):
        return next((found for found in map(first_tensor, output) if found is not None), None)
    return None


def form_of(output: Tensor, images: int, module: nn.Module, prefixes: Mapping[int, bool] | None) -> Form | str:
    """How an output of a pass of square images is read, or why it is not: a guess that may be wrong is none.

    Args:
        images: B of the pass.
        module: What gave it.
        prefixes: How many tokens may come before those of patches, and whether one of a class is the first of so many;
            None where the network does not say.

    Returns:
        "unsure" for a map whose three sides are equal: an image that is not square tells (`oblong_form`).
    """
    shape = tuple(output.shape)
    if not output.is_floating_point() or len(shape) < 2 or shape[0] != images or not output.numel():
        return f"gives {list(shape)} of {images} images"
    if len(shape) == 2:
        return Form("vector", shape[1])
    if len(shape) == 4:
        a, b, c = shape[1:]
        if a == b == c > 1:
            return "unsure"
        if b == c:
            return Form("NCHW", a, (b, c))
        return Form("NHWC", c, (a, b)) if a == b else f"gives {list(shape)}, neither channels first nor last"
    if len(shape) == 3:
        return _tokens(shape[1], shape[2], module, prefixes)
    return f"gives {list(shape)}, neither a map nor tokens"


def oblong_form(output: Tensor, square: Sequence[int]) -> Form | None:
    """The form of an output `[B, a, a, a]` of square images, from that of images twice as wide; None if unsure."""
    a = square[1]
    if output.ndim != 4 or output.shape[1] != a or output.shape[2:].numel() <= a * a:
        return None
    if output.shape[2] == a:
        return Form("NCHW", a, (a, a))
    return Form("NHWC", a, (a, a)) if output.shape[3] == a else None


def _tokens(count: int, dim: int, module: nn.Module, prefixes: Mapping[int, bool] | None) -> Form | str:
    if prefixes is None and dim not in (shape[-1] for shape in _normalised(module)):
        return f"gives [{count}, {dim}] an image, and no norm in it tells which of them are features"
    known = ONE_CLASS if prefixes is None else prefixes
    fitting = [prefix for prefix in known if count > prefix and math.isqrt(count - prefix) ** 2 == count - prefix]
    if len(fitting) != 1:
        return f"gives {count} tokens, which are no square grid" + (" of one kind" if fitting else "")
    side = math.isqrt(count - fitting[0])
    return Form("tokens", dim, (side, side), fitting[0], known[fitting[0]])


def _normalised(module: nn.Module) -> list[tuple[int, ...]]:
    """What each norm over features in a module takes them to be."""
    found = (getattr(part, "normalized_shape", ()) for part in module.modules())
    return [tuple(shape) for shape in found if shape]
