"""Tools for random work on a batch of views: draws, an operation on some of the views, separable resampling.

Nothing here waits for the GPU: shapes are static there, and no value is read back to the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Range = tuple[int, int]

STRIPE = 64  # measured: rows of 128 floats turn twice as fast as all at once


def uniform(shape: Sequence[int], generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform float32 numbers in [low, high) on the generator's device."""
    numbers = torch.rand(tuple(shape), generator=generator, device=generator.device)
    return low + (high - low) * numbers


def integers(u: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Turns uniform numbers into integers, with bounds that may differ from one draw to the next.

    Args:
        u: Uniform numbers in [0, 1), any shape.
        low: Smallest value, a number or a tensor that broadcasts to `u`.
        high: First value that is never drawn; greater than `low`.

    Returns:
        int64 values in [low, high), shape of `u`.
    """
    span = high - low
    # The product can round up to `span` itself for u just below 1.
    return low + (u * span).long().clamp(max=span - 1)


def apply_where_(x: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Replaces the chosen views by `operation(view, *parameters)`, in place.

    The CPU computes the chosen views only. A GPU computes all of them and keeps the chosen ones, since
    the number of chosen views is not known there without a synchronisation. Both give the same views.

    Args:
        x: Views [N, C, H, W]; changed in place.
        chosen: bool [N].
        operation: Treats each view on its own; gets the views and the matching rows of `parameters`.
        parameters: Tensors [N, ...].

    Returns:
        `x`.
    """
    if x.device.type == "cpu":
        rows = chosen.nonzero().squeeze(1)
        if len(rows):
            # Whole views are copied several times faster this way than by x[rows] and index_copy_.
            made = operation(*(p.index_select(0, rows) for p in (x, *parameters)))
            for row, view in zip(rows.tolist(), made, strict=True):
                x[row] = view
        return x
    return x.copy_(torch.where(chosen.view(-1, 1, 1, 1), operation(x, *parameters), x))


@dataclass(frozen=True)
class Taps:
    """For each output position, the source positions that it mixes, and how much of each.

    Attributes:
        index: int64 [N, S, K] positions in the source.
        weights: float32 [N, S, K].
    """

    index: Tensor
    weights: Tensor


def resample(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Separable resampling: each output row is a weighted sum of source rows, and the same for columns.

    Args:
        images: float32 [B, C, H, W].
        rows: Taps along the height, N = a multiple of B; output n reads image n % B.
        columns: Taps along the width, the same N.

    Returns:
        float32 [N, C, S of rows, S of columns], contiguous.
    """
    # Columns first: what is turned on the way in is each image once, not each view.
    mixed = _mix_rows(_turned(images), columns)  # [N, C, S of columns, H]
    return _mix_rows(_turned(mixed), rows)


def _turned(x: Tensor) -> Tensor:
    """Swaps the last two dimensions, contiguous."""
    *_, H, W = x.shape
    out = x.new_empty(*x.shape[:-2], W, H)
    # In stripes, because a column of 128 values a power of two apart does not fit into the first-level cache.
    for start in range(0, H, STRIPE):
        out[..., start : start + STRIPE] = x[..., start : start + STRIPE, :].transpose(-1, -2)
    return out


def _mix_rows(images: Tensor, taps: Taps) -> Tensor:
    """Weighted sums of rows, [B, C, H, W] -> [N, C, S, W].

    embedding_bag is one fused gather and sum: 4x faster than gather and multiply, 3-10x faster than
    a matrix product on two cores, and neither TF32 nor autocast touches it.
    """
    B, C, H, W = images.shape
    N, S, K = taps.index.shape
    image = torch.arange(N, device=images.device) % B
    plane = image[:, None] * C + torch.arange(C, device=images.device)  # [N, C]
    bags = taps.index[:, None] + H * plane[:, :, None, None]  # [N, C, S, K]
    weights = taps.weights[:, None].expand(N, C, S, K)
    mixed = F.embedding_bag(
        bags.view(-1, K),
        images.reshape(-1, W),
        mode="sum",
        per_sample_weights=weights.reshape(-1, K),
    )
    return mixed.view(N, C, S, W)
