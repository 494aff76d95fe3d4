"""An encoder under another pooling than it was trained with: `--pool`."""

from collections.abc import Iterable, Sequence

from torch import nn

from probekit.branches.base import Branch, BranchPool
from probekit.branches.lcr import LCR, BilinearPool, NormPool, pooling_warnings
from probekit.models.encoder import Encoder
from probekit.models.pooling import AttentionPool, GlobalAveragePool, GlobalMaxPool

OF_BRANCHES = ("branch", "bilinear")


def pool_warnings(encoder: Encoder) -> Sequence[str]:
    """What to know of the embeddings of an encoder, a line each."""
    pooling = encoder.pooling
    if isinstance(pooling, BranchPool) and isinstance(pooling.branch, LCR):
        return pooling_warnings(pooling.branch.name, pooling.branch.normalise)
    return ()


def pooled(encoder: Encoder, pool: str | None, branches: Iterable[Branch]) -> Encoder:
    """The encoder, changed to pool in another way; None leaves it as it is.

    Raises:
        ValueError: If it cannot.
    """
    if pool is None:
        return encoder
    encoder.pooling = pooling(pool, encoder, branches).eval()
    if isinstance(encoder.pooling, BilinearPool):
        encoder.dim *= encoder.pooling.filters
    encoder.has_map = pool not in ("max", "bilinear")  # else the embedding is no weighted mean of the map's cells
    return encoder


def pooling(pool: str, encoder: Encoder, branches: Iterable[Branch]) -> nn.Module:
    """What pools the encoder's map in that way.

    Raises:
        ValueError: If it has nothing to do so with.
    """
    if not encoder.has_map:
        raise ValueError("expected an encoder with a feature map for --pool, found one without; leave it out")
    if pool == "gap":
        return GlobalAveragePool()
    if pool == "max":
        return GlobalMaxPool()
    if pool == "norm":
        return NormPool()
    if pool == "attention":
        if not isinstance(encoder.pooling, AttentionPool):
            raise ValueError("expected an encoder with attention pooling, found one without; type: --pool gap")
        return encoder.pooling
    branches = list(branches)
    for branch in branches:
        if pool == "bilinear" and isinstance(branch, LCR):
            return BilinearPool(branch)
        if pool == "branch" and branch.pools:
            return BranchPool(branch)
    wanted = "the branch lcr" if pool == "bilinear" else "a branch that pools"
    found = " and ".join(f"{branch.name}, which does not" for branch in branches) or "none"
    instead = "type: probekit pretrain METHOD --branch lcr, or --pool gap"
    raise ValueError(f"expected {wanted} for --pool {pool}, found {found}; {instead}")
