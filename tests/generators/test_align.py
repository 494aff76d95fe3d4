"""align: offsets measured in pixels, and answers that are in no patch.

Run alone: python -m pytest tests/generators/test_align.py
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp

from generators import Align
from generators.certify import equal_multisets
from tests.generators.bags import bag, pixels, separation

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]
each = pytest.mark.parametrize("factor", ["line", "mirror"])


def drawn(n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Align, NDArray[np.void]]:
    generator = Align(size=size, parameters=parameters)
    return generator, generator.sample(3, "train", np.arange(n))


def both(factor: str, n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Images, Images]:
    """Images with the factor 0 and 1."""
    generator, f = drawn(n, size=size, **parameters)
    none, one = (generator.render_images(generator.counterfactual(f, factor, value)) for value in (0, 1))
    return none, one


def marks(image: Images) -> tuple[Floats, Floats]:
    """Centres of mass (x, y) of the large and of the small marks."""
    labels, count = ndimage.label(image, np.ones((3, 3)))
    number = range(1, count + 1)
    places = np.array(ndimage.center_of_mass(image, labels, number))[:, ::-1]
    ink = ndimage.sum_labels(image, labels, number)
    assert sum(ink > ink.max() / 2) == 3
    return places[ink > ink.max() / 2], places[ink <= ink.max() / 2]


def axis(large: Floats) -> tuple[Floats, Floats, Floats]:
    """The middle one of three marks, an outer one and the unit vector to the other one."""
    ends = np.array(np.unravel_index(cdist(large, large).argmax(), (3, 3)))
    middle = large[3 - ends.sum()]
    start, end = large[ends]
    return middle, start, (end - start) / np.linalg.norm(end - start)


@pytest.mark.parametrize("offset", [1.5, 5.25, 8.0, 12.0])
def test_marks_are_as_far_off_as_offset_says(offset: float) -> None:
    """In a frame of 512 px, to 2 pixels, by which whole pixels may turn the line."""
    for straight, bent in zip(*both("line", 8, size=512, offset=offset), strict=True):
        for image, expected in ((straight, 0.0), (bent, 4 * offset)):
            middle, start, along = axis(marks(image)[0])
            assert abs((middle - start) @ (-along[1], along[0])) == pytest.approx(expected, abs=2)
    for mirrored, unlike in zip(*both("mirror", 8, size=512, offset=offset), strict=True):
        for image, expected in ((mirrored, 0.0), (unlike, 4 * offset)):
            large, small = marks(image)
            _, start, along = axis(large)
            assert len(small) == 4
            within = small - start
            images = start + 2 * (within @ along)[:, None] * along - within
            assert cdist(small, images).min(axis=0).max() == pytest.approx(expected, abs=3)


@each
@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (128, {}),
        (128, {"antialias": 1, "dark": 1, "contrast": 0.3, "background": 0.2, "rotation": 180}),
        (128, {"offset": 12.0}),
        (256, {"number": 1}),
    ],
)
def test_counterfactuals_have_the_same_patches(factor: str, size: int, parameters: dict[str, float]) -> None:
    none, one = both(factor, 60 if size == 128 else 12, size=size, **parameters)
    assert (none != one).any(axis=(1, 2)).all()
    for side, dilation in ((3, 1), (5, 1), (9, 1), (3, 2), (3, 4)):
        assert equal_multisets(none, one, side, dilation).all()


@each
def test_neither_bag_nor_pixels_have_the_answer(factor: str) -> None:
    none, one = both(factor, 400)
    zero = np.zeros(400, np.uint8)
    assert separation(bag, none, one, zero) == pytest.approx(0.5, abs=1e-6)
    assert separation(pixels, none, one, zero) == pytest.approx(0.5, abs=0.1)  # 3.5 standard errors


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (128, {}),
        (128, {"antialias": 1, "dark": 1, "contrast": 0.2, "background": 0.3, "rotation": 180.0}),
        (128, {"offset": 4.0, "number": 1}),
        (64, {}),
        (64, {"antialias": 1}),
        (512, {"offset": 1.0}),
    ],
)
def test_the_ideal_reader_is_always_right(size: int, parameters: dict[str, float]) -> None:
    generator, f = drawn(160 if size < 512 else 12, size=size, **parameters)
    found = generator.read(generator.render_images(f))
    for name in ("line", "mirror"):
        assert np.array_equal(found[name], f[name]), name


def test_nuisances_do_not_tell_the_class() -> None:
    generator, f = drawn(4000)
    labels = generator.labels(f)
    for factor in generator.factors:
        if factor.kind in ("real", "circular"):
            of_class = [f[factor.name][labels == k] for k in range(4)]
            assert min(ks_2samp(of_class[0], other).pvalue for other in of_class[1:]) > 1e-3, factor.name
    assert f["x"].max() - f["x"].min() > 4 * 8  # the line moves by more than the middle mark


@pytest.mark.parametrize("offset", [0.0, 12.0])
def test_all_marks_find_room(offset: float) -> None:
    generator, f = drawn(400, offset=offset, rotation=180.0)
    for image in generator.render_images(f):
        large, small = marks(image)
        assert (len(large), len(small)) == (3, 4)
