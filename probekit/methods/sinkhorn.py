"""The Sinkhorn-Knopp assignment of SwAV (arXiv 2006.09882, section 3.1 and appendix A)."""

import torch
from torch import Tensor

TINY = 1e-30  # keeps rows without weight from dividing 0 by 0


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int, weight: Tensor | None = None) -> Tensor:
    """Soft codes: every sample belongs to prototypes with weights that add up to 1, and all prototypes are used alike.

    Args:
        scores: `[N, K]`, cosines of samples and prototypes.
        epsilon: Of the entropy; larger is softer.
        iterations: Of the two normalisations; a fixed number, three in the paper.
        weight: `[N]`, 1 for samples that count and 0 for those that do not; None is all.

    Returns:
        `[N, K]`, float32; rows add up to 1, those without weight are 0.
    """
    # The largest is taken off, which changes nothing but that exp stays finite.
    q = ((scores.float() - scores.float().max()) / epsilon).exp()
    if weight is not None:
        q = q * weight[:, None]
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True).clamp(min=TINY)
        q = q / q.sum(1, keepdim=True).clamp(min=TINY)
    return q


@torch.no_grad()
def used(scores: Tensor) -> Tensor:
    """How many prototypes are the nearest of some sample, as a share of how many can be.

    Of the scores, not of codes: Sinkhorn's use all prototypes alike, whatever the samples are.

    Args:
        scores: `[N, K]`, of samples and prototypes.

    Returns:
        float32 scalar: 0 where one prototype is the nearest of all samples, 1 where the nearest are spread evenly over
        min(N, K); between, exp of the entropy of their frequencies counts the prototypes.
    """
    nearest = scores.argmax(1)
    counts = torch.zeros_like(scores[0], dtype=torch.float32)
    counts = counts.index_add_(0, nearest, torch.ones_like(nearest, dtype=torch.float32))
    share = counts / len(scores)
    count = (-share * share.clamp(min=TINY).log()).sum().exp()
    return (count - 1) / max(min(scores.shape) - 1, 1)
