"""Grey levels, blur and noise against their definitions.

Run alone: python -m pytest tests/generators/test_photometry.py
"""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import gaussian

from generators import photometry


def test_levels() -> None:
    images = np.array([[[0, 255, 128]]], np.uint8)
    photometry.set_levels(images, background=0.2, contrast=0.5)
    # Ink is half the way from 0.2 to white, 0.6.
    assert images.ravel().tolist() == [51, 153, round(255 * (0.2 + 0.4 * 128 / 255))]


@pytest.mark.parametrize("sd", [0.5, 1.0, 3.0])
def test_blur_is_gaussian(sd: float) -> None:
    rng = np.random.default_rng(0)
    sharp = np.zeros((2, 40, 40), np.uint8)
    sharp[:, 10:30, 8:33] = rng.integers(100, 255, (2, 1, 1))
    blurred = sharp.copy()
    photometry.blur(blurred, sd_px=sd)
    for before, after in zip(sharp, blurred, strict=True):
        expected = gaussian(before.astype(float), sigma=sd, mode="nearest", truncate=6.0)  # type: ignore[no-untyped-call]
        assert abs(after - expected).max() <= 2.0  # 8-bit fixed-point kernel
    assert (blurred != sharp).any()


def test_noise_has_the_stated_law() -> None:
    images = np.full((8, 64, 64), 128, np.uint8)
    photometry.add_noise(images, np.arange(8, dtype=np.uint32), sd=0.1)
    noise = images.astype(float) - 128.0
    n = noise.size
    sd = np.hypot(25.5, 1 / np.sqrt(12.0))  # rounding adds its own variance
    assert abs(noise.mean()) < 4 * sd / np.sqrt(n)
    assert noise.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * n))
    assert abs((noise**4).mean() / noise.var() ** 2 - 3.0) < 4 * np.sqrt(24 / n)
    # Unrelated between pixels and between keys.
    pairs = [(noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1])]
    pairs.append((noise[1:], noise[:-1]))
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)


def test_noise_depends_on_the_key_alone() -> None:
    keys = np.array([5, 9, 5], np.uint32)
    images = np.full((3, 16, 16), 100, np.uint8)
    images[2] += 20
    photometry.add_noise(images, keys, sd=0.05)
    assert np.array_equal(images[0] + 20, images[2])
    assert (images[0] != images[1]).mean() > 0.5


def test_no_key_gives_the_shifted_noise_of_another() -> None:
    """Keys whose mixed words are neighbours, where a single round would only shift the pixels."""
    keys = np.arange(200_000, dtype=np.uint32)
    words = photometry._mix(keys)
    order = np.argsort(words)
    near = np.flatnonzero(np.diff(words[order]) < 8)[:20]
    assert len(near) == 20
    for k in near:
        shift = int(words[order[k + 1]] - words[order[k]])
        pair = np.full((2, 1, 4000), 128, np.uint8)
        photometry.add_noise(pair, keys[order[k : k + 2]], sd=0.1)
        a, b = pair[0, 0, shift:], pair[1, 0, : 4000 - shift]
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(4000)


def test_noise_clips() -> None:
    images = np.zeros((1, 32, 32), np.uint8)
    images[:, 16:] = 255
    photometry.add_noise(images, np.zeros(1, np.uint32), sd=0.2)
    assert images[0, :16].min() == 0
    assert 0.4 < (images[0, :16] == 0).mean() < 0.6
    assert 0.4 < (images[0, 16:] == 255).mean() < 0.6
