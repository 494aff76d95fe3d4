"""Cosines of embeddings with a bank of others, a block of queries at a time: no table of all by all.

A bank of 268,000 x 2048 in float32 is 2.2 GB; on a CPU it is used as it lies, a memory map too, and not copied.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CELLS = 2**25  # ours, cosines at a time: 128 MiB in float32; of 268,000 embeddings 125 queries
QUERIES = 256  # ours, at most: more made the matrix product no faster on a CPU

Floats = NDArray[np.floating]


class Bank:
    """Embeddings that are searched.

    Args:
        x: `[N, D]`; float32 in C order is not copied on a CPU.
        device: Where to compute; anywhere but on a CPU the bank must fit there.
    """

    def __init__(self, x: Floats, device: str) -> None:
        self.rows = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(device)
        self.scale = 1 / _length(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def cosines(self, queries: Tensor) -> Tensor:
        """Cosines float32 `[Q, N]` with rows `[Q, D]` of any length; those with a row of zeros are 0."""
        return (queries / _length(queries)[:, None] @ self.rows.T).mul_(self.scale)

    def blocks(self, queries: int, cells: int) -> Iterator[slice]:
        """Blocks of so many queries whose table of cosines has at most so many cells, or one row."""
        step = max(1, min(QUERIES, cells // len(self)))
        return (slice(start, min(start + step, queries)) for start in range(0, queries, step))


def nearest(
    bank: Floats, queries: Floats, *, k: int, device: str, among: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows of a bank with the highest cosines, the highest first.

    Which of equal cosines are taken at the k-th place is left to the library; the same each time.

    Args:
        bank: `[N, D]`.
        queries: `[M, D]`.
        k: At least 1, and no more than there are rows.
        among: bool `[N]`, the rows that may be found; None is all. (A copy of a part of the bank would cost memory.)

    Returns:
        Cosines float32 `[M, k]`, rows int64 `[M, k]`.
    """
    rows_left = len(bank) if among is None else int(among.sum())
    assert 1 <= k <= rows_left, (k, rows_left)
    hidden = None if among is None else torch.from_numpy(~among).to(device)
    found, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    searched = Bank(bank, device)
    for block in searched.blocks(len(queries), CELLS):
        asked = torch.from_numpy(np.ascontiguousarray(queries[block], dtype=np.float32)).to(device)
        cosines = searched.cosines(asked)
        if hidden is not None:
            cosines[:, hidden] = -torch.inf
        best = cosines.topk(k, dim=1)
        found[block], rows[block] = best.values.cpu().numpy(), best.indices.cpu().numpy()
    return found, rows


def _length(rows: Tensor) -> Tensor:
    """The length of each row, `[n]`; 1 where it is zero, so that dividing by it leaves zeros."""
    length = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(length > 0, length, 1.0)
