"""Images of a dataset file with the masks that are known of them, some at a time, as an encoder sees both."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators import GENERATORS
from probekit.data.truth import Truth, read_truths
from probekit.h5 import DatasetInfo, read_info, read_split
from probekit.models.extract import read_all
from probekit.probes.dense import Batch, Labels, Masks, Question, pixel_maps, questions, seen
from probekit.restore.opened import Opened

Reads = Callable[[NDArray[np.uint8]], Tensor]  # images as a file holds them to maps float32 `[n, D, h, w]`


@dataclass(frozen=True)
class Known:
    """What is known of a file: what can be told apart, and how many images of each split have masks, and have none."""

    questions: list[Question]
    n: Mapping[str, int]
    without: Mapping[str, int]


@lru_cache(maxsize=2)  # all masks are read for it
def known_of(path: Path, content_hash: str) -> Known:
    """What is known of the file of this content, by its masks; no questions where train or test has none.

    None about what no test image shows, either: to call all of it the rest would be right everywhere.
    """
    info, n, without = read_info(path), dict[str, int](), dict[str, int]()
    tested = set[str]()

    def scenes() -> Iterator[Masks]:
        for split in info.splits:
            n[split] = without[split] = 0
            for truth in read_truths(info, split, images=False):
                there = annotated(truth)
                n[split] += int(there.sum())
                without[split] += int((~there).sum())
                if split == "test":
                    tested.update(name for name, mask in truth.masks.items() if mask.any())
                yield truth.masks

    found = [each for each in questions(scenes()) if tested & set(each.masks)]
    return Known(found if n.get("train") and n.get("test") else [], n, without)


def annotated(truth: Truth) -> NDArray[np.bool_]:
    """Which images have masks, `[N]`: of imported ones those with a pixel in any, as some have no segmentation."""
    if truth.info.generator in GENERATORS or not truth.masks:
        return np.full(len(truth.index), bool(truth.masks))
    there: NDArray[np.bool_] = np.any([mask.any((1, 2)) for mask in truth.masks.values()], axis=0)
    return there


@dataclass(frozen=True)
class Scenes:
    """The images and masks of a file, for one encoder; images without masks are left out."""

    info: DatasetInfo
    opened: Opened
    known: Known

    @classmethod
    def of(cls, info: DatasetInfo, opened: Opened) -> "Scenes":
        """With all that can be asked of the file."""
        return cls(info, opened, known_of(info.path, info.content_hash))

    @property
    def questions(self) -> list[Question]:
        """What can be told apart."""
        return self.known.questions

    def batches(self, split: str, read: Reads) -> Iterator[Batch]:
        """Maps and labels of all images of a split but counterfactuals."""
        for truth in read_truths(self.info, split):
            there = annotated(truth)
            if there.any():
                yield read(truth.split.images[there]), self._labels(truth, there)

    def labels(self, split: str) -> Iterator[Labels]:
        """Labels alone."""
        for truth in read_truths(self.info, split, images=False):
            there = annotated(truth)
            if there.any():
                yield self._labels(truth, there)

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

    def _labels(self, truth: Truth, there: NDArray[np.bool_]) -> Labels:
        given, masks = self.opened.encoder.input, {name: mask[there] for name, mask in truth.masks.items()}
        return {each.name: seen(each.labels(masks), given) for each in self.questions}
