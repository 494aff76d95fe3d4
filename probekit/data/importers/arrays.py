"""Any HDF5 or npz file: `--images KEY --labels KEY`, where {split} in a key stands for train, val and test."""

import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.apart import text_of
from probekit.data.importers.base import Options, Source, choose_splits, file_stamp, readable, set_apart
from probekit.data.importers.containers import Array, open_container
from probekit.data.importers.labels import NONE, shown, to_labels
from probekit.data.importers.npz import KEYS
from probekit.data.importers.rows import Cell, Runs, group_of, is_of_images
from probekit.data.importers.tree import SPLIT_WORDS
from probekit.files import host_memory
from probekit.h5 import SPLITS

HOLE = "{split}"
KINDS = "uifb"  # of NumPy's types: what pixels may be
NAMED_BYTES = 500  # of memory that an image's name and place take
OURS = "checksums"  # beside the images of a dataset file of ours


def open_arrays(source: Path, options: Options) -> Source | None:
    """The splits of the arrays that the options name; None if it is neither an HDF5 nor an npz file.

    A ValueError if they are not named, or are no images and labels, or the file is damaged.
    """
    arrays = open_container(source)
    if arrays is None:
        return None
    if any(name.endswith(f"/{OURS}") for name in arrays):
        raise ValueError(f"expected images of others, found a dataset file; type: probekit show {quote(str(source))}")
    options.leave_out("arrays", "images", "labels", "group")
    if options.images is None or options.labels is None:
        raise ValueError(_asked(source, arrays, options))
    found = choose_splits(_find(arrays, options.images, "images", source), options)
    for array in found.values():
        _check_images(array, source)
    columns: dict[str, dict[str, NDArray[Any]]] = {}
    for what, key in (("labels", options.labels), ("group", options.group)):
        if key is not None and not (what == "labels" and key == NONE):
            named = _find(arrays, key, what, source)
            columns[what] = {split: _column(named, split, array, what, key) for split, array in found.items()}
    return _opened(source, options, found, columns)


def _opened(
    source: Path, options: Options, found: Mapping[str, Array], columns: Mapping[str, Mapping[str, NDArray[Any]]]
) -> Source:
    name, stamp = readable(source.name), file_stamp(source)
    classes: tuple[str, ...] = ()
    labels: dict[str, list[int]] = {}
    if "labels" in columns:
        classes, labels = to_labels(columns["labels"], None, str(options.labels), name)
    groups = None
    if options.group is not None:
        texts = [text_of(value) for values in columns["group"].values() for value in values.tolist()]
        groups = group_of(options.group.replace(HOLE, "").strip("_/. ") or "group", texts)
    splits: dict[str, list[Any]] = {}
    place = 0
    for split, array in found.items():
        runs = Runs([place + start for start in array.starts], array.runs, lambda run: int(run.nbytes))
        own = labels.get(split)
        splits[split] = [
            Cell(f"{split}/{row}", None if own is None else own[row], place + row, runs, stamp)
            for row in range(array.shape[0])
        ]
        place += array.shape[0]
    typed = {"images": options.images, "labels": options.labels, "group": options.group}
    parameters = {key: value for key, value in typed.items() if value is not None}
    apart = set_apart(splits, options, classes, groups)
    return Source(name, classes, apart, parameters=parameters, others=groups)


def _find(arrays: Mapping[str, Array], key: str, what: str, source: Path) -> dict[str, Array]:
    """The arrays that a key means, by split; train alone where it has no {split}."""
    if HOLE not in key:
        if key not in arrays:
            raise ValueError(
                f"expected --{what} with one of {shown(list(arrays)) or 'none'} in {source}, found {key!r}"
            )
        return {"train": arrays[key]}
    pattern = re.compile(re.escape(key).replace(re.escape(HOLE), "([A-Za-z]+)"))
    words = {name: match[1].lower() for name in arrays if (match := pattern.fullmatch(name))}
    found = {SPLIT_WORDS[word]: arrays[name] for name, word in words.items() if word in SPLIT_WORDS}
    if "train" not in found:
        raise ValueError(f"expected --{what} {key} to name arrays of splits in {source}, found {shown(list(arrays))}")
    return {split: found[split] for split in SPLITS if split in found}


def _check_images(array: Array, source: Path) -> None:
    if array.wrong:
        raise ValueError(array.wrong)
    if array.dtype is None or array.dtype.kind not in KINDS or not is_of_images(array.shape):
        kind = "text" if array.dtype is None else array.dtype
        raise ValueError(
            f"expected numbers [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W] in {array.name!r} of {source}, found "
            f"{kind} {list(array.shape)}"
        )
    if array.shape[0] * NAMED_BYTES > host_memory():
        raise ValueError(
            f"expected images whose names fit in memory, {host_memory() // NAMED_BYTES:,} at most, in {array.name!r} "
            f"of {source}, found {array.shape[0]:,}"
        )
    if len(array.shape) == 4 and array.shape[3] in (1, 3) and array.shape[1] in (1, 3):
        raise ValueError(
            f"expected to see which axis of {array.name!r} is the channels, found {list(array.shape)}; save it as "
            "[N, H, W, C] with H of another size"
        )


def _column(named: Mapping[str, Array], split: str, images: Array, what: str, key: str) -> NDArray[Any]:
    """The labels or groups of a split, `[N]`; one column of several, or ones in a row, become it."""
    if split not in named:
        raise ValueError(f"expected --{what} {key} to name an array of {split}, as --images does, found none")
    values = named[split].whole()
    n = images.shape[0]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    is_one_hot = values.ndim == 2 and values.dtype.kind in "uifb" and len(values) == n
    if is_one_hot and np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all():
        values = values.argmax(axis=1)
    if values.shape != (n,):
        raise ValueError(
            f"expected one of the {what} for each of {n:,} images in {named[split].name!r}, found {list(values.shape)}"
        )
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    return values


def _asked(source: Path, arrays: Mapping[str, Array], options: Options) -> str:
    """What there is, and what to type of it."""
    there = [f"{name} {list(array.shape)}" for name, array in arrays.items()]
    able = {name: a for name, a in arrays.items() if a.dtype is not None and a.dtype.kind in KINDS and not a.wrong}
    pictures = sorted((_key(name) for name, a in able.items() if _looks(a)), key=lambda name: HOLE not in name)
    images = options.images or next(iter(pictures), "KEY")
    n = next((a.shape[0] for name, a in arrays.items() if _key(name) == images and a.shape), -1)
    columns = [name for name, a in arrays.items() if a.shape in ((n,), (n, 1)) and not a.wrong and not _looks(a)]
    columns.sort(key=lambda name: name not in able)  # numbers first
    labels = options.labels or next((_key(name) for name in columns if (HOLE in _key(name)) == (HOLE in images)), NONE)
    return (
        f"expected {', '.join(KEYS)}, or --images and --labels with names of arrays in {source}, found "
        f"{shown(there) or 'no arrays'}; type --images {quote(images)} --labels {quote(labels)}"
    )


def _looks(array: Array) -> bool:
    return array.dtype is not None and is_of_images(array.shape) and min(array.shape[1:3]) > 1 and len(array.shape) > 2


def _key(name: str) -> str:
    """A name with {split} in it, if it has the word train."""
    for word in re.findall(r"[A-Za-z]+", name):
        if SPLIT_WORDS.get(word.lower()) == "train":
            return name.replace(word, HOLE, 1)
    return name
