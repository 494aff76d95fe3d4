"""From encoders, images and truth to the whole result: which rows, which scores, what is left out and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probekit.config import SIDE
from probekit.data.truth import Truth, spaced
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.base import as_inputs, encode
from probekit.heatmaps.baselines import BASELINES
from probekit.heatmaps.perturb import Pairs, by_target, confidence, faithfulness, swap
from probekit.heatmaps.resample import area_average
from probekit.heatmaps.rows import Questions, Row, Subject, map_rows, unmet
from probekit.heatmaps.sanity import IMAGES, Fresh, check
from probekit.heatmaps.score import localise, localise_ceiling
from probekit.registry import MAPS
from probekit.statistics import share_interval

DEFAULT_MAPS = ("cam", "gradcam", "gradcam-ssl", "attention", "input-gradient")
COSTLY = {"occlusion": "occlusion: it encodes each image once a window; type: --maps occlusion"}


@dataclass(frozen=True)
class Evaluation:
    """What is looked at and how.

    Attributes:
        trained: The encoder in question.
        random: The same with random weights, its own probe fitted; None where no weights can be drawn anew.
        random_questions: What its maps are to explain: targets of that probe.
        fresh: More of these, by seed.
        truth: The images and what is known about them.
        questions: The same on the device, with targets.
        labels: int64 `[N]`, on the device; None without a classifier.
        counterfactuals: Counterfactuals by class factor, uint8 `[N, C, H, W]`.
        perturb: How many images the perturbation scores use; 0 leaves them out.
        seed: Decides everything random.
    """

    trained: Subject
    random: Subject | None
    fresh: Fresh
    truth: Truth
    questions: Questions
    random_questions: Questions
    labels: Tensor | None
    counterfactuals: Mapping[str, Tensor]
    perturb: int
    seed: int


def evaluate(
    work: Evaluation, asked: Sequence[str] | None, tell: Callable[[str], None]
) -> tuple[dict[str, Any], list[Row]]:
    """Takes every map, scores it next to the baselines, and says what was left out.

    Args:
        asked: Maps by name; None is `DEFAULT_MAPS`.
        tell: Is given a line when a long part begins.

    Returns:
        Part of results/heatmap.json (docs/heatmaps.md), and the rows of the trained encoder, for figures.

    Raises:
        ValueError: If a map that was asked for cannot be taken.
    """
    first = encode(work.trained.encoder, work.questions.images[:1], work.questions.index[:1]).features
    names, left_out = choose_maps(work.trained, asked, has_weights=first.weights is not None)
    tell(f"maps of {len(work.questions)} images: {', '.join(names)}")
    own, pooled = map_rows(names, work.trained, work.questions, encoder="trained")
    mapped = first.map if work.trained.encoder.has_map else work.questions.images[..., ::SIDE, ::SIDE]
    grid = (mapped.shape[2], mapped.shape[3])  # of the baselines and the ceiling
    baselines = _baselines(work, grid)
    if work.random is None:
        left_out.append("random weights and the sanity check: no weights of this encoder can be drawn anew")
    else:
        baselines += map_rows(names, work.random, work.random_questions, encoder="random")[0]
    rows: list[Row] = [*own, *baselines]
    masks = work.truth.masks
    if masks:
        tell(f"scores of {len(rows)} rows against {len(masks)} masks")
    scored = [
        _describe(row) | {"scores": scores}
        for row, scores in zip(rows, localise(rows, masks, seed=work.seed), strict=True)
    ]
    if masks:
        ceilings = _ceilings(work, grid)
        scores = localise_ceiling(masks, grid, seed=work.seed)
        rows += ceilings
        scored += [_describe(row) | {"scores": scores} for row in ceilings]
    else:
        left_out.append(
            "pointing, relevance mass, rank accuracy and AUROC: these images have no masks (probekit gen makes some)"
        )
    if work.perturb:
        tell("perturbation scores, and the sanity check")
    _ask_again(work, rows, scored, left_out)
    _randomise(work, names, scored, left_out)
    chance = {name: float(mask.mean()) for name, mask in masks.items()}
    return {
        "probe": _accuracy(work, pooled),
        "grid": list(grid),
        "masks": list(masks),
        "chance": chance,
        "rows": scored,
        "left_out": left_out,
    }, own


def _accuracy(work: Evaluation, pooled: Tensor) -> dict[str, Any] | None:
    """The accuracy of the probe that the maps explain, on the images that are looked at."""
    if work.labels is None or work.trained.classifier is None:
        return None
    hits = work.trained.classifier.logits(pooled).argmax(dim=1) == work.labels
    correct, n = int(hits.sum()), len(hits)
    return {"accuracy": correct / n, "ci": share_interval(correct, n), "n": n}


def choose_maps(subject: Subject, asked: Sequence[str] | None, *, has_weights: bool) -> tuple[list[str], list[str]]:
    """The maps that can be taken, and a line for each that cannot.

    Raises:
        ValueError: If one that was asked for by name cannot be, or none is left.
    """
    by_name = asked is not None and set(asked) != set(MAPS)
    reasons = {name: unmet(name, subject, has_weights) for name in asked or DEFAULT_MAPS}
    refused = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    names = [name for name, reason in reasons.items() if reason is None]
    if refused and (by_name or not names):
        raise ValueError(f"expected maps that this encoder and these images allow, found: {'; '.join(refused)}")
    return names, refused + [text for name, text in COSTLY.items() if asked is None]


def _baselines(work: Evaluation, grid: tuple[int, int]) -> list[Row]:
    images = work.truth.split.images
    return [
        Row(name, name, "baseline", "", "", "", False, draw(images, work.truth.index, grid, work.seed))
        for name, draw in BASELINES.items()
    ]


def _describe(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "map": row.map,
        "kind": row.kind,
        "target": row.target,
        "encoder": row.encoder,
        "unit": row.unit,
        "signed": row.signed,
        "grid": list(row.maps.shape[1:]),
        "all_zero": int((~row.maps.any(axis=(1, 2))).sum()),
        "perturbation": {},
        "swap": {},
        "sanity_check": None,
    }


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
        left_out.append("the swap curve: only generated images have counterfactuals")
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
                work.trained, part.images, work.labels[at], before, part.fills[name], maps, seed=work.seed
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
            entry["sanity_check"] = verdicts[entry["name"]].as_dict()
