"""The U-Net of the ConRec paper: encoder and decoder (section 4.1; details as in the authors' code).

Depth counts levels; level l has `width * 2**l` channels and a resolution 2**l times lower. Paper and code: depth 4,
width 64, so 512 channels at stride 8 and a receptive field of 68 px.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

BN_EPS = 1e-5  # authors' code
BN_MOMENTUM = 0.1  # authors' code: Keras momentum 0.9


class ConvBlock(nn.Sequential):
    """Convolution (same padding, bias kept), batch norm, ReLU. `[B, C_in, h, w] -> [B, C_out, h, w]`."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
            nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM),
            nn.ReLU(inplace=True),
        )


def level(in_channels: int, out_channels: int) -> nn.Sequential:
    """One level of the U-Net: two convolution blocks."""
    return nn.Sequential(ConvBlock(in_channels, out_channels), ConvBlock(out_channels, out_channels))


class UNetEncoder(nn.Module):
    """The contracting path. `[B, C, H, W] -> depth stages [B, width * 2**l, H / 2**l, W / 2**l]`.

    Args:
        channels: Image channels, 1 or 3.
        width: Channels of the first level.
        depth: Number of levels; the last stage is the feature map, at stride `2**(depth - 1)`.
    """

    def __init__(self, *, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [channels, *(width * 2**i for i in range(depth))]
        self.levels = nn.ModuleList(level(a, b) for a, b in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every stage, taken before pooling; the last one is the feature map."""
        stages: list[Tensor] = []
        for block in self.levels:
            x = block(self.pool(x) if stages else x)
            stages.append(x)
        return stages


class UNetDecoder(nn.Module):
    """The expanding path: skips, nearest upsampling, concatenation. Stages -> image `[B, C, H, W]` in [0, 1].

    Each skip is a 1x1 convolution block of its level's width; there is no transposed convolution (authors' code).

    Args:
        channels: Image channels, 1 or 3.
        width: Channels of the encoder's first level.
        depth: Number of the encoder's levels.
    """

    def __init__(self, *, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(depth)]
        self.skips = nn.ModuleList(ConvBlock(w, w, kernel=1) for w in widths[:-1])
        self.levels = nn.ModuleList(level(high + low, low) for low, high in pairwise(widths))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_image = nn.Conv2d(width, channels, 1)
        initialise_convolutions(self)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Reconstructs the image from the encoder's stages, float32."""
        *below, x = stages
        for skip, block, stage in reversed(list(zip(self.skips, self.levels, below, strict=True))):
            x = block(torch.cat([self.upsample(x), skip(stage)], dim=1))
        image: Tensor = self.to_image(x)
        return image.float().sigmoid()


def initialise_convolutions(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases for every convolution (authors' code: the Keras defaults)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
