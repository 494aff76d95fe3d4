"""Windows of rows: what is drawn in them is what would be drawn in whole frames.

Run alone: python -m pytest tests/generators/test_planes.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import points_in_poly

from generators import planes, polygons, raster
from generators.raster import Layer, Spans
from generators.shapes import Choice, Disc
from tests.generators.painted import painted

N = 5


def drawn(layers: Sequence[Layer], size: int) -> NDArray[np.bool_]:
    return painted([(spans, 1) for spans in layers], np.empty((N, size, size), np.uint8)) > 0


@pytest.mark.parametrize("size", [16, 33, 128, 200])
@pytest.mark.parametrize("height", ["one row", "some rows", "frame"])
def test_windows_of_rows_are_painted_where_they_stand(size: int, height: str) -> None:
    """From the first row of the first frame to the last row of the last; columns beyond the frame are none."""
    rng = np.random.default_rng(size)
    h = {"one row": 1, "some rows": size // 3, "frame": size}[height]
    top = np.array([0, size - h, (size - h) // 2, 0, size - h])
    expected = np.zeros((N, size, size), np.uint8)
    layers = []
    for value in (1, 6, 3):
        start, stop = np.sort(rng.integers(-9, size + 9, (2, N, h)), axis=0)
        layers.append((Spans(start, stop, top + size * np.arange(N)), value))
        for i in range(N):
            for row in range(h):
                expected[i, top[i] + row, max(start[i, row], 0) : max(stop[i, row], 0)] ^= value
    out = np.full((N, size, size), 255, np.uint8)
    np.testing.assert_array_equal(painted(layers, out), expected)


@pytest.mark.parametrize("low", [-50.0, -8.0, -7.5, -0.3, 0.5, 9.2, 23.5, 31.9, 32.5, 70.0])
@pytest.mark.parametrize("long", [0.0, 0.4, 1.0, 7.3])
def test_a_window_has_every_row_whose_centre_a_shape_can_hold(low: float, long: float) -> None:
    """Beside a small shape and one out of sight."""
    size = 32
    top, bottom = np.array([low, 3.0, -90.0]), np.array([low + long, 3.4, -80.0])
    first, y = raster.window(top, bottom, np.array([4.0, 0.0, 1.0]), size)
    rows = first[:, None] + np.arange(y.shape[1])
    np.testing.assert_array_equal(rows // size, np.arange(3)[:, None] + 0 * rows)  # of its own frame
    np.testing.assert_array_equal(y, rows % size + 0.5 - [[4.0], [0.0], [1.0]])
    needed = {row for row in range(size) if low <= row + 0.5 <= low + long}
    assert needed <= set((rows[0] % size).tolist())
    assert y.shape[1] <= long + 3


def test_shapes_out_of_sight_have_no_rows() -> None:
    x, radius = np.full(N, 8.0), np.full(N, 3.0)
    for y in (-30.0, 60.0):
        [spans] = Disc(x, np.full(N, y), radius).layers(16)
        assert isinstance(spans, Spans)
        assert spans.start.shape == (N, 0)
        assert not drawn([spans], 16).any()


def test_what_is_cut_is_lost_of_what_was_drawn_before() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y, radius = rng.uniform(-4, 44, (3, N)), rng.uniform(-4, 44, (3, N)), rng.uniform(1, 20, (3, N))
        one, gone, other = (raster.disc(x[k], y[k], radius[k], 40) for k in range(3))
        expected = (drawn([one], 40) & ~drawn([gone], 40)) ^ drawn([other], 40)
        np.testing.assert_array_equal(drawn([one, gone._replace(cut=True), other], 40), expected)


def test_a_band_has_the_rows_of_all_layers_and_no_more_than_the_highest_needs() -> None:
    """Shapes of some images, at both ends of the frame; where they take up much of it, whole frames."""
    image, x = np.arange(N), np.full(N, 50.0)
    y = np.array([0.0, 3.0, 50.0, 97.0, 130.0])
    one, two = (raster.disc(x[of], y[of] + aside, x[of] / 12.0, 100) for of, aside in ((image, 0.0), (image[1:4], 5.0)))
    moved = raster.of_images(two, image[:3] + 1, 100)
    assert isinstance(moved, Spans)
    two = moved
    rows = planes.band([one, two], N, 100)
    assert rows.first is not None
    assert rows.height < 60
    for spans, of in ((one, image), (two, image[:3] + 1)):
        assert spans.first is not None
        assert (spans.first >= rows.first[of]).all()
        assert (spans.first + spans.start.shape[1] <= rows.first[of] + rows.height).all()
    assert (rows.first // 100 == image).all()
    assert ((rows.first + rows.height - 1) // 100 == image).all()
    assert planes.band([raster.disc(x, x, x, 100)], N, 100) == planes.Band(None, 100)
    assert planes.band([], 0, 100) == planes.Band(None, 100)
    assert planes.band([raster.disc(x, x + 90.0, x / 12.0, 100)], N, 100).height == 1  # all of them out of sight


def test_a_choice_of_shapes_is_drawn_in_the_images_that_it_is_for() -> None:
    which = np.array([False, True, True, False, True])
    place = np.arange(3.0, 3.0 + 5 * N, 5.0)
    large, small = Disc(place, place, np.full(N, 6.0)), Disc(place + 2.0, place, np.full(N, 2.0))
    expected = np.where(which[:, None, None], drawn(large.layers(32), 32), drawn(small.layers(32), 32))
    np.testing.assert_array_equal(drawn(Choice(which, large, small).layers(32), 32), expected)


@pytest.mark.parametrize("aside", [(0.0, 0.0), (-20.3, 7.7), (0.0, -60.0), (35.13, 30.21)])
def test_a_row_may_meet_a_polygon_many_times_and_a_frame_may_cut_it(aside: tuple[float, float]) -> None:
    size, teeth = 64, np.arange(9.0)
    x = np.concatenate((6.1 * teeth + 4.2, [56.3, 4.2]))
    y = np.concatenate((np.where(teeth % 2, 44.7, 6.3), [58.9, 58.9]))
    lean = np.linspace(-0.2, 0.2, N)[:, None]
    corners = np.stack((x + aside[0] + lean * y, y + aside[1] + lean * x), axis=2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    centres = np.stack((columns.ravel(), rows.ravel()), axis=1)
    for image, outline in zip(
        drawn([polygons.polygon(corners[..., 0], corners[..., 1], size)], size), corners, strict=True
    ):
        inside = points_in_poly(centres, outline)  # type: ignore[no-untyped-call]
        np.testing.assert_array_equal(image.ravel(), inside)


def test_planes_are_unpacked_to_the_values_of_all_of_them() -> None:
    rng = np.random.default_rng(2)
    for size in (16, 100, 129):
        pixels = rng.integers(0, 2, (3, N, size, size), np.uint8)
        packed = [np.packbits(plane, axis=-1, bitorder="little") for plane in pixels]
        out = np.full((N, size, size), 7, np.uint8)
        planes.unpack(list(zip(packed, (1, 4, 128), strict=True)), planes.Band(None, size), out)
        np.testing.assert_array_equal(out, pixels[0] | pixels[1] << 2 | pixels[2] << 7)
