"""rect-tri and circ-sq: whole, in frame, apart, 4 px inside, and ink that does not tell the class.

The geometry is worked out again from the factors with plain formulas, and seen in the pixels.

Run alone: python -m pytest tests/generators/test_clean.py
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp, kstest
from skimage.measure import label as components

from generators import GENERATORS, CircSq, RectTri

Floats = NDArray[np.float64]
N = 1500
GRID = 2e-3  # px: several roundings of factors to 1/4096


def turn(x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Counter-clockwise as seen (y down) about (64, 64)."""
    a = np.deg2rad(angle.astype(np.float64))
    dx, dy = x - 64.0, y - 64.0
    return 64.0 + np.cos(a) * dx + np.sin(a) * dy, 64.0 - np.sin(a) * dx + np.cos(a) * dy


def rect_tri(**parameters: float) -> tuple[RectTri, NDArray[np.void]]:
    generator = RectTri(parameters={"rotation": 180, "triangle_rotation": 180, **parameters})
    return generator, generator.sample(7, "train", np.arange(N))


def circ_sq(**parameters: float) -> tuple[CircSq, NDArray[np.void]]:
    generator = CircSq(parameters={"rotation": 180, **parameters})
    return generator, generator.sample(7, "train", np.arange(N))


def triangle(f: NDArray[np.void], right: bool, apex_deg: float) -> Floats:
    """Vertices `[n, 3, 2]` about the centroid, in the rectangle's frame."""
    angle = np.deg2rad(apex_deg if right else 60.0)
    first, second = ("leg_x", "leg_y") if right else ("triangle_side", "triangle_side")
    zero = np.zeros(len(f))
    a, b = f[first].astype(np.float64), f[second].astype(np.float64)
    x, y = np.stack([zero, a, b * np.cos(angle)], 1), np.stack([zero, zero, b * np.sin(angle)], 1)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    t = np.deg2rad(f["triangle_angle"].astype(np.float64))[:, None]
    return np.stack([np.cos(t) * x + np.sin(t) * y, -np.sin(t) * x + np.cos(t) * y], 2)


def sides(f: NDArray[np.void], radius: float) -> tuple[Floats, Floats]:
    """Of a rectangle with such corners whose area is width * height: both are longer by one factor."""
    width, height = f["width"].astype(np.float64), f["height"].astype(np.float64)
    lost = radius**2 * 4 - np.pi * radius**2
    return width * np.sqrt(1 + lost / (width * height)), height * np.sqrt(1 + lost / (width * height))


def areas(vertices: Floats) -> Floats:
    d, e = vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0]
    return np.asarray(abs(d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0]) / 2.0)


def signed_box(x: Floats, y: Floats, half_x: Floats, half_y: Floats, radius: Floats) -> Floats:
    """Distance to a rounded box about the origin, negative inside."""
    qx, qy = abs(x) - (half_x - radius), abs(y) - (half_y - radius)
    outside = np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0))
    return np.asarray(outside + np.minimum(np.maximum(qx, qy), 0.0) - radius)


@pytest.mark.parametrize("radius", [0.0, 3.0, 20.0, 32.0])
@pytest.mark.parametrize("apex", [0.0, 30.0])
def test_triangles_keep_4_px_from_the_true_outline(radius: float, apex: float) -> None:
    """Both kinds in both outlines, so a counterfactual keeps it; distance inside is least at a vertex."""
    _, f = rect_tri(corner_radius=radius, apex_angle=apex)
    for right in (False, True):
        vertices = triangle(f, right, 60.0 + apex)
        x = vertices[..., 0] + (f["triangle_x"] - f["x"])[:, None]
        y = vertices[..., 1] + (f["triangle_y"] - f["y"])[:, None]
        for corner in (radius, 0.0):
            half_x, half_y = (side[:, None] / 2.0 for side in sides(f, corner))
            signed = signed_box(x, y, half_x, half_y, np.full_like(half_x, corner))
            assert signed.max() < -4.0 + GRID
    assert signed.max() > -4.3  # and they come near it


@pytest.mark.parametrize("radius", [20.0, 32.0])
def test_rectangles_stay_in_the_frame(radius: float) -> None:
    _, f = rect_tri(corner_radius=radius)
    width, height = sides(f, radius)
    for sx in (-0.5, 0.5):
        for sy in (-0.5, 0.5):
            x, y = turn(f["x"] + sx * width, f["y"] + sy * height, f["angle"])
            assert min(x.min(), y.min()) > 1.0 - GRID
            assert max(x.max(), y.max()) < 127.0 + GRID


def test_lengths_keep_the_papers_ranges() -> None:
    _, f = rect_tri()
    for sharp, rounded in zip(sides(f, 0.0), sides(f, 20.0), strict=True):
        assert 64 - GRID < sharp.min() < 66
        assert 86 < rounded.max() < 88 + GRID
    assert min(f["leg_x"].min(), f["leg_y"].min(), f["triangle_side"].min()) > 16.0 - GRID


def test_triangle_kinds_have_equal_area_and_an_apex_of_90_degrees() -> None:
    _, f = rect_tri()
    equilateral, right = triangle(f, False, 90.0), triangle(f, True, 90.0)
    assert areas(equilateral) == pytest.approx(areas(right), rel=1e-4)
    _, f = rect_tri(apex_angle=0.0)
    assert triangle(f, True, 60.0) == pytest.approx(triangle(f, False, 60.0), abs=GRID)


def test_no_difference_is_left_at_the_end_of_a_difficulty() -> None:
    for generator, factor in (
        (RectTri(parameters={"corner_radius": 0.0}), "corner"),
        (RectTri(parameters={"apex_angle": 0.0}), "triangle"),
        (CircSq(parameters={"squareness": 0.0}), "shape_1"),
    ):
        f = generator.sample(0, "train", np.arange(200))
        images = generator.render(f).images
        changed = images != generator.render(generator.counterfactual(f, factor)).images
        assert changed.sum() <= 3  # stored lengths are rounded apart


def samples_of_outline(f: NDArray[np.void], k: int, square: bool) -> tuple[Floats, Floats]:
    """Points on the outline of object k, `[n, 240]`, before the turn."""
    t = np.linspace(0.0, 2.0 * np.pi, 240, endpoint=False)
    side = f[f"size_{k}"].astype(np.float64)[:, None]
    to_box = 0.5 / np.maximum(abs(np.cos(t)), abs(np.sin(t)))
    stretch = to_box if square else np.full_like(t, np.pi**-0.5)
    x, y = side * stretch * np.cos(t), side * stretch * np.sin(t)
    return f[f"x_{k}"][:, None] + x, f[f"y_{k}"][:, None] + y


@pytest.mark.parametrize("gap", [2.0, 10.0, 16.0])
def test_objects_are_apart_and_in_the_frame_whatever_they_are(gap: float) -> None:
    _, f = circ_sq(gap=gap)
    least = np.inf
    for one in (False, True):
        x, y = samples_of_outline(f, 1, one)
        seen_x, seen_y = turn(x, y, f["angle"][:, None])
        assert min(seen_x.min(), seen_y.min()) > 1.0 - GRID
        assert max(seen_x.max(), seen_y.max()) < 127.0 + GRID
        half = f["size_2"].astype(np.float64)[:, None] / 2.0
        dx, dy = x - f["x_2"][:, None], y - f["y_2"][:, None]
        to_square = signed_box(dx, dy, half, half, 0.0 * half)
        to_circle = np.hypot(dx, dy) - 2.0 * half / np.sqrt(np.pi)
        least = min(least, to_square.min(), to_circle.min())
    assert least > gap - GRID
    assert least < gap + 0.5


def count(image: NDArray[np.bool_]) -> int:
    """Connected components, diagonal neighbours included."""
    return int(components(image, connectivity=2).max())  # type: ignore[no-untyped-call]


def test_size_ratio() -> None:
    _, f = circ_sq(size_ratio=1.25)
    ratio = f["size_1"] / f["size_2"]
    assert ratio.max() < 1.25 + GRID
    assert ratio.min() > 0.8 - GRID
    assert ratio.max() > 1.2


@pytest.mark.parametrize("squareness", [1.0, 0.5])
def test_pixels_show_two_whole_objects(squareness: float) -> None:
    generator, f = circ_sq(squareness=squareness, gap=4.0)
    rendered = generator.render(f[:400])
    rim = rendered.images.copy()
    rim[:, 1:-1, 1:-1] = 0
    assert not rim.any()
    for image, masks in zip(rendered.images, rendered.masks, strict=True):
        assert count(image > 0) == 2
        assert np.array_equal(image > 0, masks & 3 > 0)
        assert not (masks & 3 == 3).any()


@pytest.mark.parametrize(("size", "gap"), [(16, 2.0), (16, 10.0), (24, 4.0), (64, 2.0)])
@pytest.mark.parametrize("squareness", [1.0, 0.0])
def test_objects_are_apart_in_small_frames(size: int, gap: float, squareness: float) -> None:
    """No pixel of one object is a neighbour of a pixel of the other, diagonals included."""
    generator = CircSq(size=size, parameters={"gap": gap, "squareness": squareness, "rotation": 180})
    masks = generator.render(generator.sample(1, "train", np.arange(3000))).masks
    one, two = masks & 1 > 0, masks & 2 > 0
    near = np.pad(one, ((0, 0), (1, 1), (1, 1)))
    for x in range(3):
        for y in range(3):
            assert not (near[:, y : y + size, x : x + size] & two).any()


def test_pixels_show_a_whole_rectangle_with_one_hole() -> None:
    generator, f = rect_tri()
    rendered = generator.render(f[:400])
    rim = rendered.images.copy()
    rim[:, 1:-1, 1:-1] = 0
    assert not rim.any()
    for image, masks in zip(rendered.images, rendered.masks, strict=True):
        assert count(image > 0) == 1
        # The tip of an acute triangle may be a pixel on its own; it never joins the ground.
        regions = components(image == 0, connectivity=2)  # type: ignore[no-untyped-call]
        hole, ground = set(regions[masks & 2 > 0]), set(regions[masks & 1 == 0])
        assert len(hole) in (1, 2)
        assert len(ground) == 1
        assert not hole & ground
        assert np.array_equal(image > 0, masks & 3 == 1)
        assert (masks[masks & 2 > 0] & 1).all()


@pytest.mark.parametrize("name", ["rect-tri", "circ-sq"])
def test_ink_is_matched_between_classes(name: str) -> None:
    """The residual: class means of the ink fraction differ by less than 2e-4 of the frame."""
    generator = GENERATORS[name]()
    classes = len(generator.classes)
    f = generator.sample(0, "train", np.arange(400 * classes))
    ink = (generator.render(f).images > 0).mean(axis=(1, 2))
    labels = generator.labels(f)
    means = np.array([ink[labels == k].mean() for k in range(classes)])
    spread = np.array([ink[labels == k].std() for k in range(classes)])
    assert np.ptp(means) < 2e-4
    assert np.ptp(spread) < 2e-4
    # Each block of one sample a class holds nearly the same ink (jaggies of 5 px or so).
    blocks = ink.reshape(-1, classes)
    assert np.ptp(blocks, axis=1).mean() < 3e-3
    assert ink.std() > 0.02


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("name", ["rect-tri", "circ-sq"])
def test_drawn_area_is_the_analytic_area(name: str, antialias: bool) -> None:
    """Bias under 0.1 % over 1000 images; of grey edges over 200."""
    generator = GENERATORS[name](parameters={"antialias": antialias})
    f = generator.sample(3, "train", np.arange(200 if antialias else 1000))
    if name == "circ-sq":
        area = f["size_1"].astype(float) ** 2 + f["size_2"].astype(float) ** 2
    else:
        area = f["width"].astype(float) * f["height"]
        area -= np.sqrt(3) / 4 * f["triangle_side"].astype(float) ** 2
    drawn = generator.render(f).images.sum(axis=(1, 2), dtype=float) / 255.0
    assert drawn.sum() == pytest.approx(area.sum(), rel=1e-3 if not antialias else 1e-4)
    if antialias:
        assert abs(drawn / area - 1.0).max() < 1e-3


@pytest.mark.parametrize("name", ["rect-tri", "circ-sq"])
def test_position_and_nuisance_factors_do_not_tell_the_class(name: str) -> None:
    """Class means agree to 4 standard errors, whole distributions by Kolmogorov-Smirnov."""
    generator = GENERATORS[name]()
    n, classes = 2000, len(generator.classes)
    f = generator.sample(1, "train", np.arange(n * classes))
    labels = generator.labels(f)
    columns = {factor.name: f[factor.name].astype(float) for factor in generator.factors if factor.kind != "class"}
    if name == "rect-tri":
        columns["aspect"] = columns["width"] / columns["height"]
    for factor, values in columns.items():
        of_class = [values[labels == k] for k in range(classes)]
        assert np.ptp([mine.mean() for mine in of_class]) <= 4.0 * values.std() * np.sqrt(2 / n), factor
        assert min(ks_2samp(of_class[0], other).pvalue for other in of_class[1:]) > 1e-6, factor


def test_rectangles_stand_anywhere_in_their_disc_alike() -> None:
    """Its radius is that of the round rectangle of the same ink: the frame's half, less 1 px, less half a diagonal."""
    _, f = rect_tri()
    reach = np.hypot(*sides(f, 20.0)) / 2
    x, y = f["x"] - 64.0, f["y"] - 64.0
    share = (x**2 + y**2) / (63.0 - reach) ** 2  # of the disc's area
    for label in range(4):
        mine = 2 * f["corner"] + f["triangle"] == label
        assert kstest(share[mine], "uniform").pvalue > 1e-4
        assert kstest(np.arctan2(y, x)[mine] / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4
