"""The checked reader: all is checked before use, a malformed file is one line, nothing is unpickled."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from probekit.h5.check import HOW, check_file
from probekit.h5.checksums import DAMAGED, Sums, check, open_array, read_rows, zlib
from probekit.h5.encoded import EncodedImages, decode_rows, read_files
from probekit.h5.schema import (
    ABSENT,
    COLUMN_ROWS,
    DIFFICULT,
    PRESENT,
    DatasetInfo,
    SplitInfo,
    chunk_rows,
    describe_array,
    hash_order,
    start_hash,
)
from probekit.h5.target import name_writer

SETTLED_NS = 10**8  # a change within this of another may bear the same time, as file systems keep it
# What `check_file` said of a file, of which state of it.
_FOUND: dict[Path, tuple[tuple[int, ...], DatasetInfo, Mapping[str, Sums]]] = {}


class _RequestError(ValueError):
    """Asked for what a sound file does not hold; not the file's fault."""


@dataclass(frozen=True)
class Split:
    """Rows of a split.

    `images`: uint8 `[N, H, W]` or `[N, H, W, 3]`, in [0, 255]. `labels`: int64 `[N]`, indices of classes; multi-label:
    uint8 `[N, K]` of 0 absent, 1 present and 255 only difficult instances; None for unlabelled images. `factors`: one
    array `[N]` for each factor column. `masks`: uint8 `[N, H, W]`, or None if there are none or they were not asked
    for.
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any] | None
    factors: dict[str, NDArray[Any]]
    masks: NDArray[np.uint8] | None

    @property
    def class_labels(self) -> NDArray[np.int64] | None:
        """The labels where every image has one class; None where images have several or none."""
        return None if self.labels is None or self.labels.ndim != 1 else self.labels


def read_info(path: Path) -> DatasetInfo:
    """Checks a dataset file and says what it holds; reads no images.

    A ValueError if there is no such file, or it is not a dataset file as `probekit.h5` describes it.
    """
    with _opened(path) as file:
        return _checked(path, file)[0]


def read_split(
    path: Path,
    split: str,
    *,
    start: int = 0,
    stop: int | None = None,
    images: bool = True,
    masks: bool = False,
    columns: bool = True,
) -> Split:
    """Reads rows [start, stop) of a split, checked.

    A ValueError if the file is malformed, has no such split, or the rows lie outside it. `split`: "train", "val" or
    "test". `stop`: one past the last row; None is the end. `images`: read the images; without, there are none of them
    in the result. `columns`: read labels and factors; without, there are none of them in the result.
    """
    with _opened(path) as file:
        info, all_sums = _checked(path, file)
        rows = _rows(info, split, start, stop)
        group, sums = file[split], all_sums[split]
        labels = _labels(info, group, rows, sums) if columns else None
        names = info.splits[split].factors if columns else ()
        factors = {name: read_rows(group, f"factors/{name}", rows, sums) for name in names}
        shape = _shape(info.splits[split])
        pixels = _images(info.splits[split], group, rows, sums) if images else np.empty((0, *shape), np.uint8)
        mask = read_rows(group, "masks", rows, sums) if masks and info.splits[split].masked else None
        if mask is not None and (mask >> len(info.mask_names)).any():
            raise ValueError(f"expected masks of {len(info.mask_names)} bits, found higher bits in {split}/masks")
        return Split(pixels, labels, factors, mask)


def read_images(path: Path, split: str, indices: Sequence[int]) -> Split:
    """Single images and masks of a split, in the order of the indices, checked; without labels and factors.

    A ValueError if the file is malformed, has no such split, or an index lies outside it.
    """
    with _opened(path) as file:
        info, all_sums = _checked(path, file)
        places = [_rows(info, split, index, index + 1) for index in indices]
        group, found, sums = file[split], info.splits[split], all_sums[split]
        images = np.concatenate([_images(found, group, rows, sums) for rows in places])
        masked = found.masked
        masks = np.concatenate([read_rows(group, "masks", rows, sums) for rows in places]) if masked else None
        return Split(images, None, {}, masks)


def open_encoded(path: Path, split: str) -> EncodedImages:
    """The encoded images of a split, to be read in any order, checked, and decoded later.

    A ValueError if the file is malformed, has no such split, or keeps its images as pixels.
    """
    with _opened(path) as file:
        info, sums = _checked(path, file)
        _rows(info, split, 0, None)
        if not info.splits[split].encoded:
            raise _RequestError(f"expected encoded images in split {split} of {path}, found pixels")
        return EncodedImages(path, file[split]["encoded"], _shape(info.splits[split]), sums[split]["encoded/bytes"])


def verify(path: Path) -> DatasetInfo:
    """Reads the whole file, checked, and compares its contents with its content hash.

    A ValueError if it is malformed or damaged anywhere, or its contents have another hash.
    """
    with _opened(path) as file:
        info, all_sums = _checked(path, file)
        content = start_hash(info.classes, info.mask_names)
        for split in info.splits.values():
            group, sums = file[split.name], all_sums[split.name]
            names = [name for name in sums if name != "encoded/bytes"]
            for name in sorted(names + ["encoded/bytes", "encoded/offsets"] * split.encoded, key=hash_order):
                data = open_array(group, name)
                content.update(describe_array(f"{split.name}/{name}", data.dtype.str, data.shape))
                content.update(_digest(split, group, name, len(data), sums))
        if content.hexdigest() != info.content_hash:
            found = content.hexdigest()[:12]
            raise ValueError(f"expected contents of hash {info.content_hash[:12]}, found {found}: {DAMAGED}")
        return info


def read_labels(path: Path, split: str) -> NDArray[Any] | None:
    """The labels of a split alone, or None for unlabelled images; see `Split`."""
    return read_split(path, split, images=False).labels


def compression_of(path: Path) -> str:
    """How the pixels of a file are compressed, one of `COMPRESSIONS`; "none" for JPEG files too."""
    with _opened(path) as file:
        info, _ = _checked(path, file)
        if info.first.encoded:
            return "none"
        return open_array(file[info.first.name], "images").compression or "none"


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever HDF5 says about it becomes one line."""
    if not path.exists():
        raise ValueError(f"expected a dataset file, found nothing at {path}; {HOW}")
    if path.is_dir():
        raise ValueError(f"expected a dataset file, found a folder at {path}; type: probekit import {quote(str(path))}")
    if not path.is_file():
        raise ValueError(f"expected a dataset file, found a device or a pipe at {path}; {HOW}")
    try:
        # Unlocked: whoever writes to it meanwhile is found out by the checksums.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except _RequestError:
        raise
    except PermissionError as error:
        raise ValueError(f"cannot read {path}: permission denied") from error
    except MemoryError as error:
        raise ValueError(f"not enough memory to read {path} at once") from error
    # h5py reports damage as whatever the library felt first; every one of them means the file.
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        name_writer(path, error)
        reason = " ".join(str(error).split())
        raise ValueError(f"not a readable dataset file: {path}: {reason}") from error


def _checked(path: Path, file: h5py.File) -> tuple[DatasetInfo, Mapping[str, Sums]]:
    """`check_file`, once for a file that nobody changes; its rows are checked whenever they are read."""
    found = os.fstat(file.id.get_vfd_handle())
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if path in _FOUND and _FOUND[path][0] == state:
        _, info, sums = _FOUND[path]
        return info, sums
    settled = time.time_ns() > max(found.st_mtime_ns, found.st_ctime_ns) + SETTLED_NS
    info, sums = check_file(path, file)
    if settled:
        _FOUND[path] = state, info, sums
    return info, sums


def _rows(info: DatasetInfo, split: str, start: int, stop: int | None) -> slice:
    if split not in info.splits:
        raise _RequestError(f"expected one of the splits {', '.join(info.splits)}, found {split!r}")
    n = info.splits[split].n
    stop = n if stop is None else stop
    if not 0 <= start < stop <= n:
        raise _RequestError(f"expected rows within [0, {n}) of split {split}, found [{start}, {stop})")
    return slice(start, stop)


def _shape(split: SplitInfo) -> tuple[int, ...]:
    return (split.height, split.width) if split.channels == 1 else (split.height, split.width, split.channels)


def _digest(split: SplitInfo, group: h5py.Group, name: str, length: int, sums: Sums) -> bytes:
    """What a dataset of this length adds to the content hash, as `probekit.h5.schema` defines it."""
    total = hashlib.sha256()
    if name == "encoded/offsets":
        total.update(group[name][:].data)
    elif name == "encoded/bytes":
        for start, files in read_files(group["encoded"], slice(0, split.n)):
            for index, data in enumerate(files, start):
                check(data, sums[name][index], f"image {index} of {group.name}")
                total.update(data)
    else:
        step = chunk_rows(split.height, split.width, split.channels) if name in ("images", "masks") else COLUMN_ROWS
        for start in range(0, length, step):
            values = np.ascontiguousarray(read_rows(group, name, slice(start, min(start + step, length)), sums))
            total.update(
                zlib.crc32(values.data).to_bytes(4, "little") if name in ("images", "masks") else values.tobytes()
            )
    return total.digest()


def _images(split: SplitInfo, group: h5py.Group, rows: slice, sums: Sums) -> NDArray[np.uint8]:
    if split.encoded:
        return decode_rows(group["encoded"], rows, _shape(split), sums["encoded/bytes"])
    images: NDArray[np.uint8] = read_rows(group, "images", rows, sums)
    return images


def _labels(info: DatasetInfo, group: h5py.Group, rows: slice, sums: Sums) -> NDArray[Any] | None:
    if "labels" not in group:
        return None
    if group["labels"].ndim == 2:
        flags: NDArray[np.uint8] = read_rows(group, "labels", rows, sums)
        if not np.isin(flags, (ABSENT, PRESENT, DIFFICULT)).all():
            raise ValueError(f"expected {ABSENT}, {PRESENT} or {DIFFICULT} in {group.name}/labels, found others")
        return flags
    labels: NDArray[np.int64] = read_rows(group, "labels", rows, sums).astype(np.int64, copy=False)
    if labels.min() < 0 or labels.max() >= len(info.classes):
        found = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"expected labels 0 to {len(info.classes) - 1} in {group.name}, found {found}")
    return labels
