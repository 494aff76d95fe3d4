"""Heads: the ConRec paper's projection (section 2.1; details as in the authors' code), and plain perceptrons."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from probekit.models.unet import BN_EPS, BN_MOMENTUM, BatchNorm1d

INIT_SD = 0.01  # authors' code
# From this width on a perceptron computes in the run's precision. By count, two layers of 8192 x 8192 take 412 GFLOP of
# a step on 2 x 256 views, in float32 6 ms of an H100; half as wide a quarter of that, and float32 is no matter.
WIDE = 8192


class ScaleBatchNorm(BatchNorm1d):
    """Batch norm with a learned scale and no shift (authors' code, last layer of the head)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.register_parameter("bias", None)


class ProjectionHead(nn.Sequential):
    """Three linear layers without bias, each with batch norm. `[B, dim] -> [B, out]`, float32.

    `dim`: width of the embedding and of the two hidden layers; `out`: width of the projection; the authors' is 128.
    """

    def __init__(self, *, dim: int, out: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            norm = BatchNorm1d(dim, eps=BN_EPS, momentum=BN_MOMENTUM)
            layers += [nn.Linear(dim, dim, bias=False), norm, nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(dim, out, bias=False), ScaleBatchNorm(out))
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=INIT_SD)

    def forward(self, pooled: Tensor) -> Tensor:
        """Projects in float32: the head costs little, and the loss is sensitive to it."""
        with torch.autocast(pooled.device.type, enabled=False):
            projected: Tensor = super().forward(pooled.float())  # type: ignore[no-untyped-call]
            return projected


class MLP(nn.Sequential):
    """Linear layers with an activation between: the projectors and predictors of most methods.

    Computes in float32 whatever autocast says, unless a layer is `WIDE`: then in its precision, which sums in float32;
    a batch norm at the end, and what it gives, are float32 either way. `widths`: widths of the input, the hidden layers
    and the output; `norm`: batch norm after each hidden layer, which then has no bias of its own; `last`: what the last
    layer is: "linear", "linear without bias", or followed by a "batch norm" that has neither scale nor shift;
    `activation`: between layers.
    """

    def __init__(
        self, *widths: int, norm: bool, last: str = "linear", activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        assert last in ("linear", "linear without bias", "batch norm")
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths[:-1]):
            layers += [nn.Linear(inner, outer, bias=not norm), *([BatchNorm1d(outer)] if norm else []), activation()]
        layers.append(nn.Linear(widths[-2], widths[-1], bias=last == "linear"))
        if last == "batch norm":
            layers.append(BatchNorm1d(widths[-1], affine=False))
        super().__init__(*layers)
        self.wide = max(widths) >= WIDE

    def forward(self, x: Tensor) -> Tensor:
        """`[B, widths[0]] -> [B, widths[-1]]`, float32."""
        if not self.wide:
            with torch.autocast(x.device.type, enabled=False):
                out: Tensor = super().forward(x.float())  # type: ignore[no-untyped-call]
                return out
        *inner, last = self
        for layer in inner:
            x = layer(x)
        return last(x.float()).float()  # type: ignore[no-any-return]
