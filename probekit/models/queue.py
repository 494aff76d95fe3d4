"""A memory of the latest feature vectors, first in, first out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureQueue(nn.Module):
    """The latest `length` unit vectors; until they have come, random ones stand there (MoCo, official code).

    Its state is in buffers on the device and it never waits for the device, so a CUDA graph may hold it.

    Args:
        length: Vectors K.
        dim: Their width.

    Attributes:
        rows: `[K, dim]`.
        pushed: How many came so far.
    """

    rows: Tensor
    pushed: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Puts `[B, dim]` in place of the oldest B; B is at most K, and need not divide it."""
        assert len(vectors) <= len(self.rows)
        place = (self.pushed + torch.arange(len(vectors), device=self.rows.device)) % len(self.rows)
        self.rows.index_copy_(0, place, vectors.detach().to(self.rows.dtype))
        self.pushed += len(vectors)

    @property
    def full(self) -> Tensor:
        """Whether none of the random ones is left, bool."""
        return self.pushed >= len(self.rows)
