"""A split on the device as uint8; a batch is a tensor of indices."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from probekit.config import SIDE
from probekit.h5 import DatasetInfo, Split, read_info, read_split

RESIZE_CHUNK = 256  # images resized at once: bounds the float32 copy


@dataclass(frozen=True)
class DeviceSplit:
    """A split, resident on the device.

    Attributes:
        name: "train", "val" or "test".
        images: uint8 `[N, C, H, W]`.
        split: What the file holds: labels, factors.
    """

    name: str
    images: Tensor
    split: Split

    def __len__(self) -> int:
        return len(self.images)


def open_split(path: Path, name: str, device: torch.device, *, max_size: int, first: int | None = None) -> DeviceSplit:
    """Reads a split and puts its images on the device, once.

    Args:
        path: A dataset file.
        name: The split.
        device: Where the images go.
        max_size: Images whose longer side has more pixels are averaged down to it.
        first: Only the first so many images, if there are as many; None is all.

    Raises:
        ValueError: If the file is no dataset, or has no such split.
    """
    info = read_info(path)
    if name not in info.splits:
        raise ValueError(f"expected split {name!r} in {path}, found {', '.join(info.splits)}")
    n = info.splits[name].n
    split = read_split(path, name, stop=n if first is None else min(first, n))
    return DeviceSplit(name, to_device(split.images, device, max_size=max_size), split)


def to_device(images: NDArray[np.uint8], device: torch.device, *, max_size: int) -> Tensor:
    """Images as a file holds them, uint8 `[N, H, W]` or `[N, H, W, 3]`, as uint8 `[N, C, H, W]` on the device.

    Those whose longer side has more than `max_size` pixels are averaged down to it first.
    """
    batch = torch.from_numpy(images)
    batch = batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch.unsqueeze(1)
    return shrink(batch, max_size).contiguous().to(device)


def shrink(images: Tensor, max_size: int) -> Tensor:
    """Averages `[N, C, H, W]` uint8 down to `shrunk(images, max_size)`."""
    size = shrunk(images, max_size)
    if size == tuple(images.shape[-2:]):
        return images
    parts = [
        F.interpolate(part.float(), size, mode="area").round_().to(torch.uint8)
        for part in torch.split(images, RESIZE_CHUNK)
    ]
    return torch.cat(parts)


def shrunk(images: Tensor, max_size: int) -> tuple[int, int]:
    """(height, width) of `[..., H, W]` scaled down so that the longer side has at most `max_size` pixels.

    Keeps the aspect up to rounding each side to the nearest multiple of `SIDE`; images that fit stay as they are.
    """
    height, width = images.shape[-2:]
    longest = max(height, width)
    if longest <= max_size:
        return height, width
    most = max_size // SIDE  # in steps of SIDE
    return max(1, round(height * most / longest)) * SIDE, max(1, round(width * most / longest)) * SIDE


def check_divisible(size: tuple[int, int], stride: int) -> None:
    """Refuses a (height, width) that the encoder cannot halve evenly.

    Raises:
        ValueError: If one is not divisible by `stride`.
    """
    height, width = size
    if height % stride or width % stride:
        fit = max(stride, min(height, width) // stride * stride)
        raise ValueError(
            f"expected images whose sides are divisible by {stride}, found {height}x{width}; "
            f"type: probekit import ... --size {fit}, or probekit gen ... --size {fit}"
        )


def check_channels(info: DatasetInfo, split: str, channels: int) -> None:
    """Refuses images of another number of channels than an encoder takes.

    Raises:
        ValueError: If they differ.
    """
    found = info.splits[split].channels
    if found != channels:
        raise ValueError(
            f"expected images of {channels} channels, as the encoder was trained on, "
            f"found {found} in {info.path}; choose another --data or run"
        )
