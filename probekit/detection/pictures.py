"""Images of a split with their objects, as torchvision's detectors take them, and which of them make each batch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from probekit.data.dataset import as_image
from probekit.h5 import DatasetInfo, Objects, open_encoded, read_split
from probekit.h5.objects import IS_CROWD, mask_of
from probekit.restore.build import stream_seed

Target = dict[str, Tensor]


class Pictures:
    """Images of a split, one by one, and the objects of each; pixels are in memory, JPEG files are read when asked."""

    def __init__(self, info: DatasetInfo, split: str) -> None:
        """`split`: one with objects."""
        self._shape = info.splits[split].height, info.splits[split].width
        found = read_split(info.path, split, images=not info.splits[split].encoded, columns=False, objects=True)
        assert found.objects is not None
        self.objects, self._pixels = found.objects, found.images
        self._encoded = open_encoded(info.path, split) if info.splits[split].encoded else None

    def __len__(self) -> int:
        return len(self.objects)

    def image(self, row: int) -> Tensor:
        """An image, float32 `[C, H, W]` in [0, 1]."""
        if self._encoded is None:
            return as_image(self._pixels[row])
        whole = self._encoded.crop is not None  # a photograph: its test crop is for classification
        return as_image(self._encoded.photograph(row) if whole else self._encoded.image(row))

    def shape(self, row: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self._shape if self._encoded is None or self._encoded.crop is None else self._encoded.size(row)

    def trained(self) -> list[int]:
        """The images with an object to learn from: crowds are none (Detectron2)."""
        return [row for row, found in enumerate(self.objects) if (found.flags & IS_CROWD == 0).any()]

    def example(self, row: int, *, flip: bool, masked: bool) -> tuple[Tensor, Target]:
        """An image and what is to be found in it, mirrored where it is to `flip`; labels from 1, with no crowds."""
        image, found = self.image(row), self.objects[row]
        target = _target(found, (image.shape[1], image.shape[2]), masked=masked)
        if not flip:
            return image, target
        x0, y0, x1, y1 = target["boxes"].unbind(dim=1)
        target["boxes"] = torch.stack((image.shape[2] - x1, y0, image.shape[2] - x0, y1), dim=1)
        return image.flip(-1), target | ({"masks": target["masks"].flip(-1)} if masked else {})


def _target(found: Objects, shape: tuple[int, int], *, masked: bool) -> Target:
    kept = np.flatnonzero(found.flags & IS_CROWD == 0)
    target = {
        "boxes": torch.from_numpy(found.boxes[kept]),
        "labels": torch.from_numpy(found.labels[kept]) + 1,
    }
    if masked:
        assert found.masks is not None
        masks = [mask_of(found.masks[k], shape) for k in kept]
        target["masks"] = torch.from_numpy(np.stack(masks)).to(torch.uint8)
    return target


class Batches:
    """The batches of a training: step after step, through one order of the images after another.

    Which images a step has depends on the seed and the step alone, so that a training can go on anywhere.
    """

    def __init__(self, pictures: Pictures, batch: int, seed: int, *, flips: bool, masked: bool) -> None:
        self.pictures, self.batch, self.seed, self.flips, self.masked = pictures, batch, seed, flips, masked
        self.rows = torch.tensor(pictures.trained())
        self._order: tuple[int, Tensor] = (-1, self.rows)

    def at(self, step: int) -> tuple[list[int], list[bool]]:
        """The images of a step, and which of them are mirrored."""
        rows = [self._row(place) for place in range(step * self.batch, (step + 1) * self.batch)]
        drawn = torch.rand(self.batch, generator=self._generator("flips", step)) < 0.5
        return rows, drawn.tolist() if self.flips else [False] * self.batch

    def ahead(self, first: int, last: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """The batches of steps [first, last); the next is read while one is used."""
        with ThreadPoolExecutor(1, "pictures") as pool:
            coming = None
            for step in range(first, last):
                here = coming or pool.submit(self._read, step)
                coming = pool.submit(self._read, step + 1) if step + 1 < last else None
                yield here.result()

    def _read(self, step: int) -> tuple[list[Tensor], list[Target]]:
        rows, flips = self.at(step)
        found = [
            self.pictures.example(row, flip=flip, masked=self.masked) for row, flip in zip(rows, flips, strict=True)
        ]
        return [image for image, _ in found], [target for _, target in found]

    def _row(self, place: int) -> int:
        turn, at = divmod(place, len(self.rows))
        if self._order[0] != turn:
            self._order = turn, self.rows[torch.randperm(len(self.rows), generator=self._generator("order", turn))]
        return int(self._order[1][at])

    def _generator(self, *names: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, "detect", *names))
