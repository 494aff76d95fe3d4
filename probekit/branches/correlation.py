"""The correlation mask of XCorr (eq. 3 and 4): how much each cell of an image resembles some cell of its positives."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Mask = Literal["cosine", "dot_over_c", "minmax", "uniform"]


@torch.no_grad()
def correlation_mask(source: Tensor, positives: Tensor, *, mask: str) -> Tensor:
    """mu: for every cell of the source the best match in each positive, averaged over the positives.

    Args:
        source: `[B, D, h, w]`.
        positives: `[P * B, D, h, w]`, the first positive of every source, then the second.
        mask: "cosine" of the cells, in [-1, 1]; "dot_over_c", their product over D (the printed form, without bounds);
            "minmax", that, scaled to [0, 1] for every image; "uniform", the mean of the cosine mask (a control).

    Returns:
        `[B, h, w]`, float32, without a gradient.
    """
    with torch.autocast(source.device.type, enabled=False):
        a, b = source.float().flatten(2), positives.float().flatten(2)
        if mask in ("cosine", "uniform"):
            a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        else:
            b = b / a.shape[1]
        b = b.view(-1, *a.shape[:2], b.shape[2])  # [P, B, D, hw]
        mu = torch.einsum("bdi,pbdj->pbij", a, b).amax(3).mean(0).view(len(a), *source.shape[2:])
        if mask == "minmax":
            low, high = mu.amin((1, 2), keepdim=True), mu.amax((1, 2), keepdim=True)
            mu = (mu - low) / (high - low).clamp(min=1e-7)
        return mu.mean((1, 2), keepdim=True).expand_as(mu) if mask == "uniform" else mu
