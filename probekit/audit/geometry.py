"""Where the pixels of an image come to stand in its views, and which of them are still seen there."""

import torch
from torch import Tensor

from probekit.views.corrupt import CORRUPTIONS, CorruptionTables, corrupt_as

NO_WAY = -1  # a kind of corruption that there is not: the view stays as it is


def unmoved(drawn: tuple[Tensor, ...], tables: CorruptionTables) -> Tensor:
    """Which pixels of views show after their corruption what stood there before.

    Not those that are painted over, and not those that pixel shuffling moved; a bent intensity leaves all in place.
    `drawn`: what `corrupt.corrupt_as` takes, n rows each. Gives bool [n, h, w].
    """
    kind, *others = drawn
    channels, height, width = tables.shape
    names = [name for name, _ in CORRUPTIONS[channels]]
    if "intensity" in names:
        kind = torch.where(kind == names.index("intensity"), NO_WAY, kind)
    # Each pixel has a number of its own in place of its colour, beyond all colours that are painted.
    own = torch.arange(2.0, 2 + height * width).view(1, 1, height, width).expand(len(kind), channels, -1, -1)
    return (corrupt_as(own.contiguous(), (kind, *others), tables) == own).all(1)


def kept(boxes: Tensor, flipped: Tensor, seen: Tensor, source: tuple[int, int]) -> Tensor:
    """Which share of each pixel of an image its view still shows: float32 [N, H, W] in [0, 1], 0 outside the crop.

    A pixel of the crop covers a rectangle of the view, whatever the law of interpolation: the share of it that is seen.
    `boxes`: int64 [N, 4] (x0, y0, x1, y1) in source pixels; `flipped`: bool [N], mirrored left and right after the
    crop; `seen`: bool [N, h, w], the pixels of the view that show what the crop put there (`unmoved`); `source`: (H, W)
    of the images.
    """
    visible = torch.where(flipped[:, None, None], seen.flip(2), seen).float()
    height, width = source
    columns = _overlap(boxes[:, 0], boxes[:, 2], width, seen.shape[2])
    rows = _overlap(boxes[:, 1], boxes[:, 3], height, seen.shape[1])
    return rows @ visible @ columns.transpose(1, 2)


def _overlap(start: Tensor, stop: Tensor, source: int, size: int) -> Tensor:
    """Along one axis: which share of each source pixel lies on each of `size` pixels of the view, [N, source, size]."""
    scale = size / (stop - start)[:, None]
    left = (torch.arange(source) - start[:, None]) * scale
    first = torch.arange(float(size))
    common = torch.minimum((left + scale)[..., None], first + 1) - torch.maximum(left[..., None], first)
    return common.clamp(min=0) / scale[..., None]


def carried(masks: Tensor, boxes: Tensor, flipped: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, H, W] in the geometry of views, [N, h, w]: each pixel of a view has the mask at its centre.

    `boxes`, `flipped`: as for `kept`; `size`: (h, w) of the views.
    """
    height, width = size
    part = (torch.arange(height) + 0.5) / height
    rows = (boxes[:, 1, None] + part * (boxes[:, 3] - boxes[:, 1])[:, None]).long()
    part = (torch.arange(width) + 0.5) / width
    across = torch.where(flipped[:, None], 1 - part, part)
    columns = (boxes[:, 0, None] + across * (boxes[:, 2] - boxes[:, 0])[:, None]).long()
    return masks[torch.arange(len(masks))[:, None, None], rows[:, :, None], columns[:, None, :]]


def enlarged(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """How many pixels of the view one pixel of the image becomes along a side, the geometric mean of both: [N]."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (size[0] * size[1] / area).sqrt()
