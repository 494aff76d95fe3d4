"""Names, shapes and the content hash of the dataset file, shared by reader and writer.

The content hash is SHA-256 over the bytes below. It depends on nothing else: not on compression, worker count, seed or
version. It tells contents apart; it is no protection against somebody who wants two contents to look alike, because
images go through CRC-32, which takes a third of the time.

1. The JSON text `[classes, mask_names]` (no spaces, UTF-8, not escaped) and a newline.
2. For each split in the order train, val, test, and each of its datasets in the order images (or encoded/bytes and
   encoded/offsets), masks, labels, factors sorted by name: the line `<split>/<path> <dtype> <shape>` and a newline,
   for example `train/images |u1 1000,128,128` (dtype as NumPy's `dtype.str`, always little-endian), then a SHA-256
   digest (32 bytes)
   - for images and masks: of the CRC-32 (4 bytes, little-endian) of each run of `chunk_rows(H, W, C)` consecutive
     images or masks, C being the channels of the images,
   - for the others: of all values,
   always of the uncompressed values in C order.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generators.certificates import Certificate

SCHEMA = "probekit-dataset/4"
SPLITS = ("train", "val", "test")
COMPRESSIONS = ("gzip", "lzf", "none")

CHUNK_IMAGES = 64  # measured: larger chunks write no faster, smaller ones compress and read slower
CHUNK_BYTES = 4 << 20  # bounds memory for large images: 4 MiB is 64 images of 256 x 256
COLUMN_ROWS = 4096  # rows in a chunk of labels and factors: 32 KiB of 8-byte values
MASK_BITS = 8  # masks are uint8
ABSENT, PRESENT, DIFFICULT = 0, 1, 255  # values of multi-label labels; difficult: masked in losses and scores
EVIDENCE = "evidence:"  # begins the name of the mask of what a class factor changes


@dataclass(frozen=True)
class SplitInfo:
    """What a split holds.

    `multilabel`: whether an image may have several classes: labels are then uint8 `[N, K]`; `encoded`: whether the
    images are kept as JPEG files, not as pixels.
    """

    name: str
    n: int
    height: int
    width: int
    channels: int
    labelled: bool
    masked: bool
    factors: tuple[str, ...]
    multilabel: bool = False
    encoded: bool = False


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset file holds; `parameters` of an import says where the images came from.

    Attributes:
        generator: The generator's name, or "" for imported images.
        parameters: Every parameter of the generator, or the settings of the import.
        classes: Class names; label k is classes[k]. Empty for unlabelled images.
        factors: One dictionary for each factor column: name, kind, range, unit, law.
        mask_names: Bit k of a mask is mask_names[k].
        content_hash: Hex SHA-256 of the contents.
        splits: By name, in the order train, val, test.
        certificate: What is proved of the images (docs/generators.md), or None.
    """

    path: Path
    schema: str
    generator: str
    parameters: dict[str, Any]
    seed: int
    classes: tuple[str, ...]
    factors: tuple[dict[str, Any], ...]
    mask_names: tuple[str, ...]
    version: str
    content_hash: str
    splits: dict[str, SplitInfo]
    certificate: Certificate | None = None

    @property
    def first(self) -> SplitInfo:
        """The first split there is: shape, channels and storage are the same in all."""
        return next(iter(self.splits.values()))

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several classes; the same in all labelled splits."""
        return any(split.multilabel for split in self.splits.values())


def chunk_rows(height: int, width: int, channels: int) -> int:
    """Images in a chunk: 64, or fewer so that a chunk stays under 4 MiB."""
    return max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (height * width * channels)))


def describe_array(path: str, dtype: str, shape: Sequence[int]) -> bytes:
    """The line that stands before a dataset's digests in the content hash."""
    return f"{path} {dtype} {','.join(map(str, shape))}\n".encode()


def hash_order(name: str) -> tuple[int, str]:
    """Sorts a split's datasets as the content hash takes them."""
    first = ("images", "encoded/bytes", "encoded/offsets", "masks", "labels")
    return (first.index(name) if name in first else len(first), name)


def start_hash(classes: Sequence[str], mask_names: Sequence[str]) -> "hashlib._Hash":
    """A content hash that has taken in the names, before any array."""
    names = json.dumps([list(classes), list(mask_names)], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(names.encode() + b"\n")
