"""CVSA (Wu, Li, Zang, Li, arXiv 2106.15788): saliency regions swapped between images, and foregrounds that align.

From the paper's summary: crops and swaps of saliency regions make the views, and a cross-view alignment loss guides the
encoder to the foreground. No code was published, and settings, the form of the loss among them, are our reading.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.branches.base import Masks, put
from probekit.branches.pasting import Pasting
from probekit.config import Number, Part, Positive
from probekit.methods.base import Step
from probekit.models.encoder import Encoder
from probekit.ranks import gathered
from probekit.views.paste import Paste, regions_of, seen_masks, swapped


class CVSA(Pasting):
    """Swaps the region around the foreground into another image, and aligns where two views answer to it.

    The mean feature of one view's foreground, a constant, of the target network where there is one, is compared with
    each cell of the other view: where it answers is fitted to where the other view's foreground is.

    `weight`: of the alignment; with 0 no region is swapped, either. `share`: how often a view is swapped, each alone.
    `temperature`: of the answers over cells. `mask`: what the foreground is: a mask's name in the file, "" for all of
    them but evidence.
    """

    about = "the foreground's region of some views in another image, and a loss that aligns foregrounds"
    paper = "CVSA, arXiv 2106.15788"
    name = "cvsa"
    needs = frozenset({"map", "two_views"})

    regions: Tensor
    covered: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        weight: Number = 1.0,  # ours
        share: Part = 0.5,  # ours
        temperature: Positive = 0.2,  # ours, as of MoCo v2's loss
        mask: str = "",
    ) -> None:
        super().__init__(share=share, mask=mask, weight=weight)
        self.temperature = temperature
        self.register_buffer("regions", torch.zeros(0, 4, dtype=torch.int64), persistent=False)  # of every image
        self.covered = torch.empty(0)  # uint8 [V * B, 1, H, W], the foregrounds of what this step's views are cut from

    def take_masks(self, masks: Masks) -> None:
        """Keeps those of every training image, and the boxes around them."""
        super().take_masks(masks)
        put(self, regions=regions_of(self.masks))

    def pasted(self, index: Tensor, images: Tensor, everyone: Tensor, drawn: Paste) -> Tensor:
        """With the regions of other images of the batch replaced."""
        views = len(drawn.chosen) // len(images)
        regions = self.regions[index].repeat(views, 1), self.regions[gathered(index)[drawn.other]]
        given, self.covered = swapped(images, self.masks[index], everyone, regions, drawn)
        return given

    def loss(self, step: Step) -> Tensor:
        """The alignment of each view with the other, as the target network sees that where there is one.

        Logs: `inside`, how much of the answers lies on the foreground, and `foreground`, how much of a view that is: as
        much as of even answers.
        """
        assert step.views is not None
        views, batch = step.views.inputs.shape[:2]
        feature_map, boxes = step.features.map, step.views.boxes.flatten(0, 1)
        size = (feature_map.shape[2], feature_map.shape[3])
        with torch.autocast(feature_map.device.type, enabled=False):
            masks = seen_masks(self.covered[: len(boxes)], boxes, step.views.flipped.flatten(), size)
            masks = masks.view(views, batch, *size)
            maps = feature_map.float().view(-1, batch, *feature_map.shape[1:])
            target = feature_map.detach() if step.target_map is None else step.target_map
            keys = target.float().view(-1, batch, *feature_map.shape[1:])
            # Where the target network has seen the second view alone, that is the one key.
            pairs = [(keys[-1], masks[1], maps[0], masks[0])]
            if len(keys) > 1:
                pairs.append((keys[0], masks[0], maps[1], masks[1]))
            found = [alignment(*pair, temperature=self.temperature) for pair in pairs]
        self.logs = {
            "inside": torch.stack([inside for _, inside in found]).mean().detach(),
            "foreground": masks.mean().detach(),
        }
        return torch.stack([loss for loss, _ in found]).mean()


def alignment(key: Tensor, there: Tensor, query: Tensor, here: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """How far the answers to the key's foreground are from the query's foreground, and their share on it: both scalars.

    The answers are the softmax, over the query's cells, of cosines with the mean of the key's foreground. They are
    compared with the share of the foreground that each cell has, by their Kullback-Leibler divergence in nats, a mean
    over images; an image without foreground in either view counts as 0. `key`, `query`: maps `[B, D, h, w]`; `there`,
    `here`: their masks, `[B, h, w]` in [0, 1].
    """
    vector = F.normalize((key * there[:, None]).sum((2, 3)), dim=1)
    cosines = torch.einsum("bd,bdhw->bhw", vector, F.normalize(query, dim=1))
    answers = F.log_softmax((cosines / temperature).flatten(1), dim=1)
    total, tiny = here.flatten(1).sum(1), torch.finfo(here.dtype).tiny
    target = here.flatten(1) / total.clamp(min=tiny)[:, None]
    both = (total > 0) & (there.flatten(1).sum(1) > 0)
    divergences = (torch.xlogy(target, target) - target * answers).sum(1)
    inside = (answers.exp() * here.flatten(1)).sum(1)
    return torch.where(both, divergences, 0).mean(), torch.where(both, inside, 0).mean()
