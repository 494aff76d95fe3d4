"""What the sets have in common whose images lie in a few large arrays: rows as items, labels checked."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import MAX_BYTES, file_stamp, read_list
from probekit.data.importers.npz import Row

Bytes = NDArray[np.uint8]


def rows(split: str, images: Any, labels: Sequence[int | bytes | None], path: Path, first: int = 0) -> list[Row]:
    """An item for each image `[N, H, W]` or RGB `[N, H, W, 3]`, named by its place in the split.

    A ValueError if there are not as many labels as images. `path`: the file that the images came from; `first`: the
    place of the first.
    """
    if len(images) != len(labels):
        raise ValueError(f"expected a label for each image in {path}, found {len(images):,} and {len(labels):,} labels")
    stamp = file_stamp(path)
    return [Row(f"{split}/{first + index}", label, images, index, stamp) for index, label in enumerate(labels)]


def read_records(path: Path, size: int, what: str) -> Bytes:
    """A file of records of so many bytes, uint8 `[N, size]`; a ValueError if it is missing, empty or cut off."""
    data = np.frombuffer(read_list(path), np.uint8)
    if not len(data) or len(data) % size:
        raise ValueError(f"expected {what} of {size:,} bytes in {path}, found {len(data):,} bytes; is it complete?")
    return data.reshape(-1, size)


def map_records(path: Path, size: int, what: str) -> Bytes:
    """The same without reading it: for a file that may be larger than memory."""
    try:
        found = path.stat().st_size if path.is_file() else -1
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if found <= 0 or found % size:
        there = f"{found:,} bytes" if found >= 0 else "no such file"
        raise ValueError(f"expected {what} of {size:,} bytes in {path}, found {there}; is it complete?")
    return np.memmap(path, np.uint8, "r").reshape(-1, size)


def base_one(labels: Sequence[int], classes: int, path: Path) -> list[int]:
    """Labels from 1 as labels from 0; a ValueError if one is not in 1 to `classes`."""
    wrong = [label for label in labels if not 1 <= label <= classes]
    if wrong:
        raise ValueError(f"expected labels from 1 to {classes} in {path}, found {wrong[0]}")
    return [label - 1 for label in labels]


def stream(path: Path, most: int = MAX_BYTES) -> io.BufferedReader:
    """A regular file, open for reading; a ValueError if it is missing, another thing, or larger than `most` bytes."""
    if not path.is_file():
        raise ValueError(f"expected {path}, found {'no regular file' if path.exists() else 'nothing'}")
    if path.stat().st_size > most:
        raise ValueError(f"expected at most {most / 1e9:.1f} GB in {path}, found {path.stat().st_size / 1e9:,.1f}")
    try:
        return path.open("rb")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
