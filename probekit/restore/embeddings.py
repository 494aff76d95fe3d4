"""Embeddings of a split, computed once for each encoder and kept in the run folder.

embeddings/SPLIT-KEY.npy, float32 `[N, D]`. KEY is a hash of all that an embedding depends on, so that another encoder
never finds it. Behind the array, where NumPy does not read, stands the CRC-32 of all before it: what is damaged is
computed again.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.files import replaced

CRC = 4  # bytes
READ = 2**24  # bytes of a file at a time

Floats = NDArray[np.float32]


def kept(
    run: Path,
    split: str,
    keys: Sequence[Mapping[str, Any]],
    make: Callable[[], Iterator[Sequence[Floats]]],
    n: int,
) -> list[Floats]:
    """Embeddings `[N, D]` of a split, memory maps, one for each key; all computed if one is not kept yet, or damaged.

    `keys`: JSON-able: all that each depends on; `make`: computes them, some rows of each at a time.
    """
    texts = [json.dumps(key, sort_keys=True) for key in keys]
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
    paths = [run / "embeddings" / f"{split}-{key}.npy" for key in hashes]
    if not all(map(_is_whole, paths)):
        _write(paths, make(), n)
    return [np.load(path, mmap_mode="c") for path in paths]  # not "r": torch takes no array that cannot be written


def _write(paths: Sequence[Path], chunks: Iterator[Sequence[Floats]], n: int) -> None:
    paths[0].parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        temporary = [stack.enter_context(replaced(path)) for path in paths]
        out: list[Any] = []
        start = 0
        for parts in chunks:
            if not out:
                shapes = [(n, rows.shape[1]) for rows in parts]
                out = [
                    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
                    for path, shape in zip(temporary, shapes, strict=True)
                ]
            for table, rows in zip(out, parts, strict=True):
                table[start : start + len(rows)] = rows
            start += len(parts[0])
        assert out
        assert start == n
        for path, table in zip(temporary, out, strict=True):
            table.flush()
            checksum = _checksum(path, path.stat().st_size)
            with path.open("ab") as file:
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
