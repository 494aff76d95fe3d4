"""How well a linear read-out tells images from their counterfactuals: by counts of patches, or by pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


def bag(images: Images) -> Floats:
    """Square roots of the counts of binary 3x3 patches, their pixels 1 or 2 px apart, `[N, 1024]`."""
    counts = np.concatenate([_counts(images > 127, apart) for apart in (1, 2)], axis=1)
    return np.asarray(np.sqrt(counts.astype(np.float64)))


def _counts(ink: NDArray[np.bool_], apart: int) -> NDArray[np.int64]:
    height, width = (side - 2 * apart for side in ink.shape[1:])
    places = [(i, j) for i in range(3) for j in range(3)]
    parts = [ink[:, i * apart :, j * apart :][:, :height, :width] for i, j in places]
    code = sum(part.astype(np.int64) << k for k, part in enumerate(parts))
    return np.stack([np.bincount(image.ravel(), minlength=512) for image in np.asarray(code)])


def pixels(images: Images) -> Floats:
    """Means of 4 x 4 pixels, `[N, D]`."""
    n, height, width = images.shape
    blocks = images.reshape(n, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
    return np.asarray(blocks.reshape(n, -1))


def separation(features: Callable[[Images], Floats], images: Images, others: Images, value: NDArray[np.uint8]) -> float:
    """AUC of a ridge regression on the second half of the pairs, fitted on the first; `value` is that of the images."""
    x = np.concatenate([features(images), features(others)])
    y = np.concatenate([value % 2, 1 - value % 2]) * 2.0 - 1.0
    fit = np.tile(np.arange(len(images)) < len(images) // 2, 2)
    x -= x[fit].mean(axis=0)
    x /= np.maximum(x[fit].std(axis=0), 1e-3 * x[fit].std(axis=0).max() + 1e-12)
    kernel = x[fit] @ x[fit].T
    weights = x[fit].T @ np.linalg.solve(kernel + 1e-2 * np.trace(kernel) / len(kernel) * np.eye(len(kernel)), y[fit])
    found = x[~fit] @ weights
    one, zero = found[y[~fit] > 0], found[y[~fit] < 0]
    return float(mannwhitneyu(one, zero).statistic / (len(one) * len(zero)))
