"""A linear classifier on each cell of a feature map, against exact masks: what a map knows of where things are.

A cell's label is the class of most of its area. The logits of the cells are resized to the pixels of the masks
(bilinear, as DINOv2 does, arXiv 2304.07193), and the largest is a pixel's class.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from probekit.models.inputs import Input
from probekit.probes.linear import LinearProbe, Space, fit
from probekit.probes.protocol import FIXED_C, VAL_FRACTION, choose
from probekit.statistics import MIN_IMAGES, RESAMPLES, percentiles

REST = "the rest"  # what no mask of a question covers
OBJECTS = "objects"  # the question about all of them together
EVIDENCE = "evidence:"
VOID = ("border", "void")  # pixels of these belong to nothing for sure: of Pets' trimaps, of VOC
NONE = -1  # their class
CELLS = 2**15  # of train that are fitted, drawn by the seed; ours
NUMBERS = 2**24  # of their features, at most: 128 MiB as float64; ours
PATCH = 16  # px a side at most that the pixels of a cell count with; larger ones are averaged down; ours
NEVER = -1e4  # the logit of a class that no cell of train has: below any other, and finite, as it is resized

Masks = Mapping[str, NDArray[np.bool_]]  # by name, `[n, H, W]`
Labels = Mapping[str, NDArray[np.int64]]  # by question, `[n, H, W]`, `NONE` for pixels that do not count
Batch = tuple[Tensor, Labels]  # maps float32 `[n, D, h, w]`, and the labels of their images
Logits = Callable[[Tensor, Labels], Mapping[str, Tensor]]  # of a batch: by question, `[n, K, h, w]` or `[1, K, h, w]`


@dataclass(frozen=True)
class Question:
    """Classes that each pixel has one of: `REST`, then those of `masks`."""

    name: str
    masks: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return (REST, *self.masks)

    def labels(self, masks: Masks) -> NDArray[np.int64]:
        """The class of each pixel, `[n, H, W]`; `NONE` where it does not count."""
        found = np.zeros(next(iter(masks.values())).shape, np.int64)
        for number, name in enumerate(self.masks, 1):
            found[masks[name]] = number
        for name in VOID:
            if name in masks:
                found[masks[name]] = NONE
        return found


def questions(scenes: Iterable[Masks]) -> list[Question]:
    """About all objects together where no pixel has two of them, else about each; and about each factor's evidence.

    None without masks.
    """
    names: tuple[str, ...] = ()
    shared = False
    for masks in scenes:
        names = tuple(name for name in masks if name not in VOID)
        objects = [masks[name] for name in names if not name.startswith(EVIDENCE)]
        shared = shared or bool(objects and (np.sum(objects, axis=0, dtype=np.uint8) > 1).any())
    objects_named = tuple(name for name in names if not name.startswith(EVIDENCE))
    together = [Question(OBJECTS, objects_named)] if len(objects_named) > 1 and not shared else []
    return together + [Question(name, (name,)) for name in names if not (together and name in objects_named)]


def seen(labels: NDArray[np.int64], given: Input | None) -> NDArray[np.int64]:
    """Labels of whole images as an encoder sees these: resized without averaging, and cut."""
    if given is None:
        return labels
    most = int(labels.max()) + 2
    coded = torch.from_numpy((labels + 1) / most).float()[:, None]  # in [0, 1]; black borders become NONE
    cut = Input(given.resize, given.crop, "nearest")(coded)[:, 0]
    return (cut * most).round().long().numpy() - 1


def shares(labels: NDArray[np.int64], k: int, grid: Sequence[int]) -> Tensor:
    """The share of each of k classes in the area of each cell, `[n, k, h, w]`."""
    pixels = torch.from_numpy(labels)[:, None]
    parts = [F.interpolate((pixels == number).float(), tuple(grid), mode="area") for number in range(k)]
    return torch.cat(parts, dim=1)


def of_cells(labels: NDArray[np.int64], k: int, grid: Sequence[int]) -> NDArray[np.int64]:
    """The class of most of each cell's area, the first of ties, `[n, h, w]`; `NONE` where less than half counts."""
    found = shares(labels, k, grid)
    return torch.where(found.sum(1) < 0.5, NONE, found.argmax(1)).numpy()


def pixel_maps(images: Tensor, grid: Sequence[int]) -> Tensor:
    """The pixels of each cell as its features: float `[n, C, H, W]` -> `[n, C * p * p, h, w]`, p up to `PATCH`."""
    side = min(PATCH, max(-(-size // cells) for size, cells in zip(images.shape[2:], grid, strict=True)))
    fitting = F.interpolate(images, tuple(side * cells for cells in grid), mode="area")
    return F.pixel_unshuffle(fitting, side)


@dataclass(frozen=True)
class Cells:
    """Some cells of a split: features `[N, D]`, the class of each by question, `[N]`, and the image that each is of."""

    x: NDArray[np.float32]
    y: Mapping[str, NDArray[np.int64]]
    image: NDArray[np.int64]

    def where(self, which: NDArray[np.bool_]) -> "Cells":
        """Those of which it is true, `[N]`."""
        return Cells(self.x[which], {name: y[which] for name, y in self.y.items()}, self.image[which])


def read_cells(batches: Iterable[Batch], asked: Sequence[Question], n: int, *, seed: int) -> Cells:
    """As many cells of each of n images as `CELLS` and `NUMBERS` allow, drawn by the seed; of voids none."""
    x, image = list[NDArray[np.float32]](), list[NDArray[np.int64]]()
    y: dict[str, list[NDArray[np.int64]]] = {each.name: [] for each in asked}
    rng, number = np.random.default_rng(seed), 0
    for maps, labels in batches:
        each = max(1, min(CELLS, NUMBERS // maps.shape[1]) // n)
        classes = {q.name: of_cells(labels[q.name], len(q.classes), maps.shape[2:]) for q in asked}
        rows = maps.flatten(2).transpose(1, 2).numpy()
        for place in range(len(rows)):
            own = {name: found[place].ravel() for name, found in classes.items()}
            known = np.flatnonzero(next(iter(own.values())) != NONE)
            drawn = known if len(known) <= each else np.sort(rng.choice(known, each, replace=False))
            x.append(rows[place, drawn])
            image.append(np.full(len(drawn), number))
            for name, found in own.items():
                y[name].append(found[drawn])
            number += 1
    return Cells(np.concatenate(x), {name: np.concatenate(parts) for name, parts in y.items()}, np.concatenate(image))


@dataclass(frozen=True)
class Fitted:
    """The classifier of a question: weights `[K, D]` and biases `[K]` of raw features; how it came about."""

    weight: Tensor
    bias: Tensor
    C: float | None
    note: str

    def logits(self, maps: Tensor) -> Tensor:
        """`[n, D, h, w] -> [n, K, h, w]`."""
        return torch.einsum("ndhw,kd->nkhw", maps.double(), self.weight) + self.bias[:, None, None]


def fit_cells(
    train: Cells, val: Cells | None, asked: Sequence[Question], *, protocol: str, seed: int
) -> dict[str, Fitted]:
    """A classifier for each question; "tuned" chooses C on `val`, or on the cells of a fifth of train's images.

    `protocol`: one of `probekit.probes.PROTOCOLS`. The seed draws those images. A ValueError without cells.
    """
    if not len(train.x):
        raise ValueError(
            f"expected pixels of train that count, found {' and '.join(VOID)} alone; choose another --data"
        )
    chosen: dict[str, float] = {}
    if protocol == "tuned":
        held, fitted = val, train
        if held is None:
            images = np.random.default_rng(seed).permutation(np.unique(train.image))
            out = np.isin(train.image, images[: round(VAL_FRACTION * len(images))])
            held, fitted = train.where(out), train.where(~out)
        chosen = _chosen(fitted, held, asked)
    space = Space.of(train.x, standardise=protocol == "tuned")
    few = f"too few cells to choose C on held-out images; C = {FIXED_C:g}"
    found = {}
    for each in asked:
        y, k = train.y[each.name], len(each.classes)
        if len(np.unique(y)) < 2:
            found[each.name] = _constant(y, k, train.x.shape[1])
            continue
        note = few if protocol == "tuned" and each.name not in chosen else ""
        fitted_probe = fit(space.z, y, C=chosen.get(each.name, FIXED_C))
        found[each.name] = _unfolded(space, fitted_probe, k, note)
    return found


def _chosen(train: Cells, held: Cells, asked: Sequence[Question]) -> dict[str, float]:
    """The C of each question that can be chosen on other images' cells."""
    if not len(train.x) or not len(held.x):
        return {}
    space, found = Space.of(train.x, standardise=True), {}
    z_held = space.project(held.x)
    for each in asked:
        y, y_held = train.y[each.name], held.y[each.name]
        known = np.isin(y_held, y)
        if known.any() and len(np.unique(y)) > 1:
            found[each.name] = choose(space.z, y, z_held[known], y_held[known])
    return found


def _unfolded(space: Space, probe: LinearProbe, k: int, note: str) -> Fitted:
    weight, bias = torch.zeros(k, len(space.mean), dtype=torch.float64), torch.full((k,), NEVER, dtype=torch.float64)
    of_raw = space.unfold(probe)
    weight[probe.labels], bias[probe.labels] = (torch.from_numpy(part) for part in of_raw)
    return Fitted(weight, bias, probe.C, note)


def _constant(y: NDArray[np.int64], k: int, dim: int) -> Fitted:
    bias = torch.full((k,), NEVER, dtype=torch.float64)
    bias[int(y[0]) if len(y) else 0] = 0
    return Fitted(torch.zeros(k, dim, dtype=torch.float64), bias, None, "the cells of train are of one class")


def position(batches: Iterable[Labels], asked: Sequence[Question], grid: Sequence[int]) -> dict[str, Tensor]:
    """What place alone tells: the logarithm of each class's share in each cell over train, `[1, K, h, w]`.

    It is where a linear classifier of which cell it is ends without a penalty, one image more of each class counted.
    """
    counts = {each.name: torch.ones(len(each.classes), *grid, dtype=torch.float64) for each in asked}
    for labels in batches:
        for each in asked:
            cells = torch.from_numpy(of_cells(labels[each.name], len(each.classes), grid))
            counts[each.name] += torch.stack([(cells == number).sum(0) for number in range(len(each.classes))])
    return {name: (found / found.sum(0)).log()[None] for name, found in counts.items()}


def most_frequent(places: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `position` is compared with: the same logits for every cell, those of all of train."""
    return {name: found.exp().mean((2, 3), keepdim=True).log().expand_as(found) for name, found in places.items()}


def confusions(
    batches: Iterable[Batch], asked: Sequence[Question], logits: Logits
) -> Iterator[dict[str, NDArray[np.int64]]]:
    """For each batch, by question: counts of pixels `[n, K, K]` of each image, the truth in rows."""
    for maps, labels in batches:
        made = logits(maps, labels)
        yield {each.name: _counts(labels[each.name], made[each.name], len(each.classes)) for each in asked}


def _counts(truth: NDArray[np.int64], logits: Tensor, k: int) -> NDArray[np.int64]:
    found = F.interpolate(logits, truth.shape[1:], mode="bilinear", align_corners=False)
    guess = found.argmax(1).expand(len(truth), -1, -1).numpy()
    image = np.arange(len(truth))[:, None, None]
    codes = ((image * k + truth) * k + guess)[truth != NONE]
    return np.bincount(codes, minlength=len(truth) * k * k).reshape(len(truth), k, k)


def score(counts: NDArray[np.int64], *, seed: int) -> dict[str, Any]:
    """Scores of counts of pixels `[n, K, K]` of n images, the truth in rows, all pixels together.

    Gives miou and accuracy {value, ci}, and iou, the same of each class; None of a class that neither truth nor
    predictions have, which the mean leaves out. The mean is None, too, where all pixels are of one class. Intervals:
    95 % percentile bootstrap over images.
    """
    n, k = counts.shape[:2]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    every = (drawn @ counts.reshape(n, k * k)).reshape(-1, k, k)
    iou, accuracy = _shares(counts.sum(0)[None])
    ious, accuracies = _shares(every)
    means, mean = _mean(ious), _mean(iou)[0] if np.count_nonzero(counts.sum((0, 2))) > 1 else np.float64(np.nan)

    def estimate(value: np.floating, resampled: NDArray[np.float64]) -> dict[str, Any]:
        known = resampled[np.isfinite(resampled)]
        if not np.isfinite(value):
            return {"value": None, "ci": None}
        return {"value": float(value), "ci": percentiles(known) if n >= MIN_IMAGES else None}

    return {
        "miou": estimate(mean, means),
        "accuracy": estimate(accuracy[0], accuracies),
        "iou": [estimate(iou[0, number], ious[:, number]) for number in range(k)],
    }


def _shares(counts: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intersection over union of each class `[B, K]` and pixel accuracy `[B]` of counts `[B, K, K]`; NaN without."""
    right = counts.diagonal(axis1=1, axis2=2)
    union = counts.sum(1) + counts.sum(2) - right
    total = counts.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / np.where(union, union, np.nan), right.sum(1) / np.where(total, total, np.nan)


def _mean(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(iou)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.where(known, iou, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
    return found
