"""CIFAR-10 and CIFAR-100, as pickles (the Python version) or as records (the binary version): the same images.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009; formats: cs.toronto.edu/~kriz/cifar.html.
An image is 3,072 bytes: 32 x 32 of red, then of green, then of blue, row by row.
"""

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from probekit.data.importers.base import read_list
from probekit.data.importers.npz import Row
from probekit.data.importers.official.arrays import Bytes, read_records, rows
from probekit.data.importers.official.base import Choices, Listing, Official, find_file, read_lines
from probekit.visible import one_line

SIDE = 32
PIXELS = 3 * SIDE * SIDE
ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Pieces:
    """Stands for an array or its type while a pickle is read: keeps what it is said to be made of, and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):
    """Reads dicts, lists, numbers, text and arrays of bytes, and calls nothing of NumPy or of any other module.

    The reader in Python: that in C makes room for as many objects as a file of a few bytes says that it has.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Pieces
        if module in ARRAYS and name == "_reconstruct":
            return _Pieces
        raise pickle.UnpicklingError(f"expected arrays and lists alone, found {module}.{name}, which is not run")


def unpickle(path: Path) -> dict[str, Any]:
    """The dictionary of a file; arrays are `_Pieces`. A ValueError if it holds anything else, or is damaged."""
    data = read_list(path)
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle surfaces as whatever the reader felt first
        raise ValueError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary in {path}, found {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _array(content: Any, path: Path) -> Bytes:
    """uint8 `[N, 3072]` of the pieces of an array; a ValueError if they are those of another."""
    state = content.state if isinstance(content, _Pieces) else None
    if isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, by_column, data = state
        name = kind.arguments[:1] if isinstance(kind, _Pieces) else ()
        plain = name and _text(name[0]) in ("u1", "|u1", "uint8") and not by_column and isinstance(data, bytes)
        if (
            plain
            and isinstance(shape, tuple)
            and len(shape) == 2
            and shape[1] == PIXELS
            and len(data) == shape[0] * PIXELS
        ):
            return np.frombuffer(data, np.uint8).reshape(-1, PIXELS)
    raise ValueError(f"expected data of bytes [N, {PIXELS:,}] in {path}, found something else")


def _numbers(values: Any, path: Path) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"expected a list of whole numbers as labels in {path}, found something else")
    return values


def _names(values: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError(f"expected a list of names in {path}, found something else")
    return tuple(map(_text, values))


@dataclass(frozen=True)
class _Version:
    """A set's files; what stands before an image of the binary version has the names of the Python one."""

    folder: str  # of the Python version; that of the binary one ends with "bin"
    train: tuple[str, ...]
    test: str
    meta: str
    labels: dict[str, tuple[str, str, str]]  # choice: key of labels, key of names, and binary file of names
    order: tuple[str, ...]  # of the bytes that stand before an image


TEN = _Version(
    "cifar-10-batches-py",
    tuple(f"data_batch_{k}" for k in range(1, 6)),
    "test_batch",
    "batches.meta",
    {"": ("labels", "label_names", "batches.meta.txt")},
    ("labels",),
)
HUNDRED = _Version(
    "cifar-100-python",
    ("train",),
    "test",
    "meta",
    {
        "fine": ("fine_labels", "fine_label_names", "fine_label_names.txt"),
        "coarse": ("coarse_labels", "coarse_label_names", "coarse_label_names.txt"),
    },
    ("coarse_labels", "fine_labels"),
)


def _open(version: _Version, root: Path, choices: Choices) -> Listing:
    """Both official splits; the Python version, if both are there."""
    key, names, listed = version.labels[choices.labels or ""]
    folders = (version.folder, version.folder.replace("batches-py", "batches-bin").replace("python", "binary"))
    archive = version.folder.replace("batches-py", "python")
    where = f"the folder where {archive}.tar.gz was unpacked, or the binary version"
    first = find_file(root, (version.train[0], f"{version.train[0]}.bin"), folders, where)
    binary, folder = first.suffix == ".bin", first.parent
    ending = ".bin" if binary else ""
    read = partial(_records, version.order.index(key), len(version.order)) if binary else partial(_pickled, key)
    files = {split: [folder / f"{name}{ending}" for name in parts] for split, parts in _parts(version).items()}
    splits: dict[str, list[Row]] = {}
    for split, paths in files.items():
        splits[split] = []
        for path in paths:
            data, labels = read(path)
            images = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
            splits[split] += rows(split, images, labels, path, first=len(splits[split]))
    if binary:
        classes = tuple(read_lines(folder / listed))
    else:
        classes = _names(unpickle(folder / version.meta).get(names), folder / version.meta)
    return Listing(classes, splits, side=SIDE, files=[path for paths in files.values() for path in paths])


def _parts(version: _Version) -> dict[str, Sequence[str]]:
    return {"train": version.train, "test": (version.test,)}


def _pickled(key: str, path: Path) -> tuple[Bytes, list[int]]:
    content = unpickle(path)
    return _array(content.get("data"), path), _numbers(content.get(key), path)


def _records(place: int, before: int, path: Path) -> tuple[Bytes, list[int]]:
    records = read_records(path, before + PIXELS, "records")
    return records[:, before:], records[:, place].tolist()


CIFAR10 = Official(
    about="CIFAR-10, photographs of 32 px",
    open=partial(_open, TEN),
    sizes={"train": 50_000, "test": 10_000},
    classes=10,
    needs="cifar-10-batches-py/ or cifar-10-batches-bin/",
    size=SIDE,
)
CIFAR100 = Official(
    about="CIFAR-100, photographs of 32 px",
    open=partial(_open, HUNDRED),
    sizes={"train": 50_000, "test": 10_000},
    classes=100,
    needs="cifar-100-python/ or cifar-100-binary/",
    takes=frozenset({"labels"}),
    labels={"fine": 100, "coarse": 20},
    size=SIDE,
)
