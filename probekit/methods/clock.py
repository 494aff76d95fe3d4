"""How far a run is, known to a method whose loss or target depends on it."""

import math

import torch
from torch import Tensor, nn


class Clock(nn.Module):
    """Counts steps, on the device: what depends on it can be recorded in a CUDA graph, and is kept in checkpoints.

    Attributes:
        step: Steps done, int64 scalar.
    """

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
