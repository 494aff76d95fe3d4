"""From the grid of a map to the pixels of the image, and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F


def upsample(maps: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps `[N, h, w]` at the image's (H, W), bilinear, cell centres on the centres of what they cover."""
    grid = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    if tuple(grid.shape[-2:]) != size:
        # In double precision, so that what ties on the grid ties afterwards: scores count ties.
        grid = F.interpolate(grid.double(), size, mode="bilinear", align_corners=False).float()
    full: NDArray[np.float32] = grid[:, 0].numpy()
    return full


def area_average(masks: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Masks `[N, H, W]` as the share of each cell of a grid that they cover, `[N, h, w]`.

    Upsampled again, that is the ceiling: a reference for what a map of that grid can reach, not a strict bound.
    """
    truth = torch.from_numpy(masks).float()[:, None]
    cells: NDArray[np.float32] = F.interpolate(truth, grid, mode="area")[:, 0].numpy()
    return cells


def unit_range(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each map `[N, H, W]`, negative values cut, stretched to [0, 1]; a map without a positive value is all 0.

    For explanation images (Average Drop) only; localisation scores take raw maps.
    """
    positive = np.maximum(maps, 0).astype(np.float32)
    low = positive.min(axis=(1, 2), keepdims=True)
    span = positive.max(axis=(1, 2), keepdims=True) - low
    constant = span == 0
    stretched = (positive - low) / np.where(constant, 1, span)
    # A positive constant keeps the whole image: it hides nothing.
    full: NDArray[np.float32] = np.where(constant, (positive > 0).astype(np.float32), stretched)
    return full
