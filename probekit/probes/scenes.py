"""Images of a dataset file with the masks that are known of them, some at a time, as an encoder sees both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.data.truth import Truth, read_truths
from probekit.h5 import DatasetInfo, read_info, read_split
from probekit.models.extract import read_all
from probekit.probes.dense import Batch, Labels, Question, pixel_maps, questions, seen
from probekit.restore.opened import Opened

Reads = Callable[[NDArray[np.uint8]], Tensor]  # images as a file holds them to maps float32 `[n, D, h, w]`


def questions_of(info: DatasetInfo) -> list[Question]:
    """What can be told apart in the images of train and test; none without masks."""
    return list(_questions(info.path, info.content_hash))


@lru_cache(maxsize=2)  # all masks are read for it
def _questions(path: Path, content_hash: str) -> tuple[Question, ...]:
    info = read_info(path)
    return tuple(questions(t.masks for split in ("train", "test") for t in read_truths(info, split, images=False)))


@dataclass(frozen=True)
class Scenes:
    """The images and masks of a file, for one encoder."""

    info: DatasetInfo
    opened: Opened
    questions: list[Question]

    @classmethod
    def of(cls, info: DatasetInfo, opened: Opened) -> "Scenes":
        """With all that can be asked of the file."""
        return cls(info, opened, questions_of(info))

    def batches(self, split: str, read: Reads) -> Iterator[Batch]:
        """Maps and labels of all images of a split but counterfactuals."""
        for truth in read_truths(self.info, split):
            yield read(truth.split.images), self._labels(truth)

    def labels(self, split: str) -> Iterator[Labels]:
        """Labels alone."""
        return map(self._labels, read_truths(self.info, split, images=False))

    def unseen(self, split: str) -> Iterator[Batch]:
        """Labels, beside maps without a number."""
        return ((torch.empty(0), labels) for labels in self.labels(split))

    def maps(self, images: NDArray[np.uint8]) -> Tensor:
        """The encoder's feature maps."""
        found = read_all(self.opened.encoder, self.opened.take(images), lambda features: features.map.float())
        if not found.isfinite().all():
            raise ValueError(
                f"expected finite maps of {self.opened.name}, found nan or inf; "
                "where training diverged an earlier checkpoint may have finite ones: --checkpoint best_val"
            )
        return found

    def pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """The pixels of the cells of such a map."""
        inputs = self.opened.take(images).float().cpu() / 255
        given = self.opened.encoder.input
        return pixel_maps(inputs if given is None else given(inputs), self.grid)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        height, width = self.maps(read_split(self.info.path, self.info.first.name, stop=1).images).shape[2:]
        return height, width

    def _labels(self, truth: Truth) -> Labels:
        given = self.opened.encoder.input
        return {each.name: seen(each.labels(truth.masks), given) for each in self.questions}
