"""Maps on the grid of the feature map: class activation maps, with a classifier and without, and the pooling weights.

GradCAM without a classifier is of the contrastive loss of one image, or of its likeness to its own views. The image
itself is the anchor, so that maps lie on it; its seeded views are the positives, and a fixed bank of other images the
negatives (LCR paper, eq. 2 and 3; per image, as its text has it, where its code takes the batch's mean). Eq. 3 and its
footnote disagree about the sign, so both signs are shown: `gradcam-ssl` marks what raises the loss, `-gradcam-ssl` what
lowers it.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.heatmaps.base import AttributionMap, Batch, Context, map_gradient
from probekit.models.encoder import Encoder
from probekit.models.pooling import EPSILON
from probekit.views.recipes import RECIPES, make_views

PASS = 64  # views that are encoded at a time: bounds memory


class _OfTarget(AttributionMap):
    signed = True
    targeted = True
    needs: ClassVar[frozenset[str]] = frozenset({"map", "target"})


class CAM(_OfTarget):
    """What each cell adds to the target: the mean over cells plus the offset is the target's value, exactly.

    Class activation maps (Zhou et al. 2016) of a linear probe on the embedding. With global average pooling a cell
    holds `direction . features`. With pooling weights a it holds `h w a / sum(a)` times that: the decomposition of the
    weighted mean.
    """

    about = "what each cell adds to the target (exact)"
    unit = "target per cell; the mean over cells, plus the bias, is the target"

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        """`[B, h, w]` of the feature map."""
        assert batch.target is not None
        cells = torch.einsum("bd,bdhw->bhw", batch.target.direction, batch.features.map.float())
        weights = batch.features.weights
        if weights is None:
            return cells
        share = weights / (weights.sum((1, 2), keepdim=True) + EPSILON)
        return cells * share * share[0].numel()


class GradCAM(_OfTarget):
    """Channels weighted by the mean gradient of the target over cells (Selvaraju et al. 2017); before the ReLU.

    With global average pooling it is `CAM / (h w)` exactly.
    """

    about = "channels weighted by their mean gradient"
    unit = "target per cell, as if the gradient were the same in all cells"

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        """`[B, h, w]` of the feature map."""
        assert batch.target is not None
        return weigh_channels(*map_gradient(encoder, batch.features, batch.target.score))


class HiResCAM(_OfTarget):
    """Gradient times activation, summed over channels (Draelos and Carin 2020).

    With global average pooling it equals GradCAM.
    """

    about = "gradient times activation in each cell"
    unit = "target per cell, first order"

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        """`[B, h, w]` of the feature map."""
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
        """`[B, h, w]` of the feature map."""
        weights = batch.features.weights
        assert weights is not None
        return weights / (weights.sum((1, 2), keepdim=True) + EPSILON)


def weigh_channels(feature_map: Tensor, gradient: Tensor) -> Tensor:
    """GradCAM's map `[B, h, w]` from a feature map and a gradient, both `[B, D, h, w]`."""
    return torch.einsum("bd,bdhw->bhw", gradient.mean((2, 3)), feature_map)


class GradCAMSimilarity(AttributionMap):
    """GradCAM of the mean cosine between an image's projection and those of its views."""

    about = "GradCAM of the likeness of an image to its views"
    unit = "cosine per cell"
    signed = True
    both_signs = True
    needs: ClassVar[frozenset[str]] = frozenset({"map"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        """`[B, h, w]` of the feature map."""
        views = positives(encoder, batch, self.context)

        def score(pooled: Tensor) -> Tensor:
            return self.score(project(pooled, self.context), views)

        return weigh_channels(*map_gradient(encoder, batch.features, score))

    def score(self, anchors: Tensor, views: Tensor) -> Tensor:
        """`[B]` from unit vectors `[B, P]` and those of their views `[B, R, P]`."""
        return torch.einsum("bp,brp->b", anchors, views) / views.shape[1]


class GradCAMSSL(GradCAMSimilarity):
    """GradCAM of the mean over views of each image's InfoNCE loss against a fixed bank."""

    about = "GradCAM of the contrastive loss of an image"
    unit = "nats per cell"
    needs: ClassVar[frozenset[str]] = frozenset({"map", "negatives"})

    def score(self, anchors: Tensor, views: Tensor) -> Tensor:
        """`[B]`, the loss in nats."""
        assert self.context.negatives is not None
        positive = torch.einsum("bp,brp->br", anchors, views)[..., None]
        negative = (anchors @ self.context.negatives.T)[:, None].expand(-1, views.shape[1], -1)
        logits = torch.cat([positive, negative], dim=2) / self.context.temperature
        return -logits.log_softmax(dim=2)[..., 0].mean(dim=1)


def project(pooled: Tensor, context: Context) -> Tensor:
    """Unit vectors `[B, P]` that the contrastive loss compares."""
    return F.normalize((pooled if context.project is None else context.project(pooled)).float(), dim=1)


@torch.no_grad()
def positives(encoder: Encoder, batch: Batch, context: Context) -> Tensor:
    """Unit vectors of each image's views, `[B, R, P]`; an image's views depend on the seed and its index alone."""
    drawn = []
    for image, index in zip(batch.images, batch.index.tolist(), strict=True):
        word = int(np.random.SeedSequence([context.seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator(image.device).manual_seed(word)
        copies = image.expand(context.draws // RECIPES[context.recipe].views, *image.shape)
        drawn.append(make_views(context.recipe, copies, generator, size=context.view_size).inputs.flatten(0, 1))
    parts = torch.split(torch.cat(drawn), PASS)
    pooled = torch.cat([encoder(part.contiguous(memory_format=torch.channels_last)).pooled for part in parts])
    return project(pooled, context).view(len(batch.images), context.draws, -1)
