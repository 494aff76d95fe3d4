"""Augmented views of each image, mostly two, and with recipe "conrec" their corrupted copies.

Batched tensor code on the device of the images, with an explicit generator, and without a
synchronisation on a GPU, so that the trainer may record it in a CUDA graph. Source: ConRec authors' code,
see `crops`, `jitter` and `corrupt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probekit.batched import uniform
from probekit.config import SIDE
from probekit.corrupt import corrupt
from probekit.crops import Placement, random_boxes, random_resized_boxes, resize_crops
from probekit.jitter import PAPER, Colour, change, draw_changes
from probekit.registry import nearest

VIEWS = 2  # contrastive losses compare pairs
P_FLIP = 0.5  # authors' code
PART = 2**20  # values of views that are made at a time on a CPU; measured
LOCAL = 96 / 224  # side of a small crop, as a share of a large one's: SwAV, section 4.1


@dataclass(frozen=True)
class Crops:
    """How some of an image's views are made.

    Attributes:
        n: How many.
        area: Share of the image's area that torchvision's law of crops takes; None is TensorFlow's, as in `crops`.
        colour: What happens to intensities and colours; None is nothing.
        side: Of the views, as a share of that of whole ones.
    """

    n: int = VIEWS
    area: tuple[float, float] | None = None
    colour: Colour | None = PAPER
    side: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How views are made.

    Attributes:
        about: One plain line.
        crops: The kinds of an image's views, in their order, those of whole size first.
        corrupt: Whether each input is a corrupted copy of its target.
    """

    about: str
    crops: tuple[Crops, ...] = (Crops(),)
    corrupt: bool = False

    @property
    def views(self) -> int:
        """Views of whole size of each image."""
        return sum(kind.n for kind in self.crops if kind.side == 1)


def _torchvision(n: int, area: tuple[float, float], colour: Colour, side: float = 1.0) -> Crops:
    return Crops(n, area, replace(colour, always_gray=False), side)


# The official code of each: brightness, contrast, saturation, hue.
MOCO = Colour(0.4, 0.4, 0.4, 0.1)
BYOL = Colour(0.4, 0.4, 0.2, 0.1, p_blur=1.0)
BYOL_OTHER = replace(BYOL, p_blur=0.1, p_solarise=0.2)
VICREG = replace(BYOL, p_blur=0.5, p_solarise=0.1)
SWAV = Colour()
DINO_LOCAL = replace(BYOL, p_blur=0.5)

RECIPES: dict[str, Recipe] = {
    "simclr": Recipe("crop, flip and jitter"),
    # SimCLR, appendix B.9: what its authors do to CIFAR-10.
    "simclr-weak": Recipe(
        "crop, flip and jitter at half strength, no blur", (Crops(colour=Colour(0.4, 0.4, 0.4, 0.1, p_blur=0.0)),)
    ),
    "conrec": Recipe("crop, flip and jitter, then one corruption a view", corrupt=True),
    # ConRec authors' code, supervised baselines.
    "supervised": Recipe("crop and flip, one view an image", (Crops(1, colour=None),)),
    "moco-v2": Recipe("crop, flip, mild jitter and blur", (_torchvision(2, (0.2, 1.0), MOCO),)),
    "byol": Recipe(
        "an unequal pair: one always blurred, the other at times solarised",
        (_torchvision(1, (0.08, 1.0), BYOL), _torchvision(1, (0.08, 1.0), BYOL_OTHER)),
    ),
    "vicreg": Recipe("as byol's, both views alike", (_torchvision(2, (0.08, 1.0), VICREG),)),
    "swav": Recipe(
        "two large crops and six small ones",
        (_torchvision(2, (0.14, 1.0), SWAV), _torchvision(6, (0.05, 0.14), SWAV, LOCAL)),
    ),
    "swav-pair": Recipe("two large crops, as swav's without small ones", (_torchvision(2, (0.08, 1.0), SWAV),)),
    "dino": Recipe(
        "two large crops, unequal as byol's, and eight small ones",
        (
            _torchvision(1, (0.14, 1.0), BYOL),
            _torchvision(1, (0.14, 1.0), BYOL_OTHER),
            _torchvision(8, (0.05, 0.14), DINO_LOCAL, LOCAL),
        ),
    ),
}


@dataclass
class Views:
    """A batch of views.

    Attributes:
        inputs: float32 [V, B, C, H, W] in [0, 1], contiguous: what the encoder sees.
        targets: float32 [V, B, C, H, W] in [0, 1]: the views before corruption; `inputs` itself where
            there is none.
        labels: int64 [B], the images' classes, where a method asks for them.
        local: Views of small crops, where the recipe has some.
        boxes: int64 [V, B, 4] crop boxes (x0, y0, x1, y1) in source pixels.
        flipped: bool [V, B], mirrored left and right after the crop.
    """

    inputs: Tensor
    targets: Tensor
    boxes: Tensor
    flipped: Tensor
    labels: Tensor | None = None
    local: "Views | None" = None


@torch.no_grad()
def make_views(
    recipe: str,
    images: Tensor,
    generator: torch.Generator,
    *,
    size: tuple[int, int] | None = None,
    stride: int = SIDE,
    placement: Placement | None = None,
) -> Views:
    """Makes the views of each image, each augmented on its own.

    Args:
        recipe: A name in `RECIPES`.
        images: uint8 [B, C, H, W]; C is 1 or 3.
        generator: On the device of `images`; the only source of randomness.
        size: (h, w) of the views; None is the images' own, as in the authors' code.
        stride: Of the encoder: small crops are of whole cells.
        placement: Where the crops of each image stand; None is anywhere.

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
    whole = size or (images.shape[2], images.shape[3])
    made = [_make(kind, images, generator, whole, placement) for kind in chosen.crops if kind.side == 1]
    views = made[0] if len(made) == 1 else _joined(made)
    if chosen.corrupt:
        inputs = corrupt(views.targets.flatten(0, 1), generator)[0]
        views.inputs = inputs.view(views.targets.shape)
    for kind in chosen.crops:
        if kind.side < 1:
            views.local = _make(kind, images, generator, size_of(kind, whole, stride), placement)
    return views


@torch.no_grad()
def first_view(
    recipe: str,
    images: Tensor,
    generator: torch.Generator,
    *,
    size: tuple[int, int] | None = None,
    placement: Placement | None = None,
) -> Tensor:
    """A view of each image as the recipe's first one is made, not corrupted: float32 [B, C, H, W] in [0, 1].

    Arguments as for `make_views`.
    """
    kind = replace(RECIPES[recipe].crops[0], n=1)
    return _make(kind, images, generator, size or (images.shape[2], images.shape[3]), placement).targets[0]


def size_of(kind: Crops, whole: tuple[int, int], stride: int) -> tuple[int, int]:
    """(h, w) of views, given that of whole ones: multiples of `SIDE`, or of the stride if that does not divide it."""
    step = SIDE if SIDE % stride == 0 else stride
    height, width = (max(step, round(kind.side * side / step) * step) for side in whole)
    return height, width


def _make(
    kind: Crops, images: Tensor, generator: torch.Generator, size: tuple[int, int], placement: Placement | None
) -> Views:
    batch, channels, height, width = images.shape
    n = kind.n * batch
    if kind.area is None:
        boxes = random_boxes(n, height, width, generator, placement)
    else:
        boxes = random_resized_boxes(n, height, width, kind.area, generator, placement)
    flipped = uniform((n,), generator) < P_FLIP
    changes = () if kind.colour is None else draw_changes(n, channels, generator, kind.colour)
    views = _augment(images, (boxes, flipped, *changes), size).view(kind.n, batch, channels, *size)
    return Views(views, views, boxes.view(kind.n, batch, 4), flipped.view(kind.n, batch))


def _joined(parts: Sequence[Views]) -> Views:
    views = torch.cat([part.targets for part in parts])
    boxes, flipped = (torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "flipped"))
    return Views(views, views, boxes, flipped)


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
