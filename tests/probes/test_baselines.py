"""Baselines against loops, scikit-image and shapes drawn by hand. Alone: pytest tests/probes/test_baselines.py."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from skimage.measure import perimeter

from probekit.probes.baselines import (
    BASELINES,
    CHUNK,
    DILATIONS,
    MAX_SIDE,
    binarise,
    ink_statistics,
    patch_bag,
    patch_codes,
    raw_pixels,
)
from probekit.probes.protocol import Part, probe

Images = NDArray[np.uint8]


def noise(n: int, *shape: int) -> Images:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def ring() -> Images:
    """A square ring, 10 x 8 px outside, 2 px thick, in a frame of 32 x 24, white on black."""
    image = np.zeros((24, 32), dtype=np.uint8)
    image[5:13, 4:14] = 255
    image[7:11, 6:12] = 0
    return image


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 3), (8, 8), (136, 200)])
def test_every_baseline_gives_finite_rows_that_depend_on_their_image_alone(name: str, shape: tuple[int, ...]) -> None:
    images = noise(CHUNK + 2, *shape)
    features = BASELINES[name].features(images)
    assert features.shape[0] == len(images)
    assert features.ndim == 2
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(BASELINES[name].features(images[-1:]), features[-1:])


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("value", [0, 77, 255])
def test_blank_images_are_no_error(name: str, value: int) -> None:
    assert np.isfinite(BASELINES[name].features(np.full((2, 16, 16), value, dtype=np.uint8))).all()


def test_binarise_is_otsu_with_the_border_as_ground() -> None:
    for image in noise(5, 20, 20) // np.array([1, 2, 3, 4, 5], dtype=np.uint8)[:, None, None]:
        image[5:15, 5:15] |= 128
        ink = image > threshold_otsu(image)  # type: ignore[no-untyped-call]
        edge = np.concatenate([ink[0], ink[-1], ink[1:-1, 0], ink[1:-1, -1]])
        np.testing.assert_array_equal(binarise(image[None])[0], ink ^ (edge.mean() > 0.5))


def test_binarise_ignores_polarity_and_reads_colour() -> None:
    drawing = ring()
    expected = drawing > 0
    coloured = np.stack([drawing // 3, drawing // 2 + 20, drawing], axis=-1)
    for image in (drawing, 255 - drawing, drawing // 4 + 100, coloured):
        np.testing.assert_array_equal(binarise(image[None])[0], expected)
    for value in (0, 9, 255):
        assert not binarise(np.full((1, 8, 8), value, dtype=np.uint8)).any()


def test_ink_statistics_of_shapes_drawn_by_hand() -> None:
    two = np.zeros((24, 32), dtype=np.uint8)
    two[2:6, 3:9] = two[10:20, 20:30] = 255
    two[6, 9] = 255  # touches a corner: the same object
    one, both = ink_statistics(np.stack([ring(), two]))
    area, _, euler, *box = one
    assert area == pytest.approx((10 * 8 - 6 * 4) / (24 * 32))
    assert euler == 0  # one object, one hole
    np.testing.assert_allclose(box, [4 / 32, 5 / 24, 14 / 32, 13 / 24], rtol=1e-6)
    assert both[1] == pytest.approx(perimeter(two > 0) / (24 + 32))  # type: ignore[no-untyped-call]
    assert both[2] == 2
    np.testing.assert_array_equal(ink_statistics(np.zeros((1, 8, 8), dtype=np.uint8)), np.zeros((1, 7)))


def test_raw_pixels_are_pixels_and_large_images_are_averaged_down() -> None:
    small = noise(3, 16, 12, 3)
    np.testing.assert_allclose(raw_pixels(small), small.reshape(3, -1) / 255, rtol=1e-6)
    large = noise(2, 2 * MAX_SIDE, MAX_SIDE + 3)
    assert raw_pixels(large).shape == (2, MAX_SIDE * ((MAX_SIDE + 3) // 2))
    assert raw_pixels(large)[1, 1] == pytest.approx(large[1, :2, 2:4].mean() / 255, rel=1e-5)
    assert raw_pixels(noise(2, 16 * MAX_SIDE, 8)).shape == (2, 2 * MAX_SIDE)


@pytest.mark.parametrize("dilation", DILATIONS)
def test_patch_codes_agree_with_loops(dilation: int) -> None:
    ink = noise(2, 13, 11) > 127
    codes = patch_codes(ink, dilation)
    assert codes.shape == (2, 13 - 2 * dilation, 11 - 2 * dilation)
    for (n, y, x), code in np.ndenumerate(codes):
        expected = 0
        for i in range(3):
            for j in range(3):
                expected += int(ink[n, y + i * dilation, x + j * dilation]) << (3 * i + j)
        assert code == expected


def test_patch_bag_is_the_root_of_frequencies_and_forgets_places() -> None:
    image = ring()
    moved = np.roll(image, (4, 9), axis=(0, 1))
    bags = patch_bag(np.stack([image, moved]))
    assert bags.shape == (2, len(DILATIONS) * 512)
    np.testing.assert_allclose((bags.reshape(2, -1, 512) ** 2).sum(-1), 1, rtol=1e-5)
    counts = np.bincount(patch_codes(image[None] > 0, 1).ravel(), minlength=512)
    np.testing.assert_allclose(bags[0, :512], np.sqrt(counts / counts.sum()), rtol=1e-6)
    np.testing.assert_allclose(bags[0, :512], bags[1, :512], rtol=1e-6)


def test_rows_tell_a_local_difference_from_a_global_one() -> None:
    """Ring or disc of the same box at a random place: the bag sees it, chance cannot."""
    rng = np.random.default_rng(0)
    images, labels = [], rng.permutation(np.arange(80) % 2)
    for label in labels:
        image = ring() if label else np.where(ring().cumsum(1).clip(0, 1) > 0, ring(), 0)
        image[7:11, 6:12] = 0 if label else 255
        images.append(np.roll(image, rng.integers(0, 8, 2), axis=(0, 1)))
    stack = np.stack(images).astype(np.uint8)
    settings: dict[str, Any] = {"classes": ("disc", "ring"), "seed": 0}
    for protocol in ("tuned", "fixed"):
        named = {}
        for name, baseline in BASELINES.items():
            x = baseline.features(stack)
            train, test = Part(x[:50], labels[:50]), Part(x[50:], labels[50:])
            named[name] = probe(name, "baseline", train, test, protocol=baseline.protocol or protocol, **settings)
        json.dumps(named, allow_nan=False)
        most = np.bincount(labels[:50]).argmax()
        assert named["chance"]["accuracy"] == pytest.approx((labels[50:] == most).mean())
        assert named["patch bag"]["accuracy"] == 1.0
        assert named["patch bag"]["protocol"] == "tuned"
        assert named["raw pixels"]["protocol"] == protocol
