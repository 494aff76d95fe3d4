"""Checksums, so that the file knows itself: of each chunk as it is stored, checked whenever it is read, and a seal.

Each split has `checksums`, uint64 `[K]`: for images (or encoded/bytes), masks, labels, factors sorted by name and
objects/bytes, one after the other, the XXH3 of each chunk's bytes as they lie in the file, compressed or not (its seed
being the chunk's filter mask); for encoded/bytes, of each file, and for objects/bytes, of what each image has, as that
is what is read of it (so a wrong offset is found as well).
XXH3 runs about as fast as memory: that is why checking costs little (benchmarks/h5.py). The root attribute `seal` is
the SHA-256, in hex, of the root attributes, the names, types, shapes and filters of all datasets, the sizes of
photographs, and the checksums. It is checked whenever a file is opened.

What is not covered is what holds no data: nothing that is read comes from there.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from probekit.h5.schema import SPLITS

try:
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

__all__ = ["zlib"]


if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TABLE = "checksums"
SEALED = (
    "schema",
    "generator",
    "parameters",
    "classes",
    "factors",
    "mask_names",
    "seed",
    "version",
    "digests",
    "content_hash",
)
CERTIFICATE, SHARD = "certificate", "shard"  # those that a file may lack
FILES = ("encoded", "objects")  # groups of bytes, one file an image, and offsets
DAMAGED = "it was damaged or changed after it was written; restore it from a copy, or make it anew"

Sums = dict[str, NDArray[np.uint64]]  # under each dataset's path in the split


def write_seal(file: h5py.File, of_files: dict[str, list[int]]) -> None:
    """Reads every chunk back as it is stored, and writes checksums and seal: the last thing that a writer does.

    `file`: all else is in it; `of_files`: under the path of each group of `FILES`, the checksum of each file in it.
    """
    file.flush()
    for split in (name for name in SPLITS if name in file):
        group = file[split]
        sums: list[int] = []
        for name, (data, n) in _arrays(group).items():
            known = of_files.get(f"{split}/{name.removesuffix('/bytes')}")
            sums += [checksum(*chunk) for chunk in _stored(data, range(n))] if known is None else known
        if TABLE in group:
            del group[TABLE]
        group.create_dataset(TABLE, data=np.array(sums, "<u8"), track_times=False)
    file.attrs["seal"] = _seal(file)[0]


def check_seal(file: h5py.File) -> dict[str, Sums]:
    """Compares attributes, structure and checksums with the seal, and returns the checksums of each split.

    A ValueError if they differ.
    """
    (found, sums), expected = _seal(file), file.attrs.get("seal")
    if found != expected:
        raise ValueError(f"expected the contents of seal {str(expected)[:12]}, found those of {found[:12]}: {DAMAGED}")
    return sums


def open_array(group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset of a file that is known to hold it. `group[name]` takes three times as long: it asks for more.

    It keeps its shape and type, as h5py's do in a file that is only read.
    """
    return h5py.Dataset(h5py.h5d.open(group.id, name.encode()), readonly=True)


def read_rows(group: h5py.Group, name: str, rows: slice, sums: Sums) -> NDArray[Any]:
    """Rows of a dataset of a split, once the chunks that hold them are found to be as they were written.

    A ValueError if one is not.
    """
    data = open_array(group, name)
    shape, kind, chunk, compression = data.shape, data.dtype, data.chunks, data.compression
    values: NDArray[Any] = np.empty((rows.stop - rows.start, *shape[1:]), kind)
    in_bytes = values.reshape(len(values), -1).view(np.uint8)  # a row each
    for k in range(rows.start // chunk[0], -(-rows.stop // chunk[0])):
        first, last = k * chunk[0], min((k + 1) * chunk[0], shape[0])
        begin, end = max(first, rows.start), min(last, rows.stop)
        whole = compression is None and end - begin == chunk[0]  # then it is read to where it belongs
        out = in_bytes[begin - rows.start : end - rows.start].reshape(-1) if whole else None
        skipped, stored = data.id.read_direct_chunk((first, *[0] * (len(shape) - 1)), out=out)
        what = f"rows {first} to {last - 1} of {group.name}/{name}"
        check(stored, sums[name][k], what, skipped)
        if compression == "gzip" and not skipped:
            stored = _inflated(stored, math.prod(chunk) * kind.itemsize, what)
        if compression == "lzf" and not skipped:
            values[begin - rows.start : end - rows.start] = data[begin:end]
        elif len(stored) != math.prod(chunk) * kind.itemsize:
            raise ValueError(f"expected {math.prod(chunk) * kind.itemsize} bytes in {what}, found {len(stored)}")
        elif not whole:
            held = np.frombuffer(stored, kind).reshape(chunk)
            values[begin - rows.start : end - rows.start] = held[begin - first : end - first]
    return values


def _inflated(stored: bytes, size: int, what: str) -> bytes:
    """The bytes of a chunk of `size`. HDF5 reads on behind the end of one that is too short."""
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(stored, size + 1)  # a bomb no further than that
    except zlib.error as error:  # type: ignore[misc]  # its stub says Exception
        raise ValueError(f"expected zlib's format in {what}, found: {error}") from error
    if len(found) == size and not inflate.eof:
        raise ValueError(f"expected the end of zlib's format in {what}, found none")
    return found


def checksum(stored: "ReadableBuffer", skipped: int = 0) -> int:
    """XXH3, 64 bits, of bytes of which some filters were skipped."""
    return int(xxhash.xxh3_64_intdigest(stored, skipped))


def check(stored: "ReadableBuffer", expected: int, what: str, skipped: int = 0) -> None:
    """Compares bytes with their checksum; a ValueError if it differs."""
    found = checksum(stored, skipped)
    if found != expected:
        raise ValueError(f"expected checksum {expected:016x} of {what}, found {found:016x}: {DAMAGED}")


def _arrays(group: h5py.Group) -> dict[str, tuple[h5py.Dataset, int]]:
    """Each dataset of a split that has checksums, and how many."""
    names = [name for name in ("images", "encoded/bytes", "masks", "labels") if name in group]
    names += [f"factors/{name}" for name in sorted(group.get("factors", ()))]
    names += ["objects/bytes"] if "objects" in group else []
    arrays = {}
    for name in names:
        data = open_array(group, name)
        shape, chunks = data.shape, data.chunks
        if chunks is None or chunks[1:] != shape[1:]:
            raise ValueError(f"expected {data.name} in chunks of whole rows, found it in another layout")
        held, _, part = name.partition("/")
        of_files = held in FILES and part == "bytes"
        arrays[name] = data, len(group[f"{held}/offsets"]) - 1 if of_files else -(-shape[0] // chunks[0])
    return arrays


def _stored(data: h5py.Dataset, chunks: range) -> Iterator[tuple[bytes, int]]:
    """The bytes of chunks as they lie in the file, and the filters that were left out."""
    for k in chunks:
        skipped, stored = data.id.read_direct_chunk((k * data.chunks[0],) + (0,) * (data.ndim - 1))
        yield stored, skipped


def _seal(file: h5py.File) -> tuple[str, dict[str, Sums]]:
    """The seal of what a file holds, and the checksums of each split."""
    names = SEALED + tuple(name for name in (CERTIFICATE, SHARD) if name in file.attrs)
    total = hashlib.sha256(json.dumps([str(file.attrs.get(name)) for name in names]).encode())
    sums: dict[str, Sums] = {}
    for split in (name for name in SPLITS if name in file):
        group = file[split]
        arrays = _arrays(group)
        for name, (data, n) in arrays.items():
            total.update(_describe(f"{split}/{name}", n, data))
        for held in (name for name in FILES if name in group):
            attributes = sorted((name, str(value)) for name, value in group[held].attrs.items())
            total.update(json.dumps(attributes).encode())
            total.update(_describe(f"{split}/{held}/offsets", 0, group[f"{held}/offsets"]))
            if "sizes" in group[held]:
                total.update(_describe(f"{split}/{held}/sizes", 0, group[f"{held}/sizes"]))
                total.update(group[f"{held}/sizes"][:].tobytes())
        table = group.get(TABLE)
        if not isinstance(table, h5py.Dataset) or table.dtype != np.uint64 or table.ndim != 1 or table.chunks:
            raise ValueError(f"expected checksums of split {split}, uint64 in one row, found none")
        ends = np.cumsum([n for _, n in arrays.values()])
        if len(table) != ends[-1]:
            raise ValueError(f"expected {ends[-1]} checksums of split {split}, found {len(table)}")
        values = table[:]
        sums[split] = dict(zip(arrays, np.split(values, ends[:-1]), strict=True))
        total.update(values.tobytes())
    return total.hexdigest(), sums


def _describe(path: str, checksums: int, data: h5py.Dataset) -> bytes:
    made = data.id.get_create_plist()
    filters = [made.get_filter(k)[:3] for k in range(made.get_nfilters())]
    line = f"{path} {checksums} {data.shape} {data.chunks} {filters}\n"
    kind: bytes = data.id.get_type().encode()
    return line.encode() + kind
