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

    Attributes:
        direction: float32 `[B, D]`.
        offset: float32 `[B]`.
    """

    direction: Tensor
    offset: Tensor

    def score(self, pooled: Tensor) -> Tensor:
        """The target's value `[B]` at embeddings `[B, D]`."""
        return (self.direction * pooled.float()).sum(dim=1) + self.offset


@dataclass(frozen=True)
class Batch:
    """Images, what the encoder makes of them, and what is asked about them.

    Attributes:
        images: uint8 `[B, C, H, W]`.
        index: int64 `[B]`, which images they are: addresses their random numbers.
        features: Features of the images, from the encoder that is looked at, without a graph.
        target: What maps explain; None where there is no classifier.
        fill: float32 `[B, C, H, W]` in [0, 1], what stands where an image is hidden; None is black.
    """

    images: Tensor
    index: Tensor
    features: Features
    target: Target | None = None
    fill: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """The images as the encoder takes them, float32 in [0, 1]."""
        return as_inputs(self.images)


@dataclass(frozen=True)
class Context:
    """What maps may need beside a batch; it belongs to one encoder.

    Attributes:
        project: Embedding `[B, D] -> [B, P]`, the head that the contrastive loss compares; None: the embedding itself.
        negatives: float32 `[M, P]`, projections of other images; None for maps that take none.
        temperature: tau of the contrastive loss.
        recipe: Views that the method was trained on.
        view_size: (h, w) of those views; None is the images' own.
        draws: Views of each image, even.
        window: Side of what occlusion hides, px.
        stride: Step of occlusion, px.
        seed: Decides the views.
    """

    project: Projection | None = None
    negatives: Tensor | None = None
    temperature: float = 0.5  # ConRec paper, section 2.4
    recipe: str = "simclr"
    view_size: tuple[int, int] | None = None
    draws: int = 8  # ours: halves the sd that 2 leave
    window: int = 16  # ours: about a corner of the paper's shapes at 128 px; diagnostics use the same
    stride: int = 8
    seed: int = 0


class AttributionMap(ABC):
    """Raw maps: no scaling, no rectifying; only `draw` does that.

    Attributes:
        about: One plain line.
        unit: What a value of the map means.
        signed: Whether a map may hold negative evidence.
        both_signs: Whether the map's negative is a row of its own: neither sign is the agreed one.
        targeted: Whether the map explains the batch's target, where there is one.
        needs: "map" (a feature map that is pooled), "target", "weights" (pooling weights), "negatives": without these
            the map is left out.
    """

    about: ClassVar[str]
    unit: ClassVar[str]
    signed: ClassVar[bool]
    both_signs: ClassVar[bool] = False
    targeted: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, encoder: Encoder, batch: Batch) -> Tensor:
        """Maps of a batch; an image's map does not depend on its neighbours.

        The encoder is in eval mode meanwhile and is given back as it was, gradients included, also after an error.

        Args:
            encoder: The one that made `batch.features`.
            batch: With what `needs` names.

        Returns:
            float32 `[B, h, w]`, without a graph; h, w are the feature map's or the image's.
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

    Only the pooling runs again, on a copy of the map that nothing else refers to: no hook, and no parameter's
    gradient is touched.
    """
    leaf = features.map.detach().float().requires_grad_()
    with torch.enable_grad():
        pooled, _ = encoder.pooling(leaf)
        (gradient,) = torch.autograd.grad(score(pooled).sum(), leaf)
    return leaf.detach(), gradient
