"""Class activation maps (Zhou et al. 2016) of a linear probe on the embedding."""

from typing import ClassVar

import torch
from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch
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
