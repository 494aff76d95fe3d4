"""Features of a frozen encoder: eval mode, no gradient, no augmentation; float32 wherever something is measured."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probekit.data.split import Images, StreamedImages, part_of, shrink
from probekit.ranks import gathered_rows, rank, size

BATCH_SIZE = 32  # images a forward pass: bounds memory, changes no number; the fastest on a CPU (docs/log.md)
ON_GPU, PIXELS = 256, 2**24  # on a GPU: images, unless they have more pixels than that; ours
HELD = 2**28  # bytes of what was read that wait on the device for one copy to the host; ours

Found = TypeVar("Found")


class Pooled(Protocol):
    """What an encoder must return: something with an embedding `pooled`, `[B, D]`."""

    @property
    def pooled(self) -> Tensor:
        """The embedding, `[B, D]`."""
        ...


def extract(
    encoder: Callable[[Tensor], Pooled], images: Images, *, batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """Embeds every image by itself: the result does not depend on its batch mates.

    A module is put in eval mode and given back in the mode it had; autocast is off. Returns float32 `[N, D]`. A
    ValueError if there is no image. `encoder`: `[B, C, H, W]` float32 in [0, 1] -> features with `.pooled` `[B, D]`.
    `images`: uint8 `[N, C, H, W]`, on any device or streamed; batches move to the encoder's. `batch_size`: images at a
    time, at least; it changes speed and memory only.
    """
    if len(images) == 0:
        raise ValueError("expected at least one image to embed, found 0; type: probekit show PATH")
    found: NDArray[np.float32] = read_all(encoder, images, lambda batch: batch.pooled.float(), batch_size).numpy()
    return found


def read_all(
    encoder: Callable[[Tensor], Found],
    images: Images,
    read: Callable[[Found], Tensor],
    batch_size: int = BATCH_SIZE,
    max_size: int | None = None,
    *,
    precision: str = "fp32",
) -> Tensor:
    """What `read` makes of the encoder's answer to every image, `[N, ...]` on the CPU; see `extract`.

    `read`: from the encoder's answer to B images to `[B, ...]`, on the same device. `max_size`: images whose longer
    side has more pixels are averaged down to it; None is none. `precision`: "fp32", or "bf16" for passes that serve
    training and measure nothing.
    """
    weights = next(encoder.parameters(), None) if isinstance(encoder, nn.Module) else None
    device = images.device if weights is None else weights.device
    batch_size = images_at_a_time(device, images.shape[2:], batch_size)
    found: list[Tensor] = []  # on the CPU
    waiting: list[Tensor] = []
    held = 0
    with eval_mode(encoder), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for batch in _batches(images, batch_size):
            small = batch if max_size is None else shrink(batch, max_size)
            inputs = (small.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
            waiting.append(read(encoder(inputs)))
            held += waiting[-1].nbytes
            if held >= HELD:
                found.append(torch.cat(waiting).cpu())
                waiting, held = [], 0
    if waiting:
        found.append(torch.cat(waiting).cpu())
    return torch.cat(found)


def read_shared(images: Images, read: Callable[[Images], Tensor]) -> Tensor:
    """What `read` makes of all images, `[N, ...]` on the CPU, of which each process reads its share."""
    if size() == 1 or len(images) < size():
        return read(images)
    return gathered_rows(read(part_of(images, slice(rank(), None, size()))), len(images))


def images_at_a_time(device: torch.device, size: Sequence[int], batch_size: int) -> int:
    """A batch size, or on a GPU what keeps it busy, if that is more and fits; `size` is (H, W) of the images."""
    return batch_size if device.type != "cuda" else max(batch_size, min(ON_GPU, PIXELS // math.prod(size)))


def _batches(images: Images, batch_size: int) -> Iterator[Tensor]:
    starts = range(0, len(images), batch_size)
    if isinstance(images, StreamedImages):
        return images.ahead([torch.arange(start, min(start + batch_size, len(images))) for start in starts])
    return (images[start : start + batch_size] for start in starts)


@contextmanager
def eval_mode(encoder: object) -> Iterator[None]:
    """Eval mode inside; afterwards every submodule is as it was (a frozen part may differ)."""
    modules = encoder.modules() if isinstance(encoder, nn.Module) else []
    trained = [module for module in modules if module.training]
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True
