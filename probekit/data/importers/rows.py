"""Rows of tables and arrays that are read from their beginning on: read once, and kept while threads may ask for them.

A table of parquet, an array in a compressed archive: none of them gives single rows. So runs of rows are read in order,
and the latest of them stay in memory; who goes back to the beginning reads from there again.
"""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import Broken, Columns, Label, readable
from probekit.data.importers.images import decode_bytes

ROWS = 64  # in a run: as many as a chunk of the dataset file holds
RUN_BYTES = 4 << 20  # but no more than fit, as far as the sizes of rows are known
KEPT_BYTES = (32 << 20) * max(2, os.cpu_count() or 1)  # own choice: of the latest runs, some for each thread
FEWEST = 4  # runs that are kept in any case
FAR = 16  # runs ahead that are read through: the threads ask for them in almost the order of the rows


@dataclass
class Runs:
    """Rows by their place in the source, in constant memory if they are asked for in order, by however many threads.

    `starts`: the first row of each run, and the end, rising; `read`: the runs from the given one on; `size`: the bytes
    of a run. What `read` raises, each row that needs it raises.
    """

    starts: Sequence[int]
    read: Callable[[int], Iterator[Any]]
    size: Callable[[Any], int]
    _kept: OrderedDict[int, Any] = field(default_factory=OrderedDict)
    _coming: Iterator[Any] = field(default_factory=lambda: iter(()))
    _next: int = -1
    _bytes: int = 0
    _lock: Any = field(default_factory=Lock)

    def row(self, index: int) -> Any:
        """A row, as the run that holds it has it."""
        number = bisect_right(self.starts, index) - 1
        with self._lock:
            if number not in self._kept:
                self._advance(number)
            return self._kept[number][index - self.starts[number]]

    def _advance(self, number: int) -> None:
        if self._next < 0 or not 0 <= number - self._next <= FAR:
            self._coming, self._next = self.read(number), number
        while self._next <= number:
            try:
                run = next(self._coming)
            except BaseException:
                self._next = -1  # whoever comes next begins anew
                raise
            if self._next in self._kept:  # it was read through on the way to another
                self._bytes -= self.size(self._kept.pop(self._next))
            self._kept[self._next] = run
            self._bytes += self.size(run)
            self._next += 1
            while self._bytes > KEPT_BYTES and len(self._kept) > FEWEST:
                self._bytes -= self.size(self._kept.popitem(last=False)[1])


def steps(n: int, row_bytes: int = 1) -> list[int]:
    """Where runs of `n` rows begin, and the end."""
    step = max(1, min(ROWS, RUN_BYTES // max(1, row_bytes)))
    return [*range(0, n, step), n]


@dataclass(frozen=True, slots=True)
class Cell:
    """The image in a row of a table or array; `index`: its place among all rows of the source."""

    key: str
    label: Label
    index: int
    runs: Runs
    of_file: str

    def stamp(self) -> str:
        """Changes when the file of the rows does."""
        return self.of_file

    def decode(self) -> NDArray[Any]:
        """Finite numbers `[H, W]` or BGR `[H, W, 3]`."""
        cell = self.runs.row(self.index)
        if isinstance(cell, np.ndarray):
            return of_array(cell)
        if isinstance(cell, bytes):
            return decode_bytes(cell)
        raise Broken("there is no image in its row") if cell is None else Broken(str(cell))

    def data(self) -> bytes | None:
        """The bytes of an image file in the row; None where it holds something else."""
        cell = self.runs.row(self.index)
        return cell if isinstance(cell, bytes) else None


def of_array(image: NDArray[Any]) -> NDArray[Any]:
    """An image of an array, `[H, W]`, `[H, W, 1 | 3]` RGB or `[1 | 3, H, W]`, as OpenCV has them; a Broken if not."""
    if image.dtype.kind == "b":
        image = image.astype(np.uint8) * 255
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise Broken("expected finite pixels, found nan or inf")
    if image.ndim == 2:
        return image
    if image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    return image[..., 0] if image.shape[2] == 1 else image[..., ::-1]


def is_of_images(shape: Sequence[int]) -> bool:
    """Whether an array of this shape holds images: `[N, H, W]`, `[N, H, W, 1 | 3]` or `[N, 1 | 3, H, W]`."""
    if 0 in shape or len(shape) not in (3, 4):
        return False
    return len(shape) == 3 or shape[3] in (1, 3) or shape[1] in (1, 3)


def group_of(
    name: str, values: Sequence[Hashable], place: Callable[[Any], int] = lambda item: int(item.index)
) -> Columns:
    """A column of what must not be divided as a factor; `values`: one for each row; `place`: an item's row.

    A ValueError if one is empty.
    """
    texts = [readable("" if value is None else str(value)).encode() for value in values]
    if not all(texts):
        raise ValueError(f"expected a group for every image in {name!r}, found an empty one in row {texts.index(b'')}")
    column = np.array(texts)
    key = factor_name(name)
    entry = {"name": key, "kind": "key", "law": "as the source has it", "about": "what must not be divided"}
    return Columns((entry,), lambda items: {key: column[[place(item) for item in items]]}, key)


def factor_name(name: str) -> str:
    """A column's name as the name of a factor: one without slashes."""
    return readable(name).replace("/", "_") or "group"
