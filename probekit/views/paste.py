"""Foregrounds that are copied and pasted onto other backgrounds, before views are cut: for DiLo and CVSA.

Like the rest of the views: all that is drawn is drawn first, for the whole batch of all ranks; how it is applied is a
pure function of images, masks and draws, on their device. N rows are V views of B images, view after view.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.ranks import mine
from probekit.views.batched import integers, uniforms

Background = Literal["grey", "texture", "image", "any"]
KINDS = ("grey", "texture", "image")

PATCH = 4  # a texture is a patch of another image of this part of its shorter side; ours
BLUR = 80  # the deviation of a soft edge is this part of it; ours, for the authors' 5 px of some 400
REACH = 3  # deviations that its kernel reaches


@dataclass(frozen=True)
class Paste:
    """All that is random about the backgrounds of N views.

    `chosen`: bool, which have another one. `kind`: int64, which of `KINDS`. `grey`: 0 to 255, whole. `other`: int64,
    the image of the whole batch that it is taken from, never the view's own. `soft`: bool, whether the edge of the mask
    is blurred. `corner`: `[2, N]` in [0, 1), y and x, where the patch of a texture is.
    """

    chosen: Tensor
    kind: Tensor
    grey: Tensor
    other: Tensor
    soft: Tensor
    corner: Tensor


def draw_paste(
    batch: int, views: int, generator: torch.Generator, *, share: float, background: Background, blur: float
) -> Paste:
    """Draws for all views of a batch of all ranks', and returns those of this rank's images.

    `batch`: images, at least 2. `share`, `blur`: how often a view is pasted, and the edge of what is pasted blurred.
    """
    drawn = uniforms([(views * batch,)] * 7, generator)
    chosen, kind, grey, other, soft, y, x = (mine(each, views) for each in drawn)
    place = mine(torch.arange(batch, device=generator.device).repeat(views), views)
    kinds = integers(kind, len(KINDS)).long()
    return Paste(
        chosen=chosen < share,
        kind=kinds if background == "any" else torch.full_like(kinds, KINDS.index(background)),
        grey=integers(grey, 256),
        other=(place + 1 + integers(other, batch - 1).long()) % batch,
        soft=soft < blur,
        corner=torch.stack([y, x]),
    )


def pasted(images: Tensor, masks: Tensor, everyone: Tensor, drawn: Paste) -> Tensor:
    """What each view is cut from, uint8 `[N, C, H, W]`: the images, some of them with another background.

    Where a mask is 255 the pixel is the image's, where it is 0 the background's, between them a mean of the two. An
    image without foreground stays as it is. `images`: uint8 `[B, C, H, W]`; `masks`: uint8 `[B, 1, H, W]`; `everyone`:
    uint8 `[B of all ranks, C, H, W]`.
    """
    views = len(drawn.chosen) // len(images)
    soft, own = drawn.soft.view(-1, 1, 1, 1), images.repeat(views, 1, 1, 1).float()
    alpha = torch.where(soft, blurred(masks).repeat(views, 1, 1, 1), masks.repeat(views, 1, 1, 1) / 255)
    change = (drawn.chosen & shown(masks).repeat(views)).view(-1, 1, 1, 1)
    background = _backgrounds(everyone, drawn)
    made = (background + alpha * (own - background)).round().clamp(0, 255)
    return torch.where(change, made, own).to(torch.uint8)


def shown(masks: Tensor) -> Tensor:
    """Whether there is any foreground, bool `[B]` of `[B, 1, H, W]`."""
    return masks.flatten(1).amax(1) > 0


def blurred(masks: Tensor) -> Tensor:
    """Masks uint8 `[B, 1, H, W]` after a Gaussian filter, float32 in [0, 1]; over the border they go on as at it."""
    deviation = min(masks.shape[-2:]) / BLUR
    reach = math.ceil(REACH * deviation)
    distance = torch.arange(-reach, reach + 1, device=masks.device)
    kernel = (-0.5 * (distance / deviation) ** 2).exp()
    kernel = kernel / kernel.sum()
    x = F.pad(masks / 255, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1)).clamp(0, 1)


def _backgrounds(everyone: Tensor, drawn: Paste) -> Tensor:
    """Float32 `[N, C, H, W]`, 0 to 255."""
    kind = drawn.kind.view(-1, 1, 1, 1)
    height, width = everyone.shape[-2:]
    patch = max(1, min(height, width) // PATCH)
    rows, columns = (
        _mirrored(side, patch, integers(u, side - patch + 1).long())
        for side, u in zip((height, width), drawn.corner, strict=True)
    )
    other = everyone[drawn.other]
    place = torch.arange(len(other), device=other.device)[:, None, None]
    texture = other[place, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    found = torch.where(kind == KINDS.index("texture"), texture, other).float()
    return torch.where(kind == KINDS.index("grey"), drawn.grey.view(-1, 1, 1, 1).float(), found)


def _mirrored(side: int, patch: int, start: Tensor) -> Tensor:
    """Positions `[N, side]` of a patch that begins at `start` `[N]`, and is laid mirror-wise along a side."""
    turn = torch.arange(side, device=start.device) % (2 * patch)
    return start[:, None] + torch.minimum(turn, 2 * patch - 1 - turn)


def regions_of(masks: Tensor) -> Tensor:
    """The smallest box around each foreground, int64 `[N, 4]` (x0, y0, x1, y1) of `[N, 1, H, W]`; 0 where none is."""
    ends = []
    for along in (3, 2):  # columns, which are along x, then rows
        covered = masks.amax((1, 5 - along)) > 0
        first = covered.int().argmax(1)
        last = covered.shape[1] - covered.flip(1).int().argmax(1)
        ends.append((first, last))
    boxes = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1)
    return boxes * shown(masks)[:, None]


def swapped(
    images: Tensor, masks: Tensor, everyone: Tensor, regions: Sequence[Tensor], drawn: Paste
) -> tuple[Tensor, Tensor]:
    """What each view is cut from when the region of another image is replaced by the image's own.

    Returns uint8 `[N, C, H, W]`, and where its foreground is, uint8 `[N, 1, H, W]`. The own region is resized,
    bilinear, to the place of the other one; around it is the other image. Views that are not chosen, or where either
    has no region, stay as they are. `regions`: int64 `[N, 4]` as `regions_of`, the own and those of the others.
    """
    views = len(drawn.chosen) // len(images)
    both = torch.cat([images, masks], 1).repeat(views, 1, 1, 1).float()
    height, width = images.shape[-2:]
    own, there = (each.float() for each in regions)
    inside, grid = [], []
    for axis, side in enumerate((width, height)):
        centres = torch.arange(side, device=images.device) + 0.5
        start, length = there[:, axis, None], (there[:, axis + 2] - there[:, axis])[:, None].clamp(min=1)
        part = (centres - start) / length
        inside.append((part > 0) & (part < 1))
        low, high = own[:, axis, None], own[:, axis + 2, None]
        source = (low + part * (high - low)).clamp(low + 0.5, high - 0.5)  # what lies around the region stays out
        grid.append(2 * source / side - 1)
    x, y = grid[0][:, None, :].expand(-1, height, -1), grid[1][:, :, None].expand(-1, -1, width)
    points = torch.stack([x, y], -1)
    moved = F.grid_sample(both, points, mode="bilinear", padding_mode="border", align_corners=False)
    within = (inside[0][:, None, :] & inside[1][:, :, None])[:, None]
    other = everyone[drawn.other].float()
    made = torch.where(within, moved, torch.cat([other, torch.zeros_like(other[:, :1])], 1))
    change = drawn.chosen & (own[:, 2] > 0) & (there[:, 2] > 0)
    made = torch.where(change.view(-1, 1, 1, 1), made.round().clamp(0, 255), both).to(torch.uint8)
    return made[:, :-1], made[:, -1:]


def seen_masks(masks: Tensor, boxes: Tensor, flipped: Tensor, size: tuple[int, int]) -> Tensor:
    """How much of each cell of a view's map the foreground covers, float32 `[N, h, w]` in [0, 1]: exact means of areas.

    `masks`: uint8 `[N, 1, H, W]`, of what the views are cut from; `boxes`: int64 `[N, 4]`, their crops; `flipped`: bool
    `[N]`; `size`: (h, w), of the map.
    """
    columns = _overlaps(boxes[:, 0], boxes[:, 2], size[1], masks.shape[3])
    rows = _overlaps(boxes[:, 1], boxes[:, 3], size[0], masks.shape[2])
    found = rows @ (masks[:, 0] / 255) @ columns.transpose(1, 2)
    return torch.where(flipped[:, None, None], found.flip(-1), found)


def _overlaps(start: Tensor, stop: Tensor, cells: int, side: int) -> Tensor:
    """Which share of a cell each position of a side is, `[N, cells, side]`: the cells divide [start, stop) evenly."""
    ends = torch.arange(cells + 1, device=start.device) / cells
    ends = start[:, None] + ends * (stop - start)[:, None]
    low, high = ends[:, :-1, None], ends[:, 1:, None]
    position = torch.arange(side, device=start.device)
    return (high.minimum(position + 1) - low.maximum(position)).clamp(min=0) / (high - low)
