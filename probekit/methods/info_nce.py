"""InfoNCE against a queue of negatives, or the batch's (MoCo, arXiv 1911.05722, eq. 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(query: Tensor, key: Tensor, negatives: Tensor | None, *, temperature: float) -> Tensor:
    """The mean over queries of -log softmax of the key among the key and the negatives.

    Args:
        query: `[B, P]`, not yet normalised.
        key: `[B, P]`, unit vectors: the positive of each query.
        negatives: `[K, P]`, unit vectors, shared by all queries; K may be 0. None is the other queries' keys.
        temperature: tau, greater than 0.

    Returns:
        Scalar, float32; ln(1 + K) at chance, ln B with the batch's keys.
    """
    with torch.autocast(query.device.type, enabled=False):
        query = F.normalize(query.float(), dim=1)
        if negatives is None:
            return F.cross_entropy(query @ key.T / temperature, torch.arange(len(query), device=query.device))
        own = (query * key).sum(1, keepdim=True)
        logits = torch.cat([own, query @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))
