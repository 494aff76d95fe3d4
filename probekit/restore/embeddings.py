"""Embeddings of a split, computed once for each encoder and kept in the run folder.

embeddings/SPLIT-KEY.npy, float32 `[N, D]`. KEY is a hash of all that an embedding depends on: the encoder's file (or
spec and seed of random weights), pooling, the size of the input, the dataset's content, the kind of device. Another
encoder never finds it. Behind the array, where NumPy does not read, stands the CRC-32 of all before it: what is damaged
is computed again.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.data.split import check_divisible, read_chunks, shrunk_size, to_device
from probekit.files import replaced, sha256
from probekit.h5 import DatasetInfo
from probekit.models.encoder import Encoder, check_takes
from probekit.models.extract import BATCH_SIZE, extract
from probekit.models.untrained import untrained_beside
from probekit.restore.pooled import open_encoder, random_encoder
from probekit.run import Run, encoder_file, split_checkpoint

CRC = 4  # bytes
READ = 2**24  # bytes of a file at a time
FORMAT = 1  # to be raised when an encoder's forward pass changes its numbers

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """An encoder on its device, and the size to which larger images are averaged down."""

    encoder: Encoder
    max_size: int


class Embedder:
    """The embeddings of one encoder.

    Args:
        run: Where they are kept.
        key: All that tells this encoder from others.
        make: Builds it, when it is needed.
        max_size: Images whose longer side has more pixels are averaged down to it.
        device: Where it computes.
    """

    def __init__(
        self, run: Run, key: Mapping[str, Any], make: Callable[[], Encoder], *, max_size: int, device: torch.device
    ) -> None:
        self.run, self.make, self.max_size, self.device = run, make, max_size, device
        self.key = {**key, "max_size": max_size, "device": device.type, "format": FORMAT}
        self.encoder: Encoder | None = None

    def __call__(self, info: DatasetInfo, split: str) -> Floats:
        """The embeddings `[N, D]` of a split, a memory map; computed only if they are not kept yet, or damaged."""
        path = self.path(info, split)
        if not _is_whole(path):
            _write(path, self._embed(info, split), info.splits[split].n)
        kept: Floats = np.load(path, mmap_mode="c")  # not "r": torch takes no array that cannot be written
        return kept

    def path(self, info: DatasetInfo, split: str) -> Path:
        """Where they are kept."""
        text = json.dumps({**self.key, "data": info.content_hash, "split": split}, sort_keys=True)
        return self.run.path / "embeddings" / f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"

    def network(self) -> Network:
        """The encoder itself, on the device."""
        if self.encoder is None:
            self.encoder = self.make().to(self.device)
        return Network(self.encoder, self.max_size)

    def _embed(self, info: DatasetInfo, split: str) -> Iterator[Floats]:
        encoder = self.network().encoder
        size = shrunk_size(info.first.height, info.first.width, self.max_size)
        if "depth" not in encoder.spec:
            check_takes(encoder, size)
        elif min(size) < encoder.stride:
            check_divisible(size, encoder.stride)
        for images in read_chunks(info, split):
            batch = to_device(images, self.device, max_size=self.max_size)
            yield extract(encoder, batch, batch_size=BATCH_SIZE)


def trained_embedder(run: Run, checkpoint: str, device: torch.device) -> tuple[Embedder, dict[str, Any]]:
    """The embedder of a run's encoder, with its header; the key is the hash of its file.

    Raises:
        ValueError: As `open_encoder`.
    """
    encoder, header = open_encoder(run, checkpoint)
    pooling = split_checkpoint(checkpoint)[1] or header["spec"]["pooling"]
    key = {"encoder": sha256(encoder_file(run.path, checkpoint)), "pooling": pooling}
    return Embedder(run, key, lambda: encoder, max_size=header["max_size"], device=device), header


def random_embedder(
    run: Run,
    header: Mapping[str, Any],
    checkpoint: str,
    seed: int,
    device: torch.device,
    *,
    beside: Network,
    size: tuple[int, int],
) -> tuple[int, Embedder] | None:
    """An embedder of that architecture and pooling with random weights, of this seed or the next: `untrained_beside`.

    Args:
        run: The run.
        header: Of its encoder.
        checkpoint: Which weights.
        seed: See `untrained_beside`.
        device: Where it computes.
        beside: The encoder, which it must differ from.
        size: (height, width) of the images.
    """

    def make(k: int) -> Encoder:
        return random_encoder(run, header, checkpoint, k)

    found = untrained_beside(beside.encoder, make, seed, size=size, device=device)
    if found is None:
        return None
    seed, network = found
    key = {
        "untrained": header["spec"],
        "seed": seed,
        "torch": torch.__version__,
    }  # another torch may draw other weights
    if pool := split_checkpoint(checkpoint)[1]:
        key |= {"pooling": pool, "branches": run.read()["config"].get("branches", {})}
    return seed, Embedder(run, key, lambda: network, max_size=header["max_size"], device=device)


def _write(path: Path, chunks: Iterator[Floats], n: int) -> None:
    """Writes rows as they come, whole or not at all."""
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
    """CRC-32 of the first `size` bytes of a file."""
    found = 0
    with path.open("rb") as file:
        for start in range(0, size, READ):
            found = zlib.crc32(file.read(min(READ, size - start)), found)
    return found.to_bytes(CRC, "little")
