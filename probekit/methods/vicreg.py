"""VICReg (Bardes, Ponce, LeCun, arXiv 2105.04906): invariance, variance and covariance of both views' features."""

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.config import Count, Positive
from probekit.methods.base import Method, Step
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.ranks import gathered
from probekit.views.recipes import VIEWS, Views

EPSILON = 1e-4  # of the variance: paper, section 4.1


def vicreg_terms(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of `[B, P]` of both views, scalars, float32, unweighted.

    The variance is averaged over the two branches (official code; the paper adds them); covariances, divided by P, are
    added.
    """
    with torch.autocast(z1.device.type, enabled=False):
        z1, z2 = z1.float(), z2.float()
        variance = (_hinge(z1) + _hinge(z2)) / 2
        return F.mse_loss(z1, z2), variance, _covariance(z1) + _covariance(z2)


def _hinge(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + EPSILON).sqrt()).mean()


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(0)
    c = centred.T @ centred / (len(z) - 1)
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]


class VICReg(Method):
    """Variance-invariance-covariance regularisation.

    `invariance`: weight of the distance between the views; `variance`: weight of the hinge on each feature's deviation;
    `covariance`: weight of what features have in common; `hidden`: width of the expander's three layers.
    """

    about = "both views alike, each feature spread, no two features alike"
    paper = "VICReg, arXiv 2105.04906"
    recipe = "vicreg"
    spread = 1.0  # paper, section 4.1: gamma

    def __init__(
        self,
        encoder: Encoder,
        *,
        invariance: Positive = 25.0,  # paper, section 4.2
        variance: Positive = 25.0,  # paper, section 4.2
        covariance: Positive = 1.0,  # paper, section 4.2
        hidden: Count = 8192,  # paper, section 4.2
    ) -> None:
        super().__init__(encoder)
        self.weights = (invariance, variance, covariance)
        self.projector = MLP(encoder.dim, hidden, hidden, hidden, norm=True, last="linear without bias")

    def step(self, views: Views) -> Step:
        """The weighted sum. Logs: `invariance`, `variance` and `covariance`, unweighted."""
        features = self.encode(*views.inputs)
        z = torch.cat([*map(self.projector, features.pooled.chunk(2))])
        terms = vicreg_terms(*gathered(z, VIEWS).chunk(2))
        loss = sum((w * t for w, t in zip(self.weights, terms, strict=True)), torch.zeros((), device=terms[0].device))
        names = ("invariance", "variance", "covariance")
        logs = {name: term.detach() for name, term in zip(names, terms, strict=True)}
        return Step(loss, features, logs, projections=z.detach())
