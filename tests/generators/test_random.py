"""The address of a random number decides it: published vectors, independence, uniformity.

Run alone: python -m pytest tests/generators/test_random.py
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.random import Draws, Floats, Ints, halves, philox4x32, to_unit

# Salmon et al., Random123 1.0, known answers of philox4x32-10: counter, key, output.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_block_holds_the_classes_in_the_order_of_its_words(classes: int) -> None:
    sample, at = draws(list(range(60))), np.arange(60)
    shared, which = sample.blocks(classes)
    order = np.argsort([shared.word(c)[which] for c in range(classes)], axis=0, kind="stable")
    np.testing.assert_array_equal(sample.balanced(classes), order[at % classes, at])


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_published_vectors(counter: str, key: str, output: str) -> None:
    counters = np.array(words(counter), np.uint64)[:, None]
    k0, k1 = words(key)
    assert philox4x32(counters, (k0, k1))[:, 0].tolist() == words(output)


def draws(index: list[int], *, seed: int = 1, domain: str = "d") -> Draws:
    return Draws(seed, domain=domain, index=np.array(index, np.int64))


@settings(max_examples=30)
@given(
    index=st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
    column=st.integers(0, 5000),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_number_does_not_depend_on_its_neighbours(index: list[int], column: int, seed: int) -> None:
    together = draws(index, seed=seed).uniform(column)
    alone = [float(draws([i], seed=seed).uniform(column)[0]) for i in index]
    assert together.tolist() == alone
    assert 0.0 < together.min() <= together.max() < 1.0


def test_every_part_of_the_address_counts() -> None:
    numbers = [
        draws([7]).uniform(0),
        draws([8]).uniform(0),
        draws([7 + 2**32]).uniform(0),
        draws([7]).uniform(1),
        draws([7]).uniform(4),
        draws([7], seed=2).uniform(0),
        draws([7], seed=1 + 2**32).uniform(0),
        draws([7], domain="e").uniform(0),
        draws([7]).blocks(1)[0].uniform(0),
    ]
    assert len({float(number[0]) for number in numbers}) == len(numbers)


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    u = np.stack([draws(list(range(20_000))).uniform(c) for c in range(6)])
    counts = np.stack([np.histogram(row, bins=20, range=(0, 1))[0] for row in u])
    chi2 = ((counts - 1000.0) ** 2 / 1000.0).sum(axis=1)  # 19 degrees of freedom
    assert chi2.max() < 50.0  # p = 1e-4
    off = np.corrcoef(u) - np.eye(6)
    assert abs(off).max() < 4.0 / np.sqrt(20_000)
    assert abs(np.corrcoef(u[0, :-1], u[0, 1:])[0, 1]) < 4.0 / np.sqrt(20_000)


def test_the_unit_interval_is_open_and_its_ends_are_alike() -> None:
    ends = to_unit(np.array([0, 2**32 - 1], np.uint64))
    assert ends.tolist() == [2.0**-33, 1 - 2.0**-33]


def test_halves_are_uniform_and_uncorrelated() -> None:
    u = halves(np.stack([draws(list(range(20_000))).uniform(c) for c in range(2)]))
    assert u.shape == (4, 20_000)
    assert 0.0 <= u.min() <= u.max() < 1.0
    counts = np.stack([np.histogram(row, bins=20, range=(0, 1))[0] for row in u])
    assert ((counts - 1000.0) ** 2 / 1000.0).sum(axis=1).max() < 50.0
    assert abs(np.corrcoef(u) - np.eye(4)).max() < 4.0 / np.sqrt(20_000)


def test_integers_reach_both_ends_equally_often() -> None:
    values = draws(list(range(9000))).integer(3, -1, 1)
    counts = np.bincount(values + 1)
    assert len(counts) == 3
    assert abs(counts - 3000).max() < 4.0 * np.sqrt(9000 * 2 / 9)


@settings(max_examples=20)
@given(n=st.integers(1, 60), classes=st.integers(2, 6), seed=st.integers(0, 2**32))
def test_any_prefix_is_balanced(n: int, classes: int, seed: int) -> None:
    labels = draws(list(range(n)), seed=seed).balanced(classes)
    counts = np.bincount(labels, minlength=classes)
    assert counts.max() - counts.min() <= 1


def test_block_orders_are_equally_frequent() -> None:
    labels = draws(list(range(6000 * 3))).balanced(3).reshape(-1, 3)
    _, counts = np.unique(labels, axis=0, return_counts=True)
    assert len(counts) == 6
    assert abs(counts - 1000).max() < 4.0 * np.sqrt(1000 * 5 / 6)


def test_first_valid_follows_the_law_given_validity() -> None:
    def in_corner(u: Floats, rows: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        return np.asarray(u[0] + u[1] < 0.5)

    many = draws(list(range(8000)))
    found = many.first_valid(2, in_corner)
    assert (found[0] + found[1] < 0.5).all()
    # In a right triangle the centroid is at a third of each leg; a leg's sd is leg / sqrt(18).
    assert abs(found[:2].mean(axis=1) - 0.5 / 3).max() < 4.0 * 0.5 / np.sqrt(18 * 8000)
    assert abs(found[2:].mean(axis=1) - 0.5).max() < 4.0 / np.sqrt(12 * 8000)
    alone = draws([5]).first_valid(2, in_corner)
    assert alone[:, 0].tolist() == found[:, 5].tolist()


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (2**64, 0), (0, -1)])
def test_addresses_out_of_range_are_refused(seed: int, index: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        draws([index], seed=seed)
