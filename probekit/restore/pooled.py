"""An encoder under another pooling than it was trained with: `--pool`, the table `MAKERS`."""

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from probekit.branches.base import Branch, BranchPool
from probekit.branches.lcr import LCR, BilinearPool, pooling_warnings
from probekit.models.encoder import Encoder
from probekit.models.pooling import AttentionPool, GlobalAveragePool, GlobalMaxPool, NormPool
from probekit.registry import POOLS


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
    encoder.pooling, encoder.repooled = pooling(pool, encoder, branches).eval(), True
    if isinstance(encoder.pooling, BilinearPool):
        encoder.dim *= encoder.pooling.filters
    encoder.has_map = POOLS[pool].averages
    return encoder


def pooling(pool: str, encoder: Encoder, branches: Iterable[Branch]) -> nn.Module:
    """What pools the encoder's map in that way.

    Raises:
        ValueError: If it has nothing to do so with.
    """
    if not encoder.has_map:
        raise ValueError("expected an encoder with a feature map for --pool, found one without; leave it out")
    return MAKERS[pool](encoder, list(branches))


def _attention(encoder: Encoder, branches: Sequence[Branch]) -> nn.Module:
    if not isinstance(encoder.pooling, AttentionPool):
        raise ValueError("expected an encoder with attention pooling, found one without; type: --pool gap")
    return encoder.pooling


def _branch(encoder: Encoder, branches: Sequence[Branch]) -> nn.Module:
    found = next((branch for branch in branches if branch.pools), None)
    return BranchPool(found) if found else _lacking("branch", "a branch that pools", branches)


def _bilinear(encoder: Encoder, branches: Sequence[Branch]) -> nn.Module:
    found = next((branch for branch in branches if isinstance(branch, LCR)), None)
    return BilinearPool(found) if found else _lacking("bilinear", "the branch lcr", branches)


def _lacking(pool: str, wanted: str, branches: Sequence[Branch]) -> nn.Module:
    found = " and ".join(f"{branch.name}, which does not" for branch in branches) or "none"
    instead = "type: probekit pretrain METHOD --branch lcr, or --pool gap"
    raise ValueError(f"expected {wanted} for --pool {pool}, found {found}; {instead}")


MAKERS: dict[str, Callable[[Encoder, Sequence[Branch]], nn.Module]] = {  # by the names of `registry.POOLS`
    "gap": lambda encoder, branches: GlobalAveragePool(),
    "max": lambda encoder, branches: GlobalMaxPool(),
    "norm": lambda encoder, branches: NormPool(),
    "attention": _attention,
    "branch": _branch,
    "bilinear": _bilinear,
}
