"""Random images: a training step on them as the trainer makes it, and a dataset file of them.

python -m benchmarks.noise FILE.h5 [--n 256] [--size 224]
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probekit.config import Config
from probekit.data.importers import Import, Options, Told
from probekit.data.split import shrink
from probekit.restore.build import build_method, on_device
from probekit.train.step import build_step, fastest_step


def step_on_noise(
    config: Config, *, channels: int, size: int, n: int, device: torch.device, say: Callable[[str], None]
) -> Callable[[], Tensor]:
    """A job that makes a whole step, as the trainer makes it, on random images out of n.

    Args:
        config: The settings, the precision resolved.
        channels: Channels of the images, 1 or 3.
        size: Pixels a side of the images.
        n: Images on the device, at least a batch.
        device: Where.
        say: Takes a line for the user.
    """
    noise = torch.randint(256, (n, channels, size, size), dtype=torch.uint8)
    images = shrink(noise, config.data.max_size).to(device)
    method = on_device(build_method(config, channels=channels), device)
    step = fastest_step(build_step(config, method.train(), images, np.zeros(n, np.int64)), say)
    index = torch.randperm(n, device=device)[: config.train.batch_size]
    return lambda: step(index, images[index])


def main() -> None:
    """Writes colour images of two classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    asked = parser.parse_args()
    images = np.random.default_rng(0).integers(256, size=(asked.n, asked.size, asked.size, 3), dtype=np.uint8)
    labels = np.arange(asked.n) % 2
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        arrays = {f"{kind}_{split}": x for split in ("train", "test") for kind, x in (("x", images), ("y", labels))}
        np.savez(Path(folder) / "noise.npz", allow_pickle=False, **arrays)
        options: dict[str, Any] = {"skip_broken": False, "overwrite": True, "compression": "none"}
        told = Told(lambda done, total: None)
        Import(Options(), out=asked.out, told=told, **options).of(Path(folder) / "noise.npz")


if __name__ == "__main__":
    main()
