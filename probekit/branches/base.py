"""The contract of a branch: an add-on that attaches to any method without changing a line of it or of the loop."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from probekit.methods.base import Method, Step
from probekit.models.encoder import Features


class Branch(nn.Module):
    """An add-on. Every hook has a harmless default; override what the add-on needs.

    Attributes:
        needs: What the method must provide, e.g. "map", "two_views".
        weight: The trainer adds `weight * loss(step)` to the method's loss.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def refine(self, features: Features) -> Features:
        """Changes the features before the method's heads see them."""
        return features

    def loss(self, step: Step) -> Tensor:
        """The branch's own loss, scalar; the graph of `step.loss` is still alive."""
        return torch.zeros((), device=step.loss.device)

    def maps(self, features: Features) -> Tensor | None:
        """Where the branch looks, `[B, h, w]`, or None if it has no map."""
        return None

    def pool(self, features: Features) -> Tensor | None:
        """The embedding at test time, `[B, D]`, or None to keep the encoder's own."""
        return None

    def companions(self, index: Tensor) -> Tensor | None:
        """More images to encode beside the batch's: indices into the split, or None.

        The trainer puts their features, made from the same recipe of views, into `step.companions[self.name]`.
        """
        return None

    def begin_epoch(self, embed: Callable[[], Tensor]) -> None:
        """Called before each epoch; `embed()` gives the embeddings of the whole split, `[N, D]`.

        Keep the outcome in buffers: a run that resumes within an epoch finds it there and does not begin again.
        """


def attach(method: Method, branch: Branch) -> None:
    """Adds a branch to a method.

    Raises:
        ValueError: If the method lacks what the branch needs, or has this branch already.
    """
    missing = branch.needs - method.provides
    if missing:
        raise ValueError(
            f"branch {branch.name!r} needs {', '.join(sorted(missing))}, which "
            f"{type(method).__name__} does not provide (it provides "
            f"{', '.join(sorted(method.provides))}); choose another method or branch"
        )
    if branch.name in method.branches:
        raise ValueError(f"branch {branch.name!r} is attached already; name it once")
    method.branches[branch.name] = branch
