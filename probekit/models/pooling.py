"""From a feature map to one embedding: averages, attention pooling (ConRec paper, section 2.3, eq. 4), norms."""

from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn

from probekit.config import PoolingName
from probekit.models.unet import BatchNorm2d, initialise_convolutions
from probekit.registry import nearest

# Batch norm inside attention pooling keeps the Keras defaults (authors' code): momentum .99 there is .01 here.
BN_EPS = 1e-3
BN_MOMENTUM = 0.01
DROPOUT = 0.5  # authors' code, on the attention branch alone; the paper does not mention it
SPAN = 1e-7  # LCR paper, section 3.2, "Inference"
EPSILON = 1e-6  # ours: the authors divide without one; sigmoid maps can reach 0 in float32


class GlobalAveragePool(nn.Module):
    """The mean over cells. `[B, D, h, w] -> ([B, D] float32, None)`."""

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools and returns no weights."""
        return feature_map.float().mean(dim=(2, 3)), None


class AttentionPool(nn.Module):
    """The mean over cells weighted by a learned map A in (0, 1): `sum(A * map) / sum(A)` (eq. 4).

    `[B, D, h, w] -> ([B, D] float32, weights [B, h, w] float32)`. The branch that makes A halves the channels three
    times with 1x1 convolutions; its input, not the map itself, passes a dropout. `dim`: channels D of the feature map,
    at least 8. A ValueError if there are fewer.
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        if dim < 8:
            raise ValueError(
                f"expected a feature map of at least 8 channels for attention pooling, found {dim}; "
                "type: --set model.width=16, or --set model.pooling=gap"
            )
        widths = [dim, dim // 2, dim // 4, dim // 8]
        layers: list[nn.Module] = [nn.Dropout(DROPOUT)]
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 1), BatchNorm2d(b, BN_EPS, BN_MOMENTUM), nn.ReLU()]
        self.attention = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))
        initialise_convolutions(self)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools; the division is in float32 whatever the autocast type."""
        weights = self.attention(feature_map).float().sigmoid()  # [B, 1, h, w]
        with torch.autocast(feature_map.device.type, enabled=False):
            pooled = (weights * feature_map.float()).sum((2, 3)) / (weights.sum((2, 3)) + EPSILON)
        return pooled, weights.squeeze(1)


class GlobalMaxPool(nn.Module):
    """The largest value over cells. `[B, D, h, w] -> ([B, D] float32, None)`."""

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools and returns no weights."""
        return feature_map.float().amax(dim=(2, 3)), None


class NormPool(nn.Module):
    """The control of a branch's map that needs no branch: a cell counts by the length of its features.

    `[B, D, h, w] -> ([B, D] float32, weights [B, h, w] float32)`, stretched as a branch's map is.
    """

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools."""
        weights = stretched(feature_map.float().norm(dim=1))
        return weighted_mean(feature_map, weights), weights


def stretched(raw: Tensor, over: tuple[int, ...] = (1, 2)) -> Tensor:
    """A' of the LCR paper's eq. 8: a map `[n, h, w]` moved and scaled to [0, 1] over `over`; ones where it is even."""
    low, high = raw.amin(over, keepdim=True), raw.amax(over, keepdim=True)
    weights = (raw - low) / (SPAN + high - low)
    empty = weights.sum((1, 2), keepdim=True) == 0
    return torch.where(empty, torch.ones_like(weights), weights)


def weighted_mean(feature_map: Tensor, weights: Tensor) -> Tensor:
    """`[n, D, h, w]` and `[n, h, w]`, at least 0 and above it somewhere, to `[n, D]`, float32."""
    with torch.autocast(feature_map.device.type, enabled=False):
        share = weights / weights.sum((1, 2), keepdim=True)
        return torch.einsum("ndhw,nhw->nd", feature_map.float(), share)


def build_pooling(name: str, dim: int) -> nn.Module:
    """The pooling module for a feature map of `dim` channels; a ValueError if the name is unknown."""
    if name == "gap":
        return GlobalAveragePool()
    if name == "attention":
        return AttentionPool(dim=dim)
    raise ValueError(nearest("pooling", name, get_args(PoolingName)))
