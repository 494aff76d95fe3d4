"""The checked reader: all is checked before use, a malformed file is one line, nothing is unpickled."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from probekit.h5.encoded import FORMAT, EncodedImages, decode_rows
from probekit.h5.schema import ABSENT, DIFFICULT, MASK_BITS, PRESENT, SCHEMA, SPLITS, DatasetInfo, SplitInfo

HOW = "type: probekit gen rect-tri, or probekit import SOURCE"
COLUMN_KINDS = "biufS"  # bool, integers, floats, fixed-length bytes: never objects or references


class _RequestError(ValueError):
    """Asked for what a sound file does not hold; not the file's fault."""


@dataclass(frozen=True)
class Split:
    """Rows of a split.

    Attributes:
        images: uint8 `[N, H, W]` or `[N, H, W, 3]`, in [0, 255].
        labels: int64 `[N]`, indices of classes; multi-label: uint8 `[N, K]` of 0 absent, 1 present and 255 only
            difficult instances; None for unlabelled images.
        factors: One array `[N]` for each factor column.
        masks: uint8 `[N, H, W]`, or None if there are none or they were not asked for.
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

    Raises:
        ValueError: If there is no such file, or it is not a dataset file as `probekit.h5` describes it.
    """
    with _opened(path) as file:
        return _check_file(path, file)


def read_split(
    path: Path, split: str, *, start: int = 0, stop: int | None = None, images: bool = True, masks: bool = False
) -> Split:
    """Reads rows [start, stop) of a split, checked.

    Args:
        path: A dataset file.
        split: "train", "val" or "test".
        start: First row.
        stop: One past the last row; None is the end.
        images: Read the images; without, there are none of them in the result.
        masks: Also read the masks.

    Raises:
        ValueError: If the file is malformed, has no such split, or the rows lie outside it.
    """
    with _opened(path) as file:
        info = _check_file(path, file)
        rows = _rows(info, split, start, stop)
        group = file[split]
        labels = _labels(info, group, rows)
        factors = {name: group["factors"][name][rows] for name in info.splits[split].factors}
        shape = _shape(info.splits[split])
        pixels = _images(info.splits[split], group, rows) if images else np.empty((0, *shape), np.uint8)
        mask = group["masks"][rows] if masks and info.splits[split].masked else None
        if mask is not None and (mask >> len(info.mask_names)).any():
            raise ValueError(f"expected masks of {len(info.mask_names)} bits, found higher bits in {split}/masks")
        return Split(pixels, labels, factors, mask)


def open_encoded(path: Path, split: str) -> EncodedImages:
    """The encoded images of a split, to be read in any order and decoded later.

    Raises:
        ValueError: If the file is malformed, has no such split, or keeps its images as pixels.
    """
    with _opened(path) as file:
        info = _check_file(path, file)
        _rows(info, split, 0, None)
        if not info.splits[split].encoded:
            raise _RequestError(f"expected encoded images in split {split} of {path}, found pixels")
        return EncodedImages(path, file[split]["encoded"], _shape(info.splits[split]))


def read_labels(path: Path, split: str) -> NDArray[Any] | None:
    """The labels of a split alone, or None for unlabelled images; see `Split`."""
    return read_split(path, split, images=False).labels


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever HDF5 says about it becomes one line."""
    if not path.exists():
        raise ValueError(f"expected a dataset file, found nothing at {path}; {HOW}")
    if path.is_dir():
        raise ValueError(f"expected a dataset file, found a folder at {path}; type: probekit import {path}")
    if not path.is_file():
        raise ValueError(f"expected a dataset file, found a device or a pipe at {path}; {HOW}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _RequestError:
        raise
    except PermissionError as error:
        raise ValueError(f"cannot read {path}: permission denied") from error
    except MemoryError as error:
        raise ValueError(f"not enough memory to read {path} at once") from error
    # h5py reports damage as whatever the library felt first; every one of them means the file.
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a readable dataset file: {path}: {reason}") from error


def _check_file(path: Path, file: h5py.File) -> DatasetInfo:
    schema = _text(file, "schema")
    if schema != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA!r}, found {schema!r}; {HOW} to write it anew")
    classes, mask_names = _names(file, "classes"), _names(file, "mask_names")
    if len(mask_names) > MASK_BITS:
        raise ValueError(f"expected at most {MASK_BITS} mask names, found {len(mask_names)}")
    factors = _factors(file)
    columns = tuple(factor["name"] for factor in factors)
    splits = {name: _check_split(file, name, classes, mask_names, columns) for name in SPLITS if name in file}
    if "train" not in splits:
        raise ValueError(f"expected a split 'train', found {', '.join(file) or 'none'}")
    shapes = {(split.height, split.width, split.channels) for split in splits.values()}
    if len(shapes) > 1:
        raise ValueError(f"expected images of one shape in all splits, found {sorted(shapes)}")
    if len({split.multilabel for split in splits.values() if split.labelled}) > 1:
        raise ValueError("expected one label or several for each image in all splits, found both")
    return DatasetInfo(
        path=path,
        schema=schema,
        generator=_text(file, "generator"),
        params=_json(file, "params", dict),
        seed=_integer(file, "seed"),
        style=_text(file, "style"),
        classes=classes,
        factors=tuple(factors),
        mask_names=mask_names,
        version=_text(file, "version"),
        content_hash=_text(file, "content_hash"),
        splits=splits,
    )


def _check_split(
    file: h5py.File, name: str, classes: tuple[str, ...], mask_names: tuple[str, ...], factors: tuple[str, ...]
) -> SplitInfo:
    group = _member(file, name, h5py.Group)
    encoded = "encoded" in group
    n, height, width, channels = _encoded_shape(group) if encoded else _image_shape(group)
    labelled, multilabel, masked = "labels" in group, False, "masks" in group
    if labelled:
        multilabel = _member(group, "labels", h5py.Dataset).ndim == 2
        labels = _array(group, "labels", "u", 1) if multilabel else _array(group, "labels", "i", 8)
        _expect_shape(labels, (n, len(classes)) if multilabel else (n,))
        if not classes:
            raise ValueError(f"expected class names for {name}/labels, found none in attribute 'classes'")
    if masked:
        _expect_shape(_array(group, "masks", "u", 1), (n, height, width))
        if not mask_names:
            raise ValueError(f"expected mask names for {name}/masks, found none in attribute 'mask_names'")
    columns = _member(group, "factors", h5py.Group) if "factors" in group else {}
    if sorted(columns) != sorted(factors):
        raise ValueError(f"expected the columns {sorted(factors)} in {name}/factors, found {sorted(columns)}")
    for factor in factors:
        _expect_shape(_array(columns, factor, COLUMN_KINDS, None), (n,))
    return SplitInfo(name, n, height, width, channels, labelled, masked, factors, multilabel, encoded)


def _image_shape(group: h5py.Group) -> tuple[int, int, int, int]:
    """N, H, W and C of images that are kept as pixels."""
    images = _array(group, "images", "u", 1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise ValueError(
            f"expected {images.name} of shape [N, H, W] or [N, H, W, 3], none empty, found {list(images.shape)}"
        )
    return (*images.shape[:3], 3 if images.ndim == 4 else 1)


def _encoded_shape(group: h5py.Group) -> tuple[int, int, int, int]:
    """N, H, W and C of images that are kept as JPEG files."""
    if "images" in group:
        raise ValueError(f"expected images or encoded in {group.name}, found both")
    encoded = _member(group, "encoded", h5py.Group)
    data, offsets = _array(encoded, "bytes", "u", 1), _array(encoded, "offsets", "i", 8)
    plain = data.chunks is not None and data.id.get_create_plist().get_nfilters() == 0
    if data.ndim != 1 or not plain or group.file.userblock_size:  # they are read without HDF5's help
        raise ValueError(f"expected one row of uncompressed, chunked bytes in {data.name}, found something else")
    if offsets.ndim != 1 or len(offsets) < 2:
        raise ValueError(f"expected N + 1 offsets in {offsets.name}, none empty, found shape {list(offsets.shape)}")
    if _text(encoded, "format") != FORMAT:
        raise ValueError(f"expected format {FORMAT!r} in {encoded.name}, found {_text(encoded, 'format')!r}")
    height, width, channels = (_integer(encoded, name) for name in ("height", "width", "channels"))
    if height < 1 or width < 1 or channels not in (1, 3):
        raise ValueError(
            f"expected pixels, and 1 or 3 channels, in {encoded.name}, found {height} x {width} x {channels}"
        )
    return len(offsets) - 1, height, width, channels


def _member(group: h5py.Group, name: str, kind: type) -> Any:
    """A group or dataset that lies in this very file: no soft or external link."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"expected {group.name.rstrip('/')}/{name} in the file itself, found a link or nothing")
    member = group[name]
    if not isinstance(member, kind):
        raise ValueError(f"expected a {kind.__name__.lower()} at {member.name}, found another kind of object")
    return member


def _array(group: h5py.Group, name: str, kinds: str, itemsize: int | None) -> h5py.Dataset:
    """A dataset of plain numbers or bytes, stored completely and in this very file."""
    array = _member(group, name, h5py.Dataset)
    if array.dtype.kind not in kinds or itemsize not in (None, array.dtype.itemsize) or array.dtype.hasobject:
        wanted = np.dtype(f"{kinds}{itemsize}").name if itemsize else "numbers or fixed-length text"
        raise ValueError(f"expected {wanted} in {array.name}, found {array.dtype}")
    if array.is_virtual or array.external:
        raise ValueError(f"expected {array.name} in the file itself, found it spread over other files")
    if array.shape is None:
        raise ValueError(f"expected values in {array.name}, found none")
    if array.chunks is None:
        complete = array.id.get_storage_size() >= array.size * array.dtype.itemsize
    else:
        chunks = [-(-side // chunk) for side, chunk in zip(array.shape, array.chunks, strict=True)]
        complete = array.id.get_num_chunks() == int(np.prod(chunks, dtype=object))
    if not complete:  # also stops a tiny file that claims a huge shape
        raise ValueError(f"expected {array.shape[0]} complete rows in {array.name}, found some never written")
    return array


def _expect_shape(array: h5py.Dataset, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"expected shape {list(shape)} of {array.name}, found {list(array.shape)}")


def _rows(info: DatasetInfo, split: str, start: int, stop: int | None) -> slice:
    if split not in info.splits:
        raise _RequestError(f"expected one of the splits {', '.join(info.splits)}, found {split!r}")
    n = info.splits[split].n
    stop = n if stop is None else stop
    if not 0 <= start < stop <= n:
        raise _RequestError(f"expected rows within [0, {n}) of split {split}, found [{start}, {stop})")
    return slice(start, stop)


def _shape(split: SplitInfo) -> tuple[int, ...]:
    """Of one image."""
    return (split.height, split.width) if split.channels == 1 else (split.height, split.width, split.channels)


def _images(split: SplitInfo, group: h5py.Group, rows: slice) -> NDArray[np.uint8]:
    if split.encoded:
        return decode_rows(group["encoded"], rows, _shape(split))
    images: NDArray[np.uint8] = group["images"][rows]
    return images


def _labels(info: DatasetInfo, group: h5py.Group, rows: slice) -> NDArray[Any] | None:
    if "labels" not in group:
        return None
    if group["labels"].ndim == 2:
        flags: NDArray[np.uint8] = group["labels"][rows]
        if not np.isin(flags, (ABSENT, PRESENT, DIFFICULT)).all():
            raise ValueError(f"expected {ABSENT}, {PRESENT} or {DIFFICULT} in {group.name}/labels, found others")
        return flags
    labels: NDArray[np.int64] = group["labels"][rows].astype(np.int64, copy=False)
    if labels.min() < 0 or labels.max() >= len(info.classes):
        found = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"expected labels 0 to {len(info.classes) - 1} in {group.name}, found {found}")
    return labels


def _text(file: h5py.Group, name: str) -> str:
    value = _attribute(file, name)
    if not isinstance(value, str):
        raise ValueError(f"expected text in attribute {name!r}, found {type(value).__name__}")
    return value


def _integer(file: h5py.Group, name: str) -> int:
    value = _attribute(file, name)
    if not isinstance(value, np.integer):
        raise ValueError(f"expected a whole number in attribute {name!r}, found {type(value).__name__}")
    return int(value)


def _json(file: h5py.File, name: str, kind: type) -> Any:
    try:
        value = json.loads(_text(file, name))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected JSON in attribute {name!r}, found something else") from error
    if not isinstance(value, kind):
        raise ValueError(f"expected a JSON {kind.__name__} in attribute {name!r}, found {type(value).__name__}")
    return value


def _names(file: h5py.File, name: str) -> tuple[str, ...]:
    values = _json(file, name, list)
    if not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
        raise ValueError(f"expected distinct names in attribute {name!r}, found other values")
    return tuple(values)


def _factors(file: h5py.File) -> list[dict[str, Any]]:
    """The factor table: each has a name and a kind, and both ends of a range or neither."""
    factors: list[dict[str, Any]] = _json(file, "factors", list)
    for factor in factors:
        if not isinstance(factor, dict) or not all(isinstance(factor.get(key), str) for key in ("name", "kind")):
            raise ValueError("expected attribute 'factors' to be a list of objects with a name and a kind")
        ends = [factor[end] for end in ("low", "high") if end in factor]
        if len(ends) == 1 or not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
            raise ValueError(f"expected numbers low and high of factor {factor['name']!r} in attribute 'factors'")
    return factors


def _attribute(file: h5py.Group, name: str) -> Any:
    if name not in file.attrs:
        raise ValueError(f"expected attribute {name!r}, found none; {HOW}")
    return file.attrs[name]
