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


def used(codes: Tensor) -> Tensor:
    """How many of K prototypes are used, as a share: exp of the entropy of the mean code `[N, K]`, over K."""
    mean = codes.float().mean(0)
    entropy = -(mean * mean.clamp(min=TINY).log()).sum()
    return entropy.exp() / codes.shape[1]
