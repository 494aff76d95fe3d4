"""GradCAM without a classifier: of the contrastive loss of one image, or of its likeness to its own views.

The image itself is the anchor, so that maps lie on it; its seeded views are the positives, and a fixed bank of other
images the negatives (LCR paper, eq. 2 and 3; per image, as its text has it, where its code takes the batch's mean).
Eq. 3 and its footnote disagree about the sign, so both signs are shown: `gradcam-ssl` marks what raises the loss,
`-gradcam-ssl` what lowers it.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.heatmaps.base import AttributionMap, Batch, Context, map_gradient
from probekit.heatmaps.maps.cam import weigh_channels
from probekit.models.encoder import Encoder
from probekit.views.recipes import make_views

PASS = 64  # views that are encoded at a time: bounds memory


class GradCAMSimilarity(AttributionMap):
    """GradCAM of the mean cosine between an image's projection and those of its views."""

    about = "GradCAM of the likeness of an image to its views"
    unit = "cosine per cell"
    signed = True
    both_signs = True
    needs: ClassVar[frozenset[str]] = frozenset({"map"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
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
        generator = of_image(context.seed, index, image.device)
        copies = image.expand(context.draws // context.recipe.views, *image.shape)
        drawn.append(make_views(context.recipe, copies, generator, size=context.view_size).inputs.flatten(0, 1))
    parts = torch.split(torch.cat(drawn), PASS)
    pooled = torch.cat([encoder(part.contiguous(memory_format=torch.channels_last)).pooled for part in parts])
    return project(pooled, context).view(len(batch.images), context.draws, -1)


def of_image(seed: int, index: int, device: torch.device) -> torch.Generator:
    """The random numbers of the views of one image, by its place in the split."""
    word = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(word)
