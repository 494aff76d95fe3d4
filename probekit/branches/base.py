"""The contract of a branch: an add-on that attaches to any method without changing a line of it or of the loop."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from probekit.data.split import CPU
from probekit.h5 import DatasetInfo
from probekit.methods.base import AddOn, Method, Rate, Step, Suited
from probekit.models.encoder import Features
from probekit.views.crops import Placement
from probekit.views.recipes import Recipe

NOISE = 8  # numbers of an embedding that stands for any
Read = Callable[[Callable[[Features], Tensor]], Tensor]  # what a function of features gives for all images, [N, ...]
Masks = Callable[[str], Tensor]  # where a mask of the file is, by its name, in all images, uint8 [N, 1, H, W]

NEEDS = {  # in words
    "embedding_loss": "a loss of the embedding",
    "map": "a feature map",
    "reconstruction": "a reconstruction",
    "two_views": "two views of each image",
}


@dataclass(frozen=True)
class Epoch:
    """An epoch that is about to begin.

    Attributes:
        embed: Gives the projections of the whole split, `[N, P]` (the embeddings, where a method has no projection),
            without augmentation; or, given its number, those of a random view of each image, made as the recipe's first
            is and not corrupted: epoch and number say which.
        read: Gives what a function of the features of B images, `[B, ...]`, makes of the whole split, `[N, ...]`: by
            the encoder that is trained, in eval mode, without augmentation and at the images' own size.
        size: (height, width) of the images, in pixels.
        labels: int64 `[N]`, to report on and never to learn from; None where there are none.
    """

    done: int
    of: int
    embed: Callable[..., Tensor]
    read: Read
    size: tuple[int, int]
    labels: Tensor | None = None
    say: Callable[[str], None] = lambda line: None


class Branch(AddOn):
    """An add-on. Every hook has a harmless default; override what the add-on needs.

    Its keyword-only constructor arguments are its settings (`--set branch.NAME.SETTING=...`), of one with a loss the
    weight among them. With weight 0 no hook but `refine` is called, and the run is the method's own, bit for bit.

    Attributes:
        needs: What the method must provide, e.g. "map", "two_views".
        weight: The trainer adds `weight * loss(step)` to the method's loss.
        logs: Scalars of the latest `loss`, detached, on the device.
        uses: Modules of the method that it needs, and that are no part of it.
    """

    about: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    spans: ClassVar[Mapping[str, str]] = {}
    pools: bool = False
    uses: tuple[nn.Module, ...] = ()

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.logs: dict[str, Tensor] = {}

    @property
    def resting(self) -> bool:
        """Whether this epoch's steps are made without it; it changes in `begin_epoch` alone, which is called anyway."""
        return False

    def join(self, method: Method) -> None:
        """Called when it is about to be attached: what it makes after the method's heads, and which of them it uses.

        Here, or never, `uses` is set. A ValueError if it cannot work with them.
        """

    def loss(self, step: Step) -> Tensor:
        """The branch's own loss, scalar; the graph of `step.loss` is still alive."""
        return torch.zeros((), device=step.loss.device)

    def maps(self, features: Features) -> Tensor | None:
        """Where the branch looks, `[B, h, w]`, at least 0, or None if it has no map."""
        return None

    def pool(self, features: Features) -> Tensor | None:
        """The embedding at test time, `[B, D]`, or None to keep the encoder's own. Reads the map alone."""
        return None

    def bilinear(self, feature_map: Tensor) -> Tensor | None:
        """The features `[B, D, h, w]` pooled by each of its K maps, `[B, K * D]`, or None if it has at most one."""
        return None

    def companions(self, index: Tensor, generator: torch.Generator) -> Tensor | None:
        """More images to encode beside the batch's: indices into the split, or None.

        The trainer puts the features of one view of each, made as the recipe's first is and not corrupted, into
        `step.companions[self.name]`; they have a pass of their own, and so batch statistics of their own. The call is
        part of the step, so it must not wait for the device. `index`: int64 `[B]`, the batch's images, on the device;
        `generator`: on the device; the only source of randomness.
        """
        return None

    def placement(self, index: Tensor) -> Placement | None:
        """Where the crops of a batch's images, int64 `[B]`, stand in this epoch; None is anywhere.

        The call is part of the step, so it must not wait for the device.
        """
        return None

    def take_masks(self, masks: Masks) -> None:
        """Called before the run begins, of a branch that overrides it, whose images then have the masks of the file.

        `masks`: gives `probekit.data.foreground.foreground` of the training images; a ValueError where there is none.
        """

    def note(self, info: DatasetInfo) -> str | None:
        """What is said of it where a run on a dataset begins, a line; None is nothing."""
        return None

    def paste(self, index: Tensor, images: Tensor, views: int, generator: torch.Generator) -> Tensor | None:
        """What the views of a batch's images are cut from in their place, uint8 `[V * B, C, H, W]`; None is the images.

        The call is part of the step, so it must not wait for the device; what it draws is drawn for the whole batch of
        all ranks. `index`: int64 `[B]`; `images`: uint8 `[B, C, H, W]`, both this rank's; `views`: V, of every size,
        one after another; `generator`: on the device; the only source of randomness.
        """
        return None

    def place(self, read: Read, size: tuple[int, int]) -> Placement | None:
        """Where the crops of some images would stand by the encoder as it is now, for a picture; None is anywhere.

        `size`: (height, width) of these images.
        """
        return None

    def begin_epoch(self, epoch: Epoch) -> Mapping[str, float]:
        """Called before each epoch; returns numbers to record.

        Keep the outcome in buffers (`put`): a run that resumes within an epoch finds it there and does not begin again,
        and a recorded step sees it.
        """
        return {}

    def check_size(self, size: tuple[int, int]) -> None:
        """Called before the run begins, with the images' (height, width); a ValueError if it cannot work with them."""

    @classmethod
    def takes_part(cls, options: Mapping[str, Any]) -> bool:
        """Whether a branch of these settings has any part in training."""
        return bool(options.get("weight", 1.0))

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int) -> Suited:
        """Its settings for a split of so many images, and lines for the user, as `Method.suited`."""
        return dict(options), ()

    def rates(self) -> Sequence[Rate]:
        """Parameters with a learning rate of their own; none by default."""
        return ()


class BranchPool(nn.Module):
    """A branch's pooling in the place of an encoder's: `[B, D, h, w] -> ([B, D'], weights [B, h, w] or None)`."""

    def __init__(self, branch: Branch) -> None:
        super().__init__()
        self.branch, self.uses = branch, nn.ModuleList(branch.uses)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools as the branch does at test time."""
        features = Features([], feature_map, feature_map.float().mean((2, 3)), None)
        pooled = self.branch.pool(features)
        assert pooled is not None
        return pooled, self.branch.maps(features)


class BilinearPool(nn.Module):
    """Pooling by each of a branch's maps, in the place of an encoder's: `[B, D, h, w] -> ([B, K * D], None)`."""

    def __init__(self, branch: Branch) -> None:
        super().__init__()
        self.branch, self.uses = branch, nn.ModuleList(branch.uses)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools and returns no weights."""
        pooled = self.branch.bilinear(feature_map)
        assert pooled is not None
        return pooled, None


def attach(method: Method, branch: Branch) -> None:
    """Adds a branch to a method; a ValueError if the method lacks what the branch needs, or has this branch already."""
    provided = method.provides if method.encoder.has_map else method.provides - {"map"}
    missing = branch.needs - provided
    if missing:
        raise ValueError(
            f"expected a method with {' and '.join(NEEDS.get(need, need) for need in sorted(missing))} for branch "
            f"{branch.name!r}, found {type(method).__name__} on this encoder; choose another, or leave --branch out"
        )
    if branch.name in method.branches:
        raise ValueError(f"branch {branch.name!r} is attached already; name it once")
    branch.join(method)
    method.branches[branch.name] = branch
    method.follow(branch)


def put(module: nn.Module, **found: Tensor) -> None:
    """Writes buffers in place, where a recorded step looks for them; those of another shape are made anew."""
    for name, value in found.items():
        buffer: Tensor = getattr(module, name)
        if buffer.shape == value.shape:
            buffer.copy_(value)
        else:
            setattr(module, name, value)


def take_over(module: nn.Module, state: Mapping[str, Any], prefix: str, *names: str) -> None:
    """Makes room for those buffers of a checkpoint whose shape depends on the data; for `_load_from_state_dict`."""
    saved = {name: state[prefix + name] for name in names if prefix + name in state}
    put(module, **{name: value.to(getattr(module, name).device, copy=True) for name, value in saved.items()})


def has_maps(branch: Branch) -> bool:
    """Whether a branch pools by several maps, each by itself."""
    return type(branch).bilinear is not Branch.bilinear


def has_loss(branch: Branch) -> bool:
    """Whether a branch adds to the method's loss."""
    return type(branch).loss is not Branch.loss


def needs_masks(kind: type[Branch]) -> bool:
    """Whether branches of a kind need the masks of the file."""
    return kind.take_masks is not Branch.take_masks


def branches_of(method: Method) -> list[Branch]:
    """The branches of a method, in the order they were attached."""
    return cast(list[Branch], list(method.branches.values()))


def active_branches(method: Method) -> list[Branch]:
    """The branches of a method, but for those of weight 0, which take no part in training."""
    return [branch for branch in branches_of(method) if branch.weight]


def running_branches(method: Method) -> list[Branch]:
    """Those that take part in the steps of this epoch."""
    return [branch for branch in active_branches(method) if not branch.resting]


def sources_of(
    branches: Sequence[Branch], index: Tensor, images: Tensor, recipe: Recipe, generator: torch.Generator
) -> Tensor:
    """What the views of a batch's images are cut from: of the first branch that pastes, else the images."""
    views = sum(kind.n for kind in recipe.crops)
    found = (branch.paste(index, images, views, generator) for branch in branches)
    return next((pasted for pasted in found if pasted is not None), images)


def begin_on_noise(
    method: Method, epochs: int, *, images: int, size: tuple[int, int], device: torch.device = CPU
) -> None:
    """Brings branches to an epoch in which they take part, with noise in place of the features of all images.

    For the masks of a file stands a rectangle. `size`: (height, width) of the images.
    """
    noise = torch.rand(images, NOISE, 2, 2, generator=torch.Generator().manual_seed(0)).to(device)
    features = Features([], noise, noise.mean((2, 3)), None)
    begun = partial(Epoch, of=epochs, embed=lambda *_: features.pooled, read=lambda read: read(features), size=size)
    masks = torch.zeros(images, 1, *size, dtype=torch.uint8, device=device)
    masks[..., size[0] // 4 :, : size[1] - size[1] // 4] = 255
    for branch in active_branches(method):
        branch.take_masks(lambda name: masks)
        for done in range(epochs):
            branch.begin_epoch(begun(done))
            if not branch.resting:
                break
