"""The contract of a map, a raw map of where an encoder looks for every image of a batch; and maps of many images.

Shapes: B batch, C channels, H W image, h w map, D embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.branches.lcr import LCR
from probekit.methods.base import Method
from probekit.models.encoder import Encoder, Features
from probekit.models.extract import eval_mode
from probekit.models.inputs import Input
from probekit.models.self_attention import Attended
from probekit.probes.linear import LinearProbe, Space
from probekit.registry import MAPS, PARTS, get, map_named
from probekit.views.recipes import RECIPES, Recipe

Projection = Callable[[Tensor], Tensor]
ABSENT = -1  # in place of a class: the probe says that there is none of it
BATCH = 32  # images encoded at a time: bounds the memory of input gradients; on a CPU the fastest, measured


@dataclass(frozen=True)
class Target:
    """What the maps of a batch explain: for each image a linear function of its embedding.

    A class's logit is one, and so is the margin between two classes.
    """

    direction: Tensor  # float32 `[B, D]`
    offset: Tensor  # float32 `[B]`

    def score(self, pooled: Tensor) -> Tensor:
        """The target's value `[B]` at embeddings `[B, D]`."""
        return (self.direction * pooled.float()).sum(dim=1) + self.offset


@dataclass(frozen=True)
class Batch:
    """Images, what the encoder makes of them, and what is asked about them."""

    images: Tensor  # uint8 `[B, C, H, W]`
    index: Tensor  # int64 `[B]`, which images they are: addresses their random numbers
    features: Features  # from the encoder that is looked at, without a graph
    target: Target | None = None  # None where there is no classifier
    fill: Tensor | None = None  # `[B, C, H, W]` in [0, 1], what stands where an image is hidden; None is black

    @property
    def inputs(self) -> Tensor:
        """The images as the encoder takes them, float32 in [0, 1]."""
        return as_inputs(self.images)


@dataclass(frozen=True)
class Context:
    """What maps may need beside a batch; it belongs to one encoder."""

    method: Method | None = None  # the whole method, in eval mode; None where its heads do not fit the embedding
    companions: Tensor | None = None  # uint8 `[M, C, H, W]`, images that make a batch with the one that is looked at
    project: Projection | None = None  # the head that the contrastive loss compares, `[B, D] -> [B, P]`
    negatives: Tensor | None = None  # `[M, P]`, projections of other images; None for maps that take none
    temperature: float = 0.5  # ConRec paper, section 2.4
    recipe: Recipe = RECIPES["simclr"]  # views that the method was trained on
    view_size: tuple[int, int] | None = None  # (h, w) of those views; None is the images' own
    draws: int = 8  # views of each image, even; ours: halves the sd that 2 leave
    window: int = 16  # px that occlusion hides; ours: about a corner of the paper's shapes at 128 px
    stride: int = 8  # px, of occlusion
    part: int | None = None  # head of self-attention, filter of gfb; None is all in one
    seed: int = 0  # decides the views


class AttributionMap(ABC):
    """Raw maps: no scaling, no rectifying; only `draw` does that."""

    about: ClassVar[str]  # one plain line
    unit: ClassVar[str]  # what a value of the map means
    signed: ClassVar[bool]  # whether a map may hold negative evidence
    both_signs: ClassVar[bool] = False  # its negative is a row of its own: neither sign is the agreed one
    targeted: ClassVar[bool] = False  # whether the map explains the batch's target, where there is one
    needs: ClassVar[frozenset[str]] = frozenset()  # "map", "target", "gradient", "weights" (of pooling), "negatives",
    # "loss" (of embeddings), "filters" (of lcr), "self-attention", "throughout" (all blocks alike)

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, encoder: Encoder, batch: Batch) -> Tensor:
        """Maps `[B, h, w]` of a batch, float32 and without a graph; h, w are the feature map's or the image's.

        An image's map does not depend on its neighbours. The encoder made `batch.features`; it is in eval mode
        meanwhile and is given back as it was, gradients included, also after an error.
        """
        with eval_mode(encoder), torch.autocast(batch.images.device.type, enabled=False):
            found = self.maps(encoder, batch).detach().float()
        takes: Input | None = getattr(encoder, "input", None)
        cells, pixels = batch.features.map.shape[2:], batch.images.shape[2:]
        if takes is None or found.shape[1:] != cells or cells == pixels:
            return found
        return takes.whole(found, *pixels)

    @abstractmethod
    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        """As `__call__`, in eval mode."""


def encode(encoder: Encoder, images: Tensor, index: Tensor) -> Batch:
    """Encodes uint8 images `[B, C, H, W]` once for all maps; `index` as in `Batch`."""
    with eval_mode(encoder), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return Batch(images, index, encoder(as_inputs(images)))


def as_inputs(images: Tensor) -> Tensor:
    """uint8 `[B, C, H, W]` as float32 in [0, 1]; channels last, which convolutions on a CPU prefer."""
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


def map_gradient(encoder: Encoder, features: Features, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The feature map `[B, D, h, w]` and the gradient of `score(pooled) -> [B]` with respect to it.

    Only the pooling runs again, on a copy of the map that nothing else refers to: no parameter's gradient is touched.
    """
    leaf = features.map.detach().float().requires_grad_()
    with torch.enable_grad():
        pooled, _ = encoder.pooling(leaf)
        (gradient,) = torch.autograd.grad(score(pooled).sum(), leaf)
    return leaf.detach(), gradient


@dataclass(frozen=True)
class Classifier:
    """A linear probe on the embedding as it comes: a standardised probe is folded into its weights."""

    weight: Tensor  # `[K, D]`
    bias: Tensor  # `[K]`
    each: bool = False  # whether each class is asked about by itself, as where an image has several

    @classmethod
    def of(cls, space: Space, probe: LinearProbe, *, classes: int, device: torch.device) -> "Classifier":
        """From a fitted probe; a class that training did not show gets the logit -inf.

        Logits are known up to what all share: here their mean over the classes is 0. The probe of two classes has 0 for
        the first, which no map could explain.
        """
        seen_weight, seen_bias = (found - found.mean(axis=0) for found in space.unfold(probe))
        weight = np.zeros((classes, seen_weight.shape[1]))
        bias = np.full(classes, -np.inf)
        weight[probe.labels], bias[probe.labels] = seen_weight, seen_bias
        return cls(
            torch.from_numpy(weight).float().to(device),
            torch.from_numpy(bias).float().to(device),
        )

    @classmethod
    def of_each(cls, space: Space, probes: Sequence[LinearProbe | None], device: torch.device) -> "Classifier":
        """From a fitted probe for each class; one without, of which train has no two kinds, gets the logit -inf."""
        weight = torch.zeros(len(probes), space.x.shape[1])
        bias = torch.full((len(probes),), -torch.inf)
        for k, probe in enumerate(probes):
            if probe is not None:
                weights, biases = map(torch.from_numpy, space.unfold(probe))
                weight[k], bias[k] = weights[1] - weights[0], biases[1] - biases[0]
        return cls(weight.to(device), bias.to(device), each=True)

    def predicted(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """The most probable class of embeddings `[B, D]`; where each is asked about by itself the label, or `ABSENT`.

        `labels`: int64 `[B]`, what each is asked about. Returns int64 `[B]`.
        """
        logits = self.logits(pooled)
        if not self.each:
            return logits.argmax(dim=1)
        return torch.where(logits.gather(1, labels[:, None])[:, 0] > 0, labels, ABSENT)

    def logits(self, pooled: Tensor) -> Tensor:
        """`[B, K]` from embeddings `[B, D]`."""
        return pooled.float() @ self.weight.T + self.bias

    def probability(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Probability of each image's class, `[B]`: the softmax over all, or of each class by itself the sigmoid."""
        logits = self.logits(pooled)
        found = logits.sigmoid() if self.each else logits.softmax(dim=1)
        return found.gather(1, labels[:, None])[:, 0]


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
    for start in range(0, len(questions), BATCH):
        part = questions.part(np.arange(start, min(start + BATCH, len(questions))))
        batch, targets = encode(subject.encoder, part.images, part.index), part.targets
        fills = {name: fill.float() / 255 for name, fill in part.fills.items()}
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


def make_map(name: str, context: Context) -> AttributionMap:
    """The map of that name, which may end with the number of a part; a ValueError if there is none."""
    plain, part = map_named(name)
    found: AttributionMap = get(MAPS, "map", plain)(replace(context, part=int(part) if part else None))
    return found


def unmet(name: str, subject: Subject, has_weights: bool, attention: Attended | None) -> str | None:
    """Why a map cannot be taken, in words, or None.

    `has_weights`: whether the encoder pools with weights. `attention`: what it has of self-attention.
    """
    plain, part = map_named(name)
    needs = get(MAPS, "map", plain).needs
    if "target" in needs and subject.classifier is None:
        return "needs labels of at least two classes, for a linear probe"
    if "map" in needs and not subject.encoder.has_map:
        return "this encoder gives no feature map that is pooled to its embedding"
    if "gradient" in needs and not subject.encoder.has_gradient:
        return "needs gradients through the encoder, which a file of ONNX does not give"
    if "weights" in needs and not has_weights:
        return "this encoder pools without weights, so there are none to show"
    if "negatives" in needs and subject.context.negatives is None:
        return "needs other images to contrast with"
    if "loss" in needs and (why := _why_no_loss(subject.context.method)):
        return why
    if "filters" in needs and filters_of(subject.context.method) is None:
        return "needs a run with the branch lcr, whose filters it shows"
    if "self-attention" in needs and attention is None:
        return "this network has no self-attention over the cells of its feature map"
    if "throughout" in needs and attention is not None and not attention.throughout:
        return "not all blocks of this network attend over the cells of its feature map"
    if part and int(part) >= (most := parts_of(plain, subject, attention)):
        return f"it has {most} {PARTS[plain]}{'s' * (most > 1)}, {plain}:0 to {plain}:{most - 1}"
    return None


def parts_of(plain: str, subject: Subject, attention: Attended | None) -> int:
    """How many parts a map of `PARTS` has here; 0 where it cannot be taken."""
    if PARTS[plain] == "head":
        return 0 if attention is None else attention.heads
    branch = filters_of(subject.context.method)
    return 0 if branch is None else branch.filters.out_channels


def filters_of(method: Method | None) -> LCR | None:
    """The branch of a method that fits filters to maps, or None."""
    kept = [] if method is None else method.kept_branches
    return next((branch for branch in kept if isinstance(branch, LCR)), None)


def _why_no_loss(method: Method | None) -> str | None:
    """Why a method has no loss to take of an image, in words, or None."""
    if method is None:
        return "needs the whole method of a run, of which only the encoder is here, or whose heads do not fit"
    if method.needs_labels:
        return "its method was trained on labels, whose logit gradcam explains"
    if not {"two_views", "embedding_loss"} <= method.provides:
        return "the loss of its method does not rest on the embedding"
    return None
