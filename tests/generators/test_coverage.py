"""Exact area coverage against polygons clipped to each pixel, and against analytic areas.

Run alone: python -m pytest tests/generators/test_coverage.py
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from generators import raster
from generators.coverage import (
    ARC_ERROR,
    Outline,
    arc_steps,
    box_outline,
    coverage,
    superellipse_outline,
)

Floats = NDArray[np.float64]
Point = tuple[float, float]


def clipped_area(polygon: list[Point], column: int, row: int) -> float:
    """Sutherland-Hodgman: the area of a convex polygon inside one pixel."""
    for axis, bound, keep in ((0, column, 1), (0, column + 1, -1), (1, row, 1), (1, row + 1, -1)):
        result: list[Point] = []
        for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            inside_p, inside_q = keep * (p[axis] - bound) >= 0, keep * (q[axis] - bound) >= 0
            if inside_p:
                result.append(p)
            if inside_p != inside_q:
                t = (bound - p[axis]) / (q[axis] - p[axis])
                result.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
        polygon = result
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(p[0] * q[1] - p[1] * q[0] for p, q in pairs)) / 2.0


def reference(polygons: Floats, size: int) -> Floats:
    out = np.zeros((len(polygons), size, size))
    for i, polygon in enumerate(polygons):
        points = [(float(x), float(y)) for x, y in polygon]
        for row in range(size):
            for column in range(size):
                out[i, row, column] = clipped_area(points, column, row)
    return out


@pytest.mark.parametrize("way", [1, -1])
def test_polygons_in_and_across_the_frame(way: int) -> None:
    rng = np.random.default_rng(1)
    polygons = rng.uniform(-4, 20, (12, 3, 2))[:, ::way]
    polygons[0] = [[2, 3], [2, 9], [7, 9]]  # on pixel borders
    polygons[1] = [[2.25, 3.5], [2.25, 3.75], [2.5, 3.75]]  # inside one pixel
    got = coverage([Outline(polygons, 1)], 16)
    assert abs(got - reference(polygons, 16)).max() < 1e-9


def test_a_cut_out_shape_is_subtracted() -> None:
    one = np.ones(1)
    outer = box_outline(8 * one, 8 * one, raster.axes(20 * one), 5 * one, 4 * one, 0.0)
    inner = np.array([[[6.3, 7.1], [9.9, 7.7], [7.2, 10.4]]])
    got = coverage([Outline(outer, 1), Outline(inner, -1)], 16)
    assert abs(got - (reference(outer, 16) - reference(inner, 16))).max() < 1e-9


def test_curved_outlines_keep_their_area() -> None:
    """An arc is off by at most ARC_ERROR, so a pixel is off by far less than a grey level."""
    n, size = 20, 128
    rng = np.random.default_rng(2)
    cx, cy = rng.uniform(60, 68, (2, n))
    half, radius = rng.uniform(20, 40, n), 13.7
    turned = raster.axes(rng.uniform(-90, 90, n))
    circle = coverage([Outline(superellipse_outline(cx, cy, turned, half, 2.0, size), 1)], size)
    assert abs(circle.sum(axis=(1, 2)) - np.pi * half**2).max() < 2 * np.pi * 40 * ARC_ERROR
    rounded = coverage([Outline(box_outline(cx, cy, turned, half, half, radius), 1)], size)
    area = 4 * half**2 - (4 - np.pi) * radius**2
    assert abs(rounded.sum(axis=(1, 2)) - area).max() < 2 * np.pi * 20 * ARC_ERROR


@pytest.mark.parametrize("exponent", [2.0, 3.0, 10.0, 100.0])
def test_superellipse_coverage_against_many_points(exponent: float) -> None:
    size, fine, half = 48, 32, 17.3
    one = np.ones(1)
    turned = raster.axes(23.0 * one)
    outline = superellipse_outline(24.2 * one, 23.7 * one, turned, half * one, exponent, size)
    got = coverage([Outline(outline, 1)], size)[0]
    grid = (np.arange(size * fine) + 0.5) / fine
    x, y = np.meshgrid(grid - 24.2, grid - 23.7)
    ux, uy = float(turned.ux[0]), float(turned.uy[0])
    u, v = abs(ux * x + uy * y) / half, abs(ux * y - uy * x) / half
    inside = (u**exponent + v**exponent <= 1.0).reshape(size, fine, size, fine)
    # A supersampled pixel that a straight edge crosses is off by less than 1 / fine.
    assert abs(got - inside.mean(axis=(1, 3))).max() < 1.0 / fine
    assert abs(got - inside.mean(axis=(1, 3))).mean() < 2e-4


@pytest.mark.parametrize("radius", [1.0, 20.0, 180.0])
def test_arc_steps_keep_their_promise(radius: float) -> None:
    half_step = np.pi / 4.0 / arc_steps(radius)
    assert radius * (1.0 - np.cos(half_step)) <= ARC_ERROR
