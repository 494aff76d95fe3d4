"""HDF5 and npz files as strangers make them: named arrays, whose rows are read in order and never unpickled."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from probekit.data.importers.rows import steps
from probekit.files import host_memory
from probekit.visible import one_line

CACHE = 64 << 20  # bytes of HDF5 chunks that are kept inflated


@dataclass(frozen=True)
class Array:
    """A named array; `dtype` is None for text of any length (HDF5); `wrong`: why it cannot be read, or nothing."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    runs: Callable[[int], Iterator[NDArray[Any]]]
    wrong: str = ""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * (self.dtype.itemsize if self.dtype else 1)

    @property
    def starts(self) -> list[int]:
        """Where the runs begin, and the end."""
        return steps(self.shape[0], self.row_bytes)

    def whole(self) -> NDArray[Any]:
        """All of it; text as bytes. A ValueError if it is no plain array, damaged, or larger than the memory."""
        if self.wrong:
            raise ValueError(self.wrong)
        if not self.shape:
            raise ValueError(f"expected values in {self.name!r}, found one alone")
        if self.shape[0] * self.row_bytes > host_memory() / 2:
            raise ValueError(f"expected labels that fit in memory in {self.name!r}, found {list(self.shape)}")
        runs = list(self.runs(0))
        return np.concatenate(runs) if runs else np.empty(self.shape, self.dtype)


def open_container(source: Path) -> Mapping[str, Array] | None:
    """The arrays of an HDF5 or npz file by name; None if it is neither.

    A ValueError if it is damaged.
    """
    if not source.is_file():
        return None
    if zipfile.is_zipfile(source):
        return _npz(source)
    try:
        is_hdf5 = h5py.is_hdf5(source)
    except OSError:
        return None
    if is_hdf5:
        return _hdf5(source)
    if source.suffix.lower() in (".h5", ".hdf5", ".h5py"):
        raise ValueError(f"expected an HDF5 file, found something else in {source}; is it complete?")
    return None


def _npz(source: Path) -> dict[str, Array]:
    arrays = {}
    try:
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        name = info.filename.removesuffix(".npy")
                        arrays[name] = _npy(source, info.filename, name, member)
    except Exception as error:  # a damaged archive surfaces as whatever zipfile, zlib or NumPy felt first
        raise ValueError(f"cannot read {source}: {one_line(error)}") from error
    return arrays


def read_head(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it lies column by column, and type of the array in an npy file, whose values come next."""
    read = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
    return read(member)


def _npy(source: Path, file: str, name: str, member: IO[bytes]) -> Array:
    shape, by_columns, dtype = read_head(member)
    wrong = ""
    if dtype.hasobject:
        wrong = f"expected numbers or text in {name!r} of {source}, found pickled objects, which are never loaded"
    elif by_columns and len(shape) > 1:
        wrong = f"expected {name!r} of {source} row by row, found it column by column; save np.ascontiguousarray of it"
    return Array(name, shape, dtype, partial(_npy_runs, source, file, shape, dtype), wrong)


def _npy_runs(
    source: Path, file: str, shape: tuple[int, ...], dtype: np.dtype[Any], first: int
) -> Iterator[NDArray[Any]]:
    row = int(np.prod(shape[1:], dtype=np.int64))
    starts = steps(shape[0], row * dtype.itemsize)
    try:
        with zipfile.ZipFile(source) as archive, archive.open(file) as member:
            read_head(member)
            _skip(member, starts[first] * row * dtype.itemsize)
            for begin, end in zip(starts[first:], starts[first + 1 :], strict=False):
                wanted = (end - begin) * row * dtype.itemsize
                data = member.read(wanted)
                if len(data) < wanted:
                    raise ValueError(f"it ends after {begin} of {shape[0]} rows")
                yield np.frombuffer(data, dtype).reshape(end - begin, *shape[1:])
    except Exception as error:
        raise ValueError(f"cannot read {file} in {source}: {one_line(error)}") from error


def _skip(member: IO[bytes], size: int) -> None:
    while size > 0 and (data := member.read(min(size, 1 << 22))):
        size -= len(data)


def _hdf5(source: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}

    def note(name: str, held: Any) -> None:
        if isinstance(held, h5py.Dataset):
            arrays[name] = _of_hdf5(source, name, held)

    try:
        with h5py.File(source, "r", locking=False) as file:
            file.visititems(note)  # which follows neither soft nor external links
    except Exception as error:  # h5py reports damage as whatever the library felt first
        raise ValueError(f"cannot read {source}: {one_line(error)}") from error
    return arrays


def _of_hdf5(source: Path, name: str, held: h5py.Dataset) -> Array:
    shape, kind = held.shape or (), held.dtype
    dtype = None if h5py.check_string_dtype(kind) is not None and kind.hasobject else kind
    wrong = ""
    if dtype is not None and (dtype.hasobject or dtype.kind == "V"):
        wrong = f"expected numbers or text in {name!r} of {source}, found {kind}"
    if held.is_virtual or held.external:
        wrong = f"expected {name!r} in {source} itself, found it spread over other files"
    return Array(name, shape, dtype, partial(_hdf5_runs, source, name, shape, dtype), wrong)


def _hdf5_runs(
    source: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any] | None, first: int
) -> Iterator[NDArray[Any]]:
    row = int(np.prod(shape[1:], dtype=np.int64)) * (dtype.itemsize if dtype else 1)
    starts = steps(shape[0], row)
    try:
        with h5py.File(source, "r", locking=False, rdcc_nbytes=CACHE) as file:
            for begin, end in zip(starts[first:], starts[first + 1 :], strict=False):
                rows = file[name][begin:end]
                yield rows.astype("S") if dtype is None else rows
    except Exception as error:
        raise ValueError(f"cannot read {name} in {source}: {one_line(error)}") from error
