"""Methods with a target network, an exponential moving average of the trained one; and buffers: a clock, a queue."""

import itertools
import math
from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.methods.base import AddOn, Method
from probekit.models.encoder import Encoder, Features

Keep = Literal["online", "target"]


class Clock(nn.Module):
    """Counts steps, on the device: what depends on it can be recorded in a CUDA graph, and is kept in checkpoints."""

    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.batches = self.epochs = 1

    def plan(self, *, batches: int, epochs: int) -> None:
        """How many steps an epoch has, and how many epochs the run."""
        self.batches, self.epochs = batches, epochs

    def tick(self) -> None:
        """A step is done."""
        self.step += 1

    @property
    def done(self) -> Tensor:
        """Share of the run that is done, float32 scalar in [0, 1]."""
        return (self.step / (self.batches * self.epochs)).clamp(max=1)

    def before(self, epoch: float) -> Tensor:
        """Whether so many epochs are not yet done, bool scalar."""
        return self.step < self.first_step(epoch)

    def first_step(self, epoch: float) -> int:
        """The first step after so many epochs."""
        return math.ceil(epoch * self.batches)


class FeatureQueue(nn.Module):
    """The latest `length` unit vectors; until they have come, random ones stand there (MoCo, official code).

    Its state is in buffers on the device and it never waits for the device, so a CUDA graph may hold it. `length`:
    vectors K; `dim`: their width. `rows`: `[K, dim]`; `pushed`: how many came so far.
    """

    rows: Tensor
    pushed: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Puts `[B, dim]` in place of the oldest B; B is at most K, and need not divide it."""
        assert len(vectors) <= len(self.rows)
        place = (self.pushed + torch.arange(len(vectors), device=self.rows.device)) % len(self.rows)
        self.rows.index_copy_(0, place, vectors.detach().to(self.rows.dtype))
        self.pushed += len(vectors)

    @property
    def full(self) -> Tensor:
        """Whether none of the random ones is left, bool."""
        return self.pushed >= len(self.rows)


class MomentumMethod(Method):
    """A method with a target network: copies of what `followed` names, and of each branch that is to be `copied`.

    Parameters follow; the statistics of batch norm are the target's own, from its own passes (MoCo and BYOL, official
    code). `momentum`: share tau of the target that stays at each step. `final_momentum`: tau at the end of the run; it
    gets there along a cosine (BYOL, section 3.3). `keep`: the encoder that is kept, "online" or "target".
    """

    followed: ClassVar[tuple[str, ...]] = ("encoder", "projector")
    target: nn.ModuleDict

    def __init__(self, encoder: Encoder, *, momentum: float, final_momentum: float, keep: Keep) -> None:
        super().__init__(encoder)
        self.momentum, self.final_momentum, self.keep = momentum, final_momentum, keep
        self.clock = Clock()

    def make_target(self) -> None:
        """Copies what is followed; a constructor calls it last."""
        copies = {name: deepcopy(getattr(self, name)) for name in self.followed}
        self.target = nn.ModuleDict({**copies, "branches": nn.ModuleDict()}).requires_grad_(False)

    def follow(self, branch: AddOn) -> None:
        """The target has a copy of a `copied` branch, which follows, too, and uses the target's heads."""
        if branch.copied:
            copy = deepcopy(branch, self._copies(*self.followed)).requires_grad_(False)
            self._copied_branches[branch.name], branch.twin = copy, (copy,)

    def plan(self, *, batches: int, epochs: int) -> None:
        """Tells the clock."""
        self.clock.plan(batches=batches, epochs=epochs)

    def synchronise(self) -> None:
        """The target begins anew as a copy."""
        for followed, copy in self._pairs():
            copy.load_state_dict(followed.state_dict())

    @torch.no_grad()
    def encode_target(self, *batches: Tensor) -> Features:
        """What the target makes of `[B, C, H, W]`, each batch in a pass of its own, without gradients."""
        features: Features = self.target["encoder"](*batches)
        branch: AddOn
        for branch in self._copied_branches.values():  # type: ignore[assignment]
            features = branch.refine(features)
        return features

    def tau(self) -> Tensor:
        """Share of the target that stays at this step, float32 scalar."""
        rise = 0.5 * (1 - torch.cos(torch.pi * self.clock.done))
        return self.momentum + (self.final_momentum - self.momentum) * rise

    @torch.no_grad()
    def after_step(self) -> None:
        """The target follows, and the clock goes on."""
        tau = self.tau()
        pairs = self._pairs()
        online: list[Tensor] = [p for followed, _ in pairs for p in followed.parameters()]
        copies: list[Tensor] = [p for _, copy in pairs for p in copy.parameters()]
        torch._foreach_mul_(copies, tau)
        torch._foreach_add_(copies, list(torch._foreach_mul(online, 1 - tau)))
        self.clock.tick()

    def around(self, encoder: nn.Module) -> Self:
        """Where the target is kept its heads go with the encoder; what is predicted is the target's, as ever."""
        same = super().around(encoder)
        if self.keep == "target":
            same._modules |= {name: self.target[name] for name in self.followed if name != "encoder"}
        return same

    @property
    def _copied_branches(self) -> nn.ModuleDict:
        return cast(nn.ModuleDict, self.target["branches"])

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        pairs = [(getattr(self, name), self.target[name]) for name in self.followed]
        return pairs + [(self.branches[name], copy) for name, copy in self._copied_branches.items()]

    def _copies(self, *names: str) -> dict[int, nn.Module]:
        """By the id of each module of these parts, the target's."""
        parts = ((getattr(self, name), self.target[name]) for name in names)
        pairs = (zip(own.modules(), theirs.modules(), strict=True) for own, theirs in parts)
        return {id(own): theirs for own, theirs in itertools.chain.from_iterable(pairs)}

    @property
    def kept_branches(self) -> Sequence[AddOn]:
        """Those of the trained network; where the target is kept, its copies in their place."""
        copies: dict[str, nn.Module] = dict(self._copied_branches.items()) if self.keep == "target" else {}
        return cast(Sequence[AddOn], [copies.get(name, branch) for name, branch in self.branches.items()])

    @property
    def projection(self) -> nn.Module:
        """The head of the network that is kept."""
        own = cast(nn.Module, self.trained_projection)
        return own if self.keep == "online" else self._copies("projector")[id(own)]

    @property
    def kept(self) -> str:
        """The trained encoder, or the target's."""
        return "encoder" if self.keep == "online" else "target.encoder"
