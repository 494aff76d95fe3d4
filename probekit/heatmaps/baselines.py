"""Maps that know nothing of an encoder, to stand beside every map. Functions of images, float32 `[N, H, W]`."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.filters import sobel

from probekit.heatmaps.resample import upsample
from probekit.probe.baselines import LUMA, binarise

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]

SPREAD = 0.25  # ours: sd of the centre map, in sides


def uniform(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """The same everywhere: every score is its chance level."""
    return np.ones(images.shape[:3], np.float32)


def random(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """Independent numbers in the cells of the encoder's grid; an image's depend on the seed and its index alone."""
    cells = np.stack([np.random.default_rng([seed, int(i)]).random(grid, np.float32) for i in index])
    return upsample(cells, images.shape[1:3])


def centre(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """A Gaussian around the middle of the frame."""
    y, x = (((np.arange(side) + 0.5) / side - 0.5) / SPREAD for side in images.shape[1:3])
    one = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / 2).astype(np.float32)
    return np.repeat(one[None], len(images), axis=0)


def edges(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """The Sobel magnitude of the luma."""
    return np.stack([sobel(image) for image in _luma(images)]).astype(np.float32)  # type: ignore[no-untyped-call]


def ink(images: Pixels, index: NDArray[np.int64], grid: tuple[int, int], seed: int) -> Maps:
    """1 where a pixel belongs to the drawing (Otsu's threshold, the ground is what holds the border)."""
    return binarise(images).astype(np.float32)


# All take the same: images uint8 [N, H, W] or [N, H, W, 3], their places in the split, the grid of the encoder, a seed.
BASELINES: dict[str, Callable[[Pixels, NDArray[np.int64], tuple[int, int], int], Maps]] = {
    "uniform": uniform,
    "random": random,
    "centre": centre,
    "edges": edges,
    "ink": ink,
}


def _luma(images: Pixels) -> NDArray[np.floating]:
    return images @ LUMA if images.ndim == 4 else images.astype(np.float64)
