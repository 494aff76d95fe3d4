"""SimSiam (Chen, He, arXiv 2011.10566): each view's prediction of the other's projection, which gets no gradient."""

from collections.abc import Sequence

import torch

from probekit.config import Count
from probekit.methods.base import Method, Rate, Step
from probekit.methods.losses import negative_cosine
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.views.recipes import Views


class SimSiam(Method):
    """Simple siamese networks. The predictor's learning rate stays constant (official code, `fix-pred-lr`).

    `hidden`: width of the projector's layers, the last too; `bottleneck`: width of the predictor's hidden layer.
    """

    about = "each view predicts the other, without negatives and without a target network"
    paper = "SimSiam, arXiv 2011.10566"
    recipe = "moco-v2"

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: Count = 2048,  # paper, section 3
        bottleneck: Count = 512,  # paper, section 3
    ) -> None:
        super().__init__(encoder)
        self.projector = MLP(encoder.dim, hidden, hidden, hidden, norm=True, last="batch norm")
        self.predictor = MLP(hidden, bottleneck, hidden, norm=True)

    def step(self, views: Views) -> Step:
        """The mean over both views of -cos, in [-1, 1]. Logs: `prediction`, the same."""
        features = self.encode(*views.inputs)
        z1, z2 = map(self.projector, features.pooled.chunk(2))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = 0.5 * (negative_cosine(p1, z2) + negative_cosine(p2, z1))
        logs = {"prediction": loss.detach()}
        return Step(loss=loss, features=features, logs=logs, projections=torch.cat([z1, z2]).detach())

    def rates(self) -> Sequence[Rate]:
        """The predictor's, constant."""
        return (Rate(tuple(self.predictor.parameters()), schedule="constant"),)
