"""What the last block of an encoder gets, for a branch that changes it and lets the block map that on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from probekit.models.encoder import Encoder


class LastBlock:
    """The last convolution block of a U-Net, or the last residual block of a ResNet.

    It keeps what the block gets in each pass that has a gradient, until `taken` hands it over. A ValueError if the
    encoder is of another kind. `wanted`: whether somebody will ask for what is kept.
    """

    def __init__(self, encoder: Encoder, *, wanted: Callable[[], bool]) -> None:
        self.block, self.wanted = last_block(encoder), wanted
        self.inputs: list[Tensor] = []
        self.block.register_forward_pre_hook(self._keep)

    def _keep(self, block: nn.Module, given: tuple[Any, ...]) -> None:
        if block.training and torch.is_grad_enabled() and self.wanted():
            self.inputs.append(given[0])

    def taken(self) -> list[Tensor]:
        """What the block got since the last call, `[B, D, h, w]` of each pass, in their order."""
        inputs, self.inputs = self.inputs, []
        return inputs

    def map(self, changed: Tensor) -> Tensor:
        """The block's output for other features, `[B, D, h, w]`, which leave its running statistics as they are."""
        keeping, self.wanted = self.wanted, lambda: False
        try:
            with unmoved(self.block):
                mapped: Tensor = self.block(changed)
        finally:
            self.wanted = keeping
        return mapped


def last_block(encoder: Encoder) -> nn.Module:
    """The block whose output is the encoder's map; a ValueError if it is of no known kind."""
    backbone = encoder.backbone
    stages = getattr(backbone, "levels", None) or [getattr(getattr(backbone, "model", None), "layer4", None)]
    if not isinstance(stages[-1], nn.Sequential):
        raise ValueError(
            "expected the U-Net or a ResNet for branch.xcorr.stages=before, found "
            f"{encoder.spec.get('backbone', 'another')}; type: --set branch.xcorr.stages=last"
        )
    return stages[-1][-1]


@contextmanager
def unmoved(block: nn.Module) -> Iterator[None]:
    """Inside, batch norms use a batch's statistics, but do not take them over."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
