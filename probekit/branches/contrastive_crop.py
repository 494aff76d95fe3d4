"""Crops around what the encoder itself finds: ContrastiveCrop (Peng, Wang, Zhu, You, CVPR 2022, arXiv 2202.03278).

Each image has a region, the bounding box of where its feature map is strong. The centres of its crops lie there, more
often near the region's edges than in its middle. Details: the authors' code; docs/branches.md says where ours differs.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from probekit.branches.base import Branch, Epoch, Read, put, take_over
from probekit.checked import Meta
from probekit.config import MOST, Number, Share
from probekit.models.encoder import Encoder
from probekit.views.crops import Placement

WHOLE = 0.95  # of an image; ours
QUANTILES = 2**12  # ours: the law's distribution function is off by less than 1 / 4096
LEAST_ALPHA = 0.01  # ours: below, the law is 0 or 1


class ContrastiveCrop(Branch):
    """Places the crops of every image; it has no loss. Until regions are found it rests, and crops are random ones.

    `threshold`: a pixel is strong where the map is above it: a share of the map's range over the image; `alpha`:
    parameter of the beta law of the centres across the region: below 1 for its edges, 1 for even; `warmup`: epochs with
    random crops, as a share of the run's, rounded up; `every`: from one search for the regions to the next, as a share
    of the run's epochs.
    """

    about = "crops around what the encoder itself finds"
    paper = "ContrastiveCrop, arXiv 2202.03278"
    name = "contrastive-crop"
    needs: ClassVar[frozenset[str]] = frozenset({"map"})

    boxes: Tensor
    quantiles: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        threshold: Share = 0.1,  # authors' code, every data set
        alpha: Annotated[float, Meta(ge=LEAST_ALPHA, lt=MOST)] = 0.6,  # authors' code, ImageNet
        warmup: Share = 0.2,  # authors' code: 20 of 100 epochs, 100 of 500
        every: Number = 0.2,  # as warmup
    ) -> None:
        super().__init__()
        self.threshold, self.warmup, self.every, self.stride = threshold, warmup, every, encoder.stride
        self.register_buffer("boxes", torch.zeros(0, 4, dtype=torch.int32))  # of every image, once they are found
        self.register_buffer("quantiles", beta_quantiles(alpha), persistent=False)

    @property
    def resting(self) -> bool:
        """Until regions are found."""
        return not len(self.boxes)

    def begin_epoch(self, epoch: Epoch) -> Mapping[str, float]:
        """Finds every image's region anew, where that is due; `region` is their mean share of an image."""
        if not self.due(epoch.done, epoch.of):
            return {}
        boxes = self.place(epoch.read, epoch.size).regions
        put(self, boxes=boxes.to(self.boxes))
        share = float((boxes[:, 2:] - boxes[:, :2]).double().prod(1).mean()) / math.prod(epoch.size)
        epoch.say(self.told(share))
        return {"region": share}

    def due(self, done: int, epochs: int) -> bool:
        """Whether regions are to be found after so many of a run's epochs: first after the warm-up."""
        # An epoch at least, unless the warm-up is 0; a product such as .07 * 100 is a hair above 7.
        first = math.ceil(round(self.warmup * epochs, 6))
        step = max(1, round(self.every * epochs))
        return done >= first and (done - first) % step == 0

    def placement(self, index: Tensor) -> Placement:
        """Around the regions of the images `[B]`."""
        return Placement(self.boxes[index].long(), self.quantiles)

    def place(self, read: Read, size: tuple[int, int]) -> Placement:
        """Around the regions that the encoder finds in all images now."""
        found = read(lambda features: strong_boxes(features.map, size, self.threshold))
        return Placement(found.to(self.quantiles.device), self.quantiles)

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuses images whose map is a single cell, which is strong nowhere."""
        height, width = size
        if height // self.stride * (width // self.stride) < 2:
            raise ValueError(
                f"expected a map of several cells for branch {self.name}, found one: images of {height}x{width} and a "
                f"stride of {self.stride}; use larger images, or type: --set model.stem=small, or leave --branch out"
            )

    def told(self, share: float) -> str:
        """A line for the user on the regions' mean share of an image."""
        line = f"crop regions found: {share:.0%} of an image"
        if share <= WHOLE:
            return line
        higher = f"branch.{self.name}.threshold={(1 + self.threshold) / 2:.2g}"
        return f"{line}, so crops are all but random; for smaller regions type: --set {higher}"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Takes over the regions of any number of images: they are as many as a run's dataset has."""
        take_over(self, state_dict, prefix, "boxes")
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def strong_boxes(feature_map: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """The smallest box around all pixels where an image's map is strong.

    The map's positive parts are summed over channels, scaled to [0, 1] for each image and resized, bilinear. Returns
    int64 `[B, 4]` (x0, y0, x1, y1) in pixels of the images; the whole image where no pixel is strong. `feature_map`:
    `[B, D, h, w]`; `threshold`: a pixel is strong above it.
    """
    heat = F.relu(feature_map.float()).sum(1, keepdim=True)
    least, most = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
    heat = (heat - least) / (most - least)  # nan, so nowhere strong, where the map is even
    strong = F.interpolate(heat, size, mode="bilinear", align_corners=False)[:, 0] > threshold
    columns, rows = _ends(strong.any(1)), _ends(strong.any(2))
    return torch.stack([columns[0], rows[0], columns[1], rows[1]], dim=1)


def _ends(marked: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last of the marked positions of each row, bool `[B, n]`; 0 and n where none is."""
    n = marked.shape[1]
    position = torch.arange(n, device=marked.device)
    marked = marked | ~marked.any(1, keepdim=True)
    return position.where(marked, n).amin(1), (position + 1).where(marked, 0).amax(1)


def beta_quantiles(alpha: float) -> Tensor:
    """Quantiles of Beta(alpha, alpha) at 0, 1/4096, ..., 1, float32: alpha below 1 is U-shaped, 1 is uniform."""
    at = np.linspace(0, 1, QUANTILES + 1)
    return torch.from_numpy(betaincinv(alpha, alpha, at)).float()
