"""navon: a whole that no patch and hardly a pixel has, elements of equal ink, and shapes measured in pixels.

Run alone: python -m pytest tests/generators/test_navon.py
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.stats import ks_2samp

from generators import Navon
from generators.certify import equal_multisets
from tests.generators.bags import bag, pixels, separation

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


def drawn(n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Navon, NDArray[np.void]]:
    generator = Navon(size=size, parameters=parameters)
    return generator, generator.sample(3, "train", np.arange(n))


def both(factor: str, n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Images, Images]:
    """Images with the factor 0 and 1."""
    generator, f = drawn(n, size=size, **parameters)
    none, one = (generator.render_images(generator.counterfactual(f, factor, value)) for value in (0, 1))
    return none, one


def middles(image: Images) -> Floats:
    """Centres of mass (x, y) of the elements."""
    labels, count = ndimage.label(image, np.ones((3, 3)))
    return np.array(ndimage.center_of_mass(image, labels, range(1, count + 1)))[:, ::-1]


def norm(turn: float, points: Floats) -> Floats:
    """The distance in which a square that is turned so is a ball."""
    across = points @ (np.cos(turn), np.sin(turn))
    down = points @ (-np.sin(turn), np.cos(turn))
    return np.asarray(np.maximum(abs(across), abs(down)))


def test_circles_are_circles_and_squares_are_squares_of_the_same_mean_radius() -> None:
    """Fitted to 12 elements in a frame of 512 px, to two pixels; the mean radius of a square is 1.1222 half sides."""
    _, f = drawn(16, size=512, number=12, element_radius=2.0)
    circles, squares = both("whole", 16, size=512, number=12, element_radius=2.0)
    for whole, circle, square in zip(f, circles, squares, strict=True):
        x, y = middles(circle).T
        assert len(x) == 12
        half = np.linalg.lstsq(np.stack((2 * x, 2 * y, np.ones(12)), 1), x**2 + y**2, rcond=None)[0]
        radii = np.hypot(x - half[0], y - half[1])
        assert radii == pytest.approx(4 * whole["radius"], abs=1.5)
        about = middles(square) - half[:2]
        best = optimize.minimize_scalar(lambda turn: np.ptp(norm(turn, about)), bounds=(-0.8, 0.8), method="bounded").x  # noqa: B023
        turns = [best, -np.deg2rad(whole["angle"])]  # y is down
        assert norm(turns[1], about) == pytest.approx(4 * whole["radius"] / 1.1222, abs=2)
        assert np.ptp(norm(turns[0], about)) < 3
        angles = np.sort(np.arctan2(about[:, 1], about[:, 0]))
        assert np.diff(angles) == pytest.approx(np.full(11, np.pi / 6), abs=0.02)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (128, {}),
        (128, {"antialias": 1, "dark": 1, "contrast": 0.3, "background": 0.2, "rotation": 180}),
        (128, {"element_radius": 5.0}),
        (128, {"element_radius": 7.0, "number": 5, "squareness": 0.5}),
        (256, {}),
    ],
)
def test_circle_and_square_have_the_same_patches(size: int, parameters: dict[str, float]) -> None:
    circles, squares = both("whole", 60 if size == 128 else 12, size=size, **parameters)
    assert (circles != squares).any(axis=(1, 2)).all()
    for side, dilation in ((3, 1), (5, 1), (9, 1), (3, 2), (3, 4)):
        assert equal_multisets(circles, squares, side, dilation).all()


def test_no_bag_and_hardly_a_pixel_has_the_whole() -> None:
    """Of 1,000 pairs and five seeds the pixels have .56; of circles of one size in one place they had .98."""
    circles, squares = both("whole", 400)
    none = np.zeros(400, np.uint8)
    assert separation(bag, circles, squares, none) == pytest.approx(0.5, abs=1e-6)
    assert separation(pixels, circles, squares, none) < 0.65


def test_elements_are_local_and_have_equal_ink() -> None:
    discs, squares = both("element", 200)
    assert np.array_equal(discs.sum(axis=(1, 2)), squares.sum(axis=(1, 2)))
    assert discs[0].sum() == 8 * 49 * 255
    assert not equal_multisets(discs[:40], squares[:40], 3).any()
    assert separation(bag, discs, squares, np.zeros(200, np.uint8)) > 0.99
    grey = [images.sum(axis=(1, 2)) / 255 for images in both("element", 20, antialias=True)]
    assert grey[0] == pytest.approx(np.full(20, 8 * np.pi * 16), rel=2e-3)
    assert grey[1] == pytest.approx(np.full(20, 8 * np.pi * 16), rel=2e-3)


@pytest.mark.parametrize("radius", [4.0, 4.4, 5.0, 6.2])
def test_discs_are_round_and_squares_are_squares(radius: float) -> None:
    """The boxes around them; all elements of an image are alike."""
    discs, squares = both("element", 4, element_radius=radius, number=5)
    side = round(np.sqrt(np.pi) * radius)
    for image, filled, across in ((discs[0], np.pi / 4, 2 * radius), (squares[0], 1.0, side)):
        elements = [image[where] for where in ndimage.find_objects(ndimage.label(image)[0])]
        assert len({element.tobytes() for element in elements}) == 1
        assert np.count_nonzero(elements[0]) == side**2
        assert np.count_nonzero(elements[0]) / elements[0].size == pytest.approx(filled, abs=0.19)
        assert max(elements[0].shape) == pytest.approx(across, abs=1.01)
        assert np.ptp(elements[0].shape) <= 1


def test_small_elements_differ_even_so() -> None:
    for size, radius in ((128, 1.5), (128, 2.0), (128, 2.5), (128, 3.0), (64, 4.0), (64, 3.0)):
        discs, squares = both("element", 8, size=size, element_radius=radius)
        assert (discs != squares).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (128, {}),
        (128, {"antialias": 1, "dark": 1, "contrast": 0.2, "background": 0.3, "rotation": 180.0}),
        (128, {"squareness": 0.3}),
        (128, {"number": 5, "element_radius": 7.0}),
        (128, {"number": 12}),
        (64, {}),
        (64, {"antialias": 1}),
        (512, {}),
    ],
)
def test_the_ideal_reader_is_always_right(size: int, parameters: dict[str, float]) -> None:
    generator, f = drawn(80 if size < 512 else 8, size=size, **parameters)
    found = generator.read(generator.render_images(f))
    for name in ("whole", "element"):
        assert np.array_equal(found[name], f[name]), name


def test_nuisances_do_not_tell_the_class() -> None:
    generator, f = drawn(4000)
    labels = generator.labels(f)
    for column in ("angle", "radius", "x", "y", "start"):
        of_class = [f[column][labels == k] for k in range(4)]
        assert min(ks_2samp(of_class[0], other).pvalue for other in of_class[1:]) > 1e-3
    assert f["radius"].max() > 1.4 * f["radius"].min()  # corners of a square reach 1.26 mean radii, its sides 0.89


def test_elements_that_do_not_fit_are_one_clear_line() -> None:
    with pytest.raises(
        ValueError, match=r"12 elements beside one another, found .* 8 px; type --set element_radius="
    ) as caught:
        Navon(parameters={"number": 12, "element_radius": 8.0})
    assert "\n" not in str(caught.value)
    fitting = float(str(caught.value).rpartition("=")[2])
    generator, f = drawn(60, number=12, element_radius=fitting)
    for image in generator.render_images(f):
        assert ndimage.label(image, np.ones((3, 3)))[1] == 12
