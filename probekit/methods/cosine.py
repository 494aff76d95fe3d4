"""The loss of methods that predict one view's projection from the other's."""

import torch
from torch import Tensor
from torch.nn import functional as F


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """-cos of each row of `[B, P]` and its target, which gets no gradient; the mean, float32 in [-1, 1]."""
    with torch.autocast(prediction.device.type, enabled=False):
        return -F.cosine_similarity(prediction.float(), target.detach().float(), dim=1, eps=1e-8).mean()
