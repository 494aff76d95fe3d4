"""The U-Net of the ConRec paper: encoder and decoder (section 2.1; details as in the authors' code).

Depth counts levels; level l has `width * 2**l` channels and a resolution 2**l times lower. Paper and code: depth 4,
width 64, so 512 channels at stride 8 and a receptive field of 68 px.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BN_EPS = 1e-5  # authors' code
BN_MOMENTUM = 0.1  # authors' code: Keras momentum 0.9


class _Uncounted(nn.modules.batchnorm._BatchNorm):
    """Batch norm that does not count its batches: with a fixed momentum nothing reads the count, a launch a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """As torch's; its `num_batches_tracked` stays 0."""
        assert self.momentum is not None
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class BatchNorm1d(_Uncounted, nn.BatchNorm1d):
    """`nn.BatchNorm1d` without the count."""


class BatchNorm2d(_Uncounted, nn.BatchNorm2d):
    """`nn.BatchNorm2d` without the count."""


class ConvBlock(nn.Sequential):
    """Convolution (same padding, bias kept), batch norm, ReLU. `[B, C_in, h, w] -> [B, C_out, h, w]`."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
            BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM),
            nn.ReLU(inplace=True),
        )


def level(in_channels: int, out_channels: int) -> nn.Sequential:
    """One level of the U-Net: two convolution blocks."""
    return nn.Sequential(ConvBlock(in_channels, out_channels), ConvBlock(out_channels, out_channels))


class UNetEncoder(nn.Module):
    """The contracting path. `[B, C, H, W] -> depth stages [B, width * 2**l, H / 2**l, W / 2**l]`.

    `depth`: number of levels; the last stage is the feature map, at stride `2**(depth - 1)`.
    """

    def __init__(self, *, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [channels, *(width * 2**i for i in range(depth))]
        self.widths = widths[1:]
        self.strides = [2**i for i in range(depth)]
        self.levels = nn.ModuleList(level(a, b) for a, b in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        initialise_convolutions(self)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Its levels by name, in the order that an image passes them."""
        return {f"level {number}": block for number, block in enumerate(self.levels, start=1)}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every stage, taken before pooling; the last one is the feature map."""
        stages: list[Tensor] = []
        for block in self.levels:
            x = block(self.pool(x) if stages else x)
            stages.append(x)
        return stages


class UNetDecoder(nn.Module):
    """The expanding path: skips, nearest upsampling, concatenation. Stages -> image `[B, C, H, W]` in [0, 1].

    Each skip is a 1x1 convolution block as wide as its level; there is no transposed convolution (authors' code).
    Stages may be those of any encoder that halves: of those at one stride the last is taken, and from the first stride
    to the image's pixels it goes on without skips. A ValueError if the strides are no powers of 2 each twice the one
    before. `widths`: channels of the encoder's stages, finest first; `strides`: pixels a cell of each of them; `width`:
    channels of the decoder's levels, as a share of the encoder's; at least one.
    """

    def __init__(self, *, channels: int, widths: Sequence[int], strides: Sequence[int], width: float = 1.0) -> None:
        super().__init__()
        by_stride = {stride: number for number, stride in enumerate(strides)}
        finest = min(by_stride)
        halvings = finest.bit_length() - 1
        halve = list(by_stride) == [2 ** (halvings + i) for i in range(len(by_stride))]
        if not halve or (len(by_stride) == 1 and finest > 1):  # one coarse map alone has no detail to skip to
            raise ValueError(
                "expected stages that halve, for the decoder of a reconstruction, found strides "
                f"{', '.join(map(str, strides))}; type: --set model.backbone=unet, or a method without reconstruction"
            )
        self.taken = list(by_stride.values())
        widths = [widths[number] for number in self.taken]
        own = [max(1, round(width * w)) for w in widths[:-1]] + [widths[-1]]
        self.skips = nn.ModuleList(ConvBlock(w, o, kernel=1) for w, o in zip(widths[:-1], own[:-1], strict=True))
        self.levels = nn.ModuleList(level(high + low, low) for low, high in pairwise(own))
        self.last_levels = nn.ModuleList(level(own[0], own[0]) for _ in range(halvings))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_image = nn.Conv2d(own[0], channels, 1)
        initialise_convolutions(self)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Reconstructs the image from the encoder's stages, float32."""
        *below, x = (stages[number] for number in self.taken)
        for skip, block, stage in reversed(list(zip(self.skips, self.levels, below, strict=True))):
            x = block(torch.cat([self.upsample(x), skip(stage)], dim=1))
        for block in self.last_levels:
            x = block(self.upsample(x))
        image: Tensor = self.to_image(x)
        return image.float().sigmoid()


def initialise_convolutions(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases for every convolution (authors' code: the Keras defaults)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
