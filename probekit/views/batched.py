"""Tools for random work on a batch of views: draws, an operation on some of the views, separable resampling.

Nothing here waits for the GPU: shapes are static there, and no value is read back to the host.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Range = tuple[int, int]

STRIPE = 64  # measured on a CPU: rows of 128 floats turn twice as fast as all at once


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform float32 numbers in [0, 1) on the generator's device."""
    return torch.rand(tuple(shape), generator=generator, device=generator.device)


def uniforms(shapes: Sequence[Sequence[int]], generator: torch.Generator) -> list[Tensor]:
    """`uniform` numbers of several shapes, drawn at once; on a CPU the same as one after another."""
    counts = [math.prod(shape) for shape in shapes]
    numbers = torch.split(uniform((sum(counts),), generator), counts)
    return [part.view(*shape) for part, shape in zip(numbers, shapes, strict=True)]


def between(numbers: Sequence[Tensor], bounds: Sequence[tuple[float, float]]) -> list[Tensor]:
    """Uniform numbers in [0, 1), scaled to [low, high): tensors of one shape, with bounds for each, at once."""
    scaled = torch._foreach_mul(list(numbers), [high - low for low, high in bounds])
    return list(torch._foreach_add(scaled, [float(low) for low, _ in bounds]))


def integers(u: Tensor, span: Tensor | int) -> Tensor:
    """Turns uniform numbers into whole ones from 0 to below a span, which may differ from one draw to the next.

    `u`: uniform float32 numbers in [0, 1), any shape; `span`: at least 1: a number or a tensor that broadcasts to `u`.
    Returns float32, shape of `u`. The product never rounds up to the span itself: u is at most 1 - 2^-24, and spans are
    exact up to 2^24.
    """
    return (u * span).floor_()


def apply_where(
    x: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor, neutral: bool = False
) -> Tensor:
    """Replaces the chosen views by `operation(view, *parameters)`.

    The CPU computes the chosen views only. A GPU computes all of them and keeps the chosen ones, since the number of
    chosen views is not known there without a synchronisation. Both give the same views. `x`: views [N, C, H, W]; may be
    changed in place. `operation`: treats each view on its own; gets the views and the matching rows of `parameters`.
    `parameters`: tensors [N, ...]. `neutral`: whether those of the views that are not chosen leave a view as it is, up
    to rounding: then a GPU keeps what it has computed.
    """
    if x.device.type != "cpu":
        made = operation(x, *parameters)
        return made if neutral else torch.where(chosen.view(-1, 1, 1, 1), made, x)
    rows = chosen.nonzero().squeeze(1)
    if len(rows):
        # Whole views are copied several times faster this way than by x[rows] and index_copy_.
        made = operation(*(p.index_select(0, rows) for p in (x, *parameters)))
        for row, view in zip(rows.tolist(), made, strict=True):
            x[row] = view
    return x


@dataclass(frozen=True)
class Taps:
    """For each output position, the source positions that it mixes, and how much of each.

    `index`: int32 or int64 [N, S, K] positions in the source; `weights`: float32 [N, S, K].
    """

    index: Tensor
    weights: Tensor


def resample(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Separable resampling: each output row is a weighted sum of source rows, and the same for columns.

    Returns float32 [N, C, S of rows, S of columns], contiguous. `images`: float32 [B, C, H, W]. `rows`: taps along the
    height, N = a multiple of B; output n reads image n % B. `columns`: taps along the width, the same N.
    """
    # Columns first: what is turned on the way in is each image once, not each view.
    mixed = _mix_rows(_turned(images), columns)  # [N, C, S of columns, H]
    return _mix_rows(_turned(mixed), rows)


def _turned(x: Tensor) -> Tensor:
    """Swaps the last two dimensions, contiguous."""
    if x.device.type != "cpu":
        return x.transpose(-1, -2).contiguous()
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
    first_rows = torch.arange(0, B * C * H, H, dtype=taps.index.dtype, device=images.device).view(B, C, 1, 1)
    bags = taps.index.view(N // B, B, 1, S, K) + first_rows
    weights = taps.weights[:, None].expand(N, C, S, K)
    mixed = F.embedding_bag(
        bags.view(-1, K), images.reshape(-1, W), mode="sum", per_sample_weights=weights.reshape(-1, K)
    )
    return mixed.view(N, C, S, W)
