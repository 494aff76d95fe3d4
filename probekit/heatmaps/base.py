"""The contract of a map: a raw map of where an encoder looks, for every image of a batch.

Shapes: B batch, C channels, H W image, h w map, D embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probekit.models.encoder import Encoder, Features
from probekit.models.extract import eval_mode

Projection = Callable[[Tensor], Tensor]


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

    project: Projection | None = None  # the head that the contrastive loss compares, `[B, D] -> [B, P]`
    negatives: Tensor | None = None  # `[M, P]`, projections of other images; None for maps that take none
    temperature: float = 0.5  # ConRec paper, section 2.4
    recipe: str = "simclr"  # views that the method was trained on
    view_size: tuple[int, int] | None = None  # (h, w) of those views; None is the images' own
    draws: int = 8  # views of each image, even; ours: halves the sd that 2 leave
    window: int = 16  # px that occlusion hides; ours: about a corner of the paper's shapes at 128 px
    stride: int = 8  # px, of occlusion
    seed: int = 0  # decides the views


class AttributionMap(ABC):
    """Raw maps: no scaling, no rectifying; only `draw` does that."""

    about: ClassVar[str]  # one plain line
    unit: ClassVar[str]  # what a value of the map means
    signed: ClassVar[bool]  # whether a map may hold negative evidence
    both_signs: ClassVar[bool] = False  # its negative is a row of its own: neither sign is the agreed one
    targeted: ClassVar[bool] = False  # whether the map explains the batch's target, where there is one
    needs: ClassVar[frozenset[str]] = frozenset()  # "map", "target", "weights" (of pooling), "negatives"

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, encoder: Encoder, batch: Batch) -> Tensor:
        """Maps `[B, h, w]` of a batch, float32 and without a graph; h, w are the feature map's or the image's.

        An image's map does not depend on its neighbours. The encoder made `batch.features`; it is in eval mode
        meanwhile and is given back as it was, gradients included, also after an error.
        """
        with eval_mode(encoder), torch.autocast(batch.images.device.type, enabled=False):
            return self.maps(encoder, batch).detach().float()

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
