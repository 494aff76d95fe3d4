"""Reads a dataset, checked, whether it is one file, a folder of shards or a pattern (`probekit.h5.shards`)."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.h5.contents import content_hash
from probekit.h5.encoded import EncodedImages, Handles, decode
from probekit.h5.file import Split, file_compression, file_encoded, file_images, file_rows, file_verify
from probekit.h5.objects import join_objects
from probekit.h5.photographs import CentreCrop, decode_photograph
from probekit.h5.schema import DatasetInfo
from probekit.h5.shards import Held, find


def read_info(path: Path) -> DatasetInfo:
    """Checks a dataset and says what it holds; reads no images.

    A ValueError if there is none, a file is not as `probekit.h5` describes it, or a shard is missing, there twice or of
    another dataset. `path`: a file, a folder of shards or a pattern.
    """
    return find(path).info


def seen_by(info: DatasetInfo, crop: CentreCrop) -> DatasetInfo:
    """What a dataset of photographs holds, seen through another test transform: other images, so another content hash.

    A ValueError if it holds no photographs. Without masks, unless the transform is the file's own.
    """
    if info.first.crop is None:
        raise ValueError(
            f"expected photographs with --test-crop {crop}, found images of one size in {info.path}; leave it out, or "
            "import them again with --store short:512"
        )
    if info.first.crop == crop:
        return info
    splits = {name: split.seen_by(crop) for name, split in info.splits.items()}
    contents = {}
    for name, held in info.contents.items():
        arrays = {each: kind for each, kind in held.arrays.items() if each != "masks"}
        contents[name] = replace(held, arrays=arrays | {"encoded": crop.kind(splits[name].channels)})
    found = content_hash(info.classes, (), contents)
    return replace(info, splits=splits, contents=contents, mask_names=(), content_hash=found)


def read_split(
    path: Path,
    split: str,
    *,
    start: int = 0,
    stop: int | None = None,
    images: bool = True,
    masks: bool = False,
    columns: bool = True,
    crop: CentreCrop | None = None,
    objects: bool = False,
) -> Split:
    """Reads rows [start, stop) of a split, checked.

    A ValueError if a file is malformed, there is no such split, or the rows lie outside it. `split`: "train", "val" or
    "test". `stop`: one past the last row; None is the end. `images`: read the images; without, there are none of them
    in the result. `columns`: read labels and factors; without, there are none of them in the result. `crop`: the test
    transform of photographs, in place of the file's own. `objects`: read those of each image, if there are any.
    """
    held = find(path)
    rows = _rows(held.info, split, start, stop)
    asked: dict[str, Any] = {"images": images, "masks": masks, "columns": columns, "crop": crop, "objects": objects}
    return join_rows([file_rows(file, split, own, **asked) for file, own in held.of(split, rows)])


def read_images(path: Path, split: str, indices: Sequence[int], *, images: bool = True) -> Split:
    """Single images and masks of a split, in the order of the indices, checked; without labels and factors.

    A ValueError if a file is malformed, there is no such split, or an index lies outside it. `images`: without, there
    are masks alone in the result.
    """
    held = find(path)
    places = [next(held.of(split, _rows(held.info, split, index, index + 1))) for index in indices]
    parts: list[Split] = []
    begin = 0
    while begin < len(places):  # one opening for indices that follow one another in a file
        file, end = places[begin][0], begin
        while end < len(places) and places[end][0] == file:
            end += 1
        parts.append(file_images(file, split, [rows.start for _, rows in places[begin:end]], images=images))
        begin = end
    return join_rows(parts)


class Encoded:
    """The encoded images of a split, read in any order from any number of threads; made by `open_encoded`.

    A file is opened when an image of it is read first, and few are open at a time; holds 24 bytes an image then.
    `shape`: the shape of all images once decoded: (N, H, W) or (N, H, W, 3); `crop`: the test transform that makes
    photographs of differing sizes images of that shape, or None.
    """

    def __init__(self, held: Held, split: str, crop: CentreCrop | None) -> None:
        """`held`: keeps the images of the split encoded; `crop`: see `open_encoded`."""
        info = held.info.splits[split].seen_by(crop) if crop else held.info.splits[split]
        self.shape: tuple[int, ...] = (info.n, *info.shape)
        self.crop, self._channels = info.crop, info.channels
        self._places = held.places[split]
        self._begins = [rows.start for _, rows in self._places]
        self._handles = Handles()

        @cache
        def opened(place: int) -> EncodedImages:
            return file_encoded(held.info.files[self._places[place][0]], split, self._handles)

        self._opened = opened
        opened(0)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, indices: Iterable[int]) -> list[bytes]:
        """The encoded files of some images, in that order.

        A ValueError if a file has become shorter, or an image is damaged; or another process writes to it, then.
        """
        return [self._read(int(index)) for index in indices]

    def image(self, index: int) -> NDArray[np.uint8]:
        """An image as `read_split` has it, uint8 `[H, W]` or RGB `[H, W, 3]`; errors as of `read`."""
        if self.crop is not None:
            return self.crop.of_image(self.photograph(index))
        return decode(self._read(index), self.shape[1:])

    def photograph(self, index: int, reduced: int = 1) -> NDArray[np.uint8]:
        """A photograph at its own size; see `decode_photograph`. Errors as of `read`."""
        return decode_photograph(self._read(index), self.size(index), self._channels, reduced)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a photograph."""
        images, row = self._place(index)
        assert images.sizes is not None
        height, width = images.sizes[row].tolist()
        return height, width

    def sizes(self, indices: Iterable[int]) -> NDArray[np.int32] | None:
        """Height and width of some photographs, `[n, 2]`; None of images of one size."""
        return None if self.crop is None else np.array([self.size(int(index)) for index in indices], np.int32)

    def close(self) -> None:
        """Closes the files."""
        self._handles.close()

    def _read(self, index: int) -> bytes:
        images, row = self._place(index)
        return images.read(row)

    def _place(self, index: int) -> tuple[EncodedImages, int]:
        assert 0 <= index < len(self)
        place = bisect_right(self._begins, index) - 1
        return self._opened(place), index - self._begins[place]


def open_encoded(path: Path, split: str, crop: CentreCrop | None = None) -> Encoded:
    """The encoded images of a split, to be read in any order, checked, and decoded later.

    A ValueError if a file is malformed, there is no such split, or its images are kept as pixels. `crop`: the test
    transform of photographs, in place of the file's own.
    """
    held = find(path)
    _rows(held.info, split, 0, None)
    if not held.info.splits[split].encoded:
        raise ValueError(f"expected encoded images in split {split} of {path}, found pixels")
    return Encoded(held, split, crop)


def verify(path: Path) -> DatasetInfo:
    """Reads all of a dataset, checked, and compares its contents with its content hash.

    A ValueError if it is malformed or damaged anywhere, or its contents have another hash.
    """
    held = find(path)
    for file in held.info.files:
        file_verify(file)
    return held.info


def read_labels(path: Path, split: str) -> NDArray[Any] | None:
    """The labels of a split alone, or None for unlabelled images; see `Split`."""
    return read_split(path, split, images=False).labels


def compression_of(path: Path) -> str:
    """How the pixels of a dataset are compressed, one of `COMPRESSIONS`; of images kept as files, their masks."""
    return file_compression(find(path).info.files[0])


def join_rows(parts: Sequence[Split]) -> Split:
    """Rows that follow one another."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    labels = [part.labels for part in parts if part.labels is not None]
    masks = [part.masks for part in parts if part.masks is not None]
    objects = [part.objects for part in parts if part.objects is not None]
    return Split(
        np.concatenate([part.images for part in parts]),
        np.concatenate(labels) if labels else None,
        {name: np.concatenate([part.factors[name] for part in parts]) for name in first.factors},
        np.concatenate(masks) if masks else None,
        join_objects(objects) if objects else None,
    )


def _rows(info: DatasetInfo, split: str, start: int, stop: int | None) -> slice:
    if split not in info.splits:
        raise ValueError(f"expected one of the splits {', '.join(info.splits)}, found {split!r}")
    n = info.splits[split].n
    stop = n if stop is None else stop
    if not 0 <= start < stop <= n:
        raise ValueError(f"expected rows within [0, {n}) of split {split}, found [{start}, {stop})")
    return slice(start, stop)
