"""Crops around what the encoder itself finds: ContrastiveCrop (Peng, Wang, Zhu, You, CVPR 2022, arXiv 2202.03278).

Each image has a region, the bounding box of where its feature map is strong. The centres of its crops lie there, more
often near the region's edges than in its middle. Details: the authors' code; docs/methods.md says where ours differs.
"""

import math

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.config import CropConfig
from probekit.data.split import Images
from probekit.models.encoder import Encoder
from probekit.models.extract import read_all
from probekit.views.crops import Placement

WHOLE = 0.95  # of an image; ours
QUANTILES = 2**12  # ours: the law's distribution function is off by less than 1 / 4096


class Regions(nn.Module):
    """The regions of all images of a split; until they are found, whole images with even centres: plain random crops.

    All of it is in buffers that are written in place: a recorded step sees the change, and a checkpoint keeps them.

    Args:
        images: uint8 `[N, C, H, W]`.
        crop: The run's settings.
    """

    boxes: Tensor
    quantiles: Tensor

    def __init__(self, images: Images, crop: CropConfig) -> None:
        super().__init__()
        self.crop = crop
        height, width = images.shape[-2:]
        whole = torch.tensor([0, 0, width, height], dtype=torch.int32)
        self.register_buffer("boxes", whole.repeat(len(images), 1))
        self.register_buffer("quantiles", torch.linspace(0, 1, QUANTILES + 1))
        self.to(images.device)

    def of(self, index: Tensor) -> Placement:
        """Where crops of the images `[B]` stand."""
        return Placement(self.boxes[index].long(), self.quantiles)

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether the regions are to be found before an epoch: first after the warm-up."""
        # An epoch at least, unless the warm-up is 0; a product such as .07 * 100 is a hair above 7.
        first = math.ceil(round(self.crop.warmup * epochs, 6))
        step = max(1, round(self.crop.every * epochs))
        return epoch >= first and (epoch - first) % step == 0

    def find(self, encoder: Encoder, images: Images, precision: str = "fp32") -> float:
        """Finds every image's region anew, in the run's precision; returns their mean share of an image."""
        placement = find_placement(encoder, images, self.crop, precision)
        self.boxes.copy_(placement.regions)
        self.quantiles.copy_(placement.quantiles)
        height, width = images.shape[-2:]
        sides = (placement.regions[:, 2:] - placement.regions[:, :2]).double()
        return float(sides.prod(1).mean()) / (height * width)

    def told(self, share: float) -> str:
        """A line for the user on the regions' mean share of an image."""
        line = f"crop regions found: {share:.0%} of an image"
        if share <= WHOLE:
            return line
        higher = (1 + self.crop.threshold) / 2
        return f"{line}, so crops are all but random; for smaller regions type: --set crop.threshold={higher:.2g}"


def check_cells(images: Images, stride: int) -> None:
    """Refuses images whose map is a single cell, which is strong nowhere.

    Raises:
        ValueError: If it is.
    """
    height, width = images.shape[-2:]
    if height // stride * (width // stride) < 2:
        raise ValueError(
            f"expected a map of several cells for crop.policy contrastive, found one: images of {height}x{width} and a "
            f"stride of {stride}; use larger images, or type: --set model.stem=small, or --set crop.policy=random"
        )


def find_placement(encoder: Encoder, images: Images, crop: CropConfig, precision: str = "fp32") -> Placement:
    """Where the crops of images uint8 `[N, C, H, W]` are to stand, found in one pass in eval mode; on their device."""
    height, width = images.shape[-2:]
    found = read_all(
        encoder,
        images,
        lambda features: strong_boxes(features.map, (height, width), crop.threshold),
        precision=precision,
    )
    return Placement(found.to(images.device), beta_quantiles(crop.alpha).to(images.device))


def strong_boxes(feature_map: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """The smallest box around all pixels where an image's map is strong.

    The map's positive parts are summed over channels, scaled to [0, 1] for each image and resized, bilinear.

    Args:
        feature_map: `[B, D, h, w]`.
        size: (H, W) of the images.
        threshold: A pixel is strong above it.

    Returns:
        int64 `[B, 4]` (x0, y0, x1, y1) in pixels of the images; the whole image where no pixel is strong.
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
