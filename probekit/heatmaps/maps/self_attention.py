"""Where the last block of a transformer attends to: one of its heads, or their mean."""

from typing import ClassVar

from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch
from probekit.models.encoder import Encoder
from probekit.models.self_attention import attended, watch


class SelfAttention(AttributionMap):
    """The last block's attention from the class token to each patch, as DINO shows it (Caron et al. 2021, figure 1).

    The mean over heads, or `context.part` alone. Without a class token it is the mean over the patches that ask. What
    goes to the class token itself and to registers is left out, so that a map sums to 1 at most.
    """

    about = "the class token's attention in a transformer's last block; self-attention:0 and so on, or :all, by head"
    unit = "share of the attention"
    signed = False
    needs: ClassVar[frozenset[str]] = frozenset({"self-attention"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        inputs, head = batch.inputs, self.context.part
        found = attended(encoder, inputs[:1])
        assert found is not None
        last: list[Tensor] = []

        def keep(weights: Tensor) -> None:
            last[:] = [weights]

        watch(encoder, inputs, keep)
        weights = last[0].mean(dim=1) if head is None else last[0][:, head]
        return found.to_patches(weights, batch.features)
