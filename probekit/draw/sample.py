"""The images that a picture is made of, and what an encoder makes of them; memory is bounded by a chunk of images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.data.split import check_channels, check_divisible
from probekit.data.truth import Truth, bases, spaced
from probekit.draw.asked import Asked
from probekit.h5 import PRESENT, DatasetInfo, Split, read_images, read_split
from probekit.models.encoder import check_takes
from probekit.models.extract import extract
from probekit.restore.opened import Opened

CHUNK = 256  # images read at a time

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """Images of a split."""

    info: DatasetInfo
    split: str
    index: NDArray[np.int64]  # int64 `[n]`, their places in the split, rising
    columns: Split  # labels and factors of these images; no images

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class numbers `[n]`; None where images have none, or several."""
        return self.columns.class_labels

    def images(self, rows: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """Some of the images, as the file holds them."""
        return read_images(self.info.path, self.split, [int(i) for i in self.index[rows]]).images

    def name(self, row: int) -> str:
        """The class of an image in words, or its classes; "" without any."""
        labels = self.columns.labels
        if labels is None:
            return ""
        if labels.ndim == 1:
            return str(self.info.classes[labels[row]])
        return ", ".join(self.info.classes[k] for k in np.flatnonzero(labels[row] == PRESENT))

    def shown(self, asked: Asked, most: int) -> list[int]:
        """The rows of the images that are shown: those asked for, else of every class in turn the first ones."""
        if asked.of is not None:
            return [int(row) for row in np.searchsorted(self.index, asked.of)]
        count = min(asked.images or most, len(self))
        if self.labels is None:
            return [int(row) for row in spaced(len(self), count)]
        nth = np.zeros(len(self), np.int64)  # of its class
        for k in np.unique(self.labels):
            own = self.labels == k
            nth[own] = np.arange(own.sum())
        return [int(row) for row in np.sort(np.lexsort((self.labels, nth))[:count])]

    def truth(self, rows: Sequence[int]) -> Truth:
        """What a generator knows of some of the images."""
        columns = self.columns
        labels = None if columns.labels is None else columns.labels[rows]
        factors = {name: values[rows] for name, values in columns.factors.items()}
        return Truth(self.info, Split(self.images(rows), labels, factors, None), self.index[rows])


def take_sample(info: DatasetInfo, asked: Asked) -> Sample:
    """At most `asked.n` images of the test split (else of the first), evenly spaced, and those asked for by place.

    Counterfactuals in the file are left out, unless they are asked for: each would have its own image for a neighbour.
    """
    split = "test" if "test" in info.splits else info.first.name
    n = info.splits[split].n
    columns = read_split(info.path, split, images=False)
    own = bases(columns.factors, n)
    index = own[spaced(len(own), asked.n)]
    if asked.of is not None:
        if max(asked.of) >= n:
            raise ValueError(f"expected places below {n} in the split {split}, found {max(asked.of)}; type: --of 0,1")
        index = np.union1d(index, asked.of)
    labels = None if columns.labels is None else columns.labels[index]
    factors = {name: values[index] for name, values in columns.factors.items()}
    return Sample(info, split, index, Split(columns.images, labels, factors, None))


@dataclass(frozen=True)
class Subject:
    """An encoder under the name that it has in a picture."""

    name: str
    opened: Opened

    def check(self, info: DatasetInfo) -> None:
        """Refuses images that the encoder does not take."""
        encoder, size = self.opened.encoder, self.opened.size(info)
        check_channels(info, encoder.spec["channels"])
        if "depth" in encoder.spec:
            check_divisible(size, encoder.stride)
        else:
            check_takes(encoder, size)

    def embed(self, sample: Sample) -> NDArray[np.float32]:
        """The embeddings `[n, D]`."""
        chunks: Iterator[Any] = (np.arange(i, min(i + CHUNK, len(sample))) for i in range(0, len(sample), CHUNK))
        return np.concatenate([extract(self.opened.encoder, self.opened.take(sample.images(rows))) for rows in chunks])

    def seen(self, images: Pixels) -> Pixels:
        """Images as they reach the network, cut and scaled where its weights expect that: what its cells lie on."""
        own = self.opened.encoder.input
        if own is None:
            return images
        with torch.no_grad():
            found = own(self.opened.take(images).float() / 255).clamp(0, 1).mul(255).round().byte().cpu()
        return (found[:, 0] if images.ndim == 3 else found.permute(0, 2, 3, 1)).numpy()

    def features(self, images: Pixels) -> NDArray[np.float32]:
        """The feature maps `[n, h, w, D]`."""
        return self.opened.map(images).permute(0, 2, 3, 1).contiguous().numpy()


@dataclass(frozen=True)
class Work:
    """A picture in the making: what was asked, of which images, of which encoders: the one in question comes first."""

    asked: Asked
    sample: Sample
    subjects: tuple[Subject, ...]
    title: str  # the encoder, checkpoint and images

    @cached_property
    def device(self) -> torch.device:
        """Where the encoders compute."""
        return self.subjects[0].opened.device

    def check_map(self) -> None:
        """Refuses an encoder without a feature map of several cells."""
        opened = self.subjects[0].opened
        height, width = opened.map(self.sample.images([0])).shape[2:]
        if height * width < 2:
            raise ValueError(
                f"expected an encoder with a feature map of several cells for {self.asked.kind}, found {opened.name}, "
                f"which gives {height}x{width}; type: --as neighbours"
            )
