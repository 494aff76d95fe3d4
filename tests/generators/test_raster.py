"""Exact rasteriser against float64 point-in-shape tests written as plain formulas.

Run alone: python -m pytest tests/generators/test_raster.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import points_in_poly

from generators import polygons, raster
from generators.raster import Spans
from tests.generators.painted import painted

Floats = NDArray[np.float64]
N, NEAR = 60, 1e-9  # images a shape; pixel centres nearer than NEAR to an outline do not count


def pixels(spans: Spans, size: int) -> NDArray[np.bool_]:
    out = np.zeros((len(spans.start), size, size), np.uint8)
    painted([(spans, 1)], out)
    return out.astype(bool)


def local(cx: Floats, cy: Floats, angle: Floats, size: int) -> tuple[Floats, Floats]:
    """Pixel centres in the frame of shapes turned counter-clockwise as seen, `[n, H, W]`."""
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    a = np.deg2rad(angle)[:, None, None]
    return np.cos(a) * dx - np.sin(a) * dy, np.sin(a) * dx + np.cos(a) * dy


def check(got: NDArray[np.bool_], signed: Floats) -> None:
    """`signed` < 0 inside, in about px."""
    sure = abs(signed) > NEAR
    assert sure.mean() > 0.999
    assert np.array_equal(got[sure], (signed < 0)[sure])


@pytest.fixture(params=[16, 33, 128, 200])
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def some(size: int) -> dict[str, Floats]:
    """Centres in and near the frame, angles with all quarter turns, half sides."""
    rng = np.random.default_rng(size)
    angle = rng.uniform(-180, 180, N)
    angle[:9] = np.arange(-180, 181, 45)
    # The rasteriser puts angles on a grid; far from it, the test would compare other shapes.
    turned = raster.axes(angle)
    return {
        "cx": rng.uniform(-0.1, 1.1, N) * size,
        "cy": rng.uniform(-0.1, 1.1, N) * size,
        "angle": np.rad2deg(np.arctan2(-turned.uy, turned.ux)),
        "a": rng.uniform(0.05, 0.5, N) * size,
        "b": rng.uniform(0.05, 0.5, N) * size,
    }


def test_axes_turn_counter_clockwise_as_seen_and_are_exact_at_quarter_turns() -> None:
    turned = raster.axes(np.array([0.0, 90.0, 180.0, -90.0, 30.0]))
    assert turned.ux[:4].tolist() == [1.0, 0.0, -1.0, 0.0]
    assert turned.uy[:4].tolist() == [0.0, -1.0, 0.0, 1.0]  # y down: 90 degrees points up
    assert turned.ux[4] == pytest.approx(np.sqrt(0.75), abs=1e-7)
    assert turned.uy[4] == pytest.approx(-0.5, abs=1e-7)
    angles = np.random.default_rng(0).uniform(-360, 360, 1000)
    turned = raster.axes(angles)
    assert abs(turned.ux - np.cos(np.deg2rad(angles))).max() < 1e-7
    assert abs(np.hypot(turned.ux, turned.uy) - 1.0).max() < 1e-15


def test_disc(size: int) -> None:
    s = some(size)
    u, v = local(s["cx"], s["cy"], s["angle"], size)
    check(
        pixels(raster.disc(s["cx"], s["cy"], s["a"], size), size),
        np.hypot(u, v) - s["a"][:, None, None],
    )


def test_box(size: int) -> None:
    s = some(size)
    u, v = local(s["cx"], s["cy"], s["angle"], size)
    signed = np.maximum(abs(u) - s["a"][:, None, None], abs(v) - s["b"][:, None, None])
    turned = raster.axes(s["angle"])
    check(pixels(raster.box(s["cx"], s["cy"], turned, s["a"], s["b"], size), size), signed)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_round_box(size: int, share: float) -> None:
    s = some(size)
    radius = share * np.minimum(s["a"], s["b"])
    u, v = local(s["cx"], s["cy"], s["angle"], size)
    qx = abs(u) - (s["a"] - radius)[:, None, None]
    qy = abs(v) - (s["b"] - radius)[:, None, None]
    signed = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0)
    signed -= radius[:, None, None]
    spans = raster.round_box(s["cx"], s["cy"], raster.axes(s["angle"]), s["a"], s["b"], radius, size)
    check(pixels(spans, size), signed)


def test_triangle(size: int) -> None:
    rng = np.random.default_rng(size)
    vertices = rng.uniform(-0.1, 1.1, (N, 3, 2)) * size
    vertices[:10, 1, 1] = vertices[:10, 0, 1]  # level edges
    vertices[10:20, 2, 0] = vertices[10:20, 0, 0]  # upright edges
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    sides = []
    for k in range(3):
        (x0, y0), (x1, y1) = vertices[:, k].T, vertices[:, (k + 1) % 3].T
        cross = (x1 - x0)[:, None, None] * (y - y0[:, None, None])
        cross -= (y1 - y0)[:, None, None] * (x - x0[:, None, None])
        sides.append(cross / np.hypot(x1 - x0, y1 - y0)[:, None, None])
    signed = -np.maximum(np.minimum.reduce(sides), np.minimum.reduce([-s for s in sides]))
    check(pixels(raster.triangle(vertices, size), size), signed)


@pytest.mark.parametrize("exponent", [2.0, 2.5, 8.0, 200.0])
def test_superellipse(size: int, exponent: float) -> None:
    s = some(size)
    u, v = local(s["cx"], s["cy"], s["angle"], size)
    with np.errstate(over="ignore", under="ignore"):
        scaled_u, scaled_v = (abs(w / s["a"][:, None, None]) for w in (u, v))
        signed = (scaled_u**exponent + scaled_v**exponent) - 1.0
    spans = raster.superellipse(s["cx"], s["cy"], raster.axes(s["angle"]), s["a"], exponent, size)
    check(pixels(spans, size), np.minimum(signed, 1e9))


def test_area_has_no_bias() -> None:
    """Over 1000 shapes of each kind the pixels count the analytic area to 0.1 %."""
    rng = np.random.default_rng(5)
    n, size = 1000, 128
    cx, cy = rng.uniform(60, 68, (2, n))
    a, b = rng.uniform(16, 42, (2, n))
    turned = raster.axes(rng.uniform(-90, 90, n))
    radius = np.full(n, 15.0)
    reach = np.stack([np.array([[-1, -1], [1, -1], [0, 1]])] * n) * 30.0
    vertices = reach + rng.uniform(-5, 5, (n, 3, 2)) + 64.0
    d, e = vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0]
    cases: dict[str, tuple[Spans, Any]] = {
        "disc": (raster.disc(cx, cy, a, size), np.pi * a**2),
        "box": (raster.box(cx, cy, turned, a, b, size), 4 * a * b),
        "round box": (
            raster.round_box(cx, cy, turned, a, b, radius, size),
            4 * a * b - (4 - np.pi) * radius**2,
        ),
        "triangle": (
            raster.triangle(vertices, size),
            abs(d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0]) / 2,
        ),
    }
    for name, (spans, area) in cases.items():
        drawn = (spans.stop - spans.start).sum()
        assert drawn == pytest.approx(area.sum(), rel=1e-3), name


@pytest.mark.parametrize("size", [128, 129])
def test_paint_is_the_exclusive_or_of_its_layers(size: int) -> None:
    rng = np.random.default_rng(0)
    layers = []
    expected = np.zeros((3, size, size), np.uint8)
    for value in (1, 6, 3):
        ends = np.sort(rng.integers(0, size + 1, (2, 3, size)), axis=0)
        layers.append((Spans(ends[0], ends[1]), value))
        for i in range(3):
            for row in range(size):
                expected[i, row, ends[0, i, row] : ends[1, i, row]] ^= value
    out = np.full((3, size, size), 255, np.uint8)
    painted(layers, out)
    assert np.array_equal(out, expected)


def test_a_polygon_holds_the_pixels_that_scikit_image_finds_in_it() -> None:
    rng = np.random.default_rng(0)
    turn, radius = np.sort(rng.uniform(0.0, 2.0 * np.pi, (20, 17)), axis=1), rng.uniform(10.0, 50.0, (20, 17))
    corners = np.stack((64.0 + radius * np.cos(turn), 64.0 + radius * np.sin(turn)), axis=2)
    drawn = np.empty((20, 128, 128), np.uint8)
    painted([(polygons.polygon(corners[..., 0], corners[..., 1], 128), 1)], drawn)
    rows, columns = np.mgrid[:128, :128] + 0.5
    centres = np.stack((columns.ravel(), rows.ravel()), axis=1)
    for image, outline in zip(drawn, corners, strict=True):
        assert np.array_equal(image.ravel() > 0, points_in_poly(centres, outline))  # type: ignore[no-untyped-call]


def test_a_polygon_of_short_edges_may_have_a_hole() -> None:
    turn, phase = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False), np.arange(5.0)[:, None]
    outlines = [
        np.stack((64.3 + r * np.cos(turn), 63.8 + r * np.sin(turn)), axis=2)
        for r in (40.0 + 6.0 * np.cos(3.0 * turn + phase), 21.0 + 9.0 * np.cos(2.0 * turn - phase))
    ]
    corners = np.stack((outlines[0], outlines[1][:, ::-1]), axis=1)
    drawn = np.empty((5, 128, 128), np.uint8)
    painted([(polygons.polygon(corners[..., 0], corners[..., 1], 128), 1)], drawn)
    rows, columns = np.mgrid[:128, :128] + 0.5
    centres = np.stack((columns.ravel(), rows.ravel()), axis=1)
    for image, outer, inner in zip(drawn, *outlines, strict=True):
        outside, hole = (points_in_poly(centres, outline) for outline in (outer, inner))  # type: ignore[no-untyped-call]
        assert np.array_equal(image.ravel() > 0, outside & ~hole)
