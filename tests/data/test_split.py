"""Splits averaged down on the way to the device: sizes that the encoder can halve, and plain means.

Alone: pytest tests/data/test_split.py
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probekit.data.split import check_depth, check_divisible, open_split, shrink, shrunk
from probekit.h5 import Split, read_split
from tests.datasets import small_shapes

CPU = torch.device("cpu")
SIDES = st.integers(1, 128).map(lambda n: 8 * n)


@given(SIDES, SIDES, st.integers(8, 1100))
def test_sides_divisible_by_8_stay_so_and_fit(height: int, width: int, most: int) -> None:
    size = shrunk(torch.empty(0, 1, height, width), most)
    check_divisible(size, 8)
    assert min(size) >= 8
    assert max(size) <= most
    if max(height, width) <= most:
        assert size == (height, width)
    else:
        # Within half a step of the same aspect; a side is never below one step.
        scale = most // 8 * 8 / max(height, width)
        assert max(abs(size[0] - max(8, height * scale)), abs(size[1] - max(8, width * scale))) <= 4


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [((128, 128), 64, (64, 64)), ((240, 128), 128, (128, 72)), ((128, 104), 64, (64, 48)), ((50, 60), 64, (50, 60))],
)
def test_known_sizes(size: tuple[int, int], most: int, expected: tuple[int, int]) -> None:
    assert shrunk(torch.empty(0, 1, *size), most) == expected


@pytest.mark.parametrize(
    ("depth", "size", "says"),
    [
        (12, (32, 32), "at most 6 for images of 32x32, found 12; type: --set model.depth=6"),
        (7, (64, 40), "at most 6 for images of 64x40, found 7; type: --set model.depth=4"),
        (10**8, (32, 32), "found 100000000"),
    ],
)
def test_a_u_net_that_is_too_deep_is_refused(depth: int, size: tuple[int, int], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        check_depth(depth, size)


def test_what_it_says_to_type_fits() -> None:
    for side in range(8, 200, 8):
        with pytest.raises(ValueError, match=r"model\.depth=") as refused:
            check_depth(99, (side, side))
        depth = int(str(refused.value).rpartition("=")[2])
        check_depth(depth, (side, side))
        check_divisible((side, side), 2 ** (depth - 1))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 6).map(lambda n: 2**n))
def test_the_size_that_it_says_to_type_is_one_that_gen_makes(height: int, width: int, stride: int) -> None:
    if height % stride or width % stride:
        with pytest.raises(ValueError, match="divisible") as refused:
            check_divisible((height, width), stride)
        size = int(str(refused.value).rpartition(" ")[2])
        check_divisible((size, size), stride)
        assert 16 <= size <= max(16, stride, min(height, width))


def test_the_first_images_are_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    small_shapes(path, n=6, n_test=2)
    whole, read = open_split(path, "train", CPU, max_size=32).images[:], []

    def recorded(*arguments: Any, **options: Any) -> Split:
        rows = read_split(*arguments, **options)
        read.append(len(rows.images))
        return rows

    monkeypatch.setattr("probekit.data.split.read_split", recorded)
    assert torch.equal(open_split(path, "train", CPU, max_size=32, first=4).images[:], whole[:4])
    assert len(open_split(path, "test", CPU, max_size=32, first=4)) == 2
    assert read == [0, 4, 0, 2]  # labels first
    monkeypatch.setattr("probekit.data.split.CHUNK_BYTES", 0)
    monkeypatch.setattr("probekit.data.split.CHUNK_ROWS", 4)
    read.clear()
    assert torch.equal(open_split(path, "train", CPU, max_size=32).images[:], whole)
    assert read == [0, 4, 2]  # never all at once


def test_shrinking_is_a_mean_of_blocks() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blocks = images.double().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert (shrink(images, 16).double() - blocks).abs().max() <= 0.5
    assert shrink(images, 32) is images
