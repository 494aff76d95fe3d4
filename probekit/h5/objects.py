"""Objects of images: boxes, classes, flags and instance masks, a list for each image, however long, kept as bytes.

The bytes of an image, all little-endian: how many objects there are, uint32; a `RECORD` for each; then, if the split
has instance masks, the runs of each in turn, uint32. Runs are COCO's uncompressed ones: down each column and then to
the next, pixels outside and inside in turn, outside first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from probekit.h5.checksums import Sums, check
from probekit.h5.encoded import FilesSink, read_files

RECORD = np.dtype([("box", "<f4", 4), ("label", "<u2"), ("flags", "<u2"), ("runs", "<u4")])
COUNT = np.dtype("<u4")
IS_DIFFICULT, IS_CROWD = 1, 2  # bits of flags: VOC's difficult objects; COCO's boxes around many of a class
FLAGS = IS_DIFFICULT | IS_CROWD
CHUNK = 1 << 16  # bytes in a chunk: of objects there are few
MASKS = "masks"  # the attribute that says whether there are instance masks

Runs = NDArray[np.uint32]


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    `boxes`: float32 `[k, 4]`, (x0, y0, x1, y1) in pixels of the stored image, of a photograph
    before any crop. `labels`: int64 `[k]`, indices of the
    dataset's classes. `flags`: int64 `[k]`, bits `IS_DIFFICULT` and `IS_CROWD`. `masks`: the runs of each, or None.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    flags: NDArray[np.int64]
    masks: tuple[Runs, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to_bytes(self) -> bytes:
        """As the file holds them."""
        records = np.zeros(len(self), RECORD)
        records["box"], records["label"], records["flags"] = self.boxes, self.labels, self.flags
        runs: Sequence[Runs] = self.masks or ()
        records["runs"] = [len(each) for each in runs] if self.masks is not None else 0
        parts = [
            np.array(len(self), COUNT).tobytes(),
            records.tobytes(),
            *(each.astype(COUNT).tobytes() for each in runs),
        ]
        return b"".join(parts)

    @classmethod
    def of_bytes(cls, data: bytes, *, masked: bool) -> "Objects":
        """The inverse; a ValueError if these are no such bytes."""
        n = int(np.frombuffer(data, COUNT, 1)[0]) if len(data) >= COUNT.itemsize else -1
        ends = COUNT.itemsize + n * RECORD.itemsize
        if n < 0 or ends > len(data) or (len(data) - ends) % COUNT.itemsize:
            raise ValueError(f"expected the objects of an image, found {len(data)} bytes of something else")
        records = np.frombuffer(data, RECORD, n, COUNT.itemsize)
        runs, lengths = np.frombuffer(data, COUNT, -1, ends) if ends < len(data) else NO_RUNS, records["runs"]
        if lengths.sum() != len(runs) or (not masked and len(runs)):
            raise ValueError(f"expected {lengths.sum()} runs of the masks of an image, found {len(runs)}")
        masks = tuple(np.split(runs, np.cumsum(lengths)[:-1])) if masked and n else () if masked else None
        return cls(records["box"].copy(), records["label"].astype(np.int64), records["flags"].astype(np.int64), masks)


NO_RUNS = np.empty(0, COUNT)


class ObjectRows(Sequence[Objects]):
    """The objects of consecutive images, read from their bytes when they are asked for; `masked`: with their masks."""

    def __init__(self, rows: Sequence[bytes], *, masked: bool) -> None:
        self.rows, self.masked = rows, masked

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Objects: ...
    @overload
    def __getitem__(self, at: slice) -> "ObjectRows": ...
    def __getitem__(self, at: int | slice) -> "Objects | ObjectRows":
        if isinstance(at, slice):
            return ObjectRows(self.rows[at], masked=self.masked)
        return Objects.of_bytes(self.rows[at], masked=self.masked)

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> "ObjectRows":
        """Those of some images, in that order."""
        return ObjectRows([self.rows[int(row)] for row in rows], masked=self.masked)


def pack_objects(images: Sequence[Objects]) -> ObjectRows:
    """The objects of some images, all with instance masks or none."""
    masked = {each.masks is not None for each in images}
    assert len(masked) == 1
    return ObjectRows([each.to_bytes() for each in images], masked=masked.pop())


def join_objects(parts: Sequence[ObjectRows]) -> ObjectRows:
    """The objects of images that follow one another."""
    return ObjectRows([row for part in parts for row in part.rows], masked=parts[0].masked)


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """The runs of a mask `[H, W]`."""
    flat = mask.T.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate(([0], turns, [flat.size]))
    runs = np.diff(ends).astype(np.uint32)
    return np.concatenate((np.zeros(1, np.uint32), runs)) if flat[0] else runs


def mask_of(runs: Runs, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask `[H, W]` of runs; `shape`: (H, W)."""
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(shape[1], shape[0]).T


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The smallest box around a mask `[H, W]` that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class ObjectsSink(FilesSink):
    """Writes the group "objects" of a split."""

    def __init__(self, split: h5py.Group, *, masked: bool) -> None:
        super().__init__(split.create_group("objects"), CHUNK)
        self.masked = masked
        self.group.attrs[MASKS] = np.int64(masked)


def read_objects(group: h5py.Group, rows: slice, sums: Sums, classes: int, shapes: NDArray[Any]) -> ObjectRows:
    """The objects of consecutive images of a split, checked.

    A ValueError if they are damaged, of other classes, or not within images of `shapes`, `[n, 2]`: (H, W) of each.
    """
    stored, found = sums["objects/bytes"], []
    for start, files in read_files(group["objects"], rows):
        for index, data in enumerate(files, rows.start + start):
            check(data, int(stored[index]), f"the objects of image {index} of {group.name}")
            found.append(data)
    objects = ObjectRows(found, masked=bool(group["objects"].attrs[MASKS]))
    for index, (each, (height, width)) in enumerate(zip(objects, shapes.tolist(), strict=True), rows.start):
        if wrong := _wrong(each, classes, (height, width)):
            raise ValueError(f"expected objects of image {index} of {group.name} {wrong}")
    return objects


def _wrong(found: Objects, classes: int, shape: tuple[int, int]) -> str:
    """What objects are not as they must be, in words; "" of sound ones."""
    height, width = shape
    if (found.labels >= classes).any():
        return f"of {classes} classes, found class {found.labels.max()}"
    if (found.flags & ~FLAGS).any():
        return f"with flags up to {FLAGS}, found {found.flags.max()}"
    low, high = found.boxes[:, :2], found.boxes[:, 2:]
    if not (
        np.isfinite(found.boxes).all() and (low >= 0).all() and (low < high).all() and (high <= (width, height)).all()
    ):
        return f"with boxes (x0, y0, x1, y1) within {width}x{height}, found others"
    if any(int(runs.sum(dtype=np.int64)) != height * width for runs in found.masks or ()):
        return f"with masks of {width}x{height}, found others"
    return ""
