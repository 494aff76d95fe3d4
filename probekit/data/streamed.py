"""Images that do not fit the device: kept in host memory or in the file, and read ahead of their use."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

AHEAD = 4  # batches that are read before they are asked for; ours: hides a batch that takes four times the usual


class StreamedImages:
    """Looks like a tensor of images uint8 `[N, C, H, W]` on the device, and holds none of them there.

    Attributes:
        shape: (N, C, H, W).
        device: Where what is asked for is put.
        waited: Seconds that `ahead` has kept its caller waiting.

    Args:
        read: Rows int64 `[B]` -> uint8 `[B, C, H, W]`, both on the CPU; called from one other thread at a time.
        shape: See above.
        device: See above.
    """

    def __init__(self, read: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device) -> None:
        self.read, self.shape, self.device = read, torch.Size(shape), device
        self.waited = 0.0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """The images of some rows, on the device."""
        index = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows.cpu()
        return self._fetch(index).to(self.device, non_blocking=True)

    def ahead(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images of each index int64 `[B]` in turn, on the device, while those of the next few are being read."""
        pool = ThreadPoolExecutor(1, "images")  # one: batches come in order, and decoding has threads of its own
        waiting: deque[Future[Tensor]] = deque()
        coming = iter(batches)
        try:
            for _ in batches:
                while len(waiting) < AHEAD and (index := next(coming, None)) is not None:
                    waiting.append(pool.submit(self._fetch, index))
                started = time.perf_counter()
                images = waiting.popleft().result()
                self.waited += time.perf_counter() - started
                yield images.to(self.device, non_blocking=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch(self, index: Tensor) -> Tensor:
        images = self.read(index)
        # A copy from pinned memory to a GPU is queued between two steps, and the host does not wait for it. Torch keeps
        # and reuses the pinned blocks.
        return images.pin_memory() if self.device.type == "cuda" else images


def feed(images: "Tensor | StreamedImages", batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of an index and its images, both on the images' device.

    Args:
        images: The images of a split.
        batches: int64 `[B]` each, on the CPU.
    """
    if isinstance(images, StreamedImages):
        for index, batch in zip(batches, images.ahead(batches), strict=True):
            yield index.to(images.device, non_blocking=True), batch
    elif batches:
        order = torch.cat(list(batches)).to(images.device)  # one copy
        for index in order.split([len(batch) for batch in batches]):  # type: ignore[no-untyped-call]
            yield index, images[index]
