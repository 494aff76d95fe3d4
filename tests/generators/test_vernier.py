"""vernier: offsets and distances measured in pixels; local when the bars are near, proven not to be when far apart.

Run alone: python -m pytest tests/generators/test_vernier.py
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import ks_2samp

from generators import Vernier
from generators.certify import equal_multisets
from tests.generators.bags import bag, pixels, separation

Images = NDArray[np.uint8]


def drawn(n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Vernier, NDArray[np.void]]:
    generator = Vernier(size=size, parameters=parameters)
    return generator, generator.sample(3, "train", np.arange(n))


def pairs(n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Images, Images]:
    """Aligned, and offset."""
    generator, f = drawn(n, size=size, **parameters)
    versions = [generator.render_images(generator.counterfactual(f, "alignment", value)) for value in (0, 1)]
    return versions[0], versions[1]


def middle(image: Images) -> NDArray[np.float64]:
    """Centre of mass, (y, x)."""
    return np.array(ndimage.center_of_mass(image))


@pytest.mark.parametrize("offset", [0.5, 1.3, 6.0, 11.75])
def test_grey_bars_are_offset_by_any_share_of_a_pixel(offset: float) -> None:
    """One of two bars of equal ink moves, so the centre of mass goes half the way."""
    _, f = drawn(offset=offset, distance=8.0, antialias=True)
    for bar, aligned, moved in zip(f, *pairs(offset=offset, distance=8.0, antialias=True), strict=True):
        step = 2 * (middle(moved) - middle(aligned))
        right = np.array((-np.sin(np.deg2rad(bar["angle"])), np.cos(np.deg2rad(bar["angle"]))))  # y is down
        assert abs(bar["shift"]) == pytest.approx(offset, abs=1e-3)
        assert step == pytest.approx(right * bar["shift"], abs=0.03)
    assert {-1.0, 1.0} == set(np.sign(f["shift"]).tolist())


def test_binary_bars_move_by_whole_pixels() -> None:
    generator, f = drawn(offset=6.4, distance=8.0)
    aligned, moved = (generator.render(generator.counterfactual(f, "alignment", k)).masks for k in (0, 1))
    assert np.array_equal(aligned & 1, moved & 1)
    for one, other in zip(aligned & 2, moved & 2, strict=True):
        step = middle(other) - middle(one)
        assert step == pytest.approx(np.rint(step), abs=1e-9)
        assert np.linalg.norm(step) == pytest.approx(6.4, abs=0.71)


@pytest.mark.parametrize("distance", [2.0, 10.5, 24.0])
def test_distance_width_and_length_measured_in_a_frame_of_512_px(distance: float) -> None:
    generator, f = drawn(12, size=512, distance=distance, rotation=0.0, width=5.0)
    for bar, image in zip(f, generator.render_images(f) > 0, strict=True):
        rows = np.flatnonzero(image.any(axis=1))
        ends = np.flatnonzero(np.diff(rows) > 1)
        assert len(ends) == 1
        assert rows[ends[0] + 1] - rows[ends[0]] - 1 == pytest.approx(4 * distance, abs=1.01)
        assert ends[0] + 1 == pytest.approx(4 * bar["length"], abs=1.01)
        assert image[rows[0]].sum() == image[rows[-1]].sum() == pytest.approx(20, abs=1.01)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (128, {"distance": 24.0}),
        (128, {"distance": 24.0, "rotation": 180.0, "dark": 1, "contrast": 0.2, "background": 0.3}),
        (128, {"distance": 40.0, "offset": 16.0, "width": 8.0}),
        (128, {"distance": 15.0, "offset": 16.0, "width": 8.0}),
        (64, {"distance": 30.0}),
        (512, {"distance": 24.0}),
    ],
)
def test_far_bars_have_the_same_patches_aligned_or_not(size: int, parameters: dict[str, float]) -> None:
    aligned, moved = pairs(60 if size < 512 else 4, size=size, **parameters)
    assert (aligned != moved).any(axis=(1, 2)).all()
    for side, dilation in ((3, 1), (5, 1), (3, 2), (9, 1), (3, 4))[: 3 if size < 128 else None]:
        assert equal_multisets(aligned, moved, side, dilation).all()


def test_near_bars_are_told_apart_by_their_patches_and_far_ones_are_not() -> None:
    near, far = (pairs(300, distance=distance) for distance in (2.0, 24.0))
    aligned = np.zeros(300, np.uint8)
    assert not equal_multisets(*near, 5).any()
    assert separation(bag, *near, aligned) > 0.98
    assert separation(bag, *far, aligned) == pytest.approx(0.5, abs=1e-6)
    assert separation(pixels, *far, aligned) == pytest.approx(0.5, abs=0.1)  # 4 standard errors


@pytest.mark.parametrize("distance", [0.0, 2.0, 24.0, 40.0])
@pytest.mark.parametrize(("size", "n", "antialias"), [(128, 200, 0), (64, 100, 1), (32, 100, 1), (512, 12, 0)])
def test_the_ideal_reader_is_always_right(size: int, n: int, antialias: int, distance: float) -> None:
    generator, f = drawn(n, size=size, antialias=antialias, distance=max(distance, 2.0 if size == 32 else 0.0))
    assert np.array_equal(generator.read(generator.render_images(f))["alignment"], f["alignment"])
    dark = Vernier(size=size, parameters=generator.values | {"dark": True, "contrast": 0.25, "background": 0.5})
    assert np.array_equal(dark.read(dark.render_images(f))["alignment"], f["alignment"])


def test_nuisances_do_not_tell_the_class() -> None:
    _, f = drawn(4000)
    for column in ("angle", "shift", "length", "x", "y"):
        assert ks_2samp(*(f[column][f["alignment"] == k] for k in (0, 1))).pvalue > 1e-3
