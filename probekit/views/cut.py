"""Random crops cut out of photographs before a step, by threads: drawn, decoded and resized for a batch at a time.

Boxes follow the law of the recipe over each photograph's own size. Those of torchvision's law are resized as its
RandomResizedCrop does on Pillow's images, bilinear and antialiased; those of TensorFlow's bicubic, and antialiased,
too, which the authors' code is not. Where all crops of a photograph are twice as large as their views, or more, a JPEG
file is decoded at that share of its size.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from probekit.data.split import Photographs
from probekit.ranks import size
from probekit.views.crops import Placement, boxes_of, limits_of
from probekit.views.recipes import ViewMaker, own_boxes

REDUCED = (8, 4, 2)  # by which a JPEG file is decoded sooner

Job = tuple[Tensor, int]  # the index of a batch, int64 `[B]` on the CPU, and the seed of its crops
Placing = Callable[[Tensor], Placement | None]  # of the images of an index, in pixels of `images`


def anywhere(index: Tensor) -> None:
    """Crops stand where their law has them."""


class Cutter:
    """Cuts the crops of a recipe's views: what a `ViewMaker` that is to be given them takes in place of images."""

    def __init__(self, images: Photographs, maker: ViewMaker) -> None:
        assert maker.cut
        self.images, self.maker, self.packing = images, maker, maker.packing
        self.torchvision = maker.tables(0).torchvision

    def feed(self, jobs: Sequence[Job], placing: Placing = anywhere) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of an index and the crops of its images, both on the images' device; some batches are cut ahead.

        Of several processes each cuts its images of a batch; its boxes are drawn for all of it.
        """

        def cut(job: Job) -> Tensor:
            index, seed = job
            batch = size() * len(index)
            drawn = self.maker.draw_boxes(batch, torch.Generator().manual_seed(seed))
            return self(index, own_boxes(drawn, batch), placing(index))

        device = self.images.device
        for (index, _), crops in zip(jobs, self.images.made_ahead(jobs, cut), strict=True):
            yield index.to(device, non_blocking=True), crops

    def __call__(self, index: Tensor, drawn: Tensor, placement: Placement | None = None) -> Tensor:
        """The crops uint8 `[B, packing.bytes]` of images int64 `[B]`, all on the CPU.

        `drawn`: what `ViewMaker.draw_boxes` gives for so many images; `placement`: in pixels of `images`.
        """
        sizes = self.images.encoded.sizes(index.tolist())
        assert sizes is not None
        known = torch.from_numpy(sizes)
        repeated = known.repeat(drawn.shape[1] // len(index), 1)
        limits = limits_of(repeated, torchvision=self.torchvision)
        placed = None if placement is None else self._in_photographs(placement, sizes)
        boxes = boxes_of(drawn, limits, placed).view(-1, len(index), 4).transpose(0, 1).tolist()
        crops = torch.empty(len(index), self.packing.bytes, dtype=torch.uint8)
        list(self.images.pool.map(self._cut, index.tolist(), boxes, crops))
        return crops

    def _cut(self, index: int, boxes: Sequence[Sequence[int]], out: Tensor) -> None:
        """Writes the crops of a photograph to `[packing.bytes]`."""
        places = list(self.packing.places)
        reduced = reduction([(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes], [size for _, size in places])
        image = self.images.encoded.photograph(index, reduced)
        height, width = (-(-side // reduced) for side in self.images.encoded.size(index))
        reduced = reduced if image.shape[:2] == (height, width) else 1  # what is no JPEG comes whole
        for box, (place, view) in zip(boxes, places, strict=True):
            crop = resized(image, [end / reduced for end in box], view, bicubic=not self.torchvision)
            out[place].view(crop.shape).copy_(crop)

    def _in_photographs(self, placement: Placement, sizes: NDArray[np.int32]) -> Placement:
        """Regions of the test crop, as `images` has it, as regions of the photographs, in whole pixels around them."""
        crop = self.images.encoded.crop
        assert crop is not None
        x0, y0, x1, y1 = np.array([crop.box(*each) for each in sizes.tolist()]).T
        scale, corner = np.stack([x1 - x0, y1 - y0]) / self.images.shape[-1], np.stack([x0, y0])
        regions = placement.regions.cpu().numpy().T
        most = sizes.T[::-1]
        start = np.floor(corner + regions[:2] * scale).clip(0, most - 1)
        stop = np.ceil(corner + regions[2:] * scale).clip(start + 1, most)
        return Placement(torch.from_numpy(np.concatenate([start, stop]).T).long(), placement.quantiles.cpu())


def reduction(crops: Sequence[tuple[int, int]], views: Sequence[tuple[int, int]]) -> int:
    """By how many times less a photograph may be decoded, 1, 2, 4 or 8: no view is then enlarged that was not before.

    `crops`: (width, height) of each; `views`: (height, width) of what becomes of it.
    """
    pairs = list(zip(crops, views, strict=True))
    for times in REDUCED:
        if all(width >= times * w and height >= times * h for (width, height), (h, w) in pairs):
            return times
    return 1


def resized(image: NDArray[np.uint8], box: Sequence[float], size: tuple[int, int], *, bicubic: bool) -> Tensor:
    """A box (x0, y0, x1, y1) of an image `[H, W]` or `[H, W, 3]` at a size (h, w), antialiased: uint8 `[h, w, C]`."""
    x0, y0, x1, y1 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    crop = np.ascontiguousarray(image[y0:y1, x0:x1])
    if (x0, y0, x1, y1) != tuple(box):  # which Pillow alone takes
        how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        inside = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
        found = torch.from_numpy(np.array(Image.fromarray(crop).resize(size[::-1], how, inside)))
        return found[..., None] if found.ndim == 2 else found
    pixels = torch.from_numpy(crop)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    # Torch's, of bytes, takes a fourth of the time of Pillow's, for the same pixels but for rounding.
    mode = "bicubic" if bicubic else "bilinear"
    return F.interpolate(pixels.permute(2, 0, 1)[None], size, mode=mode, antialias=True)[0].permute(1, 2, 0)
