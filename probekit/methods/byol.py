"""BYOL (Grill et al., arXiv 2006.07733): each view's prediction of what a target network makes of the other."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from probekit.config import Count, Part, Several
from probekit.methods.base import Step
from probekit.methods.losses import negative_cosine
from probekit.methods.momentum import Keep, MomentumMethod
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.views.recipes import Views


class BYOL(MomentumMethod):
    """Bootstrap your own latent, symmetric.

    `momentum`: share of the target that stays at the first step; it rises to 1 along a cosine. `hidden`: width of the
    hidden layers of projector and predictor. `keep`: the encoder that is kept, "online" or "target".
    """

    about = "one network predicts what its moving average makes of the other view"
    paper = "BYOL, arXiv 2006.07733"
    recipe = "byol"
    cause = "a target that follows too fast, or too high an optimizer.lr"
    remedy: ClassVar[Mapping[str, float]] = {"momentum": 0.999}

    def __init__(
        self,
        encoder: Encoder,
        *,
        momentum: Part = 0.996,  # paper, section 3.3, for 1000 epochs
        hidden: Count = 4096,  # paper, section 3.3
        projection_dim: Several = 256,  # paper, section 3.3
        keep: Keep = "online",  # paper, section 3.1
    ) -> None:
        super().__init__(encoder, momentum=momentum, final_momentum=1.0, keep=keep)
        self.projector = MLP(encoder.dim, hidden, projection_dim, norm=True)
        self.predictor = MLP(projection_dim, hidden, projection_dim, norm=True)
        self.make_target()

    def step(self, views: Views) -> Step:
        """The sum over both views of 2 - 2 cos, in [0, 8]. Logs: `prediction`, the same."""
        features = self.encode(*views.inputs)
        y1, y2 = map(self.projector, features.pooled.chunk(2))
        p1, p2 = self.predictor(y1), self.predictor(y2)
        with torch.no_grad():
            theirs = self.encode_target(*views.inputs)
            z1, z2 = map(self.target["projector"], theirs.pooled.chunk(2))
        loss = 4 + 2 * (negative_cosine(p1, z2) + negative_cosine(p2, z1))
        logs, compared = {"prediction": loss.detach()}, torch.cat([y1, y2]).detach()
        return Step(loss=loss, features=features, logs=logs, projections=compared, target_map=theirs.map)
