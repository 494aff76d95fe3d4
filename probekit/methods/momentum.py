"""Methods with a target network, which follows the trained one as an exponential moving average."""

from copy import deepcopy
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from probekit.methods.base import Method
from probekit.methods.clock import Clock
from probekit.models.encoder import Encoder, Features

KEEPS = ("online", "target")


class MomentumMethod(Method):
    """A method with a target network: copies of the encoder and of what `followed` names.

    Parameters follow; the statistics of batch norm are the target's own, from its own passes (MoCo and BYOL, official
    code). Branches refine what the trained encoder makes, not the target.

    Args:
        encoder: What is trained.
        momentum: Share tau of the target that stays at each step.
        final_momentum: tau at the end of the run; it gets there along a cosine (BYOL, section 3.2).
        keep: The encoder that is kept, "online" or "target".

    Raises:
        ValueError: If a number is out of range.
    """

    followed: ClassVar[tuple[str, ...]] = ("encoder", "projector")
    target: nn.ModuleDict

    def __init__(self, encoder: Encoder, *, momentum: float, final_momentum: float, keep: str) -> None:
        super().__init__(encoder)
        for name, value in (("momentum", momentum), ("final_momentum", final_momentum)):
            if not 0 <= value <= 1:
                raise ValueError(f"expected method.{name} from 0 to 1, found {value}")
        if keep not in KEEPS:
            raise ValueError(f"expected method.keep online or target, found {keep!r}")
        self.momentum, self.final_momentum, self.keep = momentum, final_momentum, keep
        self.clock = Clock()

    def make_target(self) -> None:
        """Copies what is followed; a constructor calls it last."""
        copies = {name: deepcopy(getattr(self, name)) for name in self.followed}
        self.target = nn.ModuleDict(copies).requires_grad_(False)

    def plan(self, *, batches: int, epochs: int) -> None:
        """Tells the clock."""
        self.clock.plan(batches=batches, epochs=epochs)

    def synchronise(self) -> None:
        """The target begins anew as a copy."""
        for name, copy in self.target.items():
            copy.load_state_dict(getattr(self, name).state_dict())

    @torch.no_grad()
    def encode_target(self, *batches: Tensor) -> Features:
        """What the target makes of `[B, C, H, W]`, each batch in a pass of its own, without gradients."""
        features: Features = self.target["encoder"](*batches)
        return features

    def tau(self) -> Tensor:
        """Share of the target that stays at this step, float32 scalar."""
        rise = 0.5 * (1 - torch.cos(torch.pi * self.clock.done))
        return self.momentum + (self.final_momentum - self.momentum) * rise

    @torch.no_grad()
    def after_step(self) -> None:
        """The target follows, and the clock goes on."""
        tau = self.tau()
        online: list[Tensor] = [p for name in self.followed for p in getattr(self, name).parameters()]
        copies: list[Tensor] = list(self.target.parameters())
        torch._foreach_mul_(copies, tau)
        torch._foreach_add_(copies, list(torch._foreach_mul(online, 1 - tau)))
        self.clock.tick()

    @property
    def projection(self) -> nn.Module:
        """The head of the network that is kept."""
        return cast(nn.Module, self.projector if self.keep == "online" else self.target["projector"])

    @property
    def kept(self) -> str:
        """The trained encoder, or the target's."""
        return "encoder" if self.keep == "online" else "target.encoder"
