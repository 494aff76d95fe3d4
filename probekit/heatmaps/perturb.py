"""What asks the encoder again: the image seen through its map, the swap towards its counterfactual, other weights.

The last is the parameter-randomisation check (Adebayo et al. 2018): does a map change when the weights do? Pass or
fail, never a ranking: maps that say nothing pass too.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from probekit.heatmaps.base import BATCH, Questions, Subject, Target, as_inputs, map_rows
from probekit.heatmaps.means import OverImages
from probekit.heatmaps.score import explanation, upsample
from probekit.models.extract import eval_mode
from probekit.statistics import ratio_over_images

Floats = NDArray[np.floating]
STEPS = 5  # ours: fifths of the pixels that differ (docs/log.md)
POINTS = 21  # of the mean curve, for the figure
FIRST_SEED = 1_000_000  # of random networks: no run's own seed, whose first weights its maps may resemble
NETWORKS = 4  # independent random networks: 6 pairs for the null
IMAGES = 16  # ours: their mean moves by some .03
SAME = 0.95  # ours: random networks whose maps agree more than this make maps that hardly feel the weights
Fresh = Callable[[int], Subject]  # a subject with random weights, from a seed


def average_drop(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Each image's share of Average Drop, `[N]` in [0, 100], lower is better: `max(0, Y - O) / Y`; NaN where Y is 0.

    `before` `[N]`: the class's probability Y on the image; `after` `[N]`: O, on the image seen through its map. The
    mean is AD %.
    """
    y, o = before.astype(np.float64), after.astype(np.float64)
    return 100 * np.maximum(0, y - o) / np.where(y > 0, y, np.nan)


def average_increase(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Each image's share of Average Increase, 0 or 100, higher is better: `O > Y`. Arguments as `average_drop`."""
    return np.where(after > before, 100.0, 0.0)


def average_gain(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Each image's share of Average Gain, in [0, 100], higher is better: `max(0, O - Y) / (1 - Y)`, NaN if Y is 1."""
    y, o = before.astype(np.float64), after.astype(np.float64)
    return 100 * np.maximum(0, o - y) / np.where(y < 1, 1 - y, np.nan)


def swap_order(
    values: Floats, differs: NDArray[np.bool_], *, steps: int, seed: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Which pixels are replaced by the counterfactual's, in the order of a map `[H, W]`, highest first.

    Pixels where both images agree change nothing, so only those that differ (`differs` `[H, W]`, one at least) count as
    stops: `steps` after the first, at equal numbers of them; ties are in random order. Gives the pixels replaced by
    each of the `steps + 1` stops, flat indices, the first none and the last all; and x, the share of the image's pixels
    that the map had put first by then, in [0, 1].
    """
    shuffled = np.random.default_rng(seed).permutation(values.size)
    order = shuffled[np.argsort(-values.ravel()[shuffled], kind="stable")]
    places = np.flatnonzero(differs.ravel()[order])
    stops = np.ceil(np.linspace(0, len(places), steps + 1)).astype(int)
    replaced = [order[places[:stop]] for stop in stops]
    # Halfway between the last pixel of D that is replaced and the next: reversing the map mirrors the stops.
    begins, ends = np.append(places, places[-1] + 1), np.insert(places + 1, 0, places[0])
    return replaced, (begins[stops] + ends[stops]) / (2 * values.size)


def area_below(x: Floats, y: Floats) -> float:
    """The area below a swap curve over all pixels, from its stops (x of `swap_order`; y, the target at each).

    It is level before the first and after the last.
    """
    return float(np.trapezoid(np.r_[y[0], y, y[-1]], np.r_[0.0, x, 1.0]))


def embed(subject: Subject, inputs: Tensor) -> Tensor:
    """Embeddings `[N, D]` of float32 images `[N, C, H, W]` in [0, 1]."""
    encoder = subject.encoder
    with eval_mode(encoder), torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        parts = [
            encoder(part.contiguous(memory_format=torch.channels_last)).pooled for part in torch.split(inputs, BATCH)
        ]
    return torch.cat(parts).float()


def confidence(subject: Subject, inputs: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """The probability of each image's class, `[N]`, on float32 images in [0, 1]."""
    assert subject.classifier is not None
    return subject.classifier.probability(embed(subject, inputs), labels).double().cpu().numpy()


def faithfulness(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    before: NDArray[np.float64],
    fill: Tensor,
    maps: NDArray[np.float32],
    means: OverImages,
) -> dict[str, Any]:
    """Average Drop, Increase and Gain of the true class's probability, and the mean of the map, with intervals.

    `images` uint8 `[N, C, H, W]`, `labels` int64 `[N]`; `before` `[N]`: the `confidence` on whole images; `fill`, like
    the images, shows where a map, raw `[N, h, w]`, is low.
    """
    seen = explanation(maps, (images.shape[2], images.shape[3]))
    share = torch.from_numpy(seen).to(images.device)[:, None]
    after = confidence(subject, as_inputs(images) * share + as_inputs(fill) * (1 - share), labels)
    scores = {
        "average_drop": average_drop(before, after),
        "average_increase": average_increase(before, after),
        "average_gain": average_gain(before, after),
        "mean_map": seen.mean(axis=(1, 2)),
    }
    return {"n": len(images)} | {name: means.mean(values) for name, values in scores.items()}


@dataclass(frozen=True)
class Pairs:
    """Images, their counterfactuals, and the target at both ends of the way between them."""

    images: Tensor  # uint8 `[N, C, H, W]`
    counterfactuals: Tensor  # uint8 like `images`
    target: Target  # the margin of the image's class over that of its pair
    differs: NDArray[np.bool_]  # `[N, H, W]`, D: where the two differ
    whole: NDArray[np.float64]  # `[N]`, the target on the image
    none: NDArray[np.float64]  # `[N]`, the target on the counterfactual

    @classmethod
    def of(cls, subject: Subject, images: Tensor, counterfactuals: Tensor, target: Target) -> "Pairs":
        """Asks the encoder about both ends, once for all maps."""
        whole, none = (_ask(subject, part, target) for part in (images, counterfactuals))
        return cls(images, counterfactuals, target, (images != counterfactuals).any(dim=1).cpu().numpy(), whole, none)


def swap(subject: Subject, pairs: Pairs, maps: NDArray[np.float32], *, seed: int) -> dict[str, Any]:
    """The counterfactual swap curve: the target while pixels become those of the counterfactual, in the map's order.

    Score: the area above the curve, as a share of the way from the image's target to the counterfactual's, both means
    over images. For a target that adds up over pixels a random order scores 1/2, and D first `1 - |D| / (2 H W)`.

    `maps`: raw, `[N, h, w]`. The seed decides ties and the interval. Gives n; undefined, images that do not differ from
    their pair; misordered, those on which the target is not higher than on their pair; score (mean, ci; None where the
    probe does not tell pairs apart); the mean curve, x and y.
    """
    size = (pairs.images.shape[2], pairs.images.shape[3])
    known = np.flatnonzero(pairs.differs.any(axis=(1, 2)))
    full = upsample(maps[known], size)
    orders = [swap_order(f, pairs.differs[i], steps=STEPS, seed=seed) for f, i in zip(full, known, strict=True)]
    at = torch.from_numpy(known).to(pairs.images.device)
    mixed, other = pairs.images[at].flatten(2), pairs.counterfactuals[at].flatten(2)
    target = Target(pairs.target.direction[at], pairs.target.offset[at])
    values = np.empty((len(known), STEPS + 1))
    values[:, 0], values[:, -1] = pairs.whole[known], pairs.none[known]
    for stop in range(1, STEPS):
        for row, (replaced, _) in enumerate(orders):
            pixels = torch.from_numpy(replaced[stop]).to(mixed.device)
            mixed[row][:, pixels] = other[row][:, pixels]
        values[:, stop] = _ask(subject, mixed.view(-1, *pairs.images.shape[1:]), target)
    left = values - values[:, -1:]
    gap = left[:, 0]
    above = np.array([g - area_below(x, y) for g, y, (_, x) in zip(gap, left, orders, strict=True)])
    places = np.linspace(0, 1, POINTS)
    curves = [np.interp(places, np.r_[0, x, 1], np.r_[y[0], y, 0]) for y, (_, x) in zip(left, orders, strict=True)]
    score = ratio_over_images(above, gap, seed=seed) if len(known) else None
    return {
        "n": len(known),
        "undefined": len(maps) - len(known),
        "misordered": int((gap <= 0).sum()),
        "score": score,
        "x": places.tolist() if score else [],
        "y": (np.mean(curves, axis=0) / gap.mean()).tolist() if score else [],
    }


def _ask(subject: Subject, images: Tensor, target: Target) -> NDArray[np.float64]:
    """The target on uint8 images, `[N]`."""
    return target.score(embed(subject, as_inputs(images))).double().cpu().numpy()


def by_target(targets: Mapping[str, Any], row_target: str) -> list[str]:
    """Which targets a row is asked about: its own, or each one if it has none."""
    return [row_target] if row_target in targets else list(targets)


def check(
    names: list[str], subject: Subject, fresh: Fresh, questions: Questions, *, seed: int
) -> dict[str, dict[str, Any]]:
    """Verdicts by map as of `judge`, over all of a map's targets.

    The head goes first (the direction that a map explains, and the projection), then one block of the encoder after
    the other. A map passes if its maps with all weights random are no more like the trained ones than random networks'
    maps are like each other, and these are not all alike.
    """
    trained = _maps(names, subject, questions)
    seeds = [FIRST_SEED + seed + k for k in range(NETWORKS)]
    randoms = [fresh(k) for k in seeds]
    maps = [_maps(names, random, _random_head(questions, k)) for k, random in zip(seeds, randoms, strict=True)]
    asked = _random_head(questions, seeds[0])
    half = replace(randoms[0], encoder=copy.deepcopy(subject.encoder))  # random head, trained encoder
    stages, cascades = ["head"], [_maps(names, half, asked)]
    for name, block in half.encoder.blocks.items():
        block.load_state_dict(randoms[0].encoder.blocks[name].state_dict())
        stages.append(name)
        cascades.append(_maps(names, half, asked))
    return {
        name: judge(
            trained[name],
            [random[name] for random in maps],
            dict(zip(stages, [then[name] for then in cascades], strict=True)),
        )
        for name in trained
    }


def judge(
    trained: NDArray[np.float32], randoms: Sequence[NDArray[np.float32]], cascade: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """The verdict on one map from its maps `[N, h, w]`, valid JSON.

    `randoms`: of independent encoders with random weights, two at least; `cascade`: of the trained encoder with more
    and more of it random, by what went last. Gives passes, whether the map depends on the weights; similarity, the mean
    Spearman correlation of |map| with all weights random; null, the smallest and the largest of the same between pairs
    of random networks; stages, what went last, and cascade, the correlation at each; n images.
    """
    null = [similarity(a, b) for a, b in combinations(randoms, 2)]
    final = float(np.mean([similarity(trained, random) for random in randoms]))
    return {
        "passes": final <= max(null) and max(null) <= SAME,
        "similarity": final,
        "null": [min(null), max(null)],
        "stages": list(cascade),
        "cascade": [similarity(trained, maps) for maps in cascade.values()],
        "n": len(trained),
    }


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The mean over images of Spearman's correlation of absolute maps `[N, h, w]`; a constant map correlates 0."""
    ranks = [rankdata(np.abs(maps).reshape(len(maps), -1), axis=1) for maps in (a, b)]
    x, y = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    products = (x * y).sum(axis=1)
    return float(np.where(scale > 0, products / np.where(scale > 0, scale, 1), 0.0).mean())


def _maps(names: list[str], subject: Subject, questions: Questions) -> dict[str, NDArray[np.float32]]:
    rows, _ = map_rows(names, subject, questions, encoder="trained")
    return {name: np.concatenate([row.maps for row in rows if row.name == name]) for name in names}


def _random_head(questions: Questions, seed: int) -> Questions:
    """The same images, asked about random directions of the same lengths."""
    generator = torch.Generator().manual_seed(seed)

    def turned(target: Target) -> Target:
        direction = torch.randn(target.direction.shape, generator=generator).to(target.direction.device)
        lengths = target.direction.norm(dim=1, keepdim=True) / direction.norm(dim=1, keepdim=True)
        return Target(direction * lengths, target.offset)

    targets = {name: turned(target) for name, target in questions.targets.items()}
    return replace(questions, targets=targets)
