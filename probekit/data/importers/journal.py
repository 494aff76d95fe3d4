"""What an interrupted import had done, kept beside the dataset file: a journal, and the file that was being written.

HDF5 files do not survive a killed writer, but the chunks of pixels in them stay where they were written. So an import
that goes on sets the unfinished file aside, and begins a new one with its chunks. The journal's first line says what
every image becomes. Each record that follows has its length and CRC-32 in front, and names by a digest the images that
it came of, with sizes and times of their files: it is used only while the same images stand at the same place. Pixels
are named by their place in the unfinished file and a CRC-32; JPEG files and masks stand in the record itself. The first
record that is cut off, damaged or of other images ends it.
"""

import base64
import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from probekit.data.duplicates import LENGTH, Signs
from probekit.data.importers.base import Item, Skipped, Source
from probekit.h5 import Block, DatasetWriter, EncodedBlock, as_columns
from probekit.h5.target import check_free

FRAME = struct.Struct("<QI")  # bytes of the record that follows, its CRC-32


@dataclass(frozen=True)
class Done:
    """Consecutive items that were dealt with.

    `broken`: the ones that could not be read; `block`: the others, ready for the file; None if there are none; `signs`:
    theirs, if near-duplicates are looked for.
    """

    items: Sequence[Item]
    broken: list[Skipped]
    block: Block | EncodedBlock | None
    signs: Signs | None = None


class Unfinished:
    """The journal and the unfinished file of an interrupted import, set aside until all of it is used."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        """Sets aside what there is; what is there already was not yet used up.

        `identity`: what every image becomes; what was to become something else is dropped. An OSError if it cannot be
        moved, or another process is writing it.
        """
        check_free(partial_of(out))
        self._journal, self._data = _aside(journal_of(out)), _aside(partial_of(out))
        if not self._journal.exists() and journal_of(out).exists() and partial_of(out).exists():
            partial_of(out).replace(self._data)
            journal_of(out).replace(self._journal)
        self.dropped = self._journal.exists() and not _says(self._journal, identity)
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        if self._journal.exists() and self._data.exists() and not self.dropped:
            self._files = self._journal.open("rb"), self._data.open("rb")
            self._files[0].readline()
        else:
            self.remove()

    def next_done(self, split: str, items: Sequence[Item], source: Source) -> Done | None:
        """The next block, if it is of the first of these items; else none follows, and all is removed."""
        if self._files is None:
            return None
        head, body = _read(*self._files)
        part = items[: head.get("count", 0)]
        if not part or head["split"] != split or head["items"] != digest(part):
            self.remove()
            return None
        broken = [Skipped(part[index].key, reason) for index, reason in head["broken"]]
        gone = {index for index, _ in head["broken"]}
        kept = [item for index, item in enumerate(part) if index not in gone]
        return Done(part, broken, _to_block(head, body, source, kept), _to_signs(head))

    def remove(self) -> None:
        """Removes both files."""
        self.close()
        self._journal.unlink(missing_ok=True)
        self._data.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes both files."""
        for file in self._files or ():
            file.close()
        self._files = None


class Journal:
    """`with DatasetWriter(...) as writer, Journal(...) as journal:` for each split replay and add, then add.

    It stays after an interruption or a full disk, or if it is to be kept, if it holds a block; mistakes remove it.
    """

    def __init__(self, writer: DatasetWriter, unfinished: Unfinished, identity: dict[str, Any]) -> None:
        """Begins anew; copies what was unfinished as it is used. `identity`: what every image becomes, JSON values."""
        self.path = journal_of(writer.path)
        self._writer, self._unfinished = writer, unfinished
        self._file: BinaryIO = self.path.open("wb")
        self._file.write(_first_line(identity))
        self._blocks, self._kept = 0, False

    def replay(self, split: str, items: Sequence[Item], source: Source) -> Iterator[Done]:
        """The blocks of a split that an earlier import finished, from its first item on."""
        start = 0
        while start < len(items) and (done := self._unfinished.next_done(split, items[start:], source)) is not None:
            start += len(done.items)
            yield done

    def add(self, split: str, done: Done) -> None:
        """Writes a block to the dataset file, and notes it; an OSError if it cannot be written."""
        place = None if done.block is None else self._writer.append(done.block)
        names = {item.path: item.reason for item in done.broken}
        broken = [(index, names[item.key]) for index, item in enumerate(done.items) if item.key in names]
        head = {"split": split, "count": len(done.items), "items": digest(done.items), "broken": broken}
        if done.signs is not None:
            head["signs"] = base64.b64encode(done.signs.tobytes()).decode()
        pictures, parts = _from_block(done.block, place, self._writer.compression)
        record = [json.dumps(head | pictures).encode() + b"\n", *parts]
        checksum = 0
        for part in record:
            checksum = zlib.crc32(part, checksum)
        try:
            self._file.write(FRAME.pack(sum(map(len, record)), checksum))
            self._file.writelines(record)
            self._file.flush()
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}") from error
        self._blocks += done.block is not None

    def keep(self) -> None:
        """Stays after the mistake that follows: images are broken, and may be repaired or left out."""
        self._kept = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = isinstance(error, OSError) or (error is not None and not isinstance(error, Exception))
        try:
            self._file.close()
        finally:  # the disk may be too full for its first line
            self._leave(error, interrupted)

    def _leave(self, error: BaseException | None, interrupted: bool) -> None:
        # Without an error the file is yet to be completed, and the disk may be full by then.
        self._writer.keep_partial = self._blocks > 0 and (interrupted or self._kept or error is None)
        if not self._writer.keep_partial:
            self.path.unlink(missing_ok=True)
        if error is not None and not interrupted:
            self._unfinished.remove()
        self._unfinished.close()

    def finish(self) -> None:
        """Removes all: the dataset file is complete."""
        self.path.unlink(missing_ok=True)
        self._unfinished.remove()


def journal_of(out: Path) -> Path:
    """Where an import of a file notes what it has done."""
    return out.with_name(f".{out.name}.journal")


def partial_of(out: Path) -> Path:
    """Where a file is written until it is complete."""
    return out.with_name(f".{out.name}.partial")


def is_unfinished(out: Path, identity: dict[str, Any] | None = None) -> bool:
    """Whether an interrupted import (of images that become the same) left what it had done."""
    aside = _aside(journal_of(out))
    journal = aside if aside.exists() else journal_of(out)
    return journal.exists() and (identity is None or _says(journal, identity))


def digest(items: Sequence[Item]) -> str:
    """Which images these are, and that their files have not changed."""
    lines = "\n".join(f"{item.key}\t{item.label!r}\t{item.stamp()}" for item in items)
    return hashlib.sha256(lines.encode()).hexdigest()


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")


def _first_line(identity: dict[str, Any]) -> bytes:
    return json.dumps({"probekit": "unfinished import"} | identity, sort_keys=True).encode() + b"\n"


def _says(journal: Path, identity: dict[str, Any]) -> bool:
    with journal.open("rb") as file:
        return file.readline() == _first_line(identity)


def _read(journal: BinaryIO, data: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The next record, with its pixels or JPEG files; an empty head if there is none that is whole."""
    frame = journal.read(FRAME.size)
    size, checksum = FRAME.unpack(frame) if len(frame) == FRAME.size else (0, 0)
    if not 0 < size <= os.fstat(journal.fileno()).st_size:
        return {}, b""
    record = journal.read(size)
    if len(record) < size or zlib.crc32(record) != checksum:
        return {}, b""
    head, _, body = record.partition(b"\n")
    content: dict[str, Any] = json.loads(head)
    if "at" in content:
        data.seek(content["at"])
        pixels = data.read(content["stored"])
        if zlib.crc32(pixels) != content["crc"]:
            return {}, b""
        body = pixels + body
    return content, body


def _from_block(
    block: Block | EncodedBlock | None, place: int | None, compression: str
) -> tuple[dict[str, Any], Sequence[bytes | memoryview]]:
    if isinstance(block, EncodedBlock):
        return {"shape": block.image_shape, "sizes": list(map(len, block.files))}, block.files
    if block is None:
        return {}, []
    [chunk] = block.chunks["images"]
    checksum = block.checksums["images"]
    head: dict[str, Any] = {"shape": block.shape, "checksum": checksum.hex(), "stored": len(chunk)}
    masks = block.chunks.get("masks", [])
    if masks:
        head["masks"] = block.checksums["masks"].hex()
    if place is None:
        return head, [chunk, *masks]
    stored_as_is = compression == "none" and len(chunk) == math.prod(block.shape)  # the last one is filled up
    crc = int.from_bytes(checksum, "little") if stored_as_is else zlib.crc32(chunk)
    return head | {"at": place, "crc": crc}, masks


def _to_signs(head: dict[str, Any]) -> Signs | None:
    if "signs" not in head:
        return None
    return np.frombuffer(base64.b64decode(head["signs"]), np.uint8).reshape(-1, LENGTH)


def _to_block(head: dict[str, Any], body: bytes, source: Source, items: list[Item]) -> Block | EncodedBlock | None:
    columns = as_columns(*source.columns(items))
    if "checksum" in head:  # one chunk
        chunks: dict[str, Sequence[bytes | memoryview]] = {"images": [body[: head["stored"]]]}
        checksums = {"images": bytes.fromhex(head["checksum"])}
        if "masks" in head:
            chunks["masks"], checksums["masks"] = [body[head["stored"] :]], bytes.fromhex(head["masks"])
        return Block(tuple(head["shape"]), chunks, checksums, columns)
    if "sizes" in head:
        files, begin = [], 0
        for size in head["sizes"]:
            files.append(body[begin : begin + size])
            begin += size
        return EncodedBlock(tuple(head["shape"]), files, columns)
    return None
