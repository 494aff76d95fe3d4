"""Projection head of the ConRec paper (section 4.2; widths, bias and initialisation as in the authors' code)."""

import torch
from torch import Tensor, nn

from probekit.models.unet import BN_EPS, BN_MOMENTUM

INIT_SD = 0.01  # authors' code


class ScaleBatchNorm(nn.BatchNorm1d):
    """Batch norm with a learned scale and no shift (authors' code, last layer of the head)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.register_parameter("bias", None)


class ProjectionHead(nn.Sequential):
    """Three linear layers without bias, each with batch norm. `[B, dim] -> [B, out]`, float32.

    Args:
        dim: Width of the embedding and of the two hidden layers.
        out: Width of the projection; the paper's is 128.
    """

    def __init__(self, *, dim: int, out: int) -> None:
        super().__init__(
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim, eps=BN_EPS, momentum=BN_MOMENTUM),
            nn.ReLU(inplace=True),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim, eps=BN_EPS, momentum=BN_MOMENTUM),
            nn.ReLU(inplace=True),
            nn.Linear(dim, out, bias=False),
            ScaleBatchNorm(out),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=INIT_SD)

    def forward(self, pooled: Tensor) -> Tensor:
        """Projects in float32: the head costs little, and the loss is sensitive to it."""
        with torch.autocast(pooled.device.type, enabled=False):
            projected: Tensor = super().forward(pooled.float())  # type: ignore[no-untyped-call]
            return projected
