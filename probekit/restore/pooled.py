"""An encoder under another pooling than it was trained with, or read at another layer: `--pool`, `--layer`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from probekit.branches.base import BilinearPool, Branch, BranchPool, has_maps
from probekit.branches.lcr import LCR, pooling_warnings
from probekit.models.encoder import Encoder
from probekit.models.layers.read import Layers, read_at
from probekit.models.pooling import AttentionPool, GlobalAveragePool, GlobalMaxPool, NormPool
from probekit.registry import POOLS
from probekit.weights import Weights


@dataclass(frozen=True)
class Parts:
    """What of a run may pool beside its encoder.

    `projection`: the head whose output the loss compares, `[B, D] -> [B, P]`, or None.
    """

    branches: Sequence[Branch] = ()
    projection: nn.Module | None = None


NO_PARTS = Parts()


class ProjectionPool(nn.Module):
    """A pooling, then the projection head: what the loss compares. `[B, D, h, w] -> ([B, P] float32, weights)`."""

    def __init__(self, pooling: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.pooling, self.head = pooling, head

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools and projects."""
        embedding, weights = self.pooling(feature_map)
        return self.head(embedding).float(), weights


def pool_warnings(encoder: Encoder) -> Sequence[str]:
    """What to know of the embeddings of an encoder, a line each."""
    pooling = encoder.pooling
    if isinstance(pooling, BranchPool) and isinstance(pooling.branch, LCR):
        return pooling_warnings(pooling.branch.name, pooling.branch.normalise)
    return ()


def pooled(encoder: Encoder, pool: str | None, parts: Parts = NO_PARTS) -> Encoder:
    """The encoder, changed to pool its own map in another way; None leaves it as it is; a ValueError if it cannot."""
    if pool is None:
        return encoder
    encoder.pooling, encoder.repooled = pooling(pool, encoder, parts).eval(), True
    if isinstance(encoder.pooling, (BilinearPool, ProjectionPool)):
        device = next(encoder.pooling.parameters()).device
        encoder.dim = encoder.pooling(torch.zeros(1, encoder.dim, 1, 1, device=device))[0].shape[1]
    encoder.has_map = POOLS[pool].averages
    return encoder


def layered(encoder: Encoder, weights: Weights, layers: Layers) -> tuple[Encoder, Weights]:
    """A view of the encoder that is read at a layer or at its class token, and the weights with that layer's own name.

    Without a pool a layer that has a map is averaged. A ValueError if it cannot be read so.
    """
    layer = None if weights.layer is None else layers.named(weights.layer)
    if weights.pool is not None and POOLS[weights.pool].of_tokens:
        return read_at(encoder, layers, layer=layer, pool=weights.pool, pooling=None), replace(weights, layer=layer)
    assert layer is not None
    flat = layers.known[layer].form.cells is None
    pool = weights.pool if flat or weights.pool else "gap"
    pooling = None if pool is None else MAKERS[pool](encoder, NO_PARTS).eval()
    view = read_at(encoder, layers, layer=layer, pool=None, pooling=pooling)
    view.has_map = view.has_map and pool is not None and POOLS[pool].averages
    return view, replace(weights, layer=layer, pool=pool)


def pooling(pool: str, encoder: Encoder, parts: Parts = NO_PARTS) -> nn.Module:
    """What pools the encoder's map in that way; a ValueError if it has nothing to do so with."""
    if not encoder.has_map:
        raise ValueError("expected an encoder with a feature map for --pool, found one without; leave it out")
    return MAKERS[pool](encoder, parts)


def _attention(encoder: Encoder, parts: Parts) -> nn.Module:
    if not isinstance(encoder.pooling, AttentionPool):
        raise ValueError("expected an encoder with attention pooling, found one without; type: --pool gap")
    return encoder.pooling


def _branch(encoder: Encoder, parts: Parts) -> nn.Module:
    found = next((branch for branch in parts.branches if branch.pools), None)
    return BranchPool(found) if found else _lacking("branch", "a branch that pools", parts)


def _bilinear(encoder: Encoder, parts: Parts) -> nn.Module:
    found = next(filter(has_maps, parts.branches), None)
    return BilinearPool(found) if found else _lacking("bilinear", "the branch lcr or lewel", parts)


def _projection(encoder: Encoder, parts: Parts) -> nn.Module:
    if parts.projection is None:
        raise ValueError(
            "expected a run whose method has a projection head for --pool projection, found none; type: --pool gap"
        )
    return ProjectionPool(encoder.pooling, parts.projection)


def _lacking(pool: str, wanted: str, parts: Parts) -> nn.Module:
    found = " and ".join(f"{branch.name}, which does not" for branch in parts.branches) or "none"
    instead = "type: probekit pretrain METHOD --branch lcr, or --pool gap"
    raise ValueError(f"expected {wanted} for --pool {pool}, found {found}; {instead}")


MAKERS: dict[str, Callable[[Encoder, Parts], nn.Module]] = {  # by the names of `registry.POOLS` that take a map
    "gap": lambda encoder, parts: GlobalAveragePool(),
    "max": lambda encoder, parts: GlobalMaxPool(),
    "norm": lambda encoder, parts: NormPool(),
    "attention": _attention,
    "branch": _branch,
    "bilinear": _bilinear,
    "projection": _projection,
}
