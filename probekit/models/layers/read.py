"""An encoder that is read at one of its layers, or at its class token: what stands in the place of its own embedding.

The tokens of a transformer's blocks pass its final norm first, whichever block they are of: so do the linear probes of
DINO (eval_linear.py: `get_intermediate_layers` norms every block) and DINOv2 (the same method, `norm=True`). Registers
are in no mean and in no concatenation. All other layers are read as they are.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probekit.models.encoder import Encoder, Features, check_takes
from probekit.models.extract import eval_mode
from probekit.models.layers.find import find_layers
from probekit.models.layers.network import EMBEDDING, MAP, NORMS, Layer, Whole, hooked
from probekit.models.layers.outputs import first_tensor
from probekit.registry import nearest

TRIAL = 3  # images that tell what a layer gives: few layers give three of anything else
LAST = 4  # blocks whose class tokens DINO's ViT-S and DINOv2's larger probe take
TOKENS: dict[str, tuple[int, bool]] = {  # pool: class tokens of so many last blocks, and whether the mean of patches
    "cls": (1, False),
    "cls+gap": (1, True),  # DINO's ViT-B
    "last4": (LAST, False),  # DINO's ViT-S
    "last4+gap": (LAST, True),  # the patches are those of the last block (DINOv2, eval/linear.py)
}


@dataclass(frozen=True)
class Layers:
    """What of an encoder can be read.

    Attributes:
        known: By name, in the order that an image passes them.
        blocks: Of `known`, those of a transformer: they give tokens that the final norm takes. Empty of others.
        norm: Path in the encoder of that final norm; "" without one.
        left_out: A line for each module that is not read.
        side: Px a side of the square images that told.
    """

    known: dict[str, Layer]
    blocks: tuple[str, ...]
    norm: str
    left_out: tuple[str, ...]
    side: int

    @property
    def numbered(self) -> tuple[str, ...]:
        """What numbers from 1 on stand for: a transformer's blocks, or all layers of others."""
        return self.blocks or tuple(name for name in self.known if name != EMBEDDING)

    def named(self, layer: str) -> str:
        """The name of a layer that was typed: itself, or that of its number, from 1 on: of blocks where there are any.

        A ValueError if there is no such layer.
        """
        if layer in self.known:
            return layer
        numbered = self.numbered
        if layer.isdecimal():
            if not 1 <= int(layer) <= len(numbered):
                what = "blocks" if self.blocks else "layers"
                raise ValueError(
                    f"expected --layer 1 to {len(numbered)}, found {layer}: these {what} are "
                    f"{numbered[0]} to {numbered[-1]}"
                )
            return numbered[int(layer) - 1]
        why = next((f" ({line})" for line in self.left_out if line.startswith(f"{layer}: ")), "")
        raise ValueError(nearest("layer", layer, self.known) + why)

    def depth(self, name: str) -> int:
        """The place of a layer in the order that an image passes them: 1 is what the number 1 stands for."""
        order = list(self.known)
        return order.index(name) - order.index(self.numbered[0]) + 1

    def path(self, name: str) -> str:
        """Where in the encoder a layer's module is; "" of what is none."""
        return self.known[name].path.removeprefix("encoder.")

    def normed(self, name: str) -> bool:
        """Whether the final norm takes what the layer gives."""
        return bool(self.norm) and name in self.blocks


def layers_of(encoder: Encoder, size: tuple[int, int]) -> Layers:
    """The layers of an encoder, told by a pass of noise; it must not be read at a layer yet.

    `size`: (height, width) of its images; square ones of the smaller side tell. A ValueError if it does not take them.
    """
    assert encoder.reading is None
    side = min(size)
    check_takes(encoder, (side, side))
    whole, generator = Whole(encoder, None), torch.Generator().manual_seed(0)
    place = next(encoder.parameters(), torch.zeros(())).device

    def noise(width: int) -> Tensor:
        return torch.rand(TRIAL, encoder.spec["channels"], side, width, generator=generator).to(place)

    with eval_mode(encoder):
        known, left_out = find_layers(whole, noise(side), lambda: noise(2 * side))
    inner = [name for name, layer in known.items() if layer.path and layer.form.kind == "tokens"]
    last = inner[-1] if inner else ""
    norm, blocks = "", tuple[str, ...]()
    if last and isinstance(whole.get_submodule(known[last].path), NORMS):
        norm = known[last].path.removeprefix("encoder.")
        inner = inner[:-1]
    if inner:
        final = known[inner[-1]]
        kind = type(whole.get_submodule(final.path))
        blocks = tuple(
            name
            for name in inner
            if known[name].form == final.form and type(whole.get_submodule(known[name].path)) is kind
        )
    if not blocks or known[last].form != known[blocks[-1]].form:
        norm = ""
    return Layers(known, blocks, norm, tuple(left_out), side)


@dataclass(frozen=True)
class Reading:
    """What an encoder gives in place of its own features: `(encoder, [B, C, H, W]) -> Features`.

    The map is that of the last of `names`, its patches alone; the embedding is what the encoder's pooling makes of it,
    or with `tokens` the class tokens of all `names`, one after another, and `mean` of the patches behind them.
    """

    layers: Layers
    names: tuple[str, ...]
    tokens: bool = False
    mean: bool = False

    def __call__(self, encoder: Encoder, x: Tensor) -> Features:
        """Passes images through the whole encoder, and keeps what these layers give."""
        found: dict[str, Tensor] = {}

        def keep(name: str, taken: Any, output: Any) -> None:
            found[name] = given(output)

        paths = {path: partial(keep, name) for name in self.names if (path := self.layers.path(name))}
        with hooked(encoder, paths):
            own = encoder.as_trained(x)
        return self.features(encoder, x, {MAP: own.map, EMBEDDING: own.pooled, **found})

    def features(self, encoder: Encoder, x: Tensor, found: Mapping[str, Tensor]) -> Features:
        """What is made of images, and of that which these layers gave for them, by name."""
        outputs = [self._normed(encoder, name, found[name]) for name in self.names]
        form, last = self.layers.known[self.names[-1]].form, outputs[-1]
        if form.cells is None:
            return Features([], last[:, :, None, None], last.float(), None)
        cells = form.at((x.shape[2], x.shape[3]), self.layers.side).map(last)
        if not self.tokens:
            pooled, weights = encoder.pooling(cells)
            return Features([cells], cells, pooled, weights)
        parts = [output[:, 0].float() for output in outputs] + [cells.float().mean((2, 3))] * self.mean
        return Features([cells], cells, torch.cat(parts, dim=1), None)

    def _normed(self, encoder: Encoder, name: str, output: Tensor) -> Tensor:
        if not self.layers.normed(name):
            return output
        normed: Tensor = encoder.get_submodule(self.layers.norm).forward(output)  # without what hooks of it keep
        return normed


class Together(nn.Module):
    """Several views of one encoder, each of one layer, in one pass. `[B, C, H, W] -> [B, sum of their D]`, float32.

    None is of the embedding, which views pool in their own ways. Each layer is pooled while the images pass: no map
    outlives it.
    """

    def __init__(self, views: Sequence[Encoder]) -> None:
        super().__init__()
        self.views = nn.ModuleList(views)  # so that it is where they are, and in their mode
        self.named: dict[str, tuple[Encoder, Reading]] = {}
        for view in views:
            assert isinstance(view.reading, Reading)
            (name,) = view.reading.names
            self.named[name] = (view, view.reading)

    def forward(self, x: Tensor) -> Tensor:
        """The embeddings of the views, one behind another."""
        found: dict[str, Tensor] = {}

        def take(name: str, taken: Any, output: Any) -> None:
            view, reading = self.named[name]
            found[name] = reading.features(view, x, {name: given(output)}).pooled

        first, layers = next((view, reading.layers) for view, reading in self.named.values())
        paths = {path: partial(take, name) for name in self.named if (path := layers.path(name))}
        with hooked(first, paths):
            own = first.as_trained(x)
        if MAP in self.named:
            take(MAP, None, own.map)
        return torch.cat([found[name] for name in self.named], dim=1)


def given(output: Any) -> Tensor:
    """The tensor of what a layer gave, in whatever it is wrapped."""
    found = first_tensor(output)
    assert found is not None
    return found


def read_at(
    encoder: Encoder, layers: Layers, *, layer: str | None, pool: str | None, pooling: nn.Module | None
) -> Encoder:
    """A view of an encoder, of the same modules, whose embedding is that of a layer.

    Args:
        layer: A name of `layers`; None is the last that has a class token, for a `pool` of tokens.
        pool: One of `TOKENS`, or None where `pooling` takes the layer's map, or a layer is a vector already.
        pooling: `[B, D, h, w] -> ([B, D], weights)`, or None.

    Raises:
        ValueError: If the layer has no class token or no map, or there are too few blocks.
    """
    reading = Reading(layers, (layer,)) if pool is None and layer is not None else _of_tokens(layers, layer, pool or "")
    form = layers.known[reading.names[-1]].form
    if pool is None and (form.cells is None) != (pooling is None):
        raise ValueError(f"expected a map or tokens of layer {layer} to pool, found a vector; leave --pool out")
    view = copy(encoder)
    view._modules = dict(encoder._modules)  # so that another pooling is the view's alone
    view.reading = reading
    view.dim = form.dim * (len(reading.names) + reading.mean)
    view.stride = 1 if form.cells is None else max(1, round(layers.side / form.cells[0]))
    view.has_map = pool is None and form.cells is not None
    if pooling is not None:
        view.pooling = pooling
    return view


def _of_tokens(layers: Layers, layer: str | None, pool: str) -> Reading:
    count, mean = TOKENS[pool]
    having = [name for name, known in layers.known.items() if known.form.has_class]
    if not having:
        kinds = ", ".join(name for name in layers.known if name != EMBEDDING)
        raise ValueError(
            f"expected a class token for --pool {pool}, found none in {kinds}; type: --pool gap, max or norm"
        )
    if layer is not None and count > 1:
        raise ValueError(f"expected no --layer with --pool {pool}, which names its own, found {layer}; leave it out")
    if layer is not None and layer not in having:
        raise ValueError(
            f"expected a layer with a class token for --pool {pool}, found {layer}; type: --layer {having[-1]}"
        )
    if count == 1:
        return Reading(layers, (layer or having[-1],), tokens=True, mean=mean)
    blocks = [name for name in layers.blocks if name in having][-count:]
    if len(blocks) < count:
        raise ValueError(
            f"expected {count} blocks with a class token for --pool {pool}, found {len(blocks)}; type: --pool cls"
        )
    return Reading(layers, tuple(blocks), tokens=True, mean=mean)
