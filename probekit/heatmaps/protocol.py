"""From encoders, images and truth to the whole result: rows, scores, what is left out and why; and baselines.

Baselines are maps that know nothing of an encoder, to stand beside every map: functions of images, float32 `[N, H, W]`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import sobel
from torch import Tensor

from probekit.config import SIDE
from probekit.data.truth import Truth, spaced
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.base import Questions, Row, Subject, as_inputs, encode, map_rows, parts_of, unmet
from probekit.heatmaps.means import OverClasses, OverImages
from probekit.heatmaps.perturb import IMAGES, Fresh, Pairs, by_target, check, confidence, faithfulness, swap
from probekit.heatmaps.score import area_average, localise, localise_ceiling, upsample
from probekit.models.self_attention import Attended, attended
from probekit.probes.baselines import LUMA, binarise
from probekit.registry import ALL_PARTS, MAPS, map_named

DEFAULT_MAPS = ("cam", "gradcam", "gradcam-ssl", "attention", "input-gradient")
OF_TRANSFORMERS = ("self-attention", "rollout")  # beside them, where there is self-attention
COSTLY = {"occlusion": "occlusion: it encodes each image once a window; type: --maps occlusion"}
Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]
SPREAD = 0.25  # ours: sd of the centre map, in sides


@dataclass(frozen=True)
class Evaluation:
    """What is looked at and how."""

    trained: Subject  # the encoder in question
    random: Subject | None  # with random weights and a probe of its own; None where none can be drawn anew
    fresh: Fresh  # more of these, by seed
    truth: Truth
    questions: Questions  # the images of `truth` on the device, with targets
    random_questions: Questions  # with targets of the random encoder's probe
    labels: Tensor | None  # int64 `[N]`, on the device; None without a classifier
    counterfactuals: Mapping[str, Tensor]  # by class factor, uint8 `[N, C, H, W]`
    means: OverImages  # how scores of rows become one number
    perturb: int  # how many images the perturbation scores use; 0 leaves them out
    seed: int


@dataclass(frozen=True)
class Scored:
    """Maps beside baselines and ceilings, with their scores against the masks."""

    names: list[str]  # of the maps that were taken
    pooled: Tensor  # `[N, D]`, the encoder's embeddings of the images
    grid: tuple[int, int]  # cells (h, w) of its map
    rows: list[Row]  # all maps
    entries: list[dict[str, Any]]  # what results keep of each
    left_out: list[str]  # a line for each thing


def evaluate(
    work: Evaluation, asked: Sequence[str] | None, tell: Callable[[str], None]
) -> tuple[dict[str, Any], list[Row], NDArray[np.int64] | None]:
    """Takes every map, scores it next to the baselines, and says what was left out.

    Arguments as `localised`. Gives part of results/heatmap.json (docs/heatmaps.md), and for figures the rows of the
    trained encoder and its probe's classes `[N]`, None without one. A ValueError if a map that was asked for cannot be
    taken.
    """
    found = localised(work, asked, tell)
    if work.perturb:
        tell("perturbation scores, and the sanity check")
    _ask_again(work, found.rows, found.entries, found.left_out)
    _randomise(work, found.names, found.entries, found.left_out)
    predicted = _predicted(work, found.pooled)
    told = {
        "probe": _accuracy(work, predicted),
        "grid": list(found.grid),
        "masks": list(work.truth.masks),
        "chance": {name: _share(mask, work.means) for name, mask in work.truth.masks.items()},
        "rows": found.entries,
        "left_out": found.left_out,
    }
    return told, [row for row in found.rows if row.encoder == "trained"], predicted


def localised(work: Evaluation, asked: Sequence[str] | None, tell: Callable[[str], None]) -> Scored:
    """Takes every map and scores it against the masks, next to the baselines and the ceiling.

    `asked`: maps by name; None is `DEFAULT_MAPS`, and `OF_TRANSFORMERS`. `tell` is given a line when a long part
    begins. A ValueError if a map that was asked for cannot be taken.
    """
    first = encode(work.trained.encoder, work.questions.images[:1], work.questions.index[:1]).features
    attention = attended(work.trained.encoder, as_inputs(work.questions.images[:1]))
    has_weights = first.weights is not None
    names, left_out = choose_maps(work.trained, asked, has_weights=has_weights, attention=attention)
    of = "labels" if isinstance(work.means, OverClasses) else "images"
    tell(f"maps of {len(work.questions)} {of}: {', '.join(names)}")
    own, pooled = map_rows(names, work.trained, work.questions, encoder="trained")
    mapped = first.map if work.trained.encoder.has_map else work.questions.images[..., ::SIDE, ::SIDE]
    grid = (mapped.shape[2], mapped.shape[3])  # of the baselines and the ceiling
    images, places = work.truth.split.images, work.truth.index
    baselines = [
        Row(name, name, "baseline", "", "", "", False, draw(images, places, grid, work.seed))
        for name, draw in BASELINES.items()
    ]
    if work.random is None:
        left_out.append("random weights and the sanity check: no weights of this encoder can be drawn anew")
    else:
        baselines += map_rows(names, work.random, work.random_questions, encoder="random")[0]
    rows: list[Row] = [*own, *baselines]
    masks = work.truth.masks
    if masks:
        tell(f"scores of {len(rows)} rows against {len(masks)} masks")
    scored = [
        _describe(row) | {"scores": scores} for row, scores in zip(rows, localise(rows, masks, work.means), strict=True)
    ]
    if masks:
        ceilings = _ceilings(work, grid)
        scores = localise_ceiling(masks, grid, work.means)
        rows += ceilings
        scored += [_describe(row) | {"scores": scores} for row in ceilings]
    else:
        left_out.append(
            "pointing, relevance mass, rank accuracy and AUROC: these images have no masks (probekit gen makes some)"
        )
    return Scored(names, pooled, grid, rows, scored, left_out)


def _share(mask: NDArray[np.bool_], means: OverImages) -> float:
    """The mask's share of the images that have it: the others have no score."""
    share = mask.mean(axis=(1, 2))
    return float(means.mean(np.where(share > 0, share, np.nan))["mean"] or 0.0)


def _predicted(work: Evaluation, pooled: Tensor) -> NDArray[np.int64] | None:
    """The classes that the probe predicts, as `Classifier.predicted`; None without one."""
    if work.labels is None or work.trained.classifier is None:
        return None
    return work.trained.classifier.predicted(pooled, work.labels).cpu().numpy()


def _accuracy(work: Evaluation, predicted: NDArray[np.int64] | None) -> dict[str, Any] | None:
    """The accuracy of the probe that the maps explain, on the images that are looked at."""
    if work.labels is None or predicted is None:
        return None
    hits = predicted == work.labels.cpu().numpy()
    return {"accuracy": float(hits.mean()), "ci": work.means.share(hits), "n": len(hits)}


def choose_maps(
    subject: Subject, asked: Sequence[str] | None, *, has_weights: bool, attention: Attended | None
) -> tuple[list[str], list[str]]:
    """The maps that can be taken, and a line for each that cannot; a ValueError if it was asked for by name."""
    by_name = asked is not None and set(asked) != set(MAPS)
    usual = [*DEFAULT_MAPS, *(OF_TRANSFORMERS if attention else ())]
    wanted = [each for name in asked or usual for each in _by_part(name, subject, attention)]
    reasons = {name: unmet(name, subject, has_weights, attention) for name in wanted}
    refused = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    names = [name for name, reason in reasons.items() if reason is None]
    if refused and (by_name or not names):
        told = "; ".join(refused)
        raise ValueError(
            f"expected maps that this encoder and these images allow, found: {told}; type: --maps occlusion"
        )
    return names, refused + [text for name, text in COSTLY.items() if asked is None]


def _by_part(name: str, subject: Subject, attention: Attended | None) -> list[str]:
    """A map's name, or those of all its parts."""
    plain, part = map_named(name)
    if part != ALL_PARTS:
        return [name]
    return [f"{plain}:{number}" for number in range(parts_of(plain, subject, attention))] or [plain]


def _describe(row: Row) -> dict[str, Any]:
    about = {key: getattr(row, key) for key in ("name", "map", "kind", "target", "encoder", "unit", "signed")}
    zero = int((~row.maps.any(axis=(1, 2))).sum())
    about |= {"grid": list(row.maps.shape[1:]), "all_zero": zero}
    return {**about, "perturbation": {}, "swap": {}, "sanity_check": None}


def _ceilings(work: Evaluation, grid: tuple[int, int]) -> list[Row]:
    """The true evidence of each class factor on the grid; of all objects where there is no evidence mask."""
    masks = work.truth.masks
    evidence = {name.removeprefix(EVIDENCE): mask for name, mask in masks.items() if name.startswith(EVIDENCE)}
    truth = evidence or {"": np.any(list(masks.values()), axis=0)}
    return [
        Row("ceiling", "", "ceiling", name, "", "share of the cell", False, area_average(mask, grid))
        for name, mask in truth.items()
    ]


def _ask_again(work: Evaluation, rows: list[Row], scored: list[dict[str, Any]], left_out: list[str]) -> None:
    """Adds faithfulness and swap scores to the rows, on some of the images."""
    if work.perturb == 0:
        left_out.append("Average Drop, Increase, Gain and the swap curve: --perturb 0")
        return
    if work.labels is None:
        left_out.append("Average Drop, Increase, Gain and the swap curve: they need labels, for a linear probe")
        return
    if not work.counterfactuals:
        left_out.append("the swap curve: these images have no counterfactuals")
    elif not set(work.questions.targets) & set(work.counterfactuals):
        left_out.append("the swap curve: it needs --target pair")
    some = spaced(len(work.questions), work.perturb)
    at = torch.from_numpy(some).to(work.labels.device)
    part = work.questions.part(some)
    pairs = {
        name: Pairs.of(work.trained, part.images, work.counterfactuals[name][at], target)
        for name, target in part.targets.items()
        if name in work.counterfactuals
    }
    before = confidence(work.trained, as_inputs(part.images), work.labels[at])
    for row, entry in zip(rows, scored, strict=True):
        maps = row.maps[some]
        for name in by_target(part.fills, row.target):
            entry["perturbation"][name] = faithfulness(
                work.trained, part.images, work.labels[at], before, part.fills[name], maps, work.means.part(some)
            )
        for name in by_target(pairs, row.target):
            entry["swap"][name] = swap(work.trained, pairs[name], maps, seed=work.seed)


def _randomise(work: Evaluation, names: list[str], scored: list[dict[str, Any]], left_out: list[str]) -> None:
    """Adds the sanity check to the rows of the maps that are no trouble to take of many networks."""
    if work.random is None:  # it is said already
        return
    if work.perturb == 0:
        left_out.append("the sanity check: --perturb 0")
        return
    cheap = [name for name in names if name not in COSTLY]
    left_out += [
        f"the sanity check of {name}: it would take the costly map of many networks" for name in names if name in COSTLY
    ]
    if not cheap:
        return
    part = work.questions.part(spaced(len(work.questions), IMAGES))
    verdicts = check(cheap, work.trained, work.fresh, part, seed=work.seed)
    for entry in scored:
        if entry["encoder"] == "trained" and entry["name"] in verdicts:
            entry["sanity_check"] = verdicts[entry["name"]]


def uniform(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """The same everywhere: every score is its chance level."""
    return np.ones(images.shape[:3], np.float32)


def random(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """Independent numbers in the cells of the encoder's grid; an image's depend on the seed and its index alone."""
    cells = np.stack([np.random.default_rng([seed, int(i)]).random(grid, np.float32) for i in index])
    return upsample(cells, images.shape[1:3])


def centre(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """A Gaussian around the middle of the frame."""
    y, x = (((np.arange(side) + 0.5) / side - 0.5) / SPREAD for side in images.shape[1:3])
    one = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / 2).astype(np.float32)
    return np.repeat(one[None], len(images), axis=0)


def edges(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """The Sobel magnitude of the luma."""
    luma = images @ LUMA if images.ndim == 4 else images.astype(np.float64)
    return np.stack([sobel(image) for image in luma]).astype(np.float32)  # type: ignore[no-untyped-call]


def ink(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """1 where a pixel belongs to the drawing (Otsu's threshold, the ground is what holds the border)."""
    return binarise(images).astype(np.float32)


# All take the same: images uint8 [N, H, W] or [N, H, W, 3], their places in the split, the grid of the encoder, a seed.
BASELINES: dict[str, Callable[[Pixels, NDArray[np.int64], tuple[int, int], int], Maps]] = {
    "uniform": uniform,
    "random": random,
    "centre": centre,
    "edges": edges,
    "ink": ink,
}
