"""The temporary file that HDF5 writes to, through Python: locked against a second writer, and deaf after an error.

HDF5 itself cannot forget data that it failed to write (on a full disk, say): it tries again when the process ends, and
crashes. So the first error is kept here, and what comes after it is swallowed.
"""

import errno
import io
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from probekit.h5.schema import SUFFIX, check_compression
from probekit.locks import lock

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


def check_target(path: Path, *, compression: str, overwrite: bool) -> None:
    """Refuses what a `DatasetWriter` would refuse before it touches anything; see there."""
    check_compression(compression)
    if path.is_dir() and path.suffix == SUFFIX:
        raise IsADirectoryError(f"expected a file name, found the folder of shards {path}; choose another --out")
    if path.is_dir():
        raise IsADirectoryError(
            f"expected a file name, found the folder {path}; type --out {quote(str(path / 'data.h5'))}"
        )
    if path.exists() and not path.is_file():  # a device, say: renaming would replace it
        raise OSError(f"expected a file or nothing at {path}, found something else; choose another --out")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; type --overwrite to replace it, or choose another --out")


def name_writer(path: Path, error: Exception) -> None:
    """After reading failed: whether another process is why, as far as locks tell: HDF5's writers take one.

    A ValueError if one has the file open for writing.
    """
    with path.open("rb") as file:
        if not lock(file.fileno(), shared=True):
            raise ValueError(f"cannot read {path}: another process has it open for writing; wait for it") from error


class Target(io.RawIOBase):
    """The file object of an h5py file opened for writing."""

    def __init__(self, path: Path) -> None:
        """Opens `path`, emptied; what a killed process left there is overwritten.

        An OSError if it cannot be opened, or another process is writing to it.
        """
        super().__init__()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        self._error: OSError | None = None
        # Not the same: it was renamed between opening and locking, and is somebody's finished file now.
        if not lock(handle) or not (path.exists() and os.path.samestat(os.fstat(handle), os.stat(path))):
            self._file.close()
            raise OSError(errno.EAGAIN, "another process is writing it")
        if os.fstat(handle).st_size:  # ext4 writes a file that was truncated to disk before it is closed
            self._file.truncate(0)

    def check(self) -> None:
        """Raises the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """Puts the file on the disk, or raises the first error."""
        self.check()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file and gives up the lock."""
        self._file.close()
        super().close()

    def write(self, data: "ReadableBuffer") -> int:
        """Writes all of `data`; remembers an error instead of raising it."""
        rest = memoryview(data)
        size = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cuts or extends the file; remembers an error instead of raising it."""
        try:
            if self._error is None:
                return self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size or 0

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Reads at the current position."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def readable(self) -> bool:
        """Yes, as it is for writing and seeking."""
        return True

    writable = seekable = readable
