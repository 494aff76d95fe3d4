"""An array in an npz file, read row by row while it is unpacked: it need not fit in memory."""

import os
import threading
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import Broken
from probekit.data.importers.containers import read_head
from probekit.h5.schema import CHUNK_IMAGES
from probekit.visible import one_line

# Rows that are kept behind the latest: as many as threads may be apart (probekit/data/importers/stream.py).
BEHIND = 256 + 4 * CHUNK_IMAGES * (os.cpu_count() or 1)


class Streamed:
    """Rows `[N, ...]` of bytes, to be asked for nearly in order, from any thread; from the start again if need be."""

    def __init__(self, path: Path, member: str) -> None:
        """Reads the head alone; a ValueError if it is no array of bytes, or is shorter than it says."""
        self._path, self._member = path, member
        self._lock = threading.Lock()
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._file: IO[bytes] | None = None
        try:
            self._archive = zipfile.ZipFile(path)
            self._rewind()
            size = self._archive.getinfo(member).file_size
        except Exception as error:  # a damaged archive surfaces as whatever zipfile, zlib or NumPy felt first
            raise ValueError(f"cannot read {member} in {path}: {one_line(error)}") from error
        if size < len(self) * self._row:
            raise ValueError(f"expected {len(self):,} images in {member} of {path}, found fewer; is it complete?")

    def _rewind(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._archive.open(self._member)
        shape, by_column, kind = read_head(self._file)
        if kind != np.uint8 or by_column or len(shape) not in (3, 4) or 0 in shape:
            raise ValueError(f"expected bytes [N, H, W] or [N, H, W, 3], found {kind} {list(shape)}")
        self.shape = tuple(int(side) for side in shape)
        self._row = int(np.prod(self.shape[1:], dtype=object))
        self._next = 0
        self._kept.clear()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A row; a `Broken` if the file is damaged there."""
        with self._lock:
            try:
                if index < self._next and index not in self._kept:
                    self._rewind()
                while self._next <= index:
                    self._read()
            except Broken:
                raise
            except Exception as error:  # zlib.error is none of the others
                raise Broken(f"{self._path.name} is damaged: {one_line(error)}") from error
            return self._kept[index]

    def _read(self) -> None:
        assert self._file is not None
        data = self._file.read(self._row)
        if len(data) < self._row:
            raise Broken(f"{self._path.name} ends before it")
        if self._next == len(self) - 1:
            self._file.read(1)  # the checksum is compared at the end
        self._kept[self._next] = np.frombuffer(data, np.uint8).reshape(self.shape[1:])
        self._kept.pop(self._next - BEHIND, None)
        self._next += 1
