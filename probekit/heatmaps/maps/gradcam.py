"""GradCAM (Selvaraju et al. 2017) of the target, on the feature map."""

from typing import ClassVar

import torch
from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch, map_gradient
from probekit.models.encoder import Encoder


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
