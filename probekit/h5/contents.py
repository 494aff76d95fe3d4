"""What a split holds, in a number that does not depend on how its rows are divided among files; and the content hash.

The content hash is the SHA-256 of the JSON text (no spaces, UTF-8, not escaped)
`[classes, mask_names, {split: {"n": n, "arrays": {name: type}, "rows": digest}}]`, with the splits in the order train,
val, test, and the arrays in the order images (or encoded), masks, labels, factors sorted by name, objects. `type` is
NumPy's `dtype.str`, always little-endian, and the shape of one row: `|u1 128,128`; that of encoded images is `jpeg
H,W,C`, that of photographs, whose test transform counts, `photographs RESIZE:SIDE C`, and that of objects `boxes` or
`boxes masks`.

The digest of rows is a polynomial's value, as Karp and Rabin hash strings (Efficient randomized pattern-matching
algorithms, 1987): d_1 b^(n-1) + ... + d_n modulo 2^127 - 1, 32 hex digits, of which d_i is the XXH3 (64 bits) of row i:
of its image (as pixels, or as the file), which is the seed for that of its mask, if there are masks, which is the
seed for that of its label and factors in the order above, joined, if there are any, which is the seed for that of its
objects' bytes, if there are objects. So the digest of some rows and that of the rows behind them give the digest of
both, and shards need not be read to know the hash of all.

It depends on nothing else: not on compression, shards, worker count, seed or version. It tells contents apart; it is no
protection against somebody who wants two contents to look alike.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from probekit.h5.photographs import FORMAT as PHOTOGRAPHS
from probekit.h5.photographs import CentreCrop
from probekit.h5.schema import SPLITS

PRIME = 2**127 - 1
BASE = int.from_bytes(hashlib.sha256(b"probekit").digest()) % PRIME  # any large number would do
DIGITS = 32

_xxh3 = xxhash.xxh3_64_intdigest


@dataclass(frozen=True)
class Contents:
    """What `n` rows of a split hold: the type of each array, by name, and the digest of the rows."""

    n: int
    arrays: Mapping[str, str]
    rows: str

    def then(self, others: "Contents") -> "Contents":
        """The contents of these rows followed by others of the same arrays."""
        assert self.arrays == others.arrays
        return replace(
            self, n=self.n + others.n, rows=as_text(shifted(int(self.rows, 16), others.n, int(others.rows, 16)))
        )


def shifted(digest: int, n: int, behind: int) -> int:
    """The digest of rows of this one and `n` of another behind them."""
    return (digest * pow(BASE, n, PRIME) + behind) % PRIME


def as_text(digest: int) -> str:
    """A digest as the file and the content hash have it."""
    return f"{digest:0{DIGITS}x}"


def digest_of(
    images: Iterable[int],
    masks: NDArray[Any] | None,
    columns: Mapping[str, NDArray[Any]],
    objects: Sequence[bytes] | None = None,
) -> int:
    """The digest of some rows.

    `images`: the XXH3 of each image; `columns`: under "labels" and "factors/<name>", `[n, ...]`; `objects`: the bytes
    of the objects of each image.
    """
    per_mask: Iterable[NDArray[Any]] = repeat(NOTHING) if masks is None else masks
    per_row: Iterable[NDArray[np.uint8]] = repeat(NOTHING)
    if columns:
        order = sorted(columns, key=hash_order)
        per_row = np.concatenate([_in_bytes(columns[name]) for name in order], axis=1)
    per_list: Iterable[bytes] = repeat(b"") if objects is None else objects
    total = 0
    for digest, mask, row, listed in zip(images, per_mask, per_row, per_list, strict=False):
        if masks is not None:
            digest = _xxh3(mask.data, digest)
        if columns:
            digest = _xxh3(row.data, digest)
        if objects is not None:
            digest = _xxh3(listed, digest)
        total = (total * BASE + digest) % PRIME
    return total


NOTHING = np.empty(0, np.uint8)


def sums_of(images: NDArray[np.uint8]) -> list[int]:
    """The XXH3 of each image, contiguous `[n, ...]`."""
    return list(map(_xxh3, images))


def _in_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """A row of bytes for each row of values, little-endian."""
    plain = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return plain.reshape(len(plain), -1).view(np.uint8)


def hash_order(name: str) -> tuple[int, str]:
    """Sorts a split's arrays as the content hash takes them."""
    first = ("images", "encoded", "masks", "labels")
    return (first.index(name) if name in first else len(first), name)


def arrays_of(group: h5py.Group) -> dict[str, str]:
    """The type of each array of a split."""
    names = [name for name in ("images", "encoded", "masks", "labels") if name in group]
    types = {}
    for name in (*names, *(f"factors/{each}" for each in sorted(group.get("factors", ())))):
        if name == "encoded":
            about = group[name].attrs
            kind, sides = about["format"], [int(about[side]) for side in ("height", "width", "channels")]
            if kind == PHOTOGRAPHS:
                types[name] = CentreCrop(int(about["resize"]), sides[0]).kind(sides[2])
                continue
        else:
            data = h5py.Dataset(h5py.h5d.open(group.id, name.encode()), readonly=True)
            kind, sides = data.dtype.str, list(data.shape[1:])
        types[name] = f"{kind} {','.join(map(str, sides))}"
    if "objects" in group:
        types["objects"] = "boxes masks" if group["objects"].attrs["masks"] else "boxes"
    return types


def content_hash(classes: Sequence[str], mask_names: Sequence[str], contents: Mapping[str, Contents]) -> str:
    """Hex SHA-256 of all that a dataset holds."""
    splits = {name: asdict(contents[name]) for name in SPLITS if name in contents}
    text = json.dumps([list(classes), list(mask_names), splits], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
