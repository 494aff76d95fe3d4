"""The weights with which an encoder pools its feature map."""

from typing import ClassVar

from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch
from probekit.models.encoder import Encoder
from probekit.models.pooling import EPSILON


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
