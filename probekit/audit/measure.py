"""What views leave of each class factor: the same view is made of an image and of its counterfactual."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.audit.asked import Chosen
from probekit.audit.geometry import enlarged, kept, unmoved
from probekit.audit.sides import Sides, sides
from probekit.data.split import CPU, shrunk, to_device
from probekit.data.truth import Truth, read_truth, with_shared_noise
from probekit.h5 import DatasetInfo
from probekit.h5.schema import EVIDENCE
from probekit.statistics import mean_over_images
from probekit.views.recipes import Drawn, ViewMaker, Views

SCHEMA = "probekit-audit/1"
GREY_LEVEL = 1 / 255  # of what two views may differ and still be equal
PART = 2**20  # pixels of views that are made at a time
LARGE, SMALL = "large", "small"  # crops
ENDS = (50, 5, 95)  # per cent
NUMBERS = ("kept", "all_left", "none_left", "equal", "other_side")
ALL = 0.999  # of the evidence: rounding

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scenes:
    """Images as a recipe gets them, and what is known of them."""

    images: Tensor  # uint8 [N, C, H, W]
    others: dict[str, Tensor]  # by class factor, their counterfactuals
    evidence: dict[str, Tensor]  # by class factor, float32 [N, H, W] in [0, 1]
    shrink: float  # how many pixels of the file's images one of them is along a side


@dataclass
class Tally:
    """What is counted of the views of one size."""

    size: tuple[int, int]  # (h, w) of the views
    sums: dict[str, Floats]  # by class factor, float64 `[5, N]`: the sum over an image's views of each of `NUMBERS`
    views: int = 0  # how many each image has
    enlarged: list[Floats] = field(default_factory=list)  # `enlarged` of the views, one array for each batch


def read_scenes(info: DatasetInfo, n: int) -> Truth:
    """So many images of train, or of the first split, with counterfactuals that have the images' own noise.

    A ValueError if no generator drew the images, or it draws other ones now.
    """
    truth = read_truth(with_shared_noise(info), info.first.name, n)
    if not truth.counterfactuals:
        raise ValueError(
            f"expected images of a generator, whose counterfactuals can be drawn, found others in {info.path}; "
            "type: probekit gen rect-tri"
        )
    return truth


def audit(
    truth: Truth, recipes: Sequence[Chosen], *, views: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Audits recipes on the images of `read_scenes`; `say` is given a line for each.

    `views`: of whole size of each image, at least: those that a recipe makes at once are taken together. The seed
    decides the views and the resampling of images. Gives what `--json` prints: schema, data, data_hash, generator,
    split, n, size, seed, rows, one for the crops of each size of a recipe and each class factor, and notes.
    """
    mirrors, info = sides(truth), truth.info
    rows: list[dict[str, Any]] = []
    for each in recipes:
        say(f"{each.name}: {each.recipe.about} ...")
        scenes = scenes_of(truth, each.max_size)
        for crops, found in tallied(scenes, each, mirrors, views=views, seed=seed).items():
            rows += [_row(each, crops, found, scenes, name, mirrors[name], seed) for name in scenes.others]
    return {
        "schema": SCHEMA,
        "data": str(info.path),
        "data_hash": info.content_hash,
        "generator": info.generator,
        "split": info.first.name,
        "n": len(truth.index),
        "size": [info.first.height, info.first.width],
        "seed": seed,
        "rows": rows,
        "notes": [f"{name}: no sides are told, {mirror.why}" for name, mirror in mirrors.items() if mirror.why],
    }


def scenes_of(truth: Truth, max_size: int) -> Scenes:
    """The images at the size at which a run takes them."""
    images = to_device(truth.split.images, CPU, max_size=max_size)
    others = {name: to_device(found.images, CPU, max_size=max_size) for name, found in truth.counterfactuals.items()}
    masks = {name: truth.masks[f"{EVIDENCE}{name}"].astype(np.uint8) * 255 for name in others}
    evidence = {name: to_device(mask, CPU, max_size=max_size)[:, 0].float() / 255 for name, mask in masks.items()}
    shrink = (truth.split.images[0].size / images[0].numel()) ** 0.5
    return Scenes(images, others, evidence, shrink)


def tallied(scenes: Scenes, asked: Chosen, mirrors: Mapping[str, Sides], *, views: int, seed: int) -> dict[str, Tally]:
    """Makes the views of all images and of their counterfactuals, and counts, by the size of the crops."""
    maker = ViewMaker(asked.recipe, scenes.images.shape[1:], size=shrunk(scenes.images, asked.views.max_size))
    generator = torch.Generator().manual_seed(seed)
    n, most = len(scenes.images), max(*scenes.images.shape[2:], *maker.tables(0).size)
    step = max(1, PART // (sum(kind.n for kind in asked.recipe.crops) * most**2))
    found: dict[str, Tally] = {}
    for _ in range(-(-views // asked.recipe.views)):
        for rows in (slice(start, min(start + step, n)) for start in range(0, n, step)):
            drawn = maker.draw(rows.stop - rows.start, generator)
            made = by_crops(maker(scenes.images[rows], drawn))
            others = {name: by_crops(maker(images[rows], drawn)) for name, images in scenes.others.items()}
            for crops, own in made.items():
                seen = seen_in(own, maker, drawn)
                tally = found.setdefault(crops, Tally((own.inputs.shape[3], own.inputs.shape[4]), {}))
                tally.views += len(own.inputs) * (rows.start == 0)
                tally.enlarged.append(enlarged(own.boxes.flatten(0, 1), tally.size).numpy())
                for name in others:
                    sums = tally.sums.setdefault(name, np.zeros((len(NUMBERS), n)))
                    changed = mirrors[name].changed
                    turned = None if changed is None else torch.from_numpy(changed[rows])
                    pair = Pair(own, others[name][crops], scenes.evidence[name][rows], seen, turned)
                    sums[:, rows] += counted(pair).sum(1).numpy()
    return found


def by_crops(views: Views) -> dict[str, Views]:
    """Large crops, and small ones where there are some."""
    return {LARGE: views} | ({} if views.local is None else {SMALL: views.local})


def seen_in(views: Views, maker: ViewMaker, drawn: Drawn) -> Tensor:
    """Which pixels of views show what the crop put there: bool [V * B, h, w]. Small crops are never corrupted."""
    if views.local is None and maker.corruptions is not None:
        return unmoved(drawn.corruption, maker.corruptions)
    return torch.ones_like(views.inputs[:, :, 0], dtype=torch.bool).flatten(0, 1)


@dataclass(frozen=True)
class Pair:
    """Views of B images and the same views of their counterfactuals."""

    own: Views
    other: Views
    evidence: Tensor  # float32 [B, H, W]
    seen: Tensor  # as `seen_in`
    turned: Tensor | None  # float [B], whether the mirror image shows another value; None where that is not known


def counted(pair: Pair) -> Tensor:
    """`NUMBERS` of each view, float64 [5, V, B].

    The share of the evidence that is kept; whether all is; whether none is; whether the pair is equal: no value differs
    by a grey level or more; whether the view shows another value than its image: it is mirrored, the mirror image shows
    another, and the pair is not equal. NaN where that is not known.
    """
    own = pair.own
    shape, (height, width) = own.flipped.shape, pair.evidence.shape[1:]
    of_pixels = kept(own.boxes.flatten(0, 1), own.flipped.flatten(), pair.seen, (height, width))
    shown = (of_pixels.view(*shape, height, width) * pair.evidence).sum((2, 3))
    equal = (own.inputs - pair.other.inputs).abs().amax((2, 3, 4)) < GREY_LEVEL
    turned = torch.full(shape[1:], torch.nan) if pair.turned is None else pair.turned
    share = shown / pair.evidence.sum((1, 2))
    found = (share, share >= ALL, shown == 0, equal, turned * (own.flipped & ~equal))
    return torch.stack([number.double() for number in found])


def _row(
    asked: Chosen, crops: str, tally: Tally, scenes: Scenes, name: str, mirror: Sides, seed: int
) -> dict[str, Any]:
    """What the crops of one size leave of one class factor: of each of `NUMBERS` mean and ci, None where it is unknown.

    enlarged: pixels of the view that one of the file's images becomes along a side: the median, 5 and 95 %. Pairs that
    were equal before any view are left out: there is nothing that a view could take.
    """
    differ = (scenes.images != scenes.others[name]).flatten(1).any(1) & (scenes.evidence[name].sum((1, 2)) > 0)
    means = tally.sums[name][:, differ.numpy()] / tally.views
    found = (mean_over_images(mean, seed=seed) for mean in means)
    shares = {number: {"mean": each["mean"], "ci": each["ci"]} for number, each in zip(NUMBERS, found, strict=True)}
    return {
        "recipe": asked.name,
        "views": asked.views.recipe,
        "crops": crops,
        "size": list(tally.size),
        "factor": name,
        "n": means.shape[1],
        "undefined": len(differ) - means.shape[1],
        "views_an_image": tally.views,
        **shares | ({"other_side": None} if mirror.changed is None else {}),
        "enlarged": [float(end) for end in np.percentile(np.concatenate(tally.enlarged), ENDS) / scenes.shrink],
    }
