"""Saliency (Simonyan et al. 2014): how strongly each pixel moves the target."""

from typing import ClassVar

import torch
from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch
from probekit.models.encoder import Encoder


class InputGradient(AttributionMap):
    """The largest absolute derivative of the target over a pixel's channels."""

    about = "how strongly each pixel moves the target"
    unit = "target per unit of pixel value"
    signed = False
    targeted = True
    needs: ClassVar[frozenset[str]] = frozenset({"target"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        assert batch.target is not None
        inputs = batch.inputs.requires_grad_()
        with torch.enable_grad():
            score = batch.target.score(encoder(inputs).pooled)
            (gradient,) = torch.autograd.grad(score.sum(), inputs)
        return gradient.abs().amax(dim=1)
