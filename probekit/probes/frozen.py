"""Frozen tokens of an encoder: the cells of its map, or the patches of a layer, as float16 in bounded memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.data.split import read_chunks
from probekit.h5 import DatasetInfo
from probekit.models.encoder import Features
from probekit.models.extract import read_all
from probekit.restore.opened import Opened

MOST = 2**32  # bytes of the tokens of a split that stand in memory, 4 GiB; ours
TRIED = 64  # images that tell how large tokens are
AT_A_TIME = 2**25  # bytes of tokens that are read at a time: those of many images are as large as the split; ours


def tokens(features: Features) -> Tensor:
    """The cells of the map as tokens: `[B, D, h, w] -> [B, h * w, D]`. Class tokens and registers are in no map."""
    return features.map.float().flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class Frozen:
    """Where the tokens of one encoder come from."""

    opened: Opened
    info: DatasetInfo
    shape: tuple[int, int]  # (T, D)
    size: Tensor  # `[D]`, by which tokens are divided: their root mean square over some training images, or 1 for 0

    @classmethod
    def of(cls, opened: Opened, info: DatasetInfo) -> "Frozen":
        """Looks at some training images."""
        few = next(read_chunks(info, "train", stop=min(TRIED, info.splits["train"].n)))
        found = read_all(opened.encoder, opened.take(few), tokens)
        size = found.double().square().mean((0, 1)).sqrt()
        return cls(opened, info, (found.shape[1], found.shape[2]), torch.where(size > 0, size, 1.0).float())

    def kept(self, split: str, seed: int, most: int = MOST) -> NDArray[np.int64]:
        """Which images of a split stand in memory, in order: all, or as many as fit, drawn by the seed."""
        n, fitting = self.info.splits[split].n, most // (2 * math.prod(self.shape))
        if n <= fitting:
            return np.arange(n)
        return np.sort(np.random.default_rng(seed).permutation(n)[: max(1, fitting)])

    def read(self, split: str, index: NDArray[np.int64]) -> NDArray[np.float16]:
        """The tokens of these images of a split, float16 `[N, T, D]`."""
        found, start = np.empty((len(index), *self.shape), np.float16), 0
        for rows in self.chunks(split, index):
            found[start : start + len(rows)] = rows
            start += len(rows)
        assert start == len(index)
        return found

    def chunks(self, split: str, index: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.float16]]:
        """The same, some images at a time; None is all of them. A ValueError if a token is no finite number."""
        start, size = 0, self.size.to(self.opened.device)

        def divided(features: Features) -> Tensor:
            return (tokens(features) / size).half()

        for images in read_chunks(self.info, split):
            own = images if index is None else images[index[(index >= start) & (index < start + len(images))] - start]
            start += len(images)
            step = max(1, AT_A_TIME // (2 * math.prod(self.shape)))
            for first in range(0, len(own), step):
                rows: NDArray[Any] = read_all(
                    self.opened.encoder, self.opened.take(own[first : first + step]), divided
                ).numpy()
                if rows.shape[1:] != self.shape:
                    raise ValueError(
                        f"expected {self.shape[0]} tokens of each image, found {rows.shape[1]} in {split}: "
                        "its images are of another size; make one dataset file of images of one size"
                    )
                if not np.isfinite(rows).all():
                    raise ValueError(
                        f"expected finite tokens of {self.opened.name} in {split}, found nan or inf; "
                        "where training diverged an earlier checkpoint may have finite ones: --checkpoint best_val"
                    )
                yield rows
