"""The contract of a method. Shapes: B batch, V views, C channels, H W image, h w feature map, D embedding."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

from torch import Tensor, nn

from probekit.models.encoder import Encoder, Features
from probekit.ranks import synced
from probekit.views.recipes import Views

Suited = tuple[dict[str, Any], Sequence[str]]  # settings, and a line for the user for each that suits the data badly


class AddOn(nn.Module):
    """What a method knows of its branches (`probekit.branches.base.Branch`).

    Attributes:
        name: In `probekit.registry.BRANCHES`, and of its settings.
        copied: Whether a target network has a copy of it that follows: of one whose `refine` changes features, or that
            compares what both networks make of an image.
        twin: That copy, in a tuple, so that it is no part of this one; empty without one.
    """

    name: ClassVar[str]
    copied: bool = False
    twin: tuple["AddOn", ...] = ()

    def refine(self, features: Features) -> Features:
        """Changes the features before the method's heads see them."""
        return features


@dataclass
class Step:
    """What one training step hands to the trainer and to the branches.

    Attributes:
        loss: Scalar, float32, with its graph alive.
        features: What every view of whole size gave that was encoded with a gradient, the views one after another:
            `features.pooled` is `[V * B, D]`.
        logs: Scalars to record, detached, on the device.
        contrastive: The part of the loss that rests on the embedding, with its graph; None is all of it.
        companions: Features of the images that a branch asked for beside the batch, by the branch's name.
        views: What the step was made of; the trainer puts it there.
        projections: What the loss compares of the two views of whole size, one view after the other, `[2 * B, P]`,
            detached; None for a loss that compares none.
        target_map: What the target network's encoder made of the views, without a gradient, in the images' order: of
            both, one after another, or of the second alone where `features` are those of the first. None without one.
    """

    loss: Tensor
    features: Features
    logs: dict[str, Tensor]
    contrastive: Tensor | None = None
    companions: dict[str, Features] = field(default_factory=dict)
    projections: Tensor | None = None
    views: Views | None = None
    target_map: Tensor | None = None


@dataclass(frozen=True)
class Rate:
    """A learning rate of their own for some parameters.

    `share`: a factor of the run's own rate. `schedule`: its course, a name of `optimizer.schedule`; None is the run's.
    `start`: the first step at which it is not 0. `first`: where the warm-up begins, as a share of its highest; None is
    the run's share. `final`: the last rate of "cosine", as a share of its highest; None is the run's share.
    """

    parameters: Sequence[Tensor]
    share: float = 1.0
    schedule: str | None = None
    start: int = 0
    first: float | None = None
    final: float | None = None


class Method(nn.Module, ABC):
    """A way to train an encoder. Its keyword-only constructor arguments are its settings (`--set method.NAME=...`).

    Attributes:
        recipe: The views it trains on, a name in `probekit.views.recipes.RECIPES`.
        pooling: How its encoder pools, unless `model.pooling` says otherwise.
        provides: What branches may rely on, e.g. "map", "two_views", "embedding_loss", "reconstruction"; of an instance
            it may be less than of its class.
        needs_labels: Whether `views.labels` must be there; its constructor then takes the number of classes, too.
        cause: The likely cause of a collapse or of a loss that does not fall, in words; "" is the usual one.
        remedy: Settings of its own that mend it, by name.
        spread: The standard deviation that its loss asks of each feature of its projections; None if their scale does
            not matter to it.
        spans: Settings of its own in epochs, by name, and what follows if they last the whole run.
        defaults: Values of constructor arguments that this variant fixes.
        branches: Add-ons, put there by `probekit.branches.base.attach`.
    """

    about: ClassVar[str]
    paper: ClassVar[str]
    recipe: ClassVar[str]
    pooling: ClassVar[str] = "gap"
    provides: frozenset[str] = frozenset({"map", "two_views", "embedding_loss"})
    needs_labels: ClassVar[bool] = False
    cause: ClassVar[str] = ""
    remedy: ClassVar[Mapping[str, float]] = {}
    spread: ClassVar[float | None] = None
    spans: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.branches: nn.ModuleDict = nn.ModuleDict()

    def encode(self, *batches: Tensor) -> Features:
        """Encodes `[B, C, H, W]` and lets every branch refine the features, in the order they were attached.

        Views that shall share batch statistics come as one batch; each of several batches has a pass of its own
        (`Encoder.forward`), and the features are those of all, one batch after another.
        """
        features: Features = self.encoder(*batches)
        branch: AddOn
        for branch in self.branches.values():  # type: ignore[assignment]
            features = branch.refine(features)
        return features

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int, batch_size: int) -> Suited:
        """Its settings for a dataset of so many images, and a line for the user for each that suits it badly.

        A ValueError if one that was typed cannot run. `typed`: settings that the user gave, "method.queue": `fit`
        leaves them as they are.
        """
        return dict(options), []

    def plan(self, *, batches: int, epochs: int) -> None:
        """Called before training: how many steps an epoch has, and how many epochs the run. Nothing by default."""

    def unite(self, batch_size: int) -> None:
        """Called before training where several processes train it: batch norm becomes one over the images of all.

        A ValueError if the images of a batch, so many of all processes, cannot be shared out. Losses and queues ask
        `probekit.ranks` by themselves.
        """
        synced(self)

    def synchronise(self) -> None:
        """Called when the encoder was given other weights: copies of it begin with them. Nothing by default."""

    def follow(self, branch: AddOn) -> None:
        """Called when a branch was attached: a target network takes a `copied` one over. Nothing by default."""

    @property
    def kept_branches(self) -> Sequence[AddOn]:
        """The branches beside the encoder that is kept, in the order they were attached."""
        return cast(Sequence[AddOn], list(self.branches.values()))

    def rates(self) -> Sequence[Rate]:
        """Parameters with a learning rate of their own; none by default."""
        return ()

    def around(self, encoder: nn.Module) -> Self:
        """The same heads and memories around another encoder, for the loss that rests on its embeddings.

        Those that belong to the encoder that is kept. All is shared but the encoder, so that steps which no
        `after_step` follows change nothing.
        """
        same = copy(self)
        kept = {branch.name: branch for branch in self.kept_branches}
        same._modules = {**self._modules, "encoder": encoder, "branches": nn.ModuleDict(kept)}
        return same

    @property
    def kept(self) -> str:
        """The name of the module that is kept after pretraining: `encoder`, or a target network's."""
        return "encoder"

    @property
    def chance_loss(self) -> float | None:
        """The loss, in nats, that a collapsed or blind encoder stays at; None if it has no such value."""
        return None

    @abstractmethod
    def step(self, views: Views) -> Step:
        """The loss of one batch of views."""

    def reconstruct(self, inputs: Tensor) -> Tensor | None:
        """What the method's decoder makes of `[B, C, H, W]`; None for a method without one."""
        return None

    @property
    def trained_projection(self) -> nn.Module | None:
        """The head whose output the contrastive loss compares, `[B, D] -> [B, P]`: `projector`; None without one."""
        return cast(nn.Module | None, getattr(self, "projector", None))

    @property
    def projection(self) -> nn.Module | None:
        """The same of the network that is kept."""
        return self.trained_projection

    def after_step(self) -> None:
        """Called when the optimizer has stepped: moving averages, queues. Nothing by default."""


def fit(chosen: MutableMapping[str, Any], key: str, value: Any, *, typed: Collection[str], why: str) -> str:
    """Changes a setting to one that suits the data better, unless the user gave it, and returns the line that says so.

    `chosen`: the settings of a method or a branch; changed in place. `key`: the setting's whole name, "method.queue".
    `typed`: what the user gave, whole names.
    """
    name = key.rpartition(".")[2]
    if key in typed:
        return f"warning: {key}={chosen[name]} stands as typed, where {value} would suit: {why}"
    line = f"{key}={value} in place of {chosen[name]}: {why}"
    chosen[name] = value
    return line


def fit_queue(chosen: MutableMapping[str, Any], *, typed: Collection[str], batch_size: int) -> list[str]:
    """Lengthens a queue that a batch would overflow, and returns the line for it.

    A ValueError if the user gave such a queue.
    """
    queue = chosen["queue"]
    if not 0 < queue < batch_size:
        return []
    if "method.queue" in typed:
        raise ValueError(
            f"expected method.queue of at least a batch, {batch_size}, or 0, found {queue}; "
            f"type: --set method.queue={batch_size}"
        )
    return [fit(chosen, "method.queue", batch_size, typed=typed, why="it takes in a whole batch at a time")]
