"""Random crops: the law of the boxes, and the bicubic resize of a box to the whole image.

Source: ConRec authors' code, `augmentations/contrastive.py`, which takes both from TensorFlow. The box
law is that of `sample_distorted_bounding_box` (kernel of TF 2.3): the aspect ratio and, given it, the
height in whole pixels are uniform, so small areas are more frequent than under a uniform area.

Where we differ: the authors' resize is the TF 1 op, whose default grid is tied to the upper left corner
of pixels (Keys' a = -0.75). Ours is the TF 2 one: pixel centres at +0.5, a = -0.5, weights outside the crop
dropped and the rest renormalised. A view then lies where its box says, without a shift of up to half a pixel.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.batched import Taps, integers, resample, uniform

AREA = (0.08, 1.0)  # share of the image's area; authors' code
ASPECT = (3 / 4, 4 / 3)  # width / height, in units of the image's own; authors' code
# Authors' code: a crop must cover this much of the "object", which is the whole image. It is the true
# lower bound of the area; AREA[0] only shapes the law of the heights.
COVERED = 0.1
# TF tries 100 times. One try fails with probability 0.04 to 0.06 (measured, 16 to 512 px), so 10 leave the
# whole image, as TF does after its last try, in less than one crop of 1e12.
TRIES = 10

POLICIES = {
    "random": "anywhere in the image",
    "contrastive": "around what the encoder itself finds (ContrastiveCrop, arXiv 2202.03278)",
}


@dataclass(frozen=True)
class Placement:
    """Where the crops of some images stand, once their sizes are drawn.

    Attributes:
        regions: int64 [B, 4] (x0, y0, x1, y1) in source pixels: a crop's centre lies in its image's region. A crop that
            would reach over the image's border is moved inside.
        quantiles: float32 [Q + 1], of the law of the centre across the region, at 0, 1 / Q, ..., 1; from 0 to 1.
    """

    regions: Tensor
    quantiles: Tensor

    def drawn(self, u: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) as draws of the law, in [0, 1]; between two quantiles it is uniform."""
        position = u * (len(self.quantiles) - 1)
        cell = position.long()
        low, high = self.quantiles[cell], self.quantiles[cell + 1]
        return low + (high - low) * (position - cell)


def random_resized_boxes(
    n: int,
    height: int,
    width: int,
    area: tuple[float, float],
    generator: torch.Generator,
    placement: Placement | None = None,
) -> Tensor:
    """Draws crop boxes as torchvision's RandomResizedCrop does: a uniform area and a log-uniform aspect ratio.

    Args:
        n: How many boxes.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        area: Bounds of the share of the image's area.
        generator: On the device where the boxes are wanted.
        placement: Of B images, n a multiple of B, box k in image k % B; None is anywhere in the image.

    Returns:
        int64 [n, 4], (x0, y0, x1, y1) in whole source pixels; the centre, at the nearest possible aspect ratio, where
        no try of 10 fits.
    """
    u = uniform((4, n, TRIES), generator)
    low, high = map(math.log, ASPECT)
    aspect = (low + (high - low) * u[0]).exp()
    wanted = (area[0] + (area[1] - area[0]) * u[1]) * height * width
    w, h = (wanted * aspect).sqrt().round().long(), (wanted / aspect).sqrt().round().long()
    valid = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    x = _placed(u[2], w, (width - w).clamp(min=0), placement, 0)
    y = _placed(u[3], h, (height - h).clamp(min=0), placement, 1)
    whole_h, whole_w = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
    left, top = (width - whole_w) // 2, (height - whole_h) // 2
    tries = torch.stack([x, y, x + w, y + h], dim=-1)
    return _first_valid(tries, valid, (left, top, left + whole_w, top + whole_h))


def random_boxes(
    n: int, height: int, width: int, generator: torch.Generator, placement: Placement | None = None
) -> Tensor:
    """Draws crop boxes in whole source pixels.

    As in TF, the last possible position of a box that is smaller than the image is never drawn.

    Args:
        n: How many boxes.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        generator: On the device where the boxes are wanted.
        placement: As for `random_resized_boxes`.

    Returns:
        int64 [n, 4], (x0, y0, x1, y1), with x0 and y0 inside the box and x1 and y1 outside.
    """
    u = uniform((4, n, TRIES), generator)
    low, high = (bound * width / height for bound in ASPECT)
    h, w, valid = _sizes(low + (high - low) * u[0], u[1], height, width)
    x = _placed(u[2], w, (width - w - 1).clamp(min=0), placement, 0)
    y = _placed(u[3], h, (height - h - 1).clamp(min=0), placement, 1)
    tries = torch.stack([x, y, x + w, y + h], dim=-1)
    return _first_valid(tries, valid, (0, 0, width, height))


def _placed(u: Tensor, size: Tensor, last: Tensor, placement: Placement | None, axis: int) -> Tensor:
    """First pixels, 0 to `last`, of crops of some sizes [n, TRIES], along x (axis 0) or y (axis 1)."""
    if placement is None:
        return integers(u, 0, last + 1)
    regions = placement.regions.repeat(len(u) // len(placement.regions), 1)
    start, stop = regions[:, axis, None], regions[:, axis + 2, None]
    low = (start - size // 2).clamp(min=0).minimum(last)
    high = (stop - (size + 1) // 2).clamp(min=0).minimum(last)
    return integers(placement.drawn(u), low, high + 1)


def _first_valid(tries: Tensor, valid: Tensor, otherwise: tuple[int, int, int, int]) -> Tensor:
    """The first valid of the tries [n, TRIES, 4], or the box of those that have none."""
    # The first valid try has the largest rank; argmax alone may take any of several equal ones.
    rank = valid * torch.arange(TRIES, 0, -1, device=tries.device)
    first = rank.argmax(1)[:, None, None].expand(len(tries), 1, 4)
    box = torch.empty(4, dtype=torch.int64, device=tries.device)
    for corner, value in zip(box, otherwise, strict=True):
        corner.fill_(value)  # no copy from the host, which a CUDA graph could not hold
    return torch.where(valid.any(1)[:, None], tries.gather(1, first).squeeze(1), box)


def _sizes(aspect: Tensor, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Heights and widths for aspect ratios (width / height), and whether TF would accept them."""
    least, most = (bound * height * width for bound in AREA)
    shortest = (least / aspect).sqrt().round().long()
    tallest = (most / aspect).sqrt().round().long()
    fitting = ((width + 0.5) / aspect).long()
    fitting = fitting - (_width(fitting, aspect) > width).long()
    tallest = torch.where(_width(tallest, aspect) > width, fitting, tallest).clamp(max=height)
    h = integers(u, shortest.minimum(tallest), tallest + 1)
    # TF forgives rounding by one pixel, either way, before it rejects a size.
    h = h + (h * _width(h, aspect) < least).long()
    h = h - (h * _width(h, aspect) > most).long()
    w = _width(h, aspect)
    area = h * w
    valid = (area >= max(least, COVERED * height * width)) & (area <= most)
    return h, w, valid & (w <= width) & (h <= height)


def _width(height: Tensor, aspect: Tensor) -> Tensor:
    return (height * aspect).round().long()


def resize_crops(images: Tensor, boxes: Tensor, flipped: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes boxes to one size, bicubic, without antialiasing; mirrors some of them.

    Args:
        images: float32 [B, C, H, W].
        boxes: int64 [N, 4] (x0, y0, x1, y1) in source pixels, N a multiple of B; box n reads image n % B.
        flipped: bool [N], mirror left and right after the crop.
        size: (h, w) of the result.

    Returns:
        float32 [N, C, h, w]; bicubic overshoot is kept.
    """
    x0, y0, x1, y1 = boxes.unbind(1)
    rows = _cubic_taps(y0, y1, size[0], torch.zeros_like(flipped))
    return resample(images, rows, _cubic_taps(x0, x1, size[1], flipped))


def _cubic_taps(start: Tensor, stop: Tensor, size: int, mirrored: Tensor) -> Taps:
    """Keys' cubic (a = -0.5, four taps) from the positions [start, stop) to `size` positions."""
    position = torch.arange(size, device=start.device).expand(len(start), size)
    position = torch.where(mirrored[:, None], size - 1 - position, position)
    # Source coordinate of the output centre, as a fraction of whole numbers: exact for any size.
    numerator = (2 * position + 1) * (stop - start)[:, None] - size
    left = numerator.div(2 * size, rounding_mode="floor")
    t = (numerator - 2 * size * left) / (2 * size)  # [N, size], in [0, 1)
    weights = torch.stack([_far(1 + t), _near(t), _near(1 - t), _far(2 - t)], dim=-1)
    index = (start[:, None] + left)[:, :, None] + torch.arange(-1, 3, device=start.device)
    first, last = start[:, None, None], stop[:, None, None] - 1
    weights = weights * ((index >= first) & (index <= last))
    return Taps(index.clamp(first, last), weights / weights.sum(-1, keepdim=True))


def _near(d: Tensor) -> Tensor:
    """Keys' kernel at distance d <= 1."""
    return (1.5 * d - 2.5) * d * d + 1


def _far(d: Tensor) -> Tensor:
    """Keys' kernel at distance 1 <= d <= 2."""
    return ((-0.5 * d + 2.5) * d - 4) * d + 2
