"""Embeddings of a split, computed once for each encoder and kept in the run folder.

embeddings/SPLIT-KEY.npy, float32 `[N, D]`. KEY is a hash of all that an embedding depends on, so that another encoder
never finds it. Behind the array, where NumPy does not read, stands the CRC-32 of all before it: what is damaged is
computed again.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.files import replaced

CRC = 4  # bytes
READ = 2**24  # bytes of a file at a time

Floats = NDArray[np.float32]


def kept(run: Path, split: str, key: Mapping[str, Any], make: Callable[[], Iterator[Floats]], n: int) -> Floats:
    """The embeddings `[N, D]` of a split, a memory map; computed only if they are not kept yet, or damaged.

    `key`: JSON-able: all that they depend on; `make`: computes them, some rows at a time.
    """
    text = json.dumps(key, sort_keys=True)
    path = run / "embeddings" / f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"
    if not _is_whole(path):
        _write(path, make(), n)
    found: Floats = np.load(path, mmap_mode="c")  # not "r": torch takes no array that cannot be written
    return found


def _write(path: Path, chunks: Iterator[Floats], n: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with replaced(path) as temporary:
        out, start = None, 0
        for rows in chunks:
            if out is None:
                out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=(n, rows.shape[1]))
            out[start : start + len(rows)] = rows
            start += len(rows)
        assert out is not None
        assert start == n
        out.flush()
        checksum = _checksum(temporary, temporary.stat().st_size)
        with temporary.open("ab") as file:
            file.write(checksum)


def _is_whole(path: Path) -> bool:
    """Whether the file is as `_write` left it."""
    if not path.is_file() or (size := path.stat().st_size - CRC) < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        return file.read() == _checksum(path, size)


def _checksum(path: Path, size: int) -> bytes:
    found = 0
    with path.open("rb") as file:
        for start in range(0, size, READ):
            found = zlib.crc32(file.read(min(READ, size - start)), found)
    return found.to_bytes(CRC, "little")
