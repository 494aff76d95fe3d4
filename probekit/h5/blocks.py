"""Rows ready for the file: compressed and digested in any thread, or images as the files that they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.h5.checksums import zlib
from probekit.h5.contents import digest_of, sums_of
from probekit.h5.file import Split
from probekit.h5.objects import ObjectRows
from probekit.h5.photographs import CentreCrop
from probekit.h5.schema import chunk_rows

# What zlib-ng gets. Run-length matching (Z_RLE) makes ordinary deflate streams that any gzip filter reads, and the very
# bytes that zlib makes, whatever the processor has: no hash table takes part. One core, 128 px, us and bytes an image,
# in brackets zlib and isal's level 1: rect-tri 6, 335 (24, 335; 6, 576); its masks 10, 518 (28, 518; 6, 660); noisy
# 129, 9831 (194, 9831; 55, 10205); blurred 37, 3075 (59, 3075; 12, 1684); photos 340, 41224 (548, 41224; 144, 36455).
GZIP_LEVEL = 1
GZIP_MEMORY = 7


@dataclass(frozen=True)
class Block:
    """Consecutive rows, ready for the file.

    `shape`: the shape of the images: (rows, H, W) or (rows, H, W, 3); `chunks`: under "images", and "masks" if there
    are any: each chunk's bytes as stored; `digest`: of the rows (`probekit.h5.contents`); `columns`: under "labels" and
    "factors/<name>": one array `[rows]` each; `objects`: those of each image, if there are any.
    """

    shape: tuple[int, ...]
    chunks: dict[str, Sequence[bytes | memoryview]]
    digest: int
    columns: dict[str, NDArray[Any]]
    objects: ObjectRows | None = None


@dataclass(frozen=True)
class EncodedBlock:
    """Consecutive rows whose images are files.

    `image_shape`: the shape of each image once decoded: (H, W) or (H, W, 3); `files`: one JPEG file an image, as
    `encode` makes them; `columns` and `objects`: as of a `Block`; `masks`: `[n, H, W]`, if there are any. Of
    photographs also `sizes`: height and width of each, int32 `[n, 2]`; `crop`: the test transform that gives them that
    shape.
    """

    image_shape: tuple[int, ...]
    files: list[bytes]
    columns: dict[str, NDArray[Any]]
    masks: NDArray[Any] | None = None
    sizes: NDArray[np.int32] | None = None
    crop: CentreCrop | None = None
    objects: ObjectRows | None = None


def pack(rows: Split, compression: str) -> Block:
    """Compresses and digests rows; pure, and mostly outside the interpreter lock.

    `rows`: a multiple of `chunk_rows(...)` images, or fewer at the end of a split; not to be changed afterwards;
    `compression`: one of `COMPRESSIONS`; lzf itself happens in `DatasetWriter.append`.
    """
    height, width, channels = (*rows.images.shape[1:], 1)[:3]
    step = chunk_rows(height, width, channels)
    arrays = {"images": rows.images} | ({} if rows.masks is None else {"masks": rows.masks})
    chunks: dict[str, Sequence[bytes | memoryview]] = {}
    for name, array in arrays.items():
        assert array.dtype in ((np.uint8,) if name == "images" else (np.uint8, np.uint32))
        parts = [np.ascontiguousarray(array[begin : begin + step]) for begin in range(0, len(array), step)]
        chunks[name] = [stored(part, step, compression) for part in parts]
    columns = as_columns(rows.labels, rows.factors)
    digest = digest_of(
        sums_of(np.ascontiguousarray(rows.images)),
        None if rows.masks is None else np.ascontiguousarray(rows.masks),
        columns,
        None if rows.objects is None else rows.objects.rows,
    )
    return Block(rows.images.shape, chunks, digest, columns, rows.objects)


def as_columns(labels: NDArray[Any] | None, factors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Labels, int64 `[N]` or uint8 `[N, K]`, and factors, as a block's columns."""
    columns: dict[str, NDArray[Any]] = {}
    if labels is not None:
        columns["labels"] = np.ascontiguousarray(labels, "<i8" if labels.ndim == 1 else "u1")
    for name, values in factors.items():
        columns[f"factors/{name}"] = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    return columns


def stored(part: NDArray[Any], step: int, compression: str) -> bytes | memoryview:
    """A chunk's bytes as stored, not copied where that can be; the last one of a split is filled up with zeros."""
    missing = bytes((step - len(part)) * part[0].nbytes)
    if compression != "gzip":
        return part.tobytes() + missing if missing else part.data.cast("B")
    deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, GZIP_MEMORY, zlib.Z_RLE)
    packed: bytes = deflate.compress(part.data)
    if missing:  # a call more gives the interpreter away once more, and the renderer takes it
        packed += deflate.compress(missing)
    return packed + deflate.flush()
