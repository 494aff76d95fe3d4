"""Crops: the law of the boxes against TensorFlow's written out, the resize against float64 loops; the tools beneath.

Alone: pytest tests/views/test_crops.py
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from probekit.views.batched import Taps, apply_where, integers, resample, uniforms
from probekit.views.crops import random_boxes, resize_crops
from tests.chance import seeded

Array = NDArray[np.float64]


# --- The box law, against TensorFlow's written out for one box.


def one_box(aspect: float, u: float, height: int, width: int) -> tuple[int, int] | None:
    """Height and width that TF's GenerateRandomCrop makes, or None where the crop is rejected."""
    least, most = 0.08 * height * width, float(height * width)
    h, tallest = round(math.sqrt(least / aspect)), round(math.sqrt(most / aspect))
    while round(tallest * aspect) > width:
        tallest -= 1
    tallest = min(tallest, height)
    h = min(h, tallest)
    h += int(u * (tallest - h + 1))
    if h * round(h * aspect) < least:
        h += 1
    if h * round(h * aspect) > most:
        h -= 1
    w = round(h * aspect)
    accepted = 0.1 * height * width <= h * w <= most and w <= width and h <= height
    return (h, w) if accepted else None


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (48, 96), (16, 16)])
def test_box_law_is_tensorflows(height: int, width: int) -> None:
    boxes = random_boxes(20_000, height, width, seeded()).double()
    x0, y0, x1, y1 = boxes.unbind(1)
    w, h = x1 - x0, y1 - y0
    rng = np.random.default_rng(0)
    expected: list[tuple[int, ...]] = []
    while len(expected) < 20_000:
        aspect = rng.uniform(0.75, 4 / 3) * width / height
        size = one_box(aspect, rng.uniform(), height, width)
        if size is not None:
            x = rng.integers(max(1, width - size[1]))
            y = rng.integers(max(1, height - size[0]))
            expected.append((*size, int(x), int(y)))
    for ours, theirs in zip((h, w, x0, y0), np.array(expected, float).T, strict=True):
        spread = theirs.std() * math.sqrt(2 / 20_000)  # of the difference of two means
        assert abs(ours.mean().item() - theirs.mean()) < 5 * spread
        # The whole distribution: the two-sample Kolmogorov distance exceeds .02 with probability 1e-3.
        grid = np.arange(max(height, width) + 1)
        ours_below = np.searchsorted(np.sort(ours.numpy()), grid) / 20_000
        theirs_below = np.searchsorted(np.sort(theirs), grid) / 20_000
        assert np.abs(ours_below - theirs_below).max() < 0.02


@given(st.integers(16, 512), st.integers(16, 512), st.integers(0, 2**31))
@settings(max_examples=30)
def test_boxes_lie_inside_the_image_with_area_and_aspect_in_range(height: int, width: int, seed: int) -> None:
    x0, y0, x1, y1 = random_boxes(200, height, width, seeded(seed)).unbind(1)
    w, h = x1 - x0, y1 - y0
    assert ((x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)).all()
    assert (w * h >= 0.1 * height * width).all()
    # The width was rounded from height * aspect.
    low, high = 0.75 * width / height, 4 / 3 * width / height
    assert ((w + 0.501 >= low * h) & (w - 0.501 <= high * h)).all()


# --- The bicubic resize, against float64 loops.


def keys(d: float) -> float:
    d = abs(d)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def slow_resize(crop: Array, height: int, width: int) -> Array:
    """Keys' bicubic of [h, w], pixel centres at +0.5; samples outside do not count."""

    def mixing(source: int, size: int) -> Array:
        matrix = np.zeros((size, source))
        for i in range(size):
            centre = (i + 0.5) * source / size - 0.5
            for j in range(source):
                matrix[i, j] = keys(j - centre)
            matrix[i] /= matrix[i].sum()
        return matrix

    resized: Array = mixing(crop.shape[0], height) @ crop @ mixing(crop.shape[1], width).T
    return resized


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 64, 64), (3, 32, 32), (1, 16, 16), (3, 24, 40), (1, 128, 128), (1, 512, 512)]
)
@pytest.mark.parametrize("part", [1, 2])
def test_crops_are_a_float64_bicubic(channels: int, height: int, width: int, part: int) -> None:
    images = torch.rand(2, channels, height, width, generator=seeded(1))
    boxes = random_boxes(4, height, width, seeded(2))
    boxes[3] = torch.tensor([0, 0, width, height])
    flipped = torch.tensor([False, True, False, True])
    size = (height // part, width // part)
    crops = resize_crops(images, boxes, flipped, size)
    assert crops.shape == (4, channels, *size)
    assert crops.is_contiguous()
    for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        for c in range(channels):
            expected = slow_resize(images[n % 2, c, y0:y1, x0:x1].double().numpy(), *size)
            if flipped[n]:
                expected = expected[:, ::-1]
            assert np.abs(crops[n, c].numpy() - expected).max() < 1e-4


def test_the_whole_image_is_a_crop_that_changes_nothing() -> None:
    images = torch.rand(2, 1, 20, 30, generator=seeded())
    boxes = torch.tensor([[0, 0, 30, 20]] * 2)
    upright = torch.zeros(2, dtype=torch.bool)
    torch.testing.assert_close(resize_crops(images, boxes, upright, (20, 30)), images)


# --- The tools.


def test_integers_reach_both_ends_and_no_further() -> None:
    u = torch.tensor([0.0, 0.5, 1 - 2**-24])
    for span in (1, 3, 513, 2**22 - 1, 2**24):
        drawn = integers(u, span).tolist()
        assert drawn == [0, span // 2, span - 1]
    assert integers(u, torch.tensor([1, 4, 8])).tolist() == [0, 2, 7]


def test_numbers_drawn_at_once_are_those_drawn_one_after_another() -> None:
    shapes = [(4, 7), (3,), (2, 5, 11), (1, 1), (40, 40)]
    generator = seeded()
    apart = [torch.rand(shape, generator=generator) for shape in shapes]
    assert all(map(torch.equal, apart, uniforms(shapes, seeded())))


def test_apply_where_leaves_the_others_alone() -> None:
    x = torch.rand(5, 1, 4, 4, generator=seeded())
    before = x.clone()
    chosen = torch.tensor([True, False, False, True, False])
    by = torch.arange(5.0)
    out = apply_where(x, chosen, lambda v, k: v + k.view(-1, 1, 1, 1), by)
    assert out is x
    assert torch.equal(x[~chosen], before[~chosen])
    torch.testing.assert_close(x[chosen], before[chosen] + by[chosen].view(-1, 1, 1, 1))
    assert torch.equal(apply_where(x, torch.zeros(5, dtype=torch.bool), lambda v: v / 0), x)


def test_resample_is_two_matrix_products() -> None:
    images = torch.rand(2, 3, 7, 9, generator=seeded())
    rows, columns = torch.rand(4, 5, 7, generator=seeded(1)), torch.rand(4, 6, 9, generator=seeded(2))
    taps = [Taps(torch.arange(w.shape[2]).expand_as(w), w) for w in (rows, columns)]
    expected = rows[:, None] @ images.repeat(2, 1, 1, 1) @ columns[:, None].transpose(2, 3)
    torch.testing.assert_close(resample(images, *taps), expected)
