"""Jitter and blur: pixels against plain formulas, torchvision and OpenCV; the draws against their law.

Alone: pytest tests/views/test_jitter.py
"""

import colorsys
import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms import functional as oracle

from probekit.views import jitter
from probekit.views.recipes import RECIPES
from tests.chance import apply_to_all, seeded, within_five_sigma
from tests.views.drawn import draw_changes

Array = NDArray[np.float64]


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
    ours = jitter.adjust_colour(x.clone(), torch.ones(24, dtype=torch.bool), orders.argsort(1), factors)
    for n in range(24):
        expected = slow_colour(x[n].double().numpy(), orders[n].tolist(), factors[n].tolist())
        np.testing.assert_allclose(ours[n], expected, atol=2e-5)


def test_brightness_hue_and_gray_are_torchvisions() -> None:
    x = torch.rand(3, 3, 16, 16, generator=seeded())
    ones, always = torch.ones(3), torch.ones(3, dtype=torch.bool)
    neutral = torch.stack([ones, ones, ones, 0 * ones], 1)
    order = torch.arange(4).expand(3, 4)
    for turns in (-0.2, -0.05, 0.13):
        ours = jitter.adjust_colour(x.clone(), always, order, neutral + torch.tensor([0, 0, 0, turns]))
        torch.testing.assert_close(ours, oracle.adjust_hue(x, turns), atol=1e-5, rtol=0)
    ours = jitter.adjust_colour(x.clone(), always, order, neutral * torch.tensor([1.6, 1, 1, 1]))
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


def test_photographs_of_224_px_get_23_taps() -> None:
    """Facts of the authors' code at their size; away from the border torchvision's blur is the same."""
    x = torch.rand(2, 3, 224, 224, generator=seeded())
    sigma = torch.tensor([0.8, 2.0])
    ours = jitter.blur(x, sigma)
    for n in range(2):
        expected = oracle.gaussian_blur(x[n], [23, 23], [sigma[n].item()] * 2)
        torch.testing.assert_close(ours[n, :, 11:-11, 11:-11], expected[:, 11:-11, 11:-11], atol=1e-5, rtol=0)
    assert ours[:, :, 0].mean() < 0.7 * ours[:, :, 112].mean()  # darker at the border, as theirs


@pytest.mark.parametrize(("strength", "factor", "hue"), [(1.0, (0.2, 1.8), 0.2), (2.0, (0.0, 2.6), 0.4)])
def test_strength_scales_the_bounds(strength: float, factor: tuple[float, float], hue: float) -> None:
    """SimCLR, appendix A: .8 s for brightness, contrast and saturation, .2 s for hue."""
    colour = jitter.Colour(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    _, _, factors, *_ = draw_changes(2000, 3, seeded(), colour)
    for column, (low, high) in zip(factors.T, [factor] * 3 + [(-hue, hue)], strict=True):
        width = high - low
        assert low - 1e-6 <= column.min() < low + 0.01 * width
        assert high - 0.01 * width < column.max() <= high + 1e-6


def test_the_weak_policy_never_blurs() -> None:
    """SimCLR, appendix B.9."""
    colour = RECIPES["simclr-weak"].crops[0].colour
    assert colour is not None
    jittered, _, _, grayed, blurred, _ = draw_changes(20_000, 3, seeded(), colour)
    assert not blurred.any()
    assert within_five_sigma(int(jittered.sum()), 20_000, 0.8)
    assert within_five_sigma(int(grayed.sum()), 20_000, 0.2)


def test_gray_jitter_factors_fill_their_range() -> None:
    # Pixels 0 and 1 in equal parts: the clipped result tells both factors where neither end is clipped.
    x = torch.zeros(20_000, 1, 2, 2)
    x[:, :, 0] = 0.5
    y = jitter.change(x, *draw_changes(20_000, 1, seeded(), jitter.PAPER))
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


def test_colour_policy_draws_by_its_law() -> None:
    n = 20_000
    jittered, place, factors, grayed, blurred, sigma = draw_changes(n, 3, seeded(), jitter.PAPER)
    for chosen, p in ((jittered, 0.8), (grayed, 0.2), (blurred, 0.5)):
        assert within_five_sigma(int(chosen.sum()), n, p)
    orders, counts = torch.unique(place.argsort(1), dim=0, return_counts=True)
    assert len(orders) == 24
    assert all(within_five_sigma(count, n, 1 / 24) for count in counts.tolist())
    laws = [(f, 0.2, 1.8) for f in factors[:, :3].T] + [(factors[:, 3], -0.2, 0.2), (sigma, 0.1, 2.0)]
    for numbers, low, high in laws:
        assert low <= numbers.min()
        assert numbers.max() <= high
        for share in (0.1, 0.5, 0.9):
            assert within_five_sigma(int((numbers < low + share * (high - low)).sum()), n, share)


@pytest.mark.parametrize("channels", [1, 3])
def test_changing_all_views_as_a_gpu_does_gives_the_same(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that are not jittered pass through neutral operations there, and what comes out is theirs."""
    x = torch.rand(60, channels, 40, 32, generator=seeded(1))
    x[:6] = x[:6, :1]  # gray
    x[6:9] = 0
    colour = jitter.Colour(p_jitter=0.5, p_solarise=0.2, always_gray=False)
    drawn = draw_changes(60, channels, seeded(), colour)
    by_rows = jitter.change(x.clone(), *drawn)
    monkeypatch.setattr(jitter, "apply_where", apply_to_all)
    by_all = jitter.change(x.clone(), *drawn)
    near_the_cut = (by_rows - 0.5).abs() < 1e-5  # of solarisation, which jumps there
    assert near_the_cut.float().mean() < 0.02
    torch.testing.assert_close(by_rows[~near_the_cut], by_all[~near_the_cut], atol=4e-6, rtol=0)


def test_colour_policy_reaches_the_pixels() -> None:
    x = torch.rand(1, 3, 20, 20, generator=seeded()).mul(0.4).add(0.3).repeat(4000, 1, 1, 1)
    y = jitter.change(x.clone(), *draw_changes(4000, 3, seeded(1), jitter.PAPER))
    gray = (y.amax(1) - y.amin(1)).amax((1, 2)) < 1e-6
    assert within_five_sigma(int(gray.sum()), 4000, 0.2)
    assert 0 < (y == x).all(1).all(1).all(1).sum() < 4000 * 0.2  # neither jittered, gray nor blurred: 8 %
