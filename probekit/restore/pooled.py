"""An encoder under another pooling than it was trained with: `--pool`, the table `MAKERS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probekit.branches.base import Branch, BranchPool
from probekit.branches.lcr import LCR, BilinearPool, pooling_warnings
from probekit.models.encoder import Encoder
from probekit.models.pooling import AttentionPool, GlobalAveragePool, GlobalMaxPool, NormPool
from probekit.registry import POOLS


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
    """The encoder, changed to pool in another way; None leaves it as it is; a ValueError if it cannot."""
    if pool is None:
        return encoder
    encoder.pooling, encoder.repooled = pooling(pool, encoder, parts).eval(), True
    if isinstance(encoder.pooling, BilinearPool):
        encoder.dim *= encoder.pooling.filters
    if isinstance(encoder.pooling, ProjectionPool):
        device = next(encoder.pooling.head.parameters()).device
        encoder.dim = encoder.pooling.head(torch.zeros(1, encoder.dim, device=device)).shape[1]
    encoder.has_map = POOLS[pool].averages
    return encoder


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
    found = next((branch for branch in parts.branches if isinstance(branch, LCR)), None)
    return BilinearPool(found) if found else _lacking("bilinear", "the branch lcr", parts)


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


MAKERS: dict[str, Callable[[Encoder, Parts], nn.Module]] = {  # by the names of `registry.POOLS`
    "gap": lambda encoder, parts: GlobalAveragePool(),
    "max": lambda encoder, parts: GlobalMaxPool(),
    "norm": lambda encoder, parts: NormPool(),
    "attention": _attention,
    "branch": _branch,
    "bilinear": _bilinear,
    "projection": _projection,
}
