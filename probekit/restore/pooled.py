"""A run's encoder under another pooling than it was trained with: `--pool`, written "CHECKPOINT@POOL" in results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from torch import nn

from probekit.branches.base import Branch, BranchPool, branches_of
from probekit.branches.lcr import LCR, BilinearPool, NormPool, pooling_warnings
from probekit.config import Config
from probekit.models.encoder import Encoder, load_encoder
from probekit.models.pooling import AttentionPool, GlobalAveragePool, GlobalMaxPool
from probekit.models.untrained import untrained_encoder
from probekit.registry import POOLS, nearest
from probekit.restore.build import build_method, load_method
from probekit.run import IMPORTED, Run, encoder_file, split_checkpoint

OF_BRANCHES = ("branch", "bilinear")


def with_pool(checkpoint: str, pool: str | None) -> str:
    """The checkpoint's name with the pooling behind it.

    Raises:
        ValueError: If there is no such pooling.
    """
    if pool is None:
        return checkpoint
    if pool not in POOLS:
        raise ValueError(nearest("pooling", pool, POOLS))
    return f"{checkpoint}@{pool}"


def open_encoder(run: Run, checkpoint: str) -> tuple[Encoder, dict[str, Any]]:
    """A run's encoder with the pooling that stands behind the "@" of a checkpoint's name, and its header.

    Raises:
        ValueError: If the run has no such checkpoint, or nothing to pool with in this way.
    """
    weights, pool = split_checkpoint(checkpoint)
    with_pool(weights, pool)
    encoder, header = load_encoder(run.path, checkpoint)
    branches = _branches(run, weights) if pool in OF_BRANCHES else []
    try:
        return pooled(encoder, pool, branches), header
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from error


def random_encoder(run: Run, header: Mapping[str, Any], checkpoint: str, seed: int) -> Encoder:
    """The same architecture and pooling with the plain random weights of a seed, those of the branch too."""
    pool = split_checkpoint(checkpoint)[1]
    encoder = untrained_encoder(header["spec"], seed)
    branches: Iterable[Branch] = ()
    if pool in OF_BRANCHES:
        config = replace(Config.from_dict(run.read()["config"]), seed=seed)
        method = build_method(config, channels=header["spec"]["channels"], classes=len(header["classes"]))
        branches = branches_of(method)
    return pooled(encoder, pool, branches)


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


def _branches(run: Run, weights: str) -> Iterable[Branch]:
    """The branches of a run's kept encoder, as a checkpoint has them."""
    if run.read()["state"] == IMPORTED:
        return ()
    if encoder_file(run.path, weights).suffix == ".safetensors" and weights != "last":
        raise ValueError(f"expected --checkpoint last, best_val or best_test, found {weights}: it keeps no branch")
    return cast(Sequence[Branch], load_method(run, weights)[0].kept_branches)
