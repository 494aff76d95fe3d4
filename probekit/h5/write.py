"""The streaming writer: blocks are packed (compressed and hashed) in any thread, and appended in order by one.

The file grows under a temporary name beside its place and is renamed when it is complete, so that a killed process
leaves no half file; a stale temporary is replaced by the next run. No timestamps: equal contents, equal bytes.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from probekit import __version__
from probekit.files import sync_folder, told_if_full
from probekit.h5.blocks import GZIP_LEVEL, Block, EncodedBlock, stored
from probekit.h5.checksums import CERTIFICATE, FILES, SHARD, open_array, write_seal
from probekit.h5.contents import Contents, arrays_of, as_text, content_hash, digest_of, shifted
from probekit.h5.encoded import EncodedSink
from probekit.h5.objects import ObjectRows, ObjectsSink
from probekit.h5.schema import (
    CHUNK_BYTES,
    CHUNK_IMAGES,
    COLUMN_ROWS,
    SCHEMA,
    SPLITS,
    Header,
    Shard,
    chunk_rows,
    mask_type,
)
from probekit.h5.target import Target, check_target
from probekit.visible import one_line


@dataclass
class _Open:
    group: h5py.Group
    n: int  # announced
    done: int = 0
    encoded: EncodedSink | None = None
    objects: ObjectsSink | None = None
    masks: NDArray[Any] | None = None  # those beside files that do not fill a chunk yet
    digest: int = 0  # of the rows so far
    waiting: list[dict[str, NDArray[Any]]] = field(default_factory=list)  # columns not yet in the file
    rows_waiting: int = 0


class DatasetWriter:
    """Writes a dataset file, block by block: `with DatasetWriter(...) as writer: begin, append, ...; begin, ...`.

    Leaving the `with` block completes the file and renames it; leaving it by an exception removes the temporary. The
    bytes do not depend on how the rows are divided into blocks.
    """

    def __init__(
        self, path: Path, *, header: Header, compression: str, overwrite: bool, shard: Shard | None = None
    ) -> None:
        """Checks what can be checked before any work is done.

        A ValueError if the compression is unknown; an OSError if the file exists, or cannot be written. `path`: the
        file; missing folders are made; `compression`: "gzip", "lzf" or "none"; `shard`: which part it is of a dataset,
        or None for all of it.
        """
        check_target(path, compression=compression, overwrite=overwrite)
        self.path = path
        self.header = header
        self.compression = compression
        self.shard = shard
        self.partial = path.with_name(f".{path.name}.partial")
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

    def append(self, block: Block | EncodedBlock) -> None:
        """Writes the next rows of the current split; all blocks of a split are of one kind.

        An OSError if they cannot be written, for example on a full disk.
        """
        split = list(self._splits.values())[-1]
        rows = block.shape[0] if isinstance(block, Block) else len(block.files)
        assert split.done + rows <= split.n
        with _translated(self.path):
            if isinstance(block, Block):
                self._append_images(split, block)
            else:
                self._append_files(split, block)
            self._target.check()

    def _append_images(self, split: _Open, block: Block) -> None:
        if not split.done:
            for name in block.chunks:
                shape = block.shape[1:] if name == "images" else block.shape[1:3]
                self._create_rows(split, name, shape, block.shape[1:])
        split.digest = shifted(split.digest, block.shape[0], block.digest)
        arrays = {name: open_array(split.group, name) for name in block.chunks}
        step = arrays["images"].chunks[0]
        assert split.done % step == 0
        for begin in range(0, block.shape[0], step):
            for name, chunks in block.chunks.items():
                self._write_chunk(arrays[name], split.done, chunks[begin // step])
            rows = slice(begin, min(begin + step, block.shape[0]))
            self._note(split, {name: values[rows] for name, values in block.columns.items()}, rows)
            self._append_objects(split, block.objects, rows)

    def _append_files(self, split: _Open, block: EncodedBlock) -> None:
        if split.encoded is None:
            split.encoded = EncodedSink(split.group, block.image_shape, block.crop)
        assert (split.encoded.shape, split.encoded.crop) == (block.image_shape, block.crop)
        for begin in range(0, len(block.files), CHUNK_IMAGES):  # in turn, whatever the blocks: equal bytes
            rows = slice(begin, begin + CHUNK_IMAGES)
            split.encoded.append_images(block.files[rows], None if block.sizes is None else block.sizes[rows])
            self._append_objects(split, block.objects, rows)
        sums = split.encoded.sums[split.done :]
        objects = None if block.objects is None else block.objects.rows
        split.digest = shifted(split.digest, len(sums), digest_of(sums, block.masks, block.columns, objects))
        if block.masks is not None:
            self._append_masks(split, block)
        self._note(split, block.columns, slice(0, len(sums)))

    def _append_objects(self, split: _Open, objects: ObjectRows | None, rows: slice) -> None:
        if objects is None:
            return
        if split.objects is None:
            split.objects = ObjectsSink(split.group, masked=objects.masked)
        assert split.objects.masked == objects.masked
        split.objects.append(objects.rows[rows])

    def _append_masks(self, split: _Open, block: EncodedBlock) -> None:
        """Writes whole chunks of the masks beside files, and keeps the rest."""
        assert block.masks is not None
        if split.masks is None:
            self._create_rows(split, "masks", block.image_shape[:2], block.image_shape)
        waiting = block.masks if split.masks is None else np.concatenate([split.masks, block.masks])
        data = open_array(split.group, "masks")
        step, begin = data.chunks[0], split.done - (0 if split.masks is None else len(split.masks))
        whole = len(waiting) // step * step
        for start in range(0, whole, step):
            self._write_chunk(data, begin + start, stored(waiting[start : start + step], step, self.compression))
        split.masks = waiting[whole:]

    def _note(self, split: _Open, columns: dict[str, NDArray[Any]], rows: slice) -> None:
        """Counts rows of a block, whose columns are written when they fill a chunk."""
        split.done += rows.stop - rows.start
        split.rows_waiting += rows.stop - rows.start
        split.waiting.append(columns)
        if split.rows_waiting >= COLUMN_ROWS:
            self._write_columns(split, split.rows_waiting // COLUMN_ROWS * COLUMN_ROWS)

    def _create_rows(self, split: _Open, name: str, shape: tuple[int, ...], image: tuple[int, ...]) -> None:
        """Makes the dataset of images or masks of a shape, as many in a chunk as of images of theirs."""
        height, width, channels = (*image, 1)[:3]
        step = chunk_rows(height, width, channels)
        filters: dict[str, dict[str, Any]] = {
            "gzip": {"compression": "gzip", "compression_opts": GZIP_LEVEL},
            "lzf": {"compression": "lzf"},
        }
        split.group.create_dataset(
            name,
            shape=(max(split.n, step), *shape),  # cut at the end; h5py wants no chunk larger than the data
            maxshape=(None, *shape),
            dtype=mask_type(len(self.header.mask_names)) if name == "masks" else "u1",
            chunks=(step, *shape),
            track_times=False,
            **filters.get(self.compression, {}),
        )

    def _write_chunk(self, data: h5py.Dataset, begin: int, chunk: bytes | memoryview) -> None:
        if self.compression == "lzf":  # only HDF5 itself has this filter
            values = np.frombuffer(chunk, data.dtype).reshape(data.chunks)
            data[begin : begin + len(values)] = values[: data.shape[0] - begin]
        else:
            data.id.write_direct_chunk((begin,) + (0,) * (data.ndim - 1), chunk)

    def _write_columns(self, split: _Open, rows: int) -> None:
        """Writes so many rows of the waiting columns: one call for many, because a call costs as much as ten images."""
        begin, left = split.done - split.rows_waiting, {}
        for name in split.waiting[0] if split.waiting else ():
            values = np.concatenate([columns[name] for columns in split.waiting])
            if not begin:
                self._create_column(split, name, values[:rows])
            open_array(split.group, name)[begin : begin + rows] = values[:rows]
            left[name] = values[rows:]
        split.waiting, split.rows_waiting = [left], split.rows_waiting - rows

    def _create_column(self, split: _Open, name: str, values: NDArray[Any]) -> None:
        """Makes the dataset of a column, now that its first rows are here."""
        most = min(len(values), COLUMN_ROWS, max(1, CHUNK_BYTES // values[:1].nbytes))  # many classes, long names
        (shape, ends, chunks) = ((n, *values.shape[1:]) for n in (split.n, None, most))
        split.group.create_dataset(
            name, shape=shape, maxshape=ends, dtype=values.dtype, chunks=chunks, track_times=False
        )

    def _complete(self) -> None:
        """Cuts each split to the rows that came, and writes the attributes."""
        contents = {}
        for split in (name for name in SPLITS if name in self._splits):
            written = self._splits[split]
            if not written.done:
                raise ValueError(f"expected at least one image in split {split}, found none")
            if written.rows_waiting:
                self._write_columns(written, written.rows_waiting)
            for sink in filter(None, (written.encoded, written.objects)):
                sink.finish()
            if written.masks is not None and len(written.masks):
                data = open_array(written.group, "masks")
                rest = stored(written.masks, data.chunks[0], self.compression)
                self._write_chunk(data, written.done - len(written.masks), rest)
            arrays = arrays_of(written.group)
            for data in (open_array(written.group, name) for name in arrays if name not in FILES):
                if data.shape[0] != written.done:
                    data.resize(written.done, axis=0)
            contents[split] = Contents(written.done, arrays, as_text(written.digest))
        head = self.header
        texts: dict[str, Any] = {"classes": list(head.classes), "mask_names": list(head.mask_names)}
        texts |= {"parameters": dict(head.parameters), "factors": [dict(factor) for factor in head.factors]}
        texts |= {"digests": {name: held.rows for name, held in contents.items()}}
        texts |= {CERTIFICATE: dict(head.certificate)} if head.certificate else {}
        texts |= {SHARD: asdict(self.shard)} if self.shard else {}
        attributes: dict[str, Any] = {
            "schema": SCHEMA,
            "generator": head.generator,
            "seed": np.int64(head.seed),
            "version": __version__,
            "content_hash": content_hash(head.classes, head.mask_names, contents),
        }
        attributes |= {name: json.dumps(value, ensure_ascii=False, allow_nan=False) for name, value in texts.items()}
        self._file.attrs.update(attributes)
        sinks = (sink for held in self._splits.values() for sink in (held.encoded, held.objects) if sink is not None)
        write_seal(self._file, {sink.group.name.strip("/"): sink.sums for sink in sinks})

    def _abandon(self) -> None:
        """Closes the temporary, and removes it."""
        try:
            self._file.close()
        finally:
            self.partial.unlink(missing_ok=True)
            self._target.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The system's errors as one line that says what could not be written, and what to do about a full disk."""
    with told_if_full(path):
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise OSError(f"cannot write {path}: {getattr(error, 'strerror', None) or one_line(error)}") from error
