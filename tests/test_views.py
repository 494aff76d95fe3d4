"""Crops, flips, jitter and blur: their laws, and their pixels against plain loops and torchvision.

Alone: pytest tests/test_views.py
"""

import colorsys
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import functional as oracle

from probekit import jitter
from probekit.batched import Taps, apply_where_, integers, resample
from probekit.corrupt import CORRUPTIONS
from probekit.crops import random_boxes, resize_crops
from probekit.show_views import draw_views
from probekit.views import RECIPES, make_views

Array = NDArray[np.float64]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


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
            expected.append((*size, x, y))
    for ours, theirs in zip((h, w, x0, y0), np.array(expected, float).T, strict=True):
        spread = theirs.std() * math.sqrt(2 / 20_000)  # of the difference of two means
        assert abs(ours.mean().item() - theirs.mean()) < 5 * spread
        # The whole distribution: the two-sample Kolmogorov distance exceeds .02 with probability 1e-3.
        grid = np.arange(max(height, width) + 1)
        ours_below = np.searchsorted(np.sort(ours.numpy()), grid) / 20_000
        theirs_below = np.searchsorted(np.sort(theirs), grid) / 20_000
        assert np.abs(ours_below - theirs_below).max() < 0.02


@given(st.integers(16, 512), st.integers(16, 512), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
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
def test_crops_are_a_float64_bicubic(channels: int, height: int, width: int) -> None:
    images = torch.rand(2, channels, height, width, generator=seeded(1))
    boxes = random_boxes(4, height, width, seeded(2))
    boxes[3] = torch.tensor([0, 0, width, height])
    flipped = torch.tensor([False, True, False, True])
    crops = resize_crops(images, boxes, flipped)
    assert crops.shape == (4, channels, height, width)
    assert crops.is_contiguous()
    for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        for c in range(channels):
            expected = slow_resize(images[n % 2, c, y0:y1, x0:x1].double().numpy(), height, width)
            if flipped[n]:
                expected = expected[:, ::-1]
            assert np.abs(crops[n, c].numpy() - expected).max() < 1e-4


def test_the_whole_image_is_a_crop_that_changes_nothing() -> None:
    images = torch.rand(2, 1, 20, 30, generator=seeded())
    boxes = torch.tensor([[0, 0, 30, 20]] * 2)
    torch.testing.assert_close(resize_crops(images, boxes, torch.zeros(2, dtype=torch.bool)), images)


# --- Jitter, against a plain formula for each image, and torchvision where it means the same.


def test_gray_jitter_is_the_formula() -> None:
    x = torch.rand(8, 1, 20, 24, generator=seeded()) * 1.2 - 0.1  # with overshoot, as after the crop
    contrast, brightness = torch.rand(2, 8, generator=seeded(1)) * 1.6 + 0.2
    ours = jitter.adjust_gray(x, contrast, brightness)
    for n in range(8):
        image = x[n, 0].double().numpy()
        changed = (image.mean() + (image - image.mean()) * contrast[n].item()) * brightness[n].item()
        np.testing.assert_allclose(ours[n, 0], np.clip(changed, 0, 1), atol=1e-6)


def slow_colour(image: Array, order: list[int], factors: list[float]) -> Array:
    """The colour policy on one image [3, H, W] through colorsys, pixel by pixel."""

    def by_hsv(image: Array, turns: float, saturation: float) -> Array:
        changed = np.empty_like(image)
        for i, j in np.ndindex(image.shape[1:]):
            hue, s, value = colorsys.rgb_to_hsv(*image[:, i, j])
            changed[:, i, j] = colorsys.hsv_to_rgb((hue + turns) % 1, min(1, s * saturation), value)
        return changed

    for k in order:
        if k == 0:
            image = image * factors[0]
        elif k == 1:
            mean = image.mean((1, 2), keepdims=True)
            image = mean + (image - mean) * factors[1]
        else:
            image = by_hsv(image, factors[3] if k == 3 else 0, factors[2] if k == 2 else 1)
        image = image.clip(0, 1)
    return image


def test_colour_jitter_is_the_formula_in_every_order() -> None:
    orders = torch.cartesian_prod(*[torch.arange(4)] * 4)
    orders = orders[orders.sort(1).values.eq(torch.arange(4)).all(1)]
    assert len(orders) == 24
    x = torch.rand(24, 3, 6, 5, generator=seeded())
    x[:, :, 0, 0] = 0.5  # a gray pixel
    x[:, :, 0, 1] = 0.0
    factors = torch.rand(24, 4, generator=seeded(1)) * 1.6 + 0.2
    factors[:, 3] = torch.rand(24, generator=seeded(2)) * 0.4 - 0.2
    ours = jitter.adjust_colour(x, orders, factors)
    for n in range(24):
        expected = slow_colour(x[n].double().numpy(), orders[n].tolist(), factors[n].tolist())
        np.testing.assert_allclose(ours[n], expected, atol=2e-5)


def test_brightness_hue_and_gray_are_torchvisions() -> None:
    x = torch.rand(3, 3, 16, 16, generator=seeded())
    ones = torch.ones(3)
    neutral = torch.stack([ones, ones, ones, 0 * ones], 1)
    order = torch.arange(4).expand(3, 4)
    for turns in (-0.2, -0.05, 0.13):
        ours = jitter.adjust_colour(x, order, neutral + torch.tensor([0, 0, 0, turns]))
        torch.testing.assert_close(ours, oracle.adjust_hue(x, turns), atol=1e-5, rtol=0)
    ours = jitter.adjust_colour(x, order, neutral * torch.tensor([1.6, 1, 1, 1]))
    torch.testing.assert_close(ours, oracle.adjust_brightness(x, 1.6), atol=1e-5, rtol=0)
    # torchvision rounds one of the three weights in another place.
    torch.testing.assert_close(jitter.to_gray(x), oracle.rgb_to_grayscale(x, 3), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 96), (16, 16), (30, 48)])
def test_blur_is_opencvs_with_zeros_around(height: int, width: int) -> None:
    x = torch.rand(3, 3, height, width, generator=seeded())
    sigma = torch.tensor([0.1, 0.7, 2.0])
    radius = height // 10 // 2
    ours = jitter.blur(x, sigma)
    for n in range(3):
        kernel = cv2.getGaussianKernel(2 * radius + 1, sigma[n].item(), cv2.CV_64F)
        image = x[n].permute(1, 2, 0).double().numpy()
        expected = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        np.testing.assert_allclose(ours[n].permute(1, 2, 0), expected, atol=1e-5)


def within_five_sigma(count: int, n: int, p: float) -> bool:
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def test_gray_jitter_factors_fill_their_range() -> None:
    # Pixels 0 and 1 in equal parts: the clipped result tells both factors where neither end is clipped.
    x = torch.zeros(20_000, 1, 2, 2)
    x[:, :, 0] = 0.5
    y = jitter.jitter(x, seeded())
    brightness = y.mean((1, 2, 3)) / 0.25  # nothing is clipped while contrast < 1
    contrast = (y[:, 0, 0, 0] - y[:, 0, 1, 0]) / (0.5 * brightness)
    free = contrast < 0.99
    # Contrast below 1 has probability .8 / 1.6.
    assert within_five_sigma(int((contrast < 1).sum()), 20_000, 0.5)
    for factor, low, high in ((brightness[free], 0.2, 1.8), (contrast[free], 0.2, 0.99)):
        assert factor.min() >= low - 1e-4
        assert factor.max() <= high + 1e-4
        spread = (high - low) / math.sqrt(12 * len(factor))
        assert abs(factor.mean().item() - (low + high) / 2) < 5 * spread


def test_colour_policy_frequencies() -> None:
    n = 4000
    x = torch.rand(1, 3, 20, 20, generator=seeded()).mul(0.4).add(0.3).repeat(n, 1, 1, 1)
    y = jitter.jitter(x.clone(), seeded(1))
    gray = (y.amax(1) - y.amin(1)).amax((1, 2)) < 1e-6
    assert within_five_sigma(int(gray.sum()), n, 0.2)
    # Without jitter, gray and blur (.2 * .8 * .5) the view stays as it was.
    same = (y - x).abs().amax((1, 2, 3)) < 1e-6
    # A blur of so small a sigma that it changes nothing counts as none: sigma < .19 has p = .05 of blurs.
    low, high = 0.2 * 0.8 * 0.5, 0.2 * 0.8 * (0.5 + 0.5 * 0.06)
    assert n * low - 5 * math.sqrt(n * low) < same.sum() < n * high + 5 * math.sqrt(n * high)


# --- The tools.


def test_integers_reach_both_ends_and_no_further() -> None:
    u = torch.tensor([0.0, 0.5, 1 - 2**-24])
    for low, high in ((0, 1), (3, 4), (-2, 511), (1, 2**22)):
        drawn = integers(u, low, high).tolist()
        assert drawn[0] == low
        assert drawn[2] == high - 1
    assert integers(u, torch.tensor([1, 1, 1]), torch.tensor([2, 5, 9])).tolist() == [1, 3, 8]


def test_apply_where_leaves_the_others_alone() -> None:
    x = torch.rand(5, 1, 4, 4, generator=seeded())
    before = x.clone()
    chosen = torch.tensor([True, False, False, True, False])
    by = torch.arange(5.0)
    out = apply_where_(x, chosen, lambda v, k: v + k.view(-1, 1, 1, 1), by)
    assert out is x
    assert torch.equal(x[~chosen], before[~chosen])
    torch.testing.assert_close(x[chosen], before[chosen] + by[chosen].view(-1, 1, 1, 1))
    assert torch.equal(apply_where_(x, torch.zeros(5, dtype=torch.bool), lambda v: v / 0), x)


def test_resample_is_two_matrix_products() -> None:
    images = torch.rand(2, 3, 7, 9, generator=seeded())
    rows, columns = torch.rand(4, 5, 7, generator=seeded(1)), torch.rand(4, 6, 9, generator=seeded(2))
    taps = [Taps(torch.arange(w.shape[2]).expand_as(w), w) for w in (rows, columns)]
    expected = rows[:, None] @ images.repeat(2, 1, 1, 1) @ columns[:, None].transpose(2, 3)
    torch.testing.assert_close(resample(images, *taps), expected)


# --- make_views, over the table of recipes.


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 16, 16), (3, 16, 24), (1, 64, 64), (3, 128, 64), (1, 25, 17)]
)
def test_views_keep_their_contract(recipe: str, channels: int, height: int, width: int) -> None:
    images = noise(6, channels, height, width)
    before = images.clone()
    views = make_views(recipe, images, seeded())
    for x in (views.inputs, views.targets):
        assert x.shape == (2, 6, channels, height, width)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert not x.requires_grad
        assert x.min() >= 0
        assert x.max() <= 1
    assert views.boxes.shape == (2, 6, 4)
    assert views.boxes.dtype == torch.int64
    assert views.flipped.shape == (2, 6)
    assert views.flipped.dtype == torch.bool
    assert torch.equal(images, before)
    assert (views.inputs is views.targets) == (not RECIPES[recipe].corrupt)
    assert not torch.equal(views.targets[0], views.targets[1])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_the_generator_alone_decides(recipe: str, channels: int) -> None:
    images = noise(4, channels, 32, 32)
    torch.manual_seed(1)
    first = make_views(recipe, images, seeded(5))
    torch.manual_seed(2)
    again, other = make_views(recipe, images, seeded(5)), make_views(recipe, images, seeded(6))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.inputs, other.inputs)
    assert not torch.equal(first.boxes, other.boxes)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_neighbours_do_not_matter(recipe: str, channels: int) -> None:
    images = noise(6, channels, 40, 32)
    others = noise(6, channels, 40, 32, seed=1)
    others[2] = images[2]
    mine, theirs = make_views(recipe, images, seeded()), make_views(recipe, others, seeded())
    assert torch.equal(mine.inputs[:, 2], theirs.inputs[:, 2])
    assert torch.equal(mine.targets[:, 2], theirs.targets[:, 2])
    assert not torch.equal(mine.targets[:, 3], theirs.targets[:, 3])


def test_targets_are_the_boxes_flipped_and_jittered() -> None:
    """A gray view is an affine map of its crop where nothing is clipped: boxes and flips tell the truth."""
    images = (noise(8, 1, 32, 32) // 4) + 96
    views = make_views("simclr", images, seeded(3))
    crops = resize_crops(images.float() / 255, views.boxes.flatten(0, 1), views.flipped.flatten())
    for ours, crop in zip(views.targets.flatten(0, 1), crops, strict=True):
        free = (ours > 0) & (ours < 1)
        if free.float().mean() > 0.2:
            assert np.corrcoef(ours[free].numpy(), crop[free].numpy())[0, 1] > 1 - 1e-6


def test_flip_frequency() -> None:
    flipped = make_views("simclr", noise(5000, 1, 16, 16), seeded()).flipped
    assert within_five_sigma(int(flipped.sum()), 10_000, 0.5)
    # The two views of an image are flipped independently.
    assert within_five_sigma(int((flipped[0] & flipped[1]).sum()), 5000, 0.25)


@pytest.mark.parametrize(
    ("recipe", "images", "says"),
    [
        ("conrek", noise(2, 1, 16, 16), "did you mean 'conrec'"),
        ("conrec", torch.rand(2, 1, 16, 16), "found float32 [2, 1, 16, 16]"),
        ("conrec", noise(2, 2, 16, 16), "found uint8 [2, 2, 16, 16]"),
        ("simclr", noise(16, 16, 3), "found uint8 [16, 16, 3]"),
    ],
)
def test_mistakes_are_one_line(recipe: str, images: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=r"^(expected|unknown)") as caught:
        make_views(recipe, images, seeded())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_picture(recipe: str, channels: int, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def predict(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return torch.zeros_like(inputs)

    def draw(name: str, predicted: bool) -> NDArray[np.generic]:
        out = tmp_path / "figures" / name
        images = noise(6, channels, 16, 16)
        assert draw_views(images, recipe=recipe, seed=0, out=out, predict=predict if predicted else None) == out
        picture = cv2.imread(str(out))
        assert picture is not None
        return picture

    plain, predicted = draw("plain.png", False), draw("predicted.png", True)
    kinds = len(CORRUPTIONS[channels]) if RECIPES[recipe].corrupt else 0
    assert [tuple(x.shape) for x in seen] == [(4, channels, 16, 16)] * kinds
    # A third column for each kind.
    assert predicted.shape[1] * 2 == plain.shape[1] * (3 if kinds else 2)
    assert plain.std() > 10
