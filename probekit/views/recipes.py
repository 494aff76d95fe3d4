"""Augmented views of each image, mostly two, and with recipe "conrec" their corrupted copies.

Batched tensor code on the device of the images, with an explicit generator, and without a
synchronisation on a GPU, so that the trainer may record it in a CUDA graph. All that is drawn is drawn first; how it is
applied is a pure function of images and draws. Source: ConRec authors' code, see `crops`, `jitter` and `corrupt`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from probekit.config import SIDE, ViewsConfig
from probekit.ranks import mine
from probekit.registry import check_named
from probekit.views.batched import uniforms
from probekit.views.corrupt import CORRUPTIONS, CorruptionTables, corrupt_as, corruption_of, corruption_shapes
from probekit.views.crops import TRIES, CropTables, Placement, areas_, boxes_of, resized
from probekit.views.jitter import PAPER, Colour, change, change_shapes, changes_of, jittered
from probekit.views.packed import PART, Packing, changed

VIEWS = 2  # contrastive losses compare pairs
P_FLIP = 0.5  # authors' code
LOCAL = 96 / 224  # side of a small crop, as a share of a large one's: SwAV, official code


@dataclass(frozen=True)
class Crops:
    """How some of an image's views are made.

    `area`: share of the image's area that torchvision's law of crops takes; None is TensorFlow's, as in `crops`.
    `colour`: what happens to intensities and colours; None is nothing. `side`: the side of the views, as a share of
    that of whole ones.
    """

    n: int = VIEWS
    area: tuple[float, float] | None = None
    colour: Colour | None = PAPER
    side: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How views are made.

    `crops`: the kinds of an image's views, in their order, those of whole size first; `corrupt`: whether each input is
    a corrupted copy of its target; `flip`: how often a view is mirrored; `odds`: of the corruptions, by their names
    (`corrupt.CorruptionTables`).
    """

    about: str
    crops: tuple[Crops, ...] = (Crops(),)
    corrupt: bool = False
    flip: float = P_FLIP
    odds: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def views(self) -> int:
        """Views of whole size of each image."""
        return sum(kind.n for kind in self.crops if kind.side == 1)

    @property
    def first(self) -> "Recipe":
        """One view an image, made as the first one is, and not corrupted."""
        return Recipe(self.about, (replace(self.crops[0], n=1),), flip=self.flip)


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
    # Where the class is a side, a place or a size, which mirrors and crops change. No crop has twice the image's area,
    # so each is what torchvision takes then: the whole image, of one more oblong than 4 to 3 its middle.
    "whole": Recipe("the whole image, one view", (Crops(1, (2.0, 2.0), None),), flip=0.0),
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


def recipe_named(recipe: str | Recipe) -> Recipe:
    """A recipe, or that of a name; a ValueError if there is none of this name."""
    if not isinstance(recipe, str):
        return recipe
    check_named("recipe", recipe, RECIPES)
    return RECIPES[recipe]


def recipe_of(settings: ViewsConfig) -> Recipe:
    """The recipe that settings name, with their strength of jitter and odds of corruptions."""
    found = RECIPES[settings.recipe]
    kinds = tuple(
        kind if kind.colour is None else replace(kind, colour=jittered(kind.colour, settings.jitter))
        for kind in found.crops
    )
    odds = {name: float(getattr(settings, name.replace("-", "_"))) for name, _ in CORRUPTIONS[1]}
    return replace(found, crops=kinds, odds={name: value for name, value in odds.items() if value != 1})


@dataclass
class Views:
    """A batch of views.

    Attributes:
        inputs: float32 [V, B, C, H, W] in [0, 1], contiguous: what the encoder sees.
        targets: float32 [V, B, C, H, W] in [0, 1]: the views before corruption; `inputs` itself where there is none.
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


@dataclass(frozen=True)
class Drawn:
    """All that is random about the views of B images; the kinds of a recipe's crops in their order.

    `boxes`: [4, n, TRIES], what `crops.boxes_of` takes, none where crops were cut before; n views of all kinds, kind
    after kind, view after view.
    `flipped`: bool [n]. `changes`: for the views of whole size, and for small ones, what `jitter.change` takes; of so
    many rows each. `corruption`: what `corrupt.corrupt_as` takes; empty where there is none.
    """

    boxes: Tensor
    flipped: Tensor
    changes: tuple[tuple[Tensor, ...], ...]
    corruption: tuple[Tensor, ...]

    def mine(self, batch: int) -> "Drawn":
        """What was drawn for this rank's images of a batch of all ranks'; all of it where there is one."""

        def own(x: Tensor) -> Tensor:
            return mine(x, len(x) // batch)

        changes = tuple(tuple(map(own, drawn)) for drawn in self.changes)
        boxes = own_boxes(self.boxes, batch) if self.boxes.numel() else self.boxes
        return Drawn(boxes, own(self.flipped), changes, tuple(map(own, self.corruption)))


def own_boxes(boxes: Tensor, batch: int) -> Tensor:
    """What was drawn [4, n, TRIES] of boxes for this rank's images of a batch of all ranks'."""
    return mine(boxes.movedim(1, 0), boxes.shape[1] // batch).movedim(0, 1)


class ViewMaker(nn.Module):
    """A recipe made ready for images of one shape: draws, then applies; its constants are on the device of the images.

    `shape`: (C, H, W) of the images; C is 1 or 3. `size`: (h, w) of the views of whole size; None is the images' own,
    as in the authors' code. `stride`: the encoder's: small crops are of whole cells. `cut`: whether it is given crops
    that `views.cut` has drawn and cut, and resized, in place of images.
    """

    def __init__(
        self,
        recipe: Recipe,
        shape: Sequence[int],
        *,
        size: tuple[int, int] | None = None,
        stride: int = SIDE,
        cut: bool = False,
    ) -> None:
        super().__init__()
        self.recipe, self.cut = recipe, cut
        self.channels, height, width = shape
        whole = size or (height, width)
        small = next((size_of(kind, whole, stride) for kind in self.recipe.crops if kind.side < 1), None)
        sizes = [whole] if small is None else [whole, small]
        torchvision = self.recipe.crops[0].area is not None
        assert all((kind.area is not None) == torchvision for kind in self.recipe.crops)  # one law of boxes
        self.crops = nn.ModuleList(CropTables((height, width), s, torchvision=torchvision) for s in sizes)
        counts = [self.recipe.views, sum(kind.n for kind in self.recipe.crops if kind.side < 1)]
        self.packing = Packing(tuple(zip(counts, sizes, strict=False)), self.channels)
        self.corruptions = CorruptionTables(self.channels, *whole, recipe.odds) if recipe.corrupt else None

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Draws for the views of so many images; the generator is on their device."""
        shapes: list[tuple[int, ...]] = []
        for kind in self.recipe.crops:
            n = kind.n * batch
            changes = [] if kind.colour is None else change_shapes(n, self.channels, kind.colour)
            shapes += (4, n, 0 if self.cut else TRIES), (n,), *changes
        if self.corruptions is not None:
            shapes += corruption_shapes(self.recipe.views * batch, self.corruptions)
        numbers = iter(uniforms(shapes, generator))  # in one launch
        boxes, flipped = [], []
        by_size: dict[bool, list[tuple[Tensor, ...]]] = {}
        for kind in self.recipe.crops:
            boxes.append(_areas(next(numbers), kind))
            flipped.append(next(numbers) < self.recipe.flip)
            changed: tuple[Tensor, ...] = ()
            if kind.colour is not None:
                own = islice(numbers, len(change_shapes(0, self.channels, kind.colour)))
                changed = changes_of(list(own), kind.colour)
            by_size.setdefault(kind.side == 1, []).append(changed)
        corruption = () if self.corruptions is None else corruption_of(list(numbers), self.corruptions)
        return Drawn(_joined(boxes, 1), _joined(flipped), tuple(map(_joined_changes, by_size.values())), corruption)

    def draw_boxes(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draws the boxes alone of so many images' views, where they are cut before: [4, n, TRIES]."""
        drawn = uniforms([(4, kind.n * batch, TRIES) for kind in self.recipe.crops], generator)
        return _joined([_areas(numbers, kind) for numbers, kind in zip(drawn, self.recipe.crops, strict=True)], 1)

    @torch.no_grad()
    def forward(self, images: Tensor, drawn: Drawn, placement: Placement | None = None) -> "Views":
        """The views of images uint8 [B, C, H, W], or of one for each view [V * B, C, H, W], as drawn: a pure function.

        Of crops that were cut before, [B, `packing.bytes`], the boxes are not known: 0. `placement`: see `make_views`.
        """
        batch = len(drawn.flipped) // sum(kind.n for kind in self.recipe.crops)
        if self.cut:
            boxes = torch.zeros(len(drawn.flipped), 4, dtype=torch.int64, device=images.device)
        else:
            boxes = boxes_of(drawn.boxes, self.tables(0).limits, placement)
        made: list[Views] = []
        start = 0
        for number, changes in enumerate(drawn.changes):
            tables = self.tables(number)
            n = batch * self.packing.kinds[number][0]
            rows = slice(start, start + n)
            start += n
            if self.cut:
                x = changed(self.packing.crops(images, number), drawn.flipped[rows], changes)
            else:
                own = images[rows] if len(images) > batch else images
                x = _augment(own, (boxes[rows], drawn.flipped[rows], *changes), tables)
            x = x.view(-1, batch, self.channels, *tables.size)
            made.append(Views(x, x, boxes[rows].view(-1, batch, 4), drawn.flipped[rows].view(-1, batch)))
        views = made[0]
        if self.corruptions is not None:
            inputs = corrupt_as(views.targets.flatten(0, 1), drawn.corruption, self.corruptions)
            views.inputs = inputs.view(views.targets.shape)
        views.local = made[1] if made[1:] else None
        return views

    def tables(self, number: int) -> CropTables:
        """The tables of crops of whole size (0) or of small ones (1)."""
        return cast(CropTables, self.crops[number])


def make_views(
    recipe: str | Recipe,
    images: Tensor,
    generator: torch.Generator,
    *,
    size: tuple[int, int] | None = None,
    stride: int = SIDE,
    placement: Placement | None = None,
) -> Views:
    """Makes the views of each image, each augmented on its own.

    A ValueError if the recipe is unknown or the images have another type or shape. `recipe`: one of `RECIPES`, or its
    name. `images`: uint8 [B, C, H, W]; C is 1 or 3. `generator`: on the device of `images`; the only source of
    randomness. `placement`: where the crops of each image stand; None is anywhere.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "expected images uint8 [B, 1, H, W] or [B, 3, H, W], found "
            f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}; "
            "pass the images as the dataset file holds them, channels second"
        )
    maker = ViewMaker(recipe_named(recipe), images.shape[1:], size=size, stride=stride).to(images.device)
    made: Views = maker(images, maker.draw(len(images), generator), placement)
    return made


def _areas(box: Tensor, kind: Crops) -> Tensor:
    return box if kind.area is None else areas_(box, kind.area)


def size_of(kind: Crops, whole: tuple[int, int], stride: int) -> tuple[int, int]:
    """(h, w) of views, given that of whole ones: multiples of `SIDE`, or of the stride if that does not divide it."""
    step = SIDE if SIDE % stride == 0 else stride
    height, width = (max(step, round(kind.side * side / step) * step) for side in whole)
    return height, width


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _joined_changes(kinds: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What was drawn for several kinds, as for one; a kind that has no solarisation has none of its views solarised."""
    if len(kinds) == 1:
        return kinds[0]
    longest = max(map(len, kinds))
    filled = [(*changes, *[torch.zeros_like(changes[0])] * (longest - len(changes))) for changes in kinds]
    return tuple(torch.cat(parts) for parts in zip(*filled, strict=True))


def _augment(images: Tensor, drawn: Sequence[Tensor], tables: CropTables) -> Tensor:
    """Crops, flips and changes views [V * B, C, h, w], as drawn: boxes, flips and changes, V * B rows each.

    The CPU goes through the batch in parts that stay in its cache.
    """
    batch, channels, *_ = images.shape
    if images.device.type != "cpu":
        boxes, flipped, *changes = drawn
        return change(resized(images / 255, boxes, flipped, tables), *changes)
    V = len(drawn[0]) // batch
    step = max(1, PART // (V * channels * tables.size[0] * tables.size[1]))
    by_view = [d.view(V, batch, *d.shape[1:]) for d in drawn]
    views = torch.empty((V, batch, channels, *tables.size))
    for part in (slice(start, start + step) for start in range(0, batch, step)):
        boxes, flipped, *changes = (d[:, part].flatten(0, 1) for d in by_view)
        made = change(resized(images[part] / 255, boxes, flipped, tables), *changes)
        views[:, part] = made.view(V, -1, channels, *tables.size)
    return views.flatten(0, 1)
