"""Reads one file, checked: all is checked before use, a malformed file is one line, nothing is unpickled."""

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from probekit.h5.check import HOW, check_file
from probekit.h5.checksums import DAMAGED, Sums, check, open_array, read_rows
from probekit.h5.contents import as_text, content_hash, digest_of, shifted, sums_of
from probekit.h5.encoded import EncodedImages, Handles, decode_rows, read_files
from probekit.h5.objects import ObjectRows, read_objects
from probekit.h5.photographs import CentreCrop
from probekit.h5.schema import (
    ABSENT,
    COLUMN_ROWS,
    DIFFICULT,
    PRESENT,
    DatasetInfo,
    SplitInfo,
    chunk_rows,
)
from probekit.h5.target import name_writer
from probekit.visible import one_line

SETTLED_NS = 10**8  # a change within this of another may bear the same time, as file systems keep it
KEPT = 16  # files
State = tuple[int, ...]
# What `check_file` said of the files that were read last, of which state of them.
_FOUND: OrderedDict[Path, tuple[State, DatasetInfo, Mapping[str, Sums]]] = OrderedDict()


@dataclass(frozen=True)
class Split:
    """Rows of a split.

    `images`: uint8 `[N, H, W]` or `[N, H, W, 3]`, in [0, 255]. `labels`: int64 `[N]`, indices of classes; multi-label:
    uint8 `[N, K]` of 0 absent, 1 present and 255 only difficult instances; None for unlabelled images. `factors`: one
    array `[N]` for each factor column. `masks`: uint8 `[N, H, W]`, uint32 where there are more than 8, or None if there
    are none or they were not asked for. `objects`: those of each image, or None likewise.
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any] | None
    factors: dict[str, NDArray[Any]]
    masks: NDArray[Any] | None
    objects: ObjectRows | None = None

    @property
    def class_labels(self) -> NDArray[np.int64] | None:
        """The labels where every image has one class; None where images have several or none."""
        return None if self.labels is None or self.labels.ndim != 1 else self.labels

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """Those rows, in that order; images that were not read stay away."""
        return Split(
            self.images[rows] if len(self.images) else self.images,
            None if self.labels is None else self.labels[rows],
            {name: values[rows] for name, values in self.factors.items()},
            None if self.masks is None else self.masks[rows],
            None if self.objects is None else self.objects.take(rows),
        )


def file_info(path: Path) -> DatasetInfo:
    """Checks a file and says what it holds; reads no images.

    A ValueError if there is no such file, or it is not a dataset file as `probekit.h5` describes it.
    """
    with _opened(path) as file:
        return _checked(path, file)[0]


def file_rows(
    path: Path,
    split: str,
    rows: slice,
    *,
    images: bool = True,
    masks: bool = False,
    columns: bool = True,
    crop: CentreCrop | None = None,
    objects: bool = False,
) -> Split:
    """Rows of a split of a file that has them; what is not asked for is empty. A ValueError if it is malformed.

    `crop`: the test transform of photographs, in place of the file's own.
    """
    with _opened(path) as file:
        info, all_sums = _checked(path, file)
        group, sums, found = file[split], all_sums[split], info.splits[split]
        labels = _labels(info, group, rows, sums) if columns else None
        names = found.factors if columns else ()
        factors = {name: read_rows(group, f"factors/{name}", rows, sums) for name in names}
        seen = found.seen_by(crop) if crop else found
        pixels = _images(seen, group, rows, sums) if images else np.empty((0, *seen.shape), np.uint8)
        mask = read_rows(group, "masks", rows, sums) if masks and found.masked else None
        if mask is not None and (mask >> len(info.mask_names)).any():
            raise ValueError(f"expected masks of {len(info.mask_names)} bits, found higher bits in {split}/masks")
        listed = _objects(info, found, group, rows, sums) if objects and found.boxed else None
        return Split(pixels, labels, factors, mask, listed)


def file_images(path: Path, split: str, indices: Sequence[int], *, images: bool = True) -> Split:
    """Images and masks alone of some rows of a split of a file that has them. A ValueError if it is malformed.

    `images`: without, there are none of them in the result.
    """
    with _opened(path) as file:
        info, all_sums = _checked(path, file)
        group, found, sums = file[split], info.splits[split], all_sums[split]
        rows = [slice(index, index + 1) for index in indices]
        none = np.empty((0, *found.shape), np.uint8)
        pixels = np.concatenate([_images(found, group, row, sums) for row in rows]) if images else none
        masks = np.concatenate([read_rows(group, "masks", row, sums) for row in rows]) if found.masked else None
        return Split(pixels, None, {}, masks)


def file_encoded(path: Path, split: str, handles: Handles) -> EncodedImages:
    """The encoded images of a split of a file that has them; `handles` opens the file. A ValueError if malformed."""
    with _opened(path) as file:
        info, sums = _checked(path, file)
        return EncodedImages(
            path, file[split]["encoded"], info.splits[split].shape, sums[split]["encoded/bytes"], handles
        )


def file_verify(path: Path) -> None:
    """Reads all of a file, checked, and compares its contents with its digests.

    A ValueError if it is malformed or damaged anywhere, or its contents are others.
    """
    with _opened(path) as file:
        info, all_sums = _checked(path, file)
        for name, split in info.splits.items():
            found = as_text(_digest(info, split, file[name], all_sums[name]))
            expected = info.contents[name].rows
            if found != expected:
                raise ValueError(
                    f"expected contents of digest {expected[:12]} in {name}, found {found[:12]}: {DAMAGED}"
                )
        if content_hash(info.classes, info.mask_names, info.contents) != info.content_hash:
            raise ValueError(f"expected the content hash of the digests, found {info.content_hash[:12]}: {DAMAGED}")


def file_compression(path: Path) -> str:
    """How the pixels of a file are compressed, one of `COMPRESSIONS`; of images kept as files, their masks."""
    with _opened(path) as file:
        info, _ = _checked(path, file)
        name = "images" if not info.first.encoded else "masks" if info.first.masked else None
        return "none" if name is None else open_array(file[info.first.name], name).compression or "none"


def state_of(about: os.stat_result) -> tuple[State, bool]:
    """What changes when a file does, and whether a further change would show."""
    state = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return state, time.time_ns() > max(about.st_mtime_ns, about.st_ctime_ns) + SETTLED_NS


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever HDF5 says about it becomes one line."""
    if not path.exists():
        raise ValueError(f"expected a dataset file, found nothing at {path}; {HOW}")
    if not path.is_file():
        raise ValueError(f"expected a dataset file, found a device or a pipe at {path}; {HOW}")
    try:
        # Unlocked: whoever writes to it meanwhile is found out by the checksums.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except PermissionError as error:
        raise ValueError(f"cannot read {path}: permission denied") from error
    except MemoryError as error:
        raise ValueError(f"not enough memory to read {path} at once") from error
    # h5py reports damage as whatever the library felt first; every one of them means the file.
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        name_writer(path, error)
        reason = one_line(error)
        if not isinstance(error, ValueError):  # HDF5's own, which says not what to do
            reason += "; restore it from a copy, or remove it and make it anew"
        raise ValueError(f"not a readable dataset file: {path}: {reason}") from error


def _checked(path: Path, file: h5py.File) -> tuple[DatasetInfo, Mapping[str, Sums]]:
    """`check_file`, once for a file that nobody changes; its rows are checked whenever they are read."""
    state, settled = state_of(os.fstat(file.id.get_vfd_handle()))
    if path in _FOUND and _FOUND[path][0] == state:
        _FOUND.move_to_end(path)
        _, info, sums = _FOUND[path]
        return info, sums
    info, sums = check_file(path, file)
    if settled:
        _FOUND[path] = state, info, sums
        if len(_FOUND) > KEPT:
            _FOUND.popitem(last=False)
    return info, sums


def _digest(info: DatasetInfo, split: SplitInfo, group: h5py.Group, sums: Sums) -> int:
    """The digest of all rows of a split, as `probekit.h5.contents` defines it."""
    total = 0
    step = chunk_rows(split.height, split.width, split.channels)
    names = [name for name in ("labels", *(f"factors/{each}" for each in split.factors)) if name in group]
    for begin in range(0, split.n, COLUMN_ROWS):
        end = min(begin + COLUMN_ROWS, split.n)
        columns = {name: read_rows(group, name, slice(begin, end), sums) for name in names}
        objects = _objects(info, split, group, slice(begin, end), sums) if split.boxed else None
        for start in range(begin, end, step):
            rows = slice(start, min(start + step, end))
            masks = read_rows(group, "masks", rows, sums) if split.masked else None
            own = {name: values[start - begin : rows.stop - begin] for name, values in columns.items()}
            listed = None if objects is None else objects.rows[start - begin : rows.stop - begin]
            part = digest_of(_image_sums(split, group, rows, sums), masks, own, listed)
            total = shifted(total, rows.stop - start, part)
    return total


def _image_sums(split: SplitInfo, group: h5py.Group, rows: slice, sums: Sums) -> list[int]:
    """The XXH3 of each image, as pixels or as files."""
    if not split.encoded:
        return sums_of(read_rows(group, "images", rows, sums))
    stored: list[int] = sums["encoded/bytes"][rows].tolist()
    for start, files in read_files(group["encoded"], rows):
        for index, data in enumerate(files, start):
            check(data, stored[index], f"image {rows.start + index} of {group.name}")
    return stored


def _images(split: SplitInfo, group: h5py.Group, rows: slice, sums: Sums) -> NDArray[np.uint8]:
    if split.encoded:
        return decode_rows(group["encoded"], rows, split.shape, sums["encoded/bytes"], split.crop)
    images: NDArray[np.uint8] = read_rows(group, "images", rows, sums)
    return images


def _objects(info: DatasetInfo, split: SplitInfo, group: h5py.Group, rows: slice, sums: Sums) -> ObjectRows:
    """Their boxes are in pixels of the stored images, of photographs before any crop."""
    shapes = np.full((rows.stop - rows.start, 2), (split.height, split.width))
    if split.crop is not None:
        shapes = group["encoded/sizes"][rows]
    return read_objects(group, rows, sums, len(info.classes), shapes)


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
