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


def explanation(maps: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each pixel its map `[N, h, w]` shows, `[N, H, W]` in [0, 1]: negatives cut, resized, then stretched.

    As the cross-correlation paper has it (eq. 8 and the text after it): cut after resizing, negative neighbours would
    eat into positive cells. A map without a positive value shows nothing, an even one everything. For explanation
    images (Average Drop) only; localisation scores take raw maps.
    """
    positive = upsample(np.maximum(maps, 0), size)
    low = positive.min(axis=(1, 2), keepdims=True)
    span = positive.max(axis=(1, 2), keepdims=True) - low
    constant = span == 0
    stretched = (positive - low) / np.where(constant, 1, span)
    shown: NDArray[np.float32] = np.where(constant, (positive > 0).astype(np.float32), stretched)
    return shown
