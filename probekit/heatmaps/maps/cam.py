"""Maps of the target that cost one pass: of classes, of gradients, and the weights with which a map is pooled."""

from typing import ClassVar

import torch
from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch, map_gradient
from probekit.models.encoder import Encoder
from probekit.models.pooling import EPSILON


class CAM(AttributionMap):
    """What each cell adds to the target: the mean over cells plus the offset is the target's value, exactly.

    With global average pooling a cell holds `direction . features`. With pooling weights a it holds
    `h w a / sum(a)` times that: the decomposition of the weighted mean.
    """

    about = "what each cell adds to the target (exact)"
    unit = "target per cell; the mean over cells, plus the bias, is the target"
    signed = True
    targeted = True
    needs: ClassVar[frozenset[str]] = frozenset({"map", "target"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        assert batch.target is not None
        cells = torch.einsum("bd,bdhw->bhw", batch.target.direction, batch.features.map.float())
        weights = batch.features.weights
        if weights is None:
            return cells
        share = weights / (weights.sum((1, 2), keepdim=True) + EPSILON)
        return cells * share * share[0].numel()


class GradCAM(AttributionMap):
    """Channels weighted by the mean gradient of the target over cells; before the ReLU.

    With global average pooling it is `CAM / (h w)` exactly.
    """

    about = "channels weighted by their mean gradient"
    unit = "target per cell, as if the gradient were the same in all cells"
    signed = True
    targeted = True
    needs: ClassVar[frozenset[str]] = frozenset({"map", "target"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        assert batch.target is not None
        return weigh_channels(*map_gradient(encoder, batch.features, batch.target.score))


def weigh_channels(feature_map: Tensor, gradient: Tensor) -> Tensor:
    """GradCAM's map `[B, h, w]` from a feature map and a gradient, both `[B, D, h, w]`."""
    return torch.einsum("bd,bdhw->bhw", gradient.mean((2, 3)), feature_map)


class HiResCAM(AttributionMap):
    """Gradient times activation, summed over channels. With global average pooling it equals GradCAM."""

    about = "gradient times activation in each cell"
    unit = "target per cell, first order"
    signed = True
    targeted = True
    needs: ClassVar[frozenset[str]] = frozenset({"map", "target"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        assert batch.target is not None
        feature_map, gradient = map_gradient(encoder, batch.features, batch.target.score)
        return (feature_map * gradient).sum(dim=1)


class Attention(AttributionMap):
    """Pooling weights as shares: they sum to 1 over the cells of an image (ConRec paper, section 2.3)."""

    about = "the pooling weights"
    unit = "share of the embedding"
    signed = False
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        weights = batch.features.weights
        assert weights is not None
        return weights / (weights.sum((1, 2), keepdim=True) + EPSILON)


class InputGradient(AttributionMap):
    """The largest absolute derivative of the target over a pixel's channels."""

    about = "how strongly each pixel moves the target"
    unit = "target per unit of pixel value"
    signed = False
    targeted = True
    needs: ClassVar[frozenset[str]] = frozenset({"target", "gradient"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        assert batch.target is not None
        inputs = batch.inputs.requires_grad_()
        with torch.enable_grad():
            score = batch.target.score(encoder(inputs).pooled)
            (gradient,) = torch.autograd.grad(score.sum(), inputs)
        return gradient.abs().amax(dim=1)
