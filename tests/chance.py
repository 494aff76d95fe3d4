"""Seeded input, and bounds for counts of chance."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """uint8 images whose pixels are all independent."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


def within_five_sigma(count: int, n: int, p: float) -> bool:
    """Whether `count` of `n` is what probability `p` gives, but for one case in a million."""
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def apply_to_all(
    x: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor, neutral: bool = False
) -> Tensor:
    """What `batched.apply_where` does on a GPU."""
    made = operation(x.clone(), *parameters)
    return made if neutral else torch.where(chosen.view(-1, 1, 1, 1), made, x)
