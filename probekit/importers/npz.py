"""npz files as the ConRec authors publish theirs: x_train, y_train, x_test, y_test; uint8 images, labels from 0."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.importers.base import Options, Source, file_stamp, set_apart
from probekit.importers.published import published

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an image array; the array lies in memory once, whatever the number of rows."""

    key: str
    label: int
    images: NDArray[np.uint8]
    index: int
    of_file: str

    def stamp(self) -> str:
        """Changes when the npz file does."""
        return self.of_file

    def decode(self) -> NDArray[np.uint8]:
        """uint8 `[H, W]` or BGR `[H, W, 3]`."""
        image: NDArray[np.uint8] = self.images[self.index]
        if image.ndim == 2:
            return image
        return image[..., 0] if image.shape[2] == 1 else image[..., ::-1]


def open_npz(source: Path, options: Options) -> Source | None:
    """The splits of an npz file, or None if it is something else.

    Raises:
        ValueError: If keys are missing, or an array has another type, shape or length than expected.
    """
    if not (source.is_file() and zipfile.is_zipfile(source)):
        if source.suffix == ".npz":
            raise ValueError(f"expected an npz file, found no zip archive in {source}; is it complete?")
        return None
    arrays = _load(source)
    train, test = (_rows(arrays, split, file_stamp(source)) for split in ("train", "test"))
    found = np.unique(arrays["y_train"])
    classes = len(found)
    if not np.array_equal(found, np.arange(classes)):
        shown = ", ".join(map(str, found[:8].tolist()))
        raise ValueError(f"expected labels 0, 1, ... without gaps in y_train, found {shown}{', ...' * (classes > 8)}")
    if not np.isin(arrays["y_test"], found).all():
        raise ValueError(f"expected labels 0 to {classes - 1} in y_test, as in y_train, found others")
    known = published(source)
    names = known.classes if known else tuple(map(str, range(classes)))
    splits = set_apart({"train": train, "test": test}, options, names)
    return Source(source.name, names, splits, factors=known.factors if known else ())


def _load(source: Path) -> dict[str, NDArray[Any]]:
    """The four arrays; never unpickles."""
    try:
        with np.load(source, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive.files]
            if missing:
                raise ValueError(f"expected the keys {', '.join(KEYS)}, found {', '.join(archive.files) or 'none'}")
            arrays = {key: archive[key] for key in KEYS}
    except Exception as error:  # a damaged archive surfaces as whatever zipfile, zlib or NumPy felt first
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot read {source}: {reason}") from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"expected an array under {key} in {source}, found something else")
    return arrays


def _rows(arrays: dict[str, NDArray[Any]], split: str, stamp: str) -> list[Row]:
    x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if x.dtype != np.uint8:
        raise ValueError(f"expected uint8 images in x_{split}, found {x.dtype}")
    if x.ndim not in (3, 4) or 0 in x.shape or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise ValueError(f"expected x_{split} of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3], found {list(x.shape)}")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise ValueError(
            f"expected {len(x)} whole numbers in y_{split}, one for each image, found {y.dtype} {list(y.shape)}"
        )
    return [Row(f"{split}/{index}", int(label), x, index, stamp) for index, label in enumerate(y)]
