"""Attention rollout (Abnar and Zuidema 2020): what of each patch has come through all blocks of a transformer."""

from typing import ClassVar

import torch
from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch
from probekit.models.encoder import Encoder
from probekit.models.self_attention import attended, watch


class Rollout(AttributionMap):
    """The product over blocks of the attention, mean over heads, with the identity added and rows summing to 1.

    The identity stands for the residual connection: (W + I) / 2 in the paper's section 3. Shown is the class token's
    row, or without one the mean over patches; the columns of the class and of registers are left out.
    """

    about = "the attention of all blocks of a transformer, multiplied through"
    unit = "share of the last block's token"
    signed = False
    needs: ClassVar[frozenset[str]] = frozenset({"self-attention", "throughout"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        inputs = batch.inputs
        found = attended(encoder, inputs[:1])
        assert found is not None
        product: list[Tensor] = []

        def multiply(weights: Tensor) -> None:
            mean = weights.mean(dim=1)
            mixed = mean + torch.eye(mean.shape[-1], device=mean.device)
            mixed = mixed / mixed.sum(dim=-1, keepdim=True)
            product[:] = [mixed @ product[0] if product else mixed]

        watch(encoder, inputs, multiply)
        return found.to_patches(product[0], batch.features)
