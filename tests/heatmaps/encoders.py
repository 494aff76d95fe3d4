"""Encoders and batches for the tests of maps."""

import torch
from torch import Tensor, nn

from probekit.heatmaps.base import Batch, Target, encode
from probekit.models.encoder import Encoder, Features, build_encoder
from probekit.registry import MAPS, get


def small_encoder(*, pooling: str = "gap", channels: int = 1, depth: int = 3, seed: int = 0) -> Encoder:
    """An encoder with random weights whose batch norms have seen something, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder({"channels": channels, "width": 4, "depth": depth, "pooling": pooling})
        with torch.no_grad():
            encoder.train()
            encoder(torch.rand(16, channels, 32, 32))
    return encoder.eval()


def small_transformer(*, pooling: str = "gap", channels: int = 1, backbone: str = "test_vit") -> Encoder:
    """A transformer of timm's for tests, patches of 16 px, with random weights that are not all faint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder({"channels": channels, "pooling": pooling, "backbone": f"timm:{backbone}"})
        for name, weight in encoder.named_parameters():
            if "qkv" in name and weight.ndim == 2:  # so that attention is not the same everywhere
                nn.init.normal_(weight, std=0.3)
    return encoder.eval()


def fitting(name: str, *, pooling: str = "attention", channels: int = 1, depth: int = 3) -> Encoder:
    """An encoder that a map can be taken of."""
    if "self-attention" in get(MAPS, "map", name).needs:
        return small_transformer(pooling=pooling, channels=channels)
    return small_encoder(pooling=pooling, channels=channels, depth=depth)


def make_batch(
    encoder: Encoder, *, n: int = 3, size: int = 32, seed: int = 0, target: bool = True, first: int = 0
) -> Batch:
    """Seeded random images `first` to `first + n` with a random target each."""
    generator = torch.Generator().manual_seed(seed)
    channels = encoder.spec["channels"]
    images = torch.randint(0, 256, (16, channels, size, size), dtype=torch.uint8, generator=generator)
    direction = torch.randn(16, encoder.dim, generator=generator)
    offset = torch.randn(16, generator=generator)
    rows = slice(first, first + n)
    batch = encode(encoder, images[rows], torch.arange(16)[rows])
    asked = Target(direction[rows], offset[rows]) if target else None
    return Batch(batch.images, batch.index, batch.features, asked)


class Planted(nn.Module):
    """Channel k is the image inside quadrant k and nothing elsewhere; averages are pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = {"channels": 1}
        self.dim = 4
        self.stride = 1
        self.has_map = True
        self.input = None
        self.pooling = _Mean()

    def forward(self, x: Tensor) -> Features:
        quadrants = torch.zeros(4, *x.shape[2:], device=x.device)
        half = x.shape[2] // 2
        for k in range(4):
            top, left = half * (k // 2), half * (k % 2)
            quadrants[k, top : top + half, left : left + half] = 1
        feature_map = x * quadrants
        pooled, weights = self.pooling(feature_map)
        return Features([feature_map], feature_map, pooled, weights)


class _Mean(nn.Module):
    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor | None]:
        return feature_map.mean((2, 3)), None
