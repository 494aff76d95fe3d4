"""npz files as the ConRec authors publish theirs: x_train, y_train, x_test, y_test; theirs have names, here."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import GENERATORS
from generators.factors import Factor
from probekit.data.importers.base import (
    Label,
    Options,
    Skipped,
    Source,
    choose_splits,
    file_stamp,
    readable,
    set_apart,
)
from probekit.data.importers.rows import of_array
from probekit.files import host_memory, sha256
from probekit.h5 import SPLITS
from probekit.visible import one_line

KEYS = ("x_train", "y_train", "x_test", "y_test")
VAL_KEYS = ("x_val", "y_val")  # taken where both are there
# The two sets that the ConRec authors published: their npz files number the classes, and this names them.
SETS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "cd9b446142815e681ab5d3031f19f0d5d2cdb6c9880946e0e04694c032d117b6": (
        "rect-tri",
        {"corner": (0, 0, 1, 1), "triangle": (0, 1, 0, 1)},
    ),
    "51b2594be64fc80cd3468930101ef98d75c40325db477fe05e1725441e9393ab": ("circ-sq", {}),
}
Factors = tuple[tuple[Factor, tuple[int, ...]], ...]  # class factors, each with its value for each label


def published(source: Path) -> tuple[tuple[str, ...], Factors] | None:
    """The classes and class factors of the published set that a file is, byte for byte; None if it is another.

    Label order: authors' data, checked by eye; label // 2 is the corner, label % 2 the triangle. The two objects of
    circle-square are exchangeable, so it has no factors of its own.
    """
    found = SETS.get(sha256(source))
    if found is None:
        return None
    generator, values = found
    kind = GENERATORS[generator]
    factors = {factor.name: factor for factor in kind.factors}
    return kind.classes, tuple((factors[name], of_label) for name, of_label in values.items())


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an image array; the array lies in memory once, whatever the number of rows."""

    key: str
    label: Label
    images: NDArray[Any]
    index: int
    of_file: str

    def stamp(self) -> str:
        """Changes when the npz file does."""
        return self.of_file

    def decode(self) -> NDArray[Any]:
        """Finite numbers `[H, W]` or BGR `[H, W, 3]`."""
        return of_array(self.images[self.index])


def open_npz(source: Path, options: Options) -> Source | None:
    """The splits of an npz file, or None if it is something else, or its arrays have other names or are typed.

    A ValueError if an array has another type, shape or length than expected.
    """
    if not (source.is_file() and zipfile.is_zipfile(source)):
        if source.suffix == ".npz":
            raise ValueError(f"expected an npz file, found no zip archive in {source}; is it complete?")
        return None
    if options.images is not None or not _has_keys(source):
        return None
    options.leave_out("an npz file of x_train, y_train, x_test and y_test")
    arrays, others = _load(source)
    splits = {split: _rows(arrays, split, file_stamp(source)) for split in SPLITS if f"x_{split}" in arrays}
    found = np.unique(arrays["y_train"])
    classes = len(found)
    if not np.array_equal(found, np.arange(classes)):
        shown = ", ".join(map(str, found[:8].tolist()))
        raise ValueError(f"expected labels 0, 1, ... without gaps in y_train, found {shown}{', ...' * (classes > 8)}")
    for split in splits:
        if not np.isin(arrays[f"y_{split}"], found).all():
            raise ValueError(f"expected labels 0 to {classes - 1} in y_{split}, as in y_train, found others")
    names, factors = published(source) or (tuple(map(str, range(classes))), ())
    apart = set_apart(choose_splits(splits, options), options, names)
    ignored = [Skipped(readable(key), f"not one of {', '.join((*KEYS, *VAL_KEYS))}") for key in others]
    return Source(readable(source.name), names, apart, ignored, factors=factors)


def _has_keys(source: Path) -> bool:
    try:
        with zipfile.ZipFile(source) as archive:
            return {f"{key}.npy" for key in KEYS} <= set(archive.namelist())
    except Exception as error:  # what zipfile felt first
        raise ValueError(f"cannot read {source}: {one_line(error)}") from error


def _load(source: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of all splits, and the names of other arrays; never unpickles."""
    try:
        with np.load(source, allow_pickle=False) as archive:
            needed, memory = sum(info.file_size for info in archive.zip.infolist()), host_memory()
            if needed > memory:
                raise ValueError(
                    f"expected arrays that fit in {memory / 1e9:,.1f} GB of memory, found {needed / 1e9:,.1f} GB"
                )
            with_val = set(VAL_KEYS) <= set(archive.files)
            arrays = {key: archive[key] for key in (*KEYS, *VAL_KEYS * with_val)}
            others = [key for key in archive.files if key not in arrays]
    except Exception as error:  # a damaged archive surfaces as whatever zipfile, zlib or NumPy felt first
        raise ValueError(f"cannot read {source}: {one_line(error)}") from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"expected an array under {key} in {source}, found something else")
    return arrays, others


def _rows(arrays: dict[str, NDArray[Any]], split: str, stamp: str) -> list[Row]:
    x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if x.dtype.kind not in "uif":
        raise ValueError(f"expected images of numbers in x_{split}, such as uint8, found {x.dtype}")
    if x.ndim not in (3, 4) or 0 in x.shape or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise ValueError(f"expected x_{split} of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3], found {list(x.shape)}")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise ValueError(
            f"expected {len(x)} whole numbers in y_{split}, one for each image, found {y.dtype} {list(y.shape)}"
        )
    return [Row(f"{split}/{index}", int(label), x, index, stamp) for index, label in enumerate(y)]
