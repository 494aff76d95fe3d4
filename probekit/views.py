"""Augmented views of each image, mostly two, and with recipe "conrec" their corrupted copies.

Batched tensor code on the device of the images, with an explicit generator, and without a
synchronisation on a GPU, so that the trainer may record it in a CUDA graph. Source: ConRec authors' code,
see `crops`, `jitter` and `corrupt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.batched import uniform
from probekit.corrupt import corrupt
from probekit.crops import random_boxes, resize_crops
from probekit.jitter import PAPER, Colour, change, draw_changes
from probekit.registry import nearest

VIEWS = 2  # NT-Xent contrasts pairs
P_FLIP = 0.5  # authors' code
PART = 2**20  # values of views that are made at a time on a CPU; measured


@dataclass(frozen=True)
class Recipe:
    """How views are made.

    Attributes:
        about: One plain line.
        corrupt: Whether each input is a corrupted copy of its target.
        colour: What happens to intensities and colours; None is nothing.
        views: Of each image.
    """

    about: str
    corrupt: bool = False
    colour: Colour | None = PAPER
    views: int = VIEWS


RECIPES: dict[str, Recipe] = {
    "simclr": Recipe(about="crop, flip and jitter"),
    # SimCLR, appendix B.9: what its authors do to CIFAR-10.
    "simclr-weak": Recipe(about="crop, flip and jitter at half strength, no blur", colour=Colour(0.5, p_blur=0.0)),
    "conrec": Recipe(about="crop, flip and jitter, then one corruption a view", corrupt=True),
    # ConRec authors' code, supervised baselines.
    "supervised": Recipe(about="crop and flip, one view an image", colour=None, views=1),
}


@dataclass
class Views:
    """A batch of views.

    Attributes:
        inputs: float32 [V, B, C, H, W] in [0, 1], contiguous: what the encoder sees.
        targets: float32 [V, B, C, H, W] in [0, 1]: the views before corruption; `inputs` itself where
            there is none.
        labels: int64 [B], the images' classes, where a method asks for them.
        boxes: int64 [V, B, 4] crop boxes (x0, y0, x1, y1) in source pixels.
        flipped: bool [V, B], mirrored left and right after the crop.
    """

    inputs: Tensor
    targets: Tensor
    boxes: Tensor
    flipped: Tensor
    labels: Tensor | None = None


@torch.no_grad()
def make_views(
    recipe: str, images: Tensor, generator: torch.Generator, *, size: tuple[int, int] | None = None
) -> Views:
    """Makes the views of each image, each augmented on its own.

    Args:
        recipe: A name in `RECIPES`.
        images: uint8 [B, C, H, W]; C is 1 or 3.
        generator: On the device of `images`; the only source of randomness.

        size: (h, w) of the views; None is the images' own, as in the authors' code.

    Returns:
        The views.

    Raises:
        ValueError: If the recipe is unknown or the images have another type or shape.
    """
    if recipe not in RECIPES:
        raise ValueError(nearest("recipe", recipe, RECIPES))
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "expected images uint8 [B, 1, H, W] or [B, 3, H, W], found "
            f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}; "
            "pass the images as the dataset file holds them, channels second"
        )
    chosen = RECIPES[recipe]
    batch, channels, height, width = images.shape
    n = chosen.views * batch
    boxes = random_boxes(n, height, width, generator)
    flipped = uniform((n,), generator) < P_FLIP
    changes = () if chosen.colour is None else draw_changes(n, channels, generator, chosen.colour)
    views = _augment(images, (boxes, flipped, *changes), size or (height, width))
    inputs = corrupt(views, generator)[0] if chosen.corrupt else views

    def by_view(x: Tensor) -> Tensor:
        return x.view(chosen.views, batch, *x.shape[1:])

    targets = by_view(views)
    return Views(
        inputs=by_view(inputs) if inputs is not views else targets,
        targets=targets,
        boxes=by_view(boxes),
        flipped=by_view(flipped),
    )


def _augment(images: Tensor, drawn: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Crops, flips and changes views [V * B, C, h, w], as drawn: boxes, flips and changes, V * B rows each.

    The CPU goes through the batch in parts that stay in its cache.
    """
    batch, channels, *_ = images.shape
    V = len(drawn[0]) // batch
    step = batch if images.device.type != "cpu" else max(1, PART // (V * channels * size[0] * size[1]))
    by_view = [d.view(V, batch, *d.shape[1:]) for d in drawn]
    views = torch.empty((V, batch, channels, *size), device=images.device)
    for part in (slice(start, start + step) for start in range(0, batch, step)):
        boxes, flipped, *changes = (d[:, part].flatten(0, 1) for d in by_view)
        made = change(resize_crops(images[part].float() / 255, boxes, flipped, size), *changes)
        views[:, part] = made.view(V, -1, channels, *size)
    return views.flatten(0, 1)
