"""GradCAM of the loss that the encoder was pretrained with, whichever it was (LCR paper, figure 1 and eq. 3).

It rests on the contract of a method alone: a step of views gives features and the loss of their embeddings
(`probekit.methods.base`). The image as it is takes the place of its first view, so that the map lies on it; its other
views are drawn as for training, and some images of train make it a batch, since losses compare images.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from probekit.branches.base import Branch, active_branches, has_loss, needs_masks
from probekit.heatmaps.base import AttributionMap, Batch, as_inputs
from probekit.heatmaps.maps.cam import weigh_channels
from probekit.heatmaps.maps.gradcam_ssl import of_image
from probekit.methods.base import Method
from probekit.models.encoder import Encoder, Features
from probekit.views.recipes import make_views


class GradCAMLoss(AttributionMap):
    """GradCAM of each image's share of the loss of a batch: the image and `context.companions`.

    The loss is the method's, of ConRec's the part that rests on the embedding, and what its branches add to it.
    """

    about = "GradCAM of the loss that the encoder was pretrained with"
    unit = "loss per cell"
    signed = True
    both_signs = True
    needs: ClassVar[frozenset[str]] = frozenset({"map", "loss"})

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        assert self.context.method is not None
        method = self.context.method.around(FromTheMap(encoder))
        images = zip(batch.images, batch.index.tolist(), strict=True)
        return torch.cat([self._map(method, encoder.stride, image, index) for image, index in images])

    def _map(self, method: Method, stride: int, image: Tensor, index: int) -> Tensor:
        """The map `[1, h, w]` of one image uint8 `[C, H, W]`, whose views depend on the seed and its index alone."""
        assert self.context.companions is not None
        generator = of_image(self.context.seed, index, image.device)
        companions = self.context.companions
        others = companions[(companions != image).flatten(1).any(dim=1)]  # where the image is one of train, too
        images = torch.cat([image[None], others])
        with torch.enable_grad():
            views = make_views(self.context.recipe, images, generator, stride=stride)
            views.inputs[0, 0] = as_inputs(image[None])[0]
            step = method.step(views)
            loss = step.loss if step.contrastive is None else step.contrastive
            for branch in branches_with_a_loss(method):
                loss = loss + branch.weight * branch.loss(step)
            # Losses are means over images, so that the sum has each image's own.
            (gradient,) = torch.autograd.grad(len(images) * loss, step.features.map)
        return weigh_channels(step.features.map[:1].detach(), gradient[:1])


class FromTheMap(nn.Module):
    """An encoder whose features have a gradient from the feature map on; what comes before is encoded without one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *batches: Tensor) -> Features:
        """As the encoder."""
        with torch.no_grad():
            found: Features = self.encoder(*batches)
        leaf = found.map.detach().float().requires_grad_()
        pooled, weights = self.encoder.pooling(leaf)
        return Features(found.stages, leaf, pooled, weights)


def branches_with_a_loss(method: Method) -> Sequence[Branch]:
    """Those whose loss can be taken of any images."""
    found = filter(has_loss, active_branches(method))
    return [branch for branch in found if not _needs_its_split(branch)]


def loss_notes(method: Method | None) -> list[str]:
    """What to know of the loss that is taken, a line each."""
    found = [] if method is None else filter(has_loss, active_branches(method))
    return [
        f"gradcam-loss is without the loss of {branch.name}, which asks for images or masks of its training split"
        for branch in found
        if _needs_its_split(branch)
    ]


def _needs_its_split(branch: Branch) -> bool:
    return type(branch).companions is not Branch.companions or needs_masks(type(branch))
