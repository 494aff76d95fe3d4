"""Barlow Twins (Zbontar et al., arXiv 2103.03230): the cross-correlation of both views' features, made the identity."""

from collections.abc import Sequence

import torch
from torch import Tensor

from probekit.config import Count, Positive
from probekit.methods.base import Method, Rate, Step
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.ranks import gathered
from probekit.views.recipes import VIEWS, Views

EPSILON = 1e-5  # of the variance, as torch's batch norm, which the official code standardises with


def cross_correlation_loss(z1: Tensor, z2: Tensor, *, off_diagonal: float) -> Tensor:
    """Sum of (1 - C_ii)^2 plus `off_diagonal` times the sum of C_ij^2, with C the correlation over the batch.

    Returns a scalar, float32, at least 0. `z1`: `[B, P]` of the first views; `z2`: `[B, P]` of the second views;
    `off_diagonal`: lambda.
    """
    with torch.autocast(z1.device.type, enabled=False):
        a, b = (_standardised(z.float()) for z in (z1, z2))
        c = a.T @ b / len(a)  # [P, P]
        diagonal = c.diagonal()
        on = (1 - diagonal).square().sum()
        off = c.square().sum() - diagonal.square().sum()
        return on + off_diagonal * off


def _standardised(z: Tensor) -> Tensor:
    centred = z - z.mean(0)
    return centred * (centred.square().mean(0) + EPSILON).rsqrt()


class BarlowTwins(Method):
    """Redundancy reduction.

    `off_diagonal`: positive, weight of what features have in common; `hidden`: width of the projector's three layers;
    `vector_rate`: learning rate of biases and batch norm, as a share of the weights'.
    """

    about = "the features of both views correlate each with itself alone"
    paper = "Barlow Twins, arXiv 2103.03230"
    recipe = "byol"

    def __init__(
        self,
        encoder: Encoder,
        *,
        off_diagonal: Positive = 0.0051,  # official code; the paper says .005
        hidden: Count = 8192,  # paper, section 2.2
        vector_rate: Positive = 0.024,  # paper, section 2.2: .0048 beside .2
    ) -> None:
        super().__init__(encoder)
        self.off_diagonal, self.vector_rate = off_diagonal, vector_rate
        self.projector = MLP(encoder.dim, hidden, hidden, hidden, norm=True, last="linear without bias")

    def step(self, views: Views) -> Step:
        """The loss of a batch. Logs: `correlation`, the same."""
        features = self.encode(*views.inputs)
        z = torch.cat([*map(self.projector, features.pooled.chunk(2))])
        loss = cross_correlation_loss(*gathered(z, VIEWS).chunk(2), off_diagonal=self.off_diagonal)
        return Step(loss=loss, features=features, logs={"correlation": loss.detach()}, projections=z.detach())

    def rates(self) -> Sequence[Rate]:
        """Biases and batch norm learn more slowly."""
        return (Rate(tuple(p for p in self.parameters() if p.ndim <= 1), share=self.vector_rate),)
