"""Images kept as files, one after the other: encode, decode, read, write.

JPEG files of one size are for sets that would not fit as pixels: the importer resizes first and encodes again, which
loses a little. Photographs keep their sizes (`probekit.h5.photographs`); read as images, they are what their test
transform makes of them.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from probekit.h5.checksums import check, checksum
from probekit.h5.photographs import FORMAT as PHOTOGRAPHS
from probekit.h5.photographs import CentreCrop, decode_photograph, decoded
from probekit.h5.target import name_writer

FORMAT = "jpeg"
QUALITY = 95  # own choice: OpenCV's default; benchmarks/importers.py has bytes and error
CHUNK = 1 << 20  # bytes in a chunk, about 40 images of 224 px: few reads cross into the next one
OPEN = 64  # files at a time: systems allow 256 and more
DECODED = 512  # images read and decoded at a time by `decode_rows`: bounds the encoded bytes in memory

Shape = tuple[int, ...]  # of one image once decoded: (H, W) or (H, W, 3)


def encode(image: NDArray[np.uint8], *, lossless: bool = False) -> bytes:
    """A JPEG file of uint8 `[H, W]` or RGB `[H, W, 3]`; lossy. Same bytes for the same pixels and OpenCV.

    `lossless`: a PNG file.
    """
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    how = (".png",) if lossless else (".jpg", (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    done, data = cv2.imencode(how[0], pixels, *how[1:])
    assert done
    return data.tobytes()


def decode(data: bytes, shape: Shape) -> NDArray[np.uint8]:
    """The image in an encoded file.

    `data`: what `Encoded.read` returns; `shape`: that it must have, (H, W) or (H, W, 3). Returns uint8 `[H, W]`,
    or RGB `[H, W, 3]`. A ValueError if it is no image of that shape.
    """
    flags = cv2.IMREAD_GRAYSCALE if len(shape) == 2 else cv2.IMREAD_COLOR
    image = decoded(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape != shape:
        found = "none" if image is None else list(image.shape)
        raise ValueError(f"expected an encoded image of shape {list(shape)}, found {found}")
    return image


def decode_rows(
    group: h5py.Group, rows: slice, shape: Shape, sums: NDArray[np.uint64], crop: CentreCrop | None
) -> NDArray[np.uint8]:
    """Decodes consecutive images of a group "encoded" in threads: uint8 `[n, *shape]`.

    `shape`: the shape of one image once decoded; `sums`: the checksum of every file of the split, `[N]`; `crop`: the
    test transform of photographs. A ValueError if offsets or images are damaged.
    """
    images = np.empty((rows.stop - rows.start, *shape), np.uint8)
    sizes = None if crop is None else group["sizes"][rows]

    def put(index: int, data: bytes) -> None:
        check(data, sums[rows.start + index], f"image {rows.start + index} of {group.name}")
        if crop is None or sizes is None:
            images[index] = decode(data, shape)
        else:
            images[index] = crop.of_image(decode_photograph(data, tuple(sizes[index].tolist()), (*shape, 1)[2]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start, files in read_files(group, rows):
            list(pool.map(put, range(start, start + len(files)), files))
    return images


def read_files(group: h5py.Group, rows: slice) -> Iterator[tuple[int, list[bytes]]]:
    """Consecutive files of a group "encoded", unchecked, some at a time: the first one's place in `rows`, and they.

    A ValueError if the offsets are damaged.
    """
    offsets = read_offsets(group, rows)
    for start in range(0, len(offsets) - 1, DECODED):
        ends = offsets[start : start + DECODED + 1]
        held: bytes = group["bytes"][ends[0] : ends[-1]].tobytes()
        ends = ends - ends[0]
        yield start, [held[begin:end] for begin, end in itertools.pairwise(ends)]


def read_offsets(group: h5py.Group, rows: slice) -> NDArray[np.int64]:
    """Where each of the rows begins, and where the last one ends, checked; int64 `[n + 1]`.

    A ValueError if they do not rise within the bytes there are.
    """
    offsets: NDArray[np.int64] = group["offsets"][rows.start : rows.stop + 1].astype(np.int64, copy=False)
    total = group["bytes"].shape[0]
    if offsets[0] < 0 or offsets[-1] > total or (np.diff(offsets) < 1).any():
        raise ValueError(f"expected offsets that rise, from 0 to {total}, in {group.name}/offsets, found others")
    return offsets


class Handles:
    """Files that are open for plain reading, the last ones used, from any thread."""

    def __init__(self, most: int = OPEN) -> None:
        """`most`: files that are open at a time."""
        self._opened = lru_cache(most)(_Handle)

    def read(self, path: Path, size: int, place: int) -> bytes:
        """Bytes of a file, fewer at its end; an OSError if it cannot be read."""
        handle = self._opened(path)  # which stays open while it is in use
        return os.pread(handle.number, size, place)

    def close(self) -> None:
        """Closes all."""
        self._opened.cache_clear()


class _Handle:
    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class EncodedImages:
    """Encoded images of a split of one file, read in any order from any number of threads.

    Chunks lie in the file as they are, uncompressed, so that reading is a plain read at a known place: neither h5py nor
    its lock takes part. Holds 16 bytes an image. `shape`: the shape of all images once decoded: (N, H, W) or (N, H, W,
    3). `sizes`: of photographs, int32 [N, 2], height and width of each; None of images of one size.
    """

    def __init__(self, path: Path, group: h5py.Group, shape: Shape, sums: NDArray[np.uint64], handles: Handles) -> None:
        """Reads where everything lies, refuses damaged offsets; `sums` has the checksum of every file, `[N]`."""
        data = group["bytes"]
        self.shape: Shape = (group["offsets"].shape[0] - 1, *shape)
        self._offsets = read_offsets(group, slice(0, self.shape[0]))
        self.sizes: NDArray[np.int32] | None = group["sizes"][:] if "sizes" in group else None
        self._chunk: int = data.chunks[0]
        self._places = np.zeros(-(-data.shape[0] // self._chunk), np.int64)

        def note(chunk: Any) -> None:
            self._places[chunk.chunk_offset[0] // self._chunk] = chunk.byte_offset

        data.id.chunk_iter(note)
        self._path, self._sums, self._handles = path, sums, handles

    def read(self, index: int) -> bytes:
        """The encoded file of an image, for `decode`.

        A ValueError if the file has become shorter, or the image is damaged; or another process writes to it, then.
        """
        try:
            return self._read(index)
        except ValueError as error:
            name_writer(self._path, error)
            raise

    def _read(self, index: int) -> bytes:
        begin, end = int(self._offsets[index]), int(self._offsets[index + 1])
        parts, at = [], begin
        while at < end:
            chunk, inside = divmod(at, self._chunk)
            size = min(end - at, self._chunk - inside)
            parts.append(self._handles.read(self._path, size, int(self._places[chunk]) + inside))
            at += size
        data = b"".join(parts)
        if len(data) != end - begin:
            raise ValueError(f"expected {end - begin} bytes of image {index} in {self._path}, found {len(data)}")
        check(data, self._sums[index], f"image {index} in {self._path}")
        return data


class FilesSink:
    """Writes files, one after the other, to a group: bytes and offsets; in constant memory but for 16 bytes a file."""

    def __init__(self, group: h5py.Group, chunk: int) -> None:
        """`chunk`: bytes in a chunk."""
        self.group, self._chunk = group, chunk
        self._data = group.create_dataset(
            "bytes", shape=(0,), maxshape=(None,), dtype="u1", chunks=(chunk,), track_times=False
        )
        self._waiting = bytearray()
        self._ends = [0]
        self.sums: list[int] = []  # the checksum of each file

    def append(self, files: Sequence[bytes]) -> None:
        """Writes the next files."""
        for data in files:
            self._waiting += data
            self.sums.append(checksum(data))
            self._ends.append(self._ends[-1] + len(data))
        while len(self._waiting) >= self._chunk:
            self._write(self._waiting[: self._chunk])
            del self._waiting[: self._chunk]

    def finish(self) -> None:
        """Writes what is left."""
        if self._waiting:
            self._write(self._waiting.ljust(self._chunk, b"\0"))
            self._waiting.clear()
            self._data.resize(self._ends[-1], axis=0)
        self.group.create_dataset("offsets", data=np.array(self._ends, "<i8"), track_times=False)

    def _write(self, chunk: bytearray) -> None:
        start = self._data.shape[0]
        self._data.resize(start + self._chunk, axis=0)
        self._data.id.write_direct_chunk((start,), bytes(chunk))


class EncodedSink(FilesSink):
    """Writes the group "encoded" of a split."""

    def __init__(self, split: h5py.Group, shape: Shape, crop: CentreCrop | None) -> None:
        """Makes the group; `shape` is that of one image once decoded, `crop` the test transform of photographs."""
        super().__init__(split.create_group("encoded"), CHUNK)
        self.shape, self.crop = shape, crop
        height, width, channels = (*shape, 1)[:3]
        for name, value in (("height", height), ("width", width), ("channels", channels)):
            self.group.attrs[name] = np.int64(value)
        self.group.attrs["format"] = PHOTOGRAPHS if crop else FORMAT
        if crop:
            self.group.attrs["resize"] = np.int64(crop.resize)
        self._sizes: list[NDArray[np.int32]] = []

    def append_images(self, files: Sequence[bytes], sizes: NDArray[np.int32] | None) -> None:
        """Writes the next files; `sizes`: of photographs, `[n, 2]`, height and width of each."""
        assert (sizes is None) == (self.crop is None)
        if sizes is not None:
            assert sizes.shape == (len(files), 2)
            self._sizes.append(sizes)
        self.append(files)

    def finish(self) -> None:
        """Writes what is left, and the sizes of photographs."""
        super().finish()
        if self._sizes:
            self.group.create_dataset("sizes", data=np.concatenate(self._sizes).astype("<i4"), track_times=False)
