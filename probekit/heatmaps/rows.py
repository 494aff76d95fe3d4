"""Maps of many images: one row for each map and target, of an encoder with trained or with random weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.heatmaps.base import AttributionMap, Batch, Context, Target, encode
from probekit.heatmaps.questions import Classifier
from probekit.models.encoder import Encoder
from probekit.registry import MAPS, get

BATCH = 32  # images encoded at a time: bounds the memory of input gradients; on a CPU the fastest, measured


@dataclass(frozen=True)
class Subject:
    """An encoder, in eval mode, with all that maps need."""

    encoder: Encoder
    classifier: Classifier | None  # on its embeddings; None without labels
    context: Context


@dataclass(frozen=True)
class Questions:
    """The images that are looked at, and what maps are to explain."""

    images: Tensor  # uint8 `[N, C, H, W]`, on the encoder's device, at the size it takes
    index: Tensor  # int64 `[N]`, their places in the split
    targets: Mapping[str, Target]  # by class factor, or under ""; empty without a classifier
    fills: Mapping[str, Tensor]  # likewise, uint8 like `images`: what occlusion puts in place of what it hides

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: NDArray[np.int64]) -> "Questions":
        """The same about some of the images."""
        at = torch.from_numpy(rows).to(self.images.device)
        return Questions(
            self.images[at],
            self.index[at],
            {name: Target(target.direction[at], target.offset[at]) for name, target in self.targets.items()},
            {name: fill[at] for name, fill in self.fills.items()},
        )


@dataclass(frozen=True)
class Row:
    """Maps under one name."""

    name: str
    map: str  # the attribution map, or the baseline
    kind: str  # "map", "baseline" or "ceiling"
    target: str  # the class factor that the maps explain, or ""
    encoder: str  # "trained", "random", or "" for maps that no encoder made
    unit: str  # what a value means
    signed: bool  # whether negative values may come
    maps: NDArray[np.float32]  # `[N, h, w]`, raw


def map_rows(names: list[str], subject: Subject, questions: Questions, *, encoder: str) -> tuple[list[Row], Tensor]:
    """Looks into an encoder, "trained" or "random": its rows, and the embeddings `[N, D]` that came along.

    The images are encoded once for all maps; those whose needs are not met must have been left out (`unmet`).
    """
    known = {name: make_map(name, subject.context) for name in names}
    maps: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    pooled = []
    for batch, targets, fills in batches(subject.encoder, questions):
        pooled.append(batch.features.pooled)
        for name, each in known.items():
            for target in targets if each.targeted and targets else [""]:
                asked = replace(batch, target=targets.get(target), fill=fills.get(target, fills.get("")))
                maps.setdefault((name, target), []).append(each(subject.encoder, asked).cpu().numpy())
    rows = []
    for (name, target), parts in maps.items():
        drawn, whole = known[name], np.concatenate(parts)
        suffix = "" if encoder == "trained" else f", {encoder} weights"
        kind = "map" if encoder == "trained" else "baseline"
        rows.append(Row(name + suffix, name, kind, target, encoder, drawn.unit, drawn.signed, whole))
        if drawn.both_signs:
            rows.append(Row(f"-{name}{suffix}", name, kind, target, encoder, drawn.unit, drawn.signed, -whole))
    return rows, torch.cat(pooled)


def batches(encoder: Encoder, questions: Questions) -> Iterator[tuple[Batch, dict[str, Target], dict[str, Tensor]]]:
    """The images in batches, encoded, each with its part of the targets and of the fills (float32 in [0, 1])."""
    for start in range(0, len(questions), BATCH):
        part = questions.part(np.arange(start, min(start + BATCH, len(questions))))
        fills = {name: fill.float() / 255 for name, fill in part.fills.items()}
        yield encode(encoder, part.images, part.index), dict(part.targets), fills


def make_map(name: str, context: Context) -> AttributionMap:
    """The map of that name; a ValueError if there is none."""
    found: AttributionMap = get(MAPS, "map", name)(context)
    return found


def unmet(name: str, subject: Subject, has_weights: bool) -> str | None:
    """Why a map cannot be taken, in words, or None; `has_weights`: whether the encoder pools with weights."""
    needs = get(MAPS, "map", name).needs
    if "target" in needs and subject.classifier is None:
        return "needs labels of at least two classes, for a linear probe"
    if "map" in needs and not subject.encoder.has_map:
        return "this encoder gives no feature map that is pooled to its embedding"
    if "weights" in needs and not has_weights:
        return "this encoder pools without weights, so there are none to show"
    if "negatives" in needs and subject.context.negatives is None:
        return "needs other images to contrast with"
    return None
