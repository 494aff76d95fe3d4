"""What an interrupted import had done: finished blocks, appended to one file beside the dataset file.

HDF5 files do not survive a killed writer, so the blocks are kept beside it, and an interrupted import writes its file
anew from them. The first line says what every image becomes. Each record that follows has its length and CRC-32 in
front, and names by a digest the images that it came of, with sizes and times of their files: it is used only while
the same images stand at the same place. The first record that is cut off, damaged or of other images ends it.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from probekit.h5 import Block, EncodedBlock, as_columns
from probekit.importers.base import Item, Skipped, Source

FRAME = struct.Struct("<QI")  # bytes of the record that follows, its CRC-32


@dataclass(frozen=True)
class Done:
    """Consecutive items that were dealt with.

    Attributes:
        items: All of them.
        broken: The ones that could not be read.
        block: The others, ready for the file; None if there are none.
    """

    items: Sequence[Item]
    broken: list[Skipped]
    block: Block | EncodedBlock | None


class Journal:
    """`with Journal(...) as journal:` for each split replay, then add.

    It stays after an interruption, a full disk or a broken image, if it holds a block; other mistakes remove it.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Opens what there is, or begins anew if its images were to become something else.

        Args:
            path: The file.
            identity: What every image becomes, JSON values.

        Raises:
            OSError: If it cannot be written.
        """
        self.path = path
        self.replaced = path.exists() and not matches(path, identity)
        self._file: BinaryIO = path.open("r+b" if path.exists() and not self.replaced else "w+b")
        self._file.seek(0)
        if not self._file.readline():
            self._file.write(_first_line(identity))
        self._blocks = 0
        self._replaying, self._stopped = True, False

    def replay(self, split: str, items: Sequence[Item], source: Source) -> Iterator[Done]:
        """The blocks of a split that an earlier import finished, from its first item on."""
        start = 0
        while self._replaying and start < len(items):
            at = self._file.tell()
            head, body = self._read()
            part = items[start : start + head.get("count", 0)]
            if not part or head["split"] != split or head["items"] != digest(part):
                self._cut(at)
                return
            start += len(part)
            self._blocks += 1
            broken = [Skipped(part[index].key, reason) for index, reason in head["broken"]]
            gone = {index for index, _ in head["broken"]}
            kept = [item for index, item in enumerate(part) if index not in gone]
            yield Done(part, broken, _to_block(head, body, source, kept))

    def add(self, split: str, done: Done) -> None:
        """Appends a block, unless stopped.

        Raises:
            OSError: If it cannot be written.
        """
        if self._stopped:
            return
        if self._replaying:
            self._cut(self._file.tell())
        names = {item.path: item.reason for item in done.broken}
        broken = [(index, names[item.key]) for index, item in enumerate(done.items) if item.key in names]
        head = {"split": split, "count": len(done.items), "items": digest(done.items), "broken": broken}
        pictures, parts = _from_block(done.block)
        record = [json.dumps(head | pictures).encode() + b"\n", *parts]
        checksum = 0
        for part in record:
            checksum = zlib.crc32(part, checksum)
        try:
            self._file.write(FRAME.pack(sum(map(len, record)), checksum))
            self._file.writelines(record)
            self._file.flush()
            self._blocks += done.block is not None
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}") from error

    def stop(self) -> None:
        """Takes no more, and keeps what it has: an image is broken, and may be repaired."""
        self._stopped = True

    def _cut(self, at: int) -> None:
        """Drops the records from here on: new ones follow."""
        self._replaying = False
        self._file.seek(at)
        self._file.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._blocks or (isinstance(error, ValueError) and not self._stopped):
            self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, Any], bytes]:
        """The next record; an empty head if there is none that is whole."""
        frame = self._file.read(FRAME.size)
        if len(frame) < FRAME.size:
            return {}, b""
        size, checksum = FRAME.unpack(frame)
        if size > os.fstat(self._file.fileno()).st_size:
            return {}, b""
        record = self._file.read(size)
        if len(record) < size or zlib.crc32(record) != checksum:
            return {}, b""
        head, _, body = record.partition(b"\n")
        content: dict[str, Any] = json.loads(head)
        return content, body


def matches(path: Path, identity: dict[str, Any]) -> bool:
    """Whether there is a journal of images that become the same."""
    try:
        with path.open("rb") as file:
            return file.readline() == _first_line(identity)
    except FileNotFoundError:
        return False


def digest(items: Sequence[Item]) -> str:
    """Which images these are, and that their files have not changed."""
    lines = "\n".join(f"{item.key}\t{item.label!r}\t{item.stamp()}" for item in items)
    return hashlib.sha256(lines.encode()).hexdigest()


def _first_line(identity: dict[str, Any]) -> bytes:
    return json.dumps({"probekit": "unfinished import"} | identity, sort_keys=True).encode() + b"\n"


def _from_block(block: Block | EncodedBlock | None) -> tuple[dict[str, Any], Sequence[bytes | memoryview]]:
    if isinstance(block, Block):
        return {"shape": block.shape, "checksum": block.checksums["images"].hex()}, block.chunks["images"]
    if isinstance(block, EncodedBlock):
        return {"shape": block.image_shape, "sizes": list(map(len, block.files))}, block.files
    return {}, []


def _to_block(head: dict[str, Any], body: bytes, source: Source, items: list[Item]) -> Block | EncodedBlock | None:
    columns = as_columns(*source.columns(items))
    if "checksum" in head:  # one chunk
        return Block(tuple(head["shape"]), {"images": [body]}, {"images": bytes.fromhex(head["checksum"])}, columns)
    if "sizes" in head:
        files, begin = [], 0
        for size in head["sizes"]:
            files.append(body[begin : begin + size])
            begin += size
        return EncodedBlock(tuple(head["shape"]), files, columns)
    return None
