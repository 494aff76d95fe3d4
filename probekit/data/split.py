"""A split on the device as uint8, or streamed to it; a batch is a tensor of indices."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from probekit.config import SIDE
from probekit.data.ahead import in_order
from probekit.files import host_memory
from probekit.h5 import CentreCrop, DatasetInfo, Encoded, Split, open_encoded, read_info, read_split, seen_by
from probekit.ranks import on_machine

AHEAD = 4  # batches that are read before they are asked for; ours: hides a batch that takes four times the usual
SMALLEST = 16  # pixels a side that gen and import both make
CHUNK_BYTES = 2**26  # ours, images read at a time: 64 MiB
CHUNK_ROWS = 32  # or multiples of it: whole batches for the probe
RESIZE_CHUNK = 256  # images resized at once: bounds the float32 copy
# Of a GPU's free memory or the host's whole one that a split may take: the rest is for the model, its activations and
# other splits.
SHARE = 0.5
CPU = torch.device("cpu")

Job = TypeVar("Job")


class StreamedImages:
    """Looks like a tensor of images uint8 `[N, C, H, W]` on the device, and holds none of them there.

    `waited`: seconds that `ahead` has kept its caller waiting. `read`: rows int64 `[B]` -> uint8 `[B, C, H, W]`, both
    on the CPU; called from one other thread at a time; `shape`: (N, C, H, W).
    """

    def __init__(self, read: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device) -> None:
        self.read, self.shape, self.device = read, torch.Size(shape), device
        self.waited = 0.0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """The images of some rows, on the device."""
        index = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows.cpu()
        return self._fetch(self.read, index).to(self.device, non_blocking=True)

    def ahead(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images of each index int64 `[B]` in turn, on the device, while those of the next few are being read."""
        return self.made_ahead(batches, self.read)

    def made_ahead(self, batches: Sequence[Job], make: Callable[[Job], Tensor]) -> Iterator[Tensor]:
        """What is made of each batch in turn, on the CPU, brought to the device, while the next few are being made."""
        pool = ThreadPoolExecutor(1, "images")  # one: batches come in order, and decoding has threads of its own
        made = in_order(pool, partial(self._fetch, make), batches, AHEAD)
        try:
            for _ in batches:
                started = time.perf_counter()
                _, images = next(made)
                self.waited += time.perf_counter() - started
                yield images.to(self.device, non_blocking=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch(self, make: Callable[[Job], Tensor], batch: Job) -> Tensor:
        images = make(batch)
        # A copy from pinned memory to a GPU is queued between two steps, and the host does not wait for it. Torch keeps
        # and reuses the pinned blocks.
        return images.pin_memory() if self.device.type == "cuda" else images


class Photographs(StreamedImages):
    """Photographs of differing sizes: streamed as the test transform has them, and at hand for what cuts crops of them.

    `pool`: threads that decode, one a core.
    """

    def __init__(self, encoded: Encoded, pool: ThreadPoolExecutor, images: StreamedImages) -> None:
        super().__init__(images.read, images.shape, images.device)
        self.encoded, self.pool = encoded, pool


Images = Tensor | StreamedImages  # uint8 `[N, C, H, W]`: on the device, or looking as if


@dataclass(frozen=True)
class DeviceSplit:
    """A split, resident on the device or streamed to it.

    `images`: uint8 `[N, C, H, W]`. `split`: what else the file holds: labels, factors; its own images are left out.
    `placement`: where the images are: "device", "host" or "file".
    """

    name: str
    images: Images
    split: Split
    placement: str

    def __len__(self) -> int:
        return len(self.images)


def open_split(
    path: Path,
    name: str,
    device: torch.device,
    *,
    max_size: int,
    first: int | None = None,
    placement: str = "auto",
    cut: bool = False,
    crop: CentreCrop | None = None,
) -> DeviceSplit:
    """Reads a split and puts its images on the device, once, or makes them ready to be streamed to it.

    A ValueError if the file is no dataset, has no such split, or fits nowhere. `max_size`: images whose longer side has
    more pixels are averaged down to it. `first`: only the first so many images, if there are as many; None is all.
    `placement`: "device", "host" (the host's memory), "file" (encoded images, decoded for each batch), or "auto": the
    first of these that has room. `cut`: crops will be cut of photographs that have their own sizes: they stay in the
    file, as `Photographs`; `crop`: their test transform, in place of the file's own.
    """
    info = read_info(path) if crop is None else seen_by(read_info(path), crop)
    if name not in info.splits:
        raise ValueError(f"expected a split {name} in {path}, found {', '.join(info.splits)}; choose another --data")
    n = info.splits[name].n
    n = n if first is None else min(first, n)
    found = info.splits[name]
    shape = (n, found.channels, *shrunk_size(found.height, found.width, max_size))
    cut = cut and found.crop is not None
    if cut and placement not in ("auto", "file"):
        raise ValueError(
            f"expected data.placement auto or file for photographs, which are cut anew for each step, found "
            f"{placement}; leave it out, or import them with --store pixels"
        )
    if cut:
        placement = "file"
    if placement == "auto":
        placement = _placement(info, name, math.prod(shape), device)
    rest = read_split(path, name, stop=n, images=False)
    if placement == "device":
        return DeviceSplit(name, _resident(info, name, shape, device, max_size), rest, placement)
    read: Callable[[Tensor], Tensor]
    if placement == "host":
        read = _resident(info, name, shape, CPU, max_size).__getitem__
    else:
        encoded, pool = open_encoded(path, name, found.crop), ThreadPoolExecutor(os.cpu_count(), "decode")
        read = _decoder(encoded, pool, max_size)
        if cut:
            whole = Photographs(encoded, pool, StreamedImages(read, shape, device))
            return DeviceSplit(name, whole, rest, placement)
    return DeviceSplit(name, StreamedImages(read, shape, device), rest, placement)


def _resident(info: DatasetInfo, name: str, shape: Sequence[int], device: torch.device, max_size: int) -> Tensor:
    """The first images of a split, uint8 of `shape` on the device, read in chunks: none is in memory twice."""
    images, start = torch.empty(shape, dtype=torch.uint8, device=device), 0
    for chunk in read_chunks(info, name, stop=shape[0]):
        images[start : start + len(chunk)] = to_device(chunk, device, max_size=max_size)
        start += len(chunk)
    return images


def _decoder(encoded: Encoded, pool: ThreadPoolExecutor, max_size: int) -> Callable[[Tensor], Tensor]:
    """Reads, decodes and shrinks the images of an index, in threads."""
    return lambda index: to_device(np.stack(list(pool.map(encoded.image, index.tolist()))), CPU, max_size=max_size)


def _placement(info: DatasetInfo, name: str, size: int, device: torch.device) -> str:
    """Where images of so many bytes have room."""
    room = SHARE * host_memory() / on_machine()
    if size <= (room if device.type == "cpu" else SHARE * torch.cuda.mem_get_info(device)[0]):
        return "device"
    if size <= room:
        return "host"
    if info.splits[name].encoded:
        return "file"
    raise ValueError(
        f"expected images of at most {room / 1e9:.0f} GB in {info.path}, half of this machine's memory, found "
        f"{size / 1e9:.0f} GB; import them again with --max-gb {room / 1e9:.0f}, which keeps them encoded"
    )


def read_chunks(info: DatasetInfo, name: str, *, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """The images of a split (up to `stop`), so many at a time that memory stays bounded; multiples of `CHUNK_ROWS`."""
    split = info.splits[name]
    n = split.n if stop is None else stop
    step = max(1, CHUNK_BYTES // (split.height * split.width * split.channels) // CHUNK_ROWS) * CHUNK_ROWS
    for start in range(0, n, step):
        yield read_split(info.path, name, start=start, stop=min(start + step, n), columns=False, crop=split.crop).images
    refuse_changed(info)


def refuse_changed(info: DatasetInfo) -> None:
    """Refuses a dataset file that another has taken the place of since `info` was read."""
    found, crop = read_info(info.path), info.first.crop
    if (found if crop is None or found.first.crop is None else seen_by(found, crop)).content_hash != info.content_hash:
        raise ValueError(f"expected {info.path} as it was, found it replaced while it was read; measure again")


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


def shrunk(images: Images, max_size: int) -> tuple[int, int]:
    """`shrunk_size` of images `[..., H, W]`."""
    height, width = images.shape[-2:]
    return shrunk_size(height, width, max_size)


def shrunk_size(height: int, width: int, max_size: int) -> tuple[int, int]:
    """(height, width) scaled down so that the longer side has at most `max_size` pixels.

    Keeps the aspect up to rounding each side to the nearest multiple of `SIDE`; images that fit stay as they are.
    """
    longest = max(height, width)
    if longest <= max_size:
        return height, width
    most = max_size // SIDE  # in steps of SIDE
    return max(1, round(height * most / longest)) * SIDE, max(1, round(width * most / longest)) * SIDE


def check_divisible(size: tuple[int, int], stride: int) -> None:
    """Refuses a (height, width) that is not divisible by `stride`: the encoder cannot halve it evenly."""
    height, width = size
    if height % stride or width % stride:
        least = -(-SMALLEST // stride) * stride
        fit = max(least, min(height, width) // stride * stride)
        raise ValueError(
            f"expected images whose sides are divisible by {stride}, found {height}x{width}; "
            f"type: probekit import SOURCE --size {fit}, or probekit gen GENERATOR --size {fit}"
        )


def check_depth(depth: int, size: tuple[int, int]) -> None:
    """Refuses a U-Net that halves images to less than a pixel, before it is built: every level is twice as wide.

    `depth`: levels of the U-Net, 0 for other backbones; `size`: (height, width) of the images. A ValueError if there
    are too many levels.
    """
    height, width = size
    if depth > min(size).bit_length():
        common = math.gcd(height, width)
        raise ValueError(
            f"expected model.depth of at most {min(size).bit_length()} for images of {height}x{width}, found {depth}; "
            f"type: --set model.depth={(common & -common).bit_length()}"
        )


def check_channels(info: DatasetInfo, channels: int) -> None:
    """Refuses images of another number of channels than an encoder takes."""
    found = info.first.channels
    if found != channels:
        raise ValueError(
            f"expected images of {channels} channel{'s' * (channels > 1)}, as the encoder was trained on, "
            f"found {found} in {info.path}; choose another --data or run"
        )


def part_of(images: Images, rows: slice | Tensor) -> Images:
    """Some of the images, by a slice or an index int64 `[M]`; of those that are streamed, none is read."""
    if not isinstance(images, StreamedImages):
        return images[rows if isinstance(rows, slice) else rows.to(images.device)]
    index = torch.arange(len(images))[rows]
    return StreamedImages(lambda part: images.read(index[part]), (len(index), *images.shape[1:]), images.device)


def feed(images: Images, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of an index and its images, both on the images' device.

    `images`: the images of a split; `batches`: int64 `[B]` each, on the CPU.
    """
    if isinstance(images, StreamedImages):
        for index, batch in zip(batches, images.ahead(batches), strict=True):
            yield index.to(images.device, non_blocking=True), batch
    elif batches:
        order = torch.cat(list(batches)).to(images.device)  # one copy
        for index in order.split([len(batch) for batch in batches]):  # type: ignore[no-untyped-call]
            yield index, images[index]
