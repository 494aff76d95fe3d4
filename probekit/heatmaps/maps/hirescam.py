"""HiResCAM (Draelos and Carin 2020): the gradient of each cell counts in that cell."""

from typing import ClassVar

from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch, map_gradient
from probekit.models.encoder import Encoder


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
