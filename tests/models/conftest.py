"""Networks whose first weights are of no matter get numbers that were drawn once: drawing takes most of making one."""

import pytest
import torch
from torch import Tensor

DRAWN = 1_000_003  # a prime, so that no rows of a weight are alike


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Tensor.uniform_` and `Tensor.normal_` take the same numbers again and again."""
    generator = torch.Generator().manual_seed(0)
    uniform, normal = torch.rand(DRAWN, generator=generator), torch.randn(DRAWN, generator=generator)

    def fill(tensor: Tensor, numbers: Tensor, scale: float, shift: float) -> Tensor:
        if tensor.is_meta:
            return tensor
        enough = numbers.repeat(-(-tensor.numel() // DRAWN))[: tensor.numel()] if tensor.numel() > DRAWN else numbers
        return tensor.copy_(enough[: tensor.numel()].view(tensor.shape)).mul_(scale).add_(shift)

    monkeypatch.setattr(Tensor, "uniform_", lambda x, low=0.0, high=1.0, **_: fill(x, uniform, high - low, low))
    monkeypatch.setattr(Tensor, "normal_", lambda x, mean=0.0, std=1.0, **_: fill(x, normal, std, mean))
