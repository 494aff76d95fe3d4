"""Cross-entropy between the codes of an image's large crops and what its other crops say of them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def swapped_cross_entropy(codes: Sequence[Tensor], logits: Sequence[Tensor]) -> Tensor:
    """The mean over crops with codes, and over all other crops, of -sum q log softmax(logits).

    Args:
        codes: `[B, K]` of each large crop, rows that add up to 1, without gradients.
        logits: `[B, K]` of every crop, the large ones first, divided by the temperature.

    Returns:
        Scalar, float32; at most ln K for logits that are all alike.
    """
    losses = [
        -(q * logit.float().log_softmax(1)).sum(1).mean()
        for i, q in enumerate(codes)
        for v, logit in enumerate(logits)
        if v != i
    ]
    return torch.stack(losses).mean()
