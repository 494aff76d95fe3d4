"""NT-Xent, the normalised-temperature cross-entropy of SimCLR, in the ConRec authors' scale."""

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(z: Tensor, *, temperature: float) -> Tensor:
    """Contrasts every view with its partner against all other views.

    The scale is the authors' code's: the mean over the anchors of view 1 plus the mean over those of view 2, which is
    twice the mean over all 2B anchors of SimCLR's Algorithm 1 (to which the ConRec paper refers). At chance it is
    2 log(2B - 1).

    Args:
        z: `[2B, D]`, view 1 of every image, then view 2 of every image; not yet normalised.
        temperature: tau, greater than 0.

    Returns:
        Scalar, float32.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z.float(), dim=1)
        similarity = z @ z.T / temperature  # [2B, 2B]
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        similarity = similarity.masked_fill(itself, -torch.inf)
        partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
        return 2 * F.cross_entropy(similarity, partner)
