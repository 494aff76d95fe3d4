"""The published recipes: Pillow's pixels, the recipe's ranges, the published statistics.

Run alone: python -m pytest tests/generators/test_published.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generators import GENERATORS
from tests.generators.pil_oracle import ORACLES

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FILES = {"rect-tri-published": "rectangle-triangle.npz", "circ-sq-published": "circle-square.npz"}

# Mean and sd of the ink fraction by class: the authors' generators run again (1000 a class).
INK = {
    "rect-tri-published": [(0.3065, 0.048), (0.2971, 0.053), (0.3300, 0.049), (0.3190, 0.045)],
    "circ-sq-published": [(0.0876, 0.031), (0.0988, 0.036), (0.1102, 0.042)],
}


@pytest.mark.parametrize("name", list(ORACLES))
@pytest.mark.parametrize(("size", "n"), [(128, 300), (16, 60), (33, 60), (64, 60), (201, 40)])
def test_pillow_draws_the_same_pixels(name: str, size: int, n: int) -> None:
    generator = GENERATORS[name](size=size, parameters={"rotation": 180})
    factors = generator.sample(4, "train", np.arange(n))
    factors["angle"][:5] = (0, 90, -90, 180, -180)
    images = generator.render(factors).images
    for row, image in zip(factors, images, strict=True):
        assert np.array_equal(ORACLES[name](row, size), image)


@pytest.mark.parametrize("name", list(ORACLES))
@pytest.mark.parametrize("size", [33, 128])
def test_masks_where_the_recipes_shapes_cross(name: str, size: int) -> None:
    """Squares that overlap, triangles that leave the rectangle: evidence is still what the counterfactual changes."""
    generator = GENERATORS[name](size=size)
    factors = generator.sample(2, "train", np.arange(6000))
    other = factors.copy()
    if name == "circ-sq-published":
        other["shape_1"] = other["shape_2"] = 1
        crossing = (generator.render(other).masks & 3 == 3).any(axis=(1, 2))
    else:
        other["corner"] = 1 - factors["corner"]
        cut = generator.render(factors).masks & 2, generator.render(other).masks & 2
        crossing = (cut[0] != cut[1]).any(axis=(1, 2))
    factors = factors[crossing]
    assert len(factors) > 15
    drawn = generator.render(factors)
    for k, factor in enumerate(generator.class_factors):
        changed = drawn.images != generator.render(generator.counterfactual(factors, factor)).images
        assert np.array_equal(drawn.masks >> (2 + k) & 1 > 0, changed)
    one, two = drawn.masks & 1 > 0, drawn.masks & 2 > 0
    assert np.array_equal(drawn.images > 0, one | two if name == "circ-sq-published" else one & ~two)
    assert name == "circ-sq-published" or not (two & ~one).any()


@pytest.mark.parametrize("name", list(ORACLES))
def test_factors_are_the_recipes_integers(name: str) -> None:
    generator = GENERATORS[name]()
    f = generator.sample(0, "train", np.arange(20_000))
    angle, counts = np.unique(f["angle"], return_counts=True)
    assert angle.tolist() == list(range(-90, 91))
    assert counts.max() / counts.min() < 2.5
    if name == "rect-tri-published":
        length_x = f["width"] - 1
        start_x = f["x"] - (length_x + 1) / 2
        offset = f["triangle_x"] - start_x
        assert np.unique(length_x).tolist() == list(range(64, 89))
        assert start_x.min() == 20
        assert (start_x + length_x).max() == 108
        assert offset.min() == 4
        assert (offset <= length_x // 2).all()
        assert f["leg_x"].min() == f["triangle_side"].min() == 16
        assert (f["leg_x"] + offset <= length_x).all()
    else:
        radius = [(f[f"size_{k}"] - 1) / 2 for k in (1, 2)]
        assert np.unique(radius[0]).tolist() == list(range(8, 22))
        x, y = f["x_2"] - 0.5, f["y_2"] - 0.5
        assert (x >= radius[1]).all()
        assert (x <= 128 - radius[1]).all()
        distance = np.hypot(f["x_1"] - f["x_2"], f["y_1"] - f["y_2"])
        assert (distance >= radius[0] + radius[1] + 10).all()
        assert y.max() > 118  # overhanging the lower border, as published


@pytest.mark.parametrize("name", list(ORACLES))
def test_ink_fractions_are_the_authors(name: str) -> None:
    generator = GENERATORS[name]()
    n = 1000
    factors = generator.sample(0, "train", np.arange(n * len(generator.classes)))
    ink = (generator.render(factors).images > 0).mean(axis=(1, 2))
    labels = generator.labels(factors)
    for label, (mean, sd) in enumerate(INK[name]):
        # Both means come from 1000 images.
        assert abs(ink[labels == label].mean() - mean) < 4.0 * sd * np.sqrt(2 / n)
        assert ink[labels == label].std() == pytest.approx(sd, rel=0.15)


@pytest.mark.parametrize("name", list(ORACLES))
def test_statistics_of_the_published_file(name: str) -> None:
    path = DATA / FILES[name]
    if not path.exists():
        pytest.skip("../shared/data is not here")
    with np.load(path, allow_pickle=False) as file:
        published, labels = file["x_train"].reshape(-1, 128, 128), file["y_train"]
    generator = GENERATORS[name]()
    assert len(published) == generator.default_n
    factors = generator.sample(0, "train", np.arange(3000))
    ours, our_labels = generator.render(factors).images, generator.labels(factors)
    for label in range(len(generator.classes)):
        theirs = published[labels == label] > 0
        mine = ours[our_labels == label] > 0
        for statistic in (ink, outline, border):
            a, b = statistic(theirs), statistic(mine)
            error = np.sqrt(a.var() / len(a) + b.var() / len(b))
            assert abs(a.mean() - b.mean()) < 4.5 * error + 1e-12, (label, statistic.__name__)


def ink(images: np.ndarray) -> np.ndarray:
    return np.asarray(images.mean(axis=(1, 2)))


def outline(images: np.ndarray) -> np.ndarray:
    """Changes along rows and columns: edges carry the texture of the rotation."""
    across, down = images[:, :, 1:] != images[:, :, :-1], images[:, 1:] != images[:, :-1]
    return np.asarray(across.sum(axis=(1, 2)) + down.sum(axis=(1, 2)))


def border(images: np.ndarray) -> np.ndarray:
    """Whether ink touches the border: objects that the rotation has cut."""
    rim = images[:, [0, -1]].any(axis=(1, 2)) | images[:, :, [0, -1]].any(axis=(1, 2))
    return np.asarray(rim.astype(np.float64))
