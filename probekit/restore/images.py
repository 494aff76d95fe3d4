"""Images that are given to an encoder: which are taken, and what they become."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.data.split import check_divisible, to_device
from probekit.models.encoder import Encoder, check_takes

EXPECTED = "an array of uint8 [N, H, W] or [N, H, W, 3], or a tensor of floats [N, C, H, W] in [0, 1]"


def taken(images: NDArray[np.uint8] | Tensor, encoder: Encoder, device: torch.device, *, max_size: int) -> Tensor:
    """Images as `[N, C, H, W]` from 0 to 255 on the device, arrays at `max_size` at most.

    A ValueError for others than `EXPECTED`, or of other channels than the encoder takes.
    """
    found, channels = type(images).__name__, encoder.spec["channels"]
    if isinstance(images, np.ndarray | Tensor):
        found += f" of {str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim in (3, 4):
        made = to_device(np.ascontiguousarray(images), device, max_size=max_size)
    elif isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point() and _in_range(images):
        made = 255 * images.to(device)
    else:
        raise ValueError(f"expected images as {EXPECTED}, found {found}")
    if made.shape[1] != channels:
        raise ValueError(f"expected images of {channels} channels, as the encoder takes, found {found}")
    return made


def _in_range(images: Tensor) -> bool:
    return bool(((images >= 0) & (images <= 1)).all())


def check_size(encoder: Encoder, size: tuple[int, int]) -> None:
    """Refuses images of a (height, width) that an encoder fails on."""
    if "depth" not in encoder.spec:
        check_takes(encoder, size)
    elif min(size) < encoder.stride:
        check_divisible(size, encoder.stride)
