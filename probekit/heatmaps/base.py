"""The contract of a look: a raw map of where an encoder looks."""

from typing import Protocol

from torch import Tensor

from probekit.models.encoder import Encoder


class Look(Protocol):
    """Raw maps of a batch, before any scaling.

    Attributes:
        signed: Whether a map may hold negative evidence.
        unit: What a value of the map means.
    """

    signed: bool
    unit: str

    def __call__(self, encoder: Encoder, images: Tensor, target: Tensor) -> Tensor:
        """Maps of `images [B, C, H, W]`.

        Args:
            encoder: In eval mode; left as it was found.
            images: In [0, 1].
            target: `[B]`, what each map explains (a class index).

        Returns:
            `[B, h, w]`, float32.
        """
        ...
