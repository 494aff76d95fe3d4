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
from torch import Tensor, nn

from probekit.views.batched import Taps, integers, resample, uniform

AREA = (0.08, 1.0)  # share of the image's area; authors' code
ASPECT = (3 / 4, 4 / 3)  # width / height, in units of the image's own; authors' code
# Authors' code: a crop must cover this much of the "object", which is the whole image. It is the true
# lower bound of the area; AREA[0] only shapes the law of the heights.
COVERED = 0.1
# TF tries 100 times. One try fails with probability 0.04 to 0.06 (measured, 16 to 512 px), so 10 leave the
# whole image, as TF does after its last try, in less than one crop of 1e12.
TRIES = 10


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


@dataclass(frozen=True)
class Limits:
    """What the law of boxes must know of images: float32, of one size (n = 1) or of n sizes; x before y.

    `height`, `width`: `[n, 1]`, or numbers. `sides`: [2, n]. `places`: how many places a crop has, and its side, [2,
    n]. `otherwise`: the box where no try fits, corner and sides, [2, 2, n].
    """

    height: Tensor | int
    width: Tensor | int
    sides: Tensor
    places: Tensor
    otherwise: Tensor
    torchvision: bool


def limits_of(sizes: Tensor, *, torchvision: bool) -> Limits:
    """Those of images of n sizes, int `[n, 2]`, height and width; `torchvision`: of its law, not of TensorFlow's."""
    height, width = sizes.double().T
    sides = torch.stack([width, height])
    whole = sides
    if torchvision:  # the nearest aspect ratio to the image's own, in the middle
        nearest = torch.stack([(height * ASPECT[1]).round(), (width / ASPECT[0]).round()])
        whole = sides.minimum(nearest)
    corner = ((sides - whole) / 2).floor()
    places = sides + 1 if torchvision else sides  # TensorFlow never draws the last
    h, w = (side[:, None].float() for side in (height, width))
    return Limits(h, w, sides.float(), places.float(), torch.stack([corner, whole]).float(), torchvision)


class CropTables(nn.Module):
    """What crops of images of one size, resized to another, always need: constants, on the device of the images.

    Made once for many batches, so that a GPU gets no constant at each step. `source`: (H, W) of the images; `size`: (h,
    w) of the views; `torchvision`: whether boxes follow torchvision's law, in place of TensorFlow's.
    """

    sides: Tensor
    places: Tensor
    otherwise: Tensor
    across: Tensor
    offsets: Tensor

    def __init__(self, source: tuple[int, int], size: tuple[int, int], *, torchvision: bool) -> None:
        super().__init__()
        self.source, self.size, self.torchvision = source, size, torchvision
        limits = limits_of(torch.tensor([source]), torchvision=torchvision)
        self.register_buffer("sides", limits.sides)
        self.register_buffer("places", limits.places)
        self.register_buffer("otherwise", limits.otherwise)
        self.register_buffer("across", torch.tensor([[True], [False]]))
        self.register_buffer("offsets", torch.arange(-1, 3))
        for length in set(size):
            odd = torch.arange(1, 2 * length, 2)
            self.register_buffer(f"odd{length}", torch.stack([odd, odd.flip(0)]))  # of a mirrored axis, too
            # Keys' cubic (a = -0.5) at the distances of the four nearest positions, for every place between two.
            distance = (torch.arange(2 * length)[:, None] / (2 * length) - self.offsets).abs()
            near = (1.5 * distance - 2.5) * distance * distance + 1
            far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
            self.register_buffer(f"cubic{length}", torch.where(distance <= 1, near, far))

    @property
    def limits(self) -> Limits:
        """For the law of the boxes."""
        return Limits(*self.source, self.sides, self.places, self.otherwise, self.torchvision)


def random_boxes(
    n: int, height: int, width: int, generator: torch.Generator, placement: Placement | None = None
) -> Tensor:
    """Draws crop boxes in whole source pixels.

    As in TF, the last possible position of a box that is smaller than the image is never drawn. `generator`: on the
    device where the boxes are wanted; `placement`: as for `boxes_of`. Returns int64 [n, 4], (x0, y0, x1, y1), with x0
    and y0 inside the box and x1 and y1 outside.
    """
    tables = CropTables((height, width), (height, width), torchvision=False).to(generator.device)
    return boxes_of(uniform((4, n, TRIES), generator), tables.limits, placement)


def areas_(drawn: Tensor, area: tuple[float, float]) -> Tensor:
    """Makes the second of numbers [4, n, TRIES] shares of an image's area, in place, as torchvision's law has it."""
    drawn[1].mul_(area[1] - area[0]).add_(area[0])
    return drawn


def boxes_of(drawn: Tensor, limits: Limits, placement: Placement | None = None) -> Tensor:
    """Boxes of uniform numbers [4, n, TRIES], the second of them areas under torchvision's law.

    That is RandomResizedCrop: a uniform area and a log-uniform aspect ratio. `placement`: where crops of B images may
    stand, box k in image k % B, n a multiple of B; None is anywhere. Returns int64 [n, 4], (x0, y0, x1, y1) in whole
    source pixels; under torchvision's law the centre, at the nearest possible aspect ratio, where no try of 10 fits.
    """
    height, width = limits.height, limits.width
    if limits.torchvision:
        low, high = map(math.log, ASPECT)
        aspect = (low + (high - low) * drawn[0]).exp()
        wanted = drawn[1] * height * width
        sizes = torch.stack([(wanted * aspect).sqrt(), (wanted / aspect).sqrt()]).round_()
    else:
        sizes = _sizes(drawn[0], drawn[1], height, width)
    valid = ((sizes >= 1) & (sizes <= limits.sides[..., None])).all(0)
    if not limits.torchvision:
        valid &= sizes[0] * sizes[1] >= max(AREA[0], COVERED) * height * width
    # The first valid try has the largest rank; argmax alone may take any of several equal ones.
    best, first = (valid * torch.arange(TRIES, 0.0, -1.0, device=drawn.device)).max(1)
    found = best > 0
    first = first[None, :, None].expand(2, -1, 1)
    chosen = sizes.gather(2, first).squeeze(2)
    size = torch.where(found, chosen, limits.otherwise[1])
    u = drawn[2:].gather(2, first).squeeze(2)
    places = (limits.places - size).clamp_(min=1)
    corner = integers(u, places) if placement is None else _placed(u, size, places - 1, placement)
    if limits.torchvision:
        corner = torch.where(found, corner, limits.otherwise[0])
    return torch.cat([corner, corner + size]).long().T


def _placed(u: Tensor, size: Tensor, last: Tensor, placement: Placement) -> Tensor:
    """First pixels, 0 to `last`, of crops of some sizes; all [2, n], x and y."""
    regions = placement.regions.T.repeat(1, u.shape[1] // len(placement.regions))
    start, stop = regions[:2], regions[2:]
    low = (start - (size / 2).floor()).clamp(min=0).minimum(last)
    high = (stop - (size / 2).ceil()).clamp(min=0).minimum(last)
    return low + integers(placement.drawn(u), high - low + 1).minimum(high - low)


def _sizes(aspect: Tensor, u: Tensor, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Widths and heights, [2, n, TRIES], of TF's law of two uniform numbers; whole, none larger than the image."""
    low, high = (bound * width / height for bound in ASPECT)
    aspect = low + (high - low) * aspect  # width / height
    least, most = (bound * height * width for bound in AREA)
    inverse = aspect.reciprocal()
    shortest, tallest = (inverse * least).sqrt_().round_(), (inverse * most).sqrt_().round_()
    fitting = (inverse * (width + 0.5)).floor_()
    fitting = fitting.add_((fitting * aspect).round_() > width, alpha=-1)
    tallest = tallest.minimum(fitting).clamp_(max=height)
    shortest = shortest.minimum(tallest)
    h = shortest + integers(u, tallest - shortest + 1)
    # TF forgives rounding by one pixel, either way, before it rejects a size.
    area = h * (h * aspect).round_()
    h = h.add_(area < least).add_(area > most, alpha=-1)
    return torch.stack([(h * aspect).round_(), h])


def resize_crops(images: Tensor, boxes: Tensor, flipped: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes boxes to one size, bicubic, without antialiasing; mirrors some of them.

    Returns float32 [N, C, h, w]; bicubic overshoot is kept. `images`: float32 [B, C, H, W]. `boxes`: int64 [N, 4] (x0,
    y0, x1, y1) in source pixels, N a multiple of B; box n reads image n % B. `flipped`: bool [N], mirror left and right
    after the crop. `size`: (h, w) of the result.
    """
    tables = CropTables((images.shape[2], images.shape[3]), size, torchvision=False).to(images.device)
    return resized(images, boxes, flipped, tables)


def resized(images: Tensor, boxes: Tensor, flipped: Tensor, tables: CropTables) -> Tensor:
    """`resize_crops` to the size of the tables."""
    height, width = tables.size
    mirrored = flipped & tables.across
    start, stop = boxes.T[:2], boxes.T[2:]
    if height == width:  # both axes at once
        taps = _cubic_taps(start.reshape(-1), stop.reshape(-1), mirrored.view(-1), width, tables)
        columns, rows = (Taps(*both) for both in zip(taps.index.chunk(2), taps.weights.chunk(2), strict=True))
    else:
        columns, rows = (
            _cubic_taps(start[axis], stop[axis], mirrored[axis], tables.size[1 - axis], tables) for axis in range(2)
        )
    return resample(images, rows, columns)


def _cubic_taps(start: Tensor, stop: Tensor, mirrored: Tensor, size: int, tables: CropTables) -> Taps:
    """Keys' cubic (a = -0.5, four taps) from the positions [start, stop) to `size` positions."""
    odd, cubic = tables.get_buffer(f"odd{size}"), tables.get_buffer(f"cubic{size}")
    # Source coordinate of the output centre, as a fraction of whole numbers: exact for any size.
    numerator = torch.where(mirrored[:, None], odd[1], odd[0]) * (stop - start)[:, None] - size
    left = numerator.div(2 * size, rounding_mode="floor")
    weights = cubic[numerator.remainder(2 * size)]
    index = (start[:, None] + left)[:, :, None] + tables.offsets
    inside = index.clamp(start[:, None, None], (stop - 1)[:, None, None])
    weights = weights * (index == inside)
    return Taps(inside, weights / weights.sum(-1, keepdim=True))
