"""landolt: the proportions of ISO 8596 measured in pixels, quarter turns, and an answer that is local and readable.

Run alone: python -m pytest tests/generators/test_landolt.py
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from generators import Landolt
from generators.certify import equal_multisets
from tests.generators.bags import bag, separation


def drawn(n: int = 40, *, size: int = 128, **parameters: float) -> tuple[Landolt, NDArray[np.void]]:
    generator = Landolt(size=size, parameters=parameters)
    return generator, generator.sample(3, "train", np.arange(n))


def runs(line: NDArray[np.bool_]) -> list[tuple[bool, int]]:
    return [(bool(ink), len(list(pixels))) for ink, pixels in groupby(line)]


@pytest.mark.parametrize("gap", [11.3, 16.0])
def test_proportions_are_those_of_iso_8596(gap: float) -> None:
    """To a pixel of 512: diameter 5 gaps, stroke 1 gap, hole 3 gaps, opening 1 gap with parallel sides."""
    generator, f = drawn(8, size=512, gap=gap)
    pixels = gap * 4
    for image, row in zip(generator.render_images(f) > 0, f, strict=True):
        upright = np.rot90(image, -int(row["opening"]))  # now open to the right
        rows, columns = (np.flatnonzero(upright.any(axis=axis)) for axis in (1, 0))
        assert np.ptp(rows) + 1 == pytest.approx(5 * pixels, abs=1.01)
        middle_y, middle_x = (rows[0] + rows[-1] + 1) // 2, columns[0] + round(2.5 * pixels)
        (_, above), *strokes, (_, below) = runs(upright[:, middle_x])
        assert [length for _, length in strokes] == pytest.approx([pixels, 3 * pixels, pixels], abs=1.01)
        assert [ink for ink, _ in strokes] == [True, False, True]
        assert above + below == 512 - sum(length for _, length in strokes)
        for away in (1.6, 2.0, 2.4):
            line = upright[:, middle_x + round(away * pixels)]
            _, _, (ink, opening), *_ = runs(line)
            assert not ink
            assert opening == pytest.approx(pixels, abs=1.01)
            assert not line[middle_y]
        assert runs(upright[middle_y, :middle_x])[1][1] == pytest.approx(pixels, abs=1.01)


def test_openings_are_quarter_turns_of_one_ring() -> None:
    generator, f = drawn(4, antialias=True)
    f["x"], f["y"] = 64.0, 64.0
    images = [generator.render_images(generator.counterfactual(f, "opening", value)) for value in range(4)]
    for value, turned in enumerate(images):
        assert abs(np.rot90(images[0], value, axes=(1, 2)).astype(int) - turned).max() <= 1


def test_the_counterfactual_is_no_mirror_image_unless_asked_for() -> None:
    generator, f = drawn()
    assert {*zip(f["opening"].tolist(), generator.counterfactual(f, "opening")["opening"].tolist(), strict=True)} == {
        (0, 1),
        (1, 0),
        (2, 3),
        (3, 2),
    }
    assert (generator.counterfactual(f, "opening", 2)["opening"] == 2).all()


@pytest.mark.parametrize("gap", [1.4, 2.0, 6.0, 6.3])
def test_fractions_of_a_pixel_show_in_grey_edges(gap: float) -> None:
    """Ink: pi (2.5**2 - 1.5**2) gap**2 less the opening's 1.0115 gap**2; evidence: both openings, no more."""
    generator, f = drawn(gap=gap, antialias=True)
    rendered = generator.render(f)
    assert rendered.images.sum(axis=(1, 2)) / 255 == pytest.approx((4 * np.pi - 1.0115) * gap**2, rel=4e-3)
    other = generator.render_images(generator.counterfactual(f, "opening"))
    moved = abs(rendered.images.astype(int) - other).sum(axis=(1, 2)) / 255
    assert moved == pytest.approx(2 * 1.0115 * gap**2, rel=0.03)
    assert np.array_equal(rendered.images != other, rendered.masks & 2 > 0)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (128, {}),
        (128, {"dark": 1, "contrast": 0.2, "background": 0.3, "rotation": 20}),
        (128, {"gap": 2.0}),
        (128, {"gap": 1.0, "antialias": 1}),
        (128, {"gap": 16.0, "gap_ratio": 2.0}),
        (64, {}),
        (32, {"antialias": 1}),
        (32, {"gap": 8.0}),
        (512, {}),
    ],
)
def test_the_ideal_reader_is_always_right(size: int, parameters: dict[str, float]) -> None:
    generator, f = drawn(200 if size < 512 else 12, size=size, **parameters)
    assert np.array_equal(generator.read(generator.render_images(f))["opening"], f["opening"])


def test_the_answer_is_in_local_statistics() -> None:
    generator, f = drawn(200)
    images, others = generator.render_images(f), generator.render_images(generator.counterfactual(f, "opening"))
    assert not equal_multisets(images[:40], others[:40], 3).any()
    assert separation(bag, images, others, f["opening"]) > 0.99


def test_place_and_gap_do_not_tell_the_opening() -> None:
    generator, f = drawn(4000, gap_ratio=2.0)
    assert f["gap"].min() == pytest.approx(6 / np.sqrt(2), rel=0.01)
    assert f["gap"].max() == pytest.approx(6 * np.sqrt(2), rel=0.01)
    assert np.hypot(f["x"] - 64, f["y"] - 64).max() == pytest.approx(30, abs=0.2)
    for column in ("gap", "x", "y"):
        of_class = [f[column][generator.labels(f) == k] for k in range(4)]
        assert min(ks_2samp(of_class[0], other).pvalue for other in of_class[1:]) > 1e-3


def test_rings_are_whole_however_they_are_placed() -> None:
    generator, f = drawn(200, gap=16.0, gap_ratio=2.0, place=60.0, rotation=20.0)
    images = generator.render_images(f)
    images[:, 1:-1, 1:-1] = 0
    assert not images.any()
