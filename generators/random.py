"""Random numbers addressed by (seed, domain, index, column): Philox4x32-10 in NumPy.

A counter-based generator turns an address into numbers without any state, so sample i is the
same in every order, chunk and worker. Source: Salmon, Moraes, Dror, Shaw, "Parallel random
numbers: as easy as 1, 2, 3" (SC 2011); the published test vectors are in tests/generators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]  # 32-bit words, kept in 64 bits so that products do not overflow
Condition = Callable[[Floats, Ints], NDArray[np.bool_]]

LOW, HALF = (np.array(word, np.uint64) for word in (0xFFFFFFFF, 32))  # arrays: NumPy makes one of a scalar each time
MULTIPLIERS = tuple(np.array(word, np.uint64) for word in (0xD2511F53, 0xCD9E8D57))  # Salmon et al., table 2
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # Salmon et al., section 4: the Weyl increments
ROUNDS = 10
AT_ONCE = 8192  # tries: of fewer the calls cost more than the arithmetic, of more the numbers leave the cache
MAX_TRIES = 1 << 16  # the try is 16 bits of the counter; see Draws.words


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Encrypt counters to random words.

    Args:
        counter: `[4, ...]`, each word in [0, 2**32).
        key: two words in [0, 2**32).

    Returns:
        `[4, ...]`, four uniform 32-bit words for every counter.
    """
    c0, c1, c2, c3 = words = counter.copy()
    p0, p1 = np.empty_like(counter[:2])
    steps = np.arange(ROUNDS, dtype=np.uint64)[:, None] * np.array(KEY_STEPS, np.uint64)
    for k0, k1 in (np.array(key, np.uint64) + steps) & LOW:  # in place: new arrays cost more than the arithmetic
        np.multiply(c0, MULTIPLIERS[0], p0)
        np.multiply(c2, MULTIPLIERS[1], p1)
        np.right_shift(p1, HALF, c0)
        np.bitwise_xor(c0, c1, c0)
        np.bitwise_xor(c0, k0, c0)
        np.bitwise_and(p1, LOW, c1)
        np.right_shift(p0, HALF, c2)
        np.bitwise_xor(c2, c3, c2)
        np.bitwise_xor(c2, k1, c2)
        np.bitwise_and(p0, LOW, c3)
    return words


class Draws:
    """Uniform numbers for the samples `index` of one (seed, domain).

    Columns name what a number is for, as the laws of a generator assign them: column 0 of
    sample 5 never depends on which other samples or columns are asked for.

    Raises:
        ValueError: a seed outside [0, 2**64) or a negative index.
    """

    def __init__(self, seed: int, *, domain: str, index: Ints) -> None:
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"expected a seed from 0 to 2**64 - 1, found {seed}; type --seed 0")
        self.index = np.asarray(index, dtype=np.int64)
        if self.index.size and self.index.min() < 0:
            raise ValueError(f"expected sample indices from 0, found {self.index.min()}")
        self.seed = seed
        self.domain = domain
        self._name = int.from_bytes(hashlib.blake2b(domain.encode(), digest_size=4).digest())
        self._cache: dict[int, Words] = {}
        self._blocks: dict[int, tuple[Draws, Ints]] = {}

    def words(self, group: Ints | int, index: Ints, tries: Ints | int) -> Words:
        """Four 32-bit words `[4, n]` for each index `[n]` in column group 0..65535."""
        address = index.astype(np.uint64)
        counter = np.empty((4, len(index)), np.uint64)
        counter[0] = address & LOW
        counter[1] = address >> HALF
        counter[2] = (group << 16) + tries
        counter[3] = self._name
        return philox4x32(counter, (self.seed & 0xFFFFFFFF, self.seed >> 32))

    def word(self, column: int) -> Words:
        """One 32-bit word for each sample, `[n]`."""
        group, lane = divmod(column, 4)
        if group not in self._cache:  # two at once: of few numbers, the calls cost more than the arithmetic
            n, both = len(self.index), (group, group ^ 1)
            found = self.words(np.repeat(both, n), np.tile(self.index, 2), 0)
            self._cache |= zip(both, (found[:, :n], found[:, n:]), strict=True)
        words: Words = self._cache[group][lane]
        return words

    def uniform(self, column: int, low: Floats | float = 0.0, high: Floats | float = 1.0) -> Floats:
        """Real numbers `[n]`, uniform in (low, high)."""
        return low + (high - low) * to_unit(self.word(column))

    def integer(self, column: int, low: Ints | int, high: Ints | int) -> Ints:
        """Integers `[n]`, uniform from low to high, both included."""
        return low + np.floor(to_unit(self.word(column)) * (high - low + 1)).astype(np.int64)

    def blocks(self, length: int) -> tuple[Draws, Ints]:
        """The draws of the blocks of `length` successive samples, and which of the blocks each sample is in, `[n]`."""
        if length not in self._blocks:
            blocks, which = np.unique(self.index // length, return_inverse=True)
            self._blocks[length] = Draws(self.seed, domain=f"{self.domain}/block", index=blocks), which
        return self._blocks[length]

    def balanced(self, classes: int) -> Ints:
        """Labels `[n]` in 0..classes - 1: each block of `classes` samples holds every one once.

        So the classes are balanced to within one for the first n samples, whatever n is.
        """
        shared, which = self.blocks(classes)
        words = np.stack([shared.word(c) for c in range(classes)])
        order: Ints = np.argsort(words, axis=0, kind="stable")
        return order[self.index % classes, which]

    def first_valid(self, group: int, *conditions: Condition, at_first: int = 1) -> Floats:
        """Draw four uniforms for each sample again and again until they are valid.

        Args:
            group: the column group (four columns) that these draws use.
            conditions: each takes candidates `[4, m]` and the positions `[m]` of their samples among `index`, and says
                which are good, `[m]`. Valid is what is good to all: the next is asked about what the last let pass, so
                the first should cost little and refuse much.
            at_first: tries that most samples need; any number gives the same result, some in less time.

        Returns:
            `[4, n]`: for each sample the first valid candidate, so the law is the uniform one
            given validity, and does not depend on the other samples.
        """
        found = np.empty((4, len(self.index)))
        open_ = np.ones(len(self.index), np.bool_)
        pending = np.arange(len(self.index))
        first, count, tried = 0, at_first, 0
        while len(pending):
            assert first + count <= MAX_TRIES, "this law leaves no room for a valid sample"
            rows = np.tile(pending, count)
            tried += len(rows)
            u = to_unit(self.words(group, self.index[rows], np.repeat(np.arange(first, first + count), len(pending))))
            for condition in conditions:
                good = np.flatnonzero(condition(u, rows))
                u, rows = u.take(good, axis=1), rows[good]
            found[:, rows[::-1]] = u[:, ::-1]  # of several the last is kept, which is the earliest try
            open_[rows] = False
            pending = pending[open_[pending]]
            of_one = 2 * tried // max(len(self.index) - len(pending), 1) + 1  # twice as many as one good one took
            first, count = first + count, min(max(AT_ONCE // max(len(pending), 1), 1), of_one, 256)
        return found


def to_unit(words: Words) -> Floats:
    """Map 32-bit words to the open interval (0, 1)."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def halves(uniform: Floats) -> Floats:
    """Twice as many uniform numbers, of 16 bits each: the first of all `[k, ...]`, then the second, `[2 * k, ...]`."""
    both = np.empty((2, *uniform.shape))
    first, second = both
    np.multiply(uniform, 65536.0, out=second)
    np.floor(second, out=first)
    second -= first
    first *= 2.0**-16
    return both.reshape(2 * len(uniform), *uniform.shape[1:])
