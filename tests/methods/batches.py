"""Methods of tiny size, and batches of noise for them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from probekit.config import Config, resolve
from probekit.methods.base import Method
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.views.recipes import Views

UNET = {"model.width": 8, "model.depth": 3}
SMALL = {"train.batch_size": 4, "train.precision": "fp32"}
# Heads as narrow as the encoder; queues that a batch of 4 does not divide.
HEADS: dict[str, dict[str, Any]] = {
    "moco-v2": {"method.hidden": 16, "method.projection_dim": 8, "method.queue": 10},
    "byol": {"method.hidden": 16, "method.projection_dim": 8},
    "simsiam": {"method.hidden": 16, "method.bottleneck": 8},
    "swav": {"method.hidden": 16, "method.projection_dim": 8, "method.prototypes": 6, "method.queue": 10},
    "dino": {"method.hidden": 16, "method.bottleneck": 8, "method.out": 12},
    "barlow-twins": {"method.hidden": 16},
    "vicreg": {"method.hidden": 16},
}


def configured(name: str, options: Mapping[str, Any] = {}, *, preset: str = "quick") -> Config:
    kind = get(METHODS, "method", name)
    sized = {} if "model.backbone" in options else UNET
    return resolve(name, kind, preset=preset, seed=0, options=SMALL | sized | HEADS.get(name, {}) | dict(options))


def built(name: str, options: Mapping[str, Any] = {}, *, channels: int = 1, preset: str = "quick") -> Method:
    """In training mode."""
    return build_method(configured(name, options, preset=preset), channels=channels).train()


def noisy_views(
    *, channels: int = 1, size: int = 16, batch: int = 4, local: int = 0, seed: int = 0, V: int = 2
) -> Views:
    """V views of noise, and `local` small ones of half the size; labels 0 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def made(n: int, side: int) -> Views:
        inputs = torch.rand(n, batch, channels, side, side, generator=generator)
        return Views(inputs, inputs, torch.zeros(n, batch, 4), torch.zeros(n, batch, dtype=torch.bool))

    views = made(V, size)
    views.labels = torch.arange(batch) % 2
    views.local = made(local, size // 2) if local else None
    return views


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, float64."""
    x = x.detach().double()
    return x / x.square().sum(1, keepdim=True).sqrt()
