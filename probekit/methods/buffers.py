"""What a method keeps in buffers, for checkpoints and CUDA graphs: the run's progress, and a queue."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Clock(nn.Module):
    """Counts steps, on the device: what depends on it can be recorded in a CUDA graph, and is kept in checkpoints."""

    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.batches = self.epochs = 1

    def plan(self, *, batches: int, epochs: int) -> None:
        """How many steps an epoch has, and how many epochs the run."""
        self.batches, self.epochs = batches, epochs

    def tick(self) -> None:
        """A step is done."""
        self.step += 1

    @property
    def done(self) -> Tensor:
        """Share of the run that is done, float32 scalar in [0, 1]."""
        return (self.step / (self.batches * self.epochs)).clamp(max=1)

    def before(self, epoch: float) -> Tensor:
        """Whether so many epochs are not yet done, bool scalar."""
        return self.step < self.first_step(epoch)

    def first_step(self, epoch: float) -> int:
        """The first step after so many epochs."""
        return math.ceil(epoch * self.batches)


class FeatureQueue(nn.Module):
    """The latest `length` unit vectors; until they have come, random ones stand there (MoCo, official code).

    Its state is in buffers on the device and it never waits for the device, so a CUDA graph may hold it. `length`:
    vectors K; `dim`: their width. `rows`: `[K, dim]`; `pushed`: how many came so far.
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
