"""MNIST, and the sets in its format (idx, gzipped or not): Fashion-MNIST, KMNIST and EMNIST.

LeCun et al., "Gradient-based learning applied to document recognition", 1998, and yann.lecun.com/exdb/mnist for the
format; Xiao et al., arXiv 1708.07747; Clanuwat et al., arXiv 1812.01718; Cohen et al., arXiv 1702.05373.
"""

import gzip
import string
import struct
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from probekit.data.importers.base import MAX_BYTES
from probekit.data.importers.npz import Row
from probekit.data.importers.official.arrays import Bytes, rows, stream
from probekit.data.importers.official.base import Choices, Listing, Official, find_file
from probekit.visible import one_line

SIDE = 28
BYTES = 8  # what idx calls the type of a byte
PARTS = {"train": "train", "test": "t10k"}
DIGITS = string.digits
CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
KANA = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
# EMNIST: digits, capitals, small letters, in this order; merged sets leave out small letters that look as capitals do.
ALL = string.digits + string.ascii_uppercase + string.ascii_lowercase
MERGED = "".join(letter for letter in ALL if letter not in "cijklmopsuvwxyz")
EMNIST_CLASSES = {
    "balanced": MERGED,
    "byclass": ALL,
    "bymerge": MERGED,
    "letters": string.ascii_uppercase,
    "digits": DIGITS,
    "mnist": DIGITS,
}
EMNIST_SIZES = {
    "balanced": (112_800, 18_800),
    "byclass": (697_932, 116_323),
    "bymerge": (697_932, 116_323),
    "letters": (124_800, 20_800),
    "digits": (240_000, 40_000),
    "mnist": (60_000, 10_000),
}
EARLIER_LETTERS = (88_800, 14_800)  # of the first release, as TensorFlow Datasets has it


def read_idx(path: Path, sides: int) -> Bytes:
    """The bytes of an idx file of so many sides; a ValueError if it is another kind, damaged, or too short or long."""
    try:
        with stream(path) as plain, gzip.open(plain) if path.suffix == ".gz" else plain as file:
            return _read(file, sides, path)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}") from error


def _read(file: IO[bytes] | gzip.GzipFile, sides: int, path: Path) -> Bytes:
    head = file.read(4 + 4 * sides)
    if len(head) < 4 + 4 * sides or head[:4] != bytes((0, 0, BYTES, sides)):
        raise ValueError(f"expected an idx file of bytes with {sides} sides at {path}, found something else")
    shape = struct.unpack(f">{sides}I", head[4:])
    n = int(np.prod(shape, dtype=object))
    if not 0 < n <= MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES >> 30} GiB, and some, in {path}, found a shape of {shape}")
    data = file.read(n + 1)
    if len(data) != n:
        found = "more" if len(data) > n else f"{len(data):,}"
        raise ValueError(f"expected {n:,} bytes in {path}, as its head says, found {found}; is it complete?")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _named(start: str, kind: str, sides: int) -> list[str]:
    """The names that a file goes by: gzipped or not, and with a dot where some unpackers put one."""
    return [f"{start}-{kind}{dash}idx{sides}-ubyte{end}" for end in (".gz", "") for dash in "-."]


def _open_parts(
    root: Path, starts: dict[str, str], folders: Sequence[str], where: str, turned: bool, first: int
) -> tuple[dict[str, list[Row]], list[Path]]:
    """Splits, and the files read. `turned`: rows and columns have changed places; `first`: the least label."""
    splits: dict[str, list[Row]] = {}
    files = []
    for split, start in starts.items():
        images_file = find_file(root, _named(start, "images", 3), folders, where)
        labels_file = find_file(root, _named(start, "labels", 1), folders, where)
        images = read_idx(images_file, 3)
        labels = read_idx(labels_file, 1).astype(np.int64) - first
        images = images.swapaxes(1, 2) if turned else images
        splits[split] = rows(split, images, labels.tolist(), images_file)
        files += [images_file, labels_file]
    return splits, files


def _open(classes: Sequence[str], folders: Sequence[str], root: Path, choices: Choices) -> Listing:
    splits, files = _open_parts(root, PARTS, folders, "the folder of its four files", turned=False, first=0)
    return Listing(tuple(classes), splits, side=SIDE, files=files)


def _open_emnist(root: Path, choices: Choices) -> Listing:
    """The official splits of one of the six sets; images are stored upright, and letters counted from 0."""
    kind = choices.labels or ""
    starts = {split: f"emnist-{kind}-{split}" for split in ("train", "test")}
    first = 1 if kind == "letters" else 0
    folders = ("gzip", "raw", "EMNIST/raw")
    splits, files = _open_parts(
        root, starts, folders, "the folder where gzip.zip was unpacked", turned=True, first=first
    )
    found = tuple(map(len, splits.values()))
    sizes = EARLIER_LETTERS if kind == "letters" and found == EARLIER_LETTERS else EMNIST_SIZES[kind]
    return Listing(
        tuple(EMNIST_CLASSES[kind]), splits, sizes=dict(zip(splits, sizes, strict=True)), side=SIDE, files=files
    )


def _like_mnist(about: str, classes: Sequence[str], folder: str) -> Official:
    return Official(
        about=about,
        open=partial(_open, classes, ("raw", f"{folder}/raw")),
        sizes={"train": 60_000, "test": 10_000},
        classes=10,
        needs="train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, and both of t10k; or unpacked",
        size=32,  # own choice: 28 is no multiple of 8, which networks here need
        channels=1,
    )


MNIST = _like_mnist("MNIST, handwritten digits of 28 px", DIGITS, "MNIST")
FASHION_MNIST = _like_mnist("Fashion-MNIST, clothes of 28 px", CLOTHES, "FashionMNIST")
KMNIST = _like_mnist("Kuzushiji-MNIST, Japanese characters of 28 px", KANA, "KMNIST")
EMNIST = Official(
    about="EMNIST, handwritten letters and digits of 28 px, six sets",
    open=_open_emnist,
    sizes=dict(zip(("train", "test"), EMNIST_SIZES["balanced"], strict=True)),
    classes=len(MERGED),
    needs="emnist-balanced-train-images-idx3-ubyte.gz and so on, or gzip/ with them",
    takes=frozenset({"labels"}),
    labels={kind: len(classes) for kind, classes in EMNIST_CLASSES.items()},
    size=32,
    channels=1,
)
