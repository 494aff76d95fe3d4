"""Small dataset files for tests, written with plain h5py-free code paths: the project's own writer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from probekit.generate import generate
from probekit.h5 import DatasetInfo

# The rest of an encoder file's header, where a test writes one by itself.
ABOUT = {"method": "simclr", "epoch": 3, "image_size": [32, 32], "max_size": 1024, "classes": []}

# What every reader of a run.json relies on.
RUN = {"state": "finished", "config": {"method": "simclr"}, "dataset": {"path": "shapes.h5", "hash": "0"}}


def small_shapes(
    path: Path,
    *,
    n: int = 32,
    n_test: int = 16,
    size: int = 32,
    generator: str = "rect-tri",
    pairs: bool = False,
    style: str = "clean",
    params: Mapping[str, float | bool] = {},
) -> DatasetInfo:
    """A rendered dataset file, small enough for a training run of a second."""
    return generate(
        generator,
        out=path,
        n=n,
        n_test=n_test,
        seed=0,
        size=size,
        style=style,
        params=params,
        pairs=pairs,
        compression="none",
        workers=1,
        overwrite=False,
        progress=lambda done, total: None,
    )


def noise_npz(path: Path, *, n: int = 24, size: int = 32, channels: int = 1) -> Path:
    """An npz file like the paper's, of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    return path
