"""The streaming writer: blocks are packed (compressed and hashed) in any thread, and appended in order by one.

The file grows under a temporary name beside its place and is renamed when it is complete, so that a killed process
leaves no half file; a stale temporary is replaced by the next run. No timestamps: equal contents, equal bytes.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from probekit import __version__
from probekit.files import sync_folder, told_if_full
from probekit.h5.checksums import CERTIFICATE, open_array, write_seal, zlib
from probekit.h5.encoded import EncodedSink
from probekit.h5.read import Split
from probekit.h5.schema import (
    CHUNK_BYTES,
    COLUMN_ROWS,
    SCHEMA,
    SPLITS,
    chunk_rows,
    describe_array,
    hash_order,
    start_hash,
)
from probekit.h5.target import Target, check_target

# What zlib-ng gets. Run-length matching (Z_RLE) makes ordinary deflate streams that any gzip filter reads, and the very
# bytes that zlib makes, whatever the processor has: no hash table takes part. One core, 128 px, us and bytes an image,
# in brackets zlib and isal's level 1: rect-tri 6, 335 (24, 335; 6, 576); its masks 10, 518 (28, 518; 6, 660); noisy
# 129, 9831 (194, 9831; 55, 10205); blurred 37, 3075 (59, 3075; 12, 1684); photos 340, 41224 (548, 41224; 144, 36455).
GZIP_LEVEL = 1
GZIP_MEMORY = 7


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the attributes say; see `DatasetInfo`."""

    generator: str
    parameters: Mapping[str, Any]
    seed: int
    classes: Sequence[str]
    factors: Sequence[Mapping[str, Any]]
    mask_names: Sequence[str]
    certificate: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Block:
    """Consecutive rows, ready for the file.

    `shape`: the shape of the images: (rows, H, W) or (rows, H, W, 3); `chunks`: under "images", and "masks" if there
    are any: each chunk's bytes as stored; `checksums`: under the same names: the CRC-32 of each chunk's values, joined,
    4 bytes each; `columns`: under "labels" and "factors/<name>": one array `[rows]` each.
    """

    shape: tuple[int, ...]
    chunks: dict[str, Sequence[bytes | memoryview]]
    checksums: dict[str, bytes]
    columns: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EncodedBlock:
    """Consecutive rows whose images are JPEG files.

    `image_shape`: the shape of each image once decoded: (H, W) or (H, W, 3); `files`: one JPEG file an image, as
    `encode` makes them; `columns`: as of a `Block`.
    """

    image_shape: tuple[int, ...]
    files: list[bytes]
    columns: dict[str, NDArray[Any]]


def pack(rows: Split, compression: str) -> Block:
    """Compresses and checksums rows; pure, and mostly outside the interpreter lock.

    `rows`: a multiple of `chunk_rows(...)` images, or fewer at the end of a split; not to be changed afterwards;
    `compression`: one of `COMPRESSIONS`; lzf itself happens in `DatasetWriter.append`.
    """
    height, width, channels = (*rows.images.shape[1:], 1)[:3]
    step = chunk_rows(height, width, channels)
    arrays = {"images": rows.images} | ({} if rows.masks is None else {"masks": rows.masks})
    chunks: dict[str, Sequence[bytes | memoryview]] = {}
    checksums: dict[str, bytes] = {}
    for name, array in arrays.items():
        assert array.dtype == np.uint8
        parts = [np.ascontiguousarray(array[begin : begin + step]) for begin in range(0, len(array), step)]
        checksums[name] = b"".join(zlib.crc32(part.data).to_bytes(4, "little") for part in parts)
        chunks[name] = [_store(part, step, compression) for part in parts]
    return Block(rows.images.shape, chunks, checksums, as_columns(rows.labels, rows.factors))


def as_columns(labels: NDArray[Any] | None, factors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Labels, int64 `[N]` or uint8 `[N, K]`, and factors, as a block's columns."""
    columns: dict[str, NDArray[Any]] = {}
    if labels is not None:
        columns["labels"] = np.ascontiguousarray(labels, "<i8" if labels.ndim == 1 else "u1")
    for name, values in factors.items():
        columns[f"factors/{name}"] = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    return columns


def _store(part: NDArray[np.uint8], step: int, compression: str) -> bytes | memoryview:
    """A chunk's bytes as stored, not copied where that can be; the last one of a split is filled up with zeros."""
    missing = bytes((step - len(part)) * part[0].size)
    if compression != "gzip":
        return part.tobytes() + missing if missing else part.data.cast("B")
    deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, GZIP_MEMORY, zlib.Z_RLE)
    stored: bytes = deflate.compress(part.data)
    if missing:  # a call more gives the interpreter away once more, and the renderer takes it
        stored += deflate.compress(missing)
    return stored + deflate.flush()


@dataclass
class _Open:
    group: h5py.Group
    n: int  # announced
    done: int = 0
    encoded: EncodedSink | None = None
    hashes: dict[str, Any] = field(default_factory=dict)  # under each dataset's path the running SHA-256
    waiting: list[dict[str, NDArray[Any]]] = field(default_factory=list)  # columns not yet in the file


class DatasetWriter:
    """Writes a dataset file, block by block: `with DatasetWriter(...) as writer: begin, append, ...; begin, ...`.

    Leaving the `with` block completes the file and renames it; leaving it by an exception removes the temporary.
    """

    def __init__(self, path: Path, *, header: Header, compression: str, overwrite: bool) -> None:
        """Checks what can be checked before any work is done.

        A ValueError if the compression is unknown; an OSError if the file exists, or cannot be written. `path`: the
        file; missing folders are made; `compression`: "gzip", "lzf" or "none".
        """
        check_target(path, compression=compression, overwrite=overwrite)
        self.path = path
        self.header = header
        self.compression = compression
        self.partial = path.with_name(f".{path.name}.partial")
        self.keep_partial = False  # when it is abandoned
        self._splits: dict[str, _Open] = {}
        with _translated(path):
            if path.parent.exists() and not path.parent.is_dir():  # mkdir would say "File exists"
                raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is a file, not a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._target = Target(self.partial)
            self._file = h5py.File(self._target, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                with _translated(self.path):
                    self._complete()
                    self._file.close()
                    self._target.sync()
                    os.replace(self.partial, self.path)
                    self._target.close()
                    sync_folder(self.path.parent)
            except BaseException:
                self._abandon()
                raise
        else:
            self._abandon()

    def begin(self, split: str, n: int) -> None:
        """Starts a split of at most n rows; the blocks that follow belong to it; a ValueError if n is not positive."""
        assert split in set(SPLITS) - set(self._splits)
        if n < 1:
            raise ValueError(f"expected at least one image in split {split}, found {n}")
        self._splits[split] = _Open(self._file.create_group(split), n)

    def append(self, block: Block | EncodedBlock) -> int | None:
        """Writes the next rows of the current split; all blocks of a split are of one kind.

        Returns where in `partial` the first chunk of images lies as it was packed, in bytes from its start; None if
        nowhere. An OSError if they cannot be written, for example on a full disk.
        """
        split = list(self._splits.values())[-1]
        rows = block.shape[0] if isinstance(block, Block) else len(block.files)
        assert split.done + rows <= split.n
        with _translated(self.path):
            if not split.done:
                self._create(split, block)
            place = None
            if isinstance(block, Block):
                place = self._append_images(split, block)
            else:
                assert split.encoded is not None
                assert split.encoded.shape == block.image_shape
                split.encoded.append(block.files)
            split.done += rows
            split.waiting.append(block.columns)
            if split.done // COLUMN_ROWS > (split.done - rows) // COLUMN_ROWS:
                self._write_columns(split)
            self._target.check()
            return place

    def _append_images(self, split: _Open, block: Block) -> int | None:
        images = open_array(split.group, "images")
        assert split.done % images.chunks[0] == 0
        for name, chunks in block.chunks.items():
            self._write_chunks(open_array(split.group, name), split.done, chunks)
            split.hashes[name].update(block.checksums[name])
        if self.compression == "lzf":
            return None
        place: int = images.id.get_chunk_info_by_coord((split.done,) + (0,) * (images.ndim - 1)).byte_offset
        return place

    def _create(self, split: _Open, block: Block | EncodedBlock) -> None:
        """Makes the datasets, now that the first block shows their types."""
        if isinstance(block, Block):
            self._create_images(split, block)
        else:
            split.encoded = EncodedSink(split.group, block.image_shape)
        for name, values in block.columns.items():
            most = min(split.n, COLUMN_ROWS, max(1, CHUNK_BYTES // values[:1].nbytes))  # many classes, long names
            shape, chunks = ((n, *values.shape[1:]) for n in (split.n, most))
            split.group.create_dataset(name, shape=shape, dtype=values.dtype, chunks=chunks, track_times=False)
            split.hashes[name] = hashlib.sha256()

    def _create_images(self, split: _Open, block: Block) -> None:
        height, width, channels = (*block.shape[1:], 1)[:3]
        step = chunk_rows(height, width, channels)
        filters: dict[str, dict[str, Any]] = {
            "gzip": {"compression": "gzip", "compression_opts": GZIP_LEVEL},
            "lzf": {"compression": "lzf"},
        }
        for name in block.chunks:
            shape = block.shape[1:] if name == "images" else (height, width)
            split.group.create_dataset(
                name,
                shape=(max(split.n, step), *shape),  # cut at the end; h5py wants no chunk larger than the data
                dtype="u1",
                chunks=(step, *shape),
                track_times=False,
                **filters.get(self.compression, {}),
            )
            split.hashes[name] = hashlib.sha256()

    def _write_chunks(self, data: h5py.Dataset, start: int, chunks: Sequence[bytes | memoryview]) -> None:
        step = data.chunks[0]
        for begin, chunk in zip(range(start, start + len(chunks) * step, step), chunks, strict=True):
            if self.compression == "lzf":  # only HDF5 itself has this filter
                values = np.frombuffer(chunk, np.uint8).reshape(data.chunks)
                data[begin : begin + step] = values[: data.shape[0] - begin]
            else:
                data.id.write_direct_chunk((begin,) + (0,) * (data.ndim - 1), chunk)

    def _write_columns(self, split: _Open) -> None:
        """Writes the waiting columns: one call for many blocks, because a call costs as much as ten images."""
        for name in split.waiting[0] if split.waiting else ():
            values = np.concatenate([columns[name] for columns in split.waiting])
            open_array(split.group, name)[split.done - len(values) : split.done] = values
            split.hashes[name].update(values.data)
        split.waiting.clear()

    def _complete(self) -> None:
        """Cuts each split to the rows that came, hashes, and writes the attributes."""
        assert self._splits
        head = self.header
        content = start_hash(head.classes, head.mask_names)
        for split in (name for name in SPLITS if name in self._splits):
            written = self._splits[split]
            if not written.done:
                raise ValueError(f"expected at least one image in split {split}, found none")
            self._write_columns(written)
            for name in sorted(written.hashes, key=hash_order):
                if (data := open_array(written.group, name)).shape[0] != written.done:
                    data.resize(written.done, axis=0)
            if written.encoded is not None:
                written.hashes |= written.encoded.finish()
            for name in sorted(written.hashes, key=hash_order):
                data = open_array(written.group, name)
                content.update(describe_array(f"{split}/{name}", data.dtype.str, data.shape))
                content.update(written.hashes[name].digest())
        texts: dict[str, Any] = {"classes": list(head.classes), "mask_names": list(head.mask_names)}
        texts |= {"parameters": dict(head.parameters), "factors": [dict(factor) for factor in head.factors]}
        texts |= {CERTIFICATE: dict(head.certificate)} if head.certificate else {}
        attributes: dict[str, Any] = {
            "schema": SCHEMA,
            "generator": head.generator,
            "seed": np.int64(head.seed),
            "version": __version__,
            "content_hash": content.hexdigest(),
        }
        attributes |= {name: json.dumps(value, ensure_ascii=False, allow_nan=False) for name, value in texts.items()}
        self._file.attrs.update(attributes)
        write_seal(self._file, {split: held.encoded.sums for split, held in self._splits.items() if held.encoded})

    def _abandon(self) -> None:
        """Closes the temporary, and removes it unless it is to be kept."""
        try:
            self._file.close()
        finally:
            if not self.keep_partial:
                self.partial.unlink(missing_ok=True)
            self._target.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The system's errors as one line that says what could not be written, and what to do about a full disk."""
    with told_if_full(path):
        try:
            yield
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise OSError(f"cannot write {path}: {reason}") from error
