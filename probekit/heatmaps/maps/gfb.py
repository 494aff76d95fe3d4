"""What the filters of LCR's GradCAM fitting branch (GFB) respond to: each by itself, or the largest at each cell."""

from typing import ClassVar

from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch, filters_of
from probekit.models.encoder import Encoder


class GFB(AttributionMap):
    """The branch's map before any normalisation (LCR paper, eq. 4), or that of the filter `context.part` alone."""

    about = "the map of LCR's branch; gfb:0 and so on, or :all, by filter"
    unit = "response of the filters"
    signed = True
    needs: ClassVar[frozenset[str]] = frozenset({"map", "filters"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        branch, part = filters_of(self.context.method), self.context.part
        assert branch is not None
        return branch.raw_map(batch.features.map) if part is None else branch.filter_maps(batch.features.map)[:, part]
