"""Crops that were cut before a step, all of an image in one row of bytes, and what is left to do to them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.views.jitter import change

PART = 2**20  # values of views that are made at a time on a CPU; measured


@dataclass(frozen=True)
class Packing:
    """Where the crops of an image lie, each `[h, w, C]`, one behind the other.

    `kinds`: how many, and their (h, w): those of whole size, and if there are any small ones.
    """

    kinds: tuple[tuple[int, tuple[int, int]], ...]
    channels: int

    @property
    def places(self) -> Iterator[tuple[slice, tuple[int, int]]]:
        """The bytes of each crop in turn, and its (h, w)."""
        start = 0
        for views, (height, width) in self.kinds:
            for _ in range(views):
                stop = start + height * width * self.channels
                yield slice(start, stop), (height, width)
                start = stop

    @property
    def bytes(self) -> int:
        """The bytes that all crops of an image take."""
        return sum(place.stop - place.start for place, _ in self.places)

    def crops(self, packed: Tensor, number: int) -> Tensor:
        """Those of a kind, uint8 `[V * B, C, h, w]`, view after view, of `[B, bytes]`."""
        views, (height, width) = self.kinds[number]
        size = height * width * self.channels
        start = sum(n * h * w * self.channels for n, (h, w) in self.kinds[:number])
        own = packed[:, start : start + views * size].view(-1, views, height, width, self.channels)
        return own.permute(1, 0, 4, 2, 3).flatten(0, 1)


def changed(crops: Tensor, flipped: Tensor, changes: Sequence[Tensor]) -> Tensor:
    """Flips and changes crops uint8 `[N, C, h, w]`; the CPU goes through them in parts that stay in its cache."""
    step = len(crops) if crops.device.type != "cpu" else max(1, PART // crops[0].numel())
    made = []
    for start in range(0, len(crops), step):
        part = slice(start, start + step)
        x = crops[part] / 255
        x = torch.where(flipped[part, None, None, None], x.flip(-1), x)
        made.append(change(x, *(each[part] for each in changes)))
    return made[0] if len(made) == 1 else torch.cat(made)
