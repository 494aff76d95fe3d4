"""make_views over the table of recipes, and the picture of the views.

Alone: pytest tests/views/test_views.py
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from probekit.output.mosaic import GAP
from probekit.output.style import COLUMN, PAGE
from probekit.restore import draw
from probekit.restore.draw import FRAMES, views_figure
from probekit.views.corrupt import CORRUPTIONS
from probekit.views.crops import resize_crops
from probekit.views.recipes import RECIPES, Recipe, ViewMaker, make_views
from tests.chance import apply_to_all, noise, seeded, within_five_sigma
from tests.datasets import small_shapes


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 16, 16), (3, 16, 24), (1, 64, 64), (3, 128, 64), (1, 25, 17)]
)
def test_views_keep_their_contract(recipe: str, channels: int, height: int, width: int) -> None:
    images = noise(6, channels, height, width)
    before = images.clone()
    views = make_views(recipe, images, seeded())
    V = RECIPES[recipe].views
    for x in (views.inputs, views.targets):
        assert x.shape == (V, 6, channels, height, width)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert not x.requires_grad
        assert x.min() >= 0
        assert x.max() <= 1
    assert views.boxes.shape == (V, 6, 4)
    assert views.boxes.dtype == torch.int64
    assert views.flipped.shape == (V, 6)
    assert views.flipped.dtype == torch.bool
    assert torch.equal(images, before)
    assert (views.inputs is views.targets) == (not RECIPES[recipe].corrupt)
    assert V == 1 or not torch.equal(views.targets[0], views.targets[1])


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "whole"])
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_the_generator_alone_decides(recipe: str, channels: int) -> None:
    images = noise(4, channels, 32, 32)
    torch.manual_seed(1)
    first = make_views(recipe, images, seeded(5))
    torch.manual_seed(2)
    again, other = make_views(recipe, images, seeded(5)), make_views(recipe, images, seeded(6))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.inputs, other.inputs)
    assert not torch.equal(first.boxes, other.boxes)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_neighbours_do_not_matter(recipe: str, channels: int) -> None:
    images = noise(6, channels, 40, 32)
    others = noise(6, channels, 40, 32, seed=1)
    others[2] = images[2]
    mine, theirs = make_views(recipe, images, seeded()), make_views(recipe, others, seeded())
    assert torch.equal(mine.inputs[:, 2], theirs.inputs[:, 2])
    assert torch.equal(mine.targets[:, 2], theirs.targets[:, 2])
    assert not torch.equal(mine.targets[:, 3], theirs.targets[:, 3])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_no_value_is_read_on_the_way(recipe: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors have shapes and no values: reading one, as a synchronisation with a GPU does, raises."""
    for user in ("jitter", "corrupt"):
        monkeypatch.setattr(f"probekit.views.{user}.apply_where", apply_to_all)
    with FakeTensorMode():
        views = make_views(recipe, torch.zeros(4, channels, 32, 24, dtype=torch.uint8), seeded())
    assert views.inputs.shape == (RECIPES[recipe].views, 4, channels, 32, 24)


def test_targets_are_the_boxes_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.views.recipes.change", lambda x, *drawn: x)
    images = noise(8, 1, 32, 40)
    views = make_views("simclr", images, seeded(3))
    crops = resize_crops(
        images.double().div(255).float(),
        views.boxes.flatten(0, 1),
        views.flipped.flatten(),
        (images.shape[2], images.shape[3]),
    )
    torch.testing.assert_close(views.targets.flatten(0, 1), crops)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (36, 48), (48, 36), (33, 41)])
def test_whole_views_are_the_images_to_the_bit(height: int, width: int) -> None:
    images = noise(500, 1, height, width)
    views = make_views("whole", images, seeded())
    assert torch.equal(views.inputs, (images / 255)[None])
    assert not views.flipped.any()


def test_whole_views_of_oblong_images_are_their_middle() -> None:
    images = noise(4, 3, 30, 90)
    assert torch.equal(make_views("whole", images, seeded()).boxes, torch.tensor([25, 0, 65, 30]).expand(1, 4, 4))


def test_flip_frequency() -> None:
    flipped = make_views("simclr", noise(5000, 1, 16, 16), seeded()).flipped
    assert within_five_sigma(int(flipped.sum()), 10_000, 0.5)


def uncorrelated(a: Tensor, b: Tensor) -> bool:
    """Whether no column of a `[N, k]` goes with one of b, but for one pair in a million; constant ones are left out."""
    columns = torch.cat([a, b], dim=1).double()
    moving = columns.std(0) > 0
    of_a = int(moving[: a.shape[1]].sum())
    across = torch.corrcoef(columns[:, moving].T)[:of_a, of_a:]
    return bool((across.abs() < 5 / len(a) ** 0.5).all())


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.views > 1])
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_views_of_an_image_are_drawn_apart(recipe: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes, flips, colours and blurs as they are applied, and corruptions as drawn, over 5,000 images."""
    monkeypatch.setattr("probekit.views.recipes.PART", 2**62)  # all at once
    n, applied = 5000, list[Tensor]()

    def note(x: Tensor, *drawn: Tensor) -> Tensor:
        applied.append(
            torch.cat([column.float().view(len(x), -1) for column in drawn], dim=1).view(-1, n, width(drawn))
        )
        return x

    def width(drawn: Sequence[Tensor]) -> int:
        return sum(column[0].numel() for column in drawn)

    monkeypatch.setattr("probekit.views.recipes.change", note)
    monkeypatch.setattr("probekit.views.recipes.corrupt_as", lambda x, *drawn: x)
    maker = ViewMaker(RECIPES[recipe], (channels, 8, 8))
    drawn = maker.draw(n, seeded())
    made = maker(noise(n, channels, 8, 8), drawn)
    for views, changes in zip([made, *([made.local] if made.local else [])], applied, strict=True):
        seen = torch.cat([views.boxes, views.flipped[..., None], changes], dim=2)
        assert all(uncorrelated(seen[a], seen[b]) for a, b in combinations(range(len(seen)), 2))
    kind = drawn.corruption[0].view(-1, n, 1) if drawn.corruption else torch.zeros(2, n, 1)
    assert uncorrelated(kind[0], kind[1])
    if made.local is not None:
        assert uncorrelated(made.boxes[0], made.local.boxes[0])


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.views > 1])
def test_colours_of_an_images_views_are_apart_in_the_pixels(recipe: str) -> None:
    """Of plain images, whose views show the colour that was drawn alone."""
    images = torch.tensor([120, 90, 60], dtype=torch.uint8).view(1, 3, 1, 1).expand(5000, 3, 8, 8)
    whole = tuple(kind for kind in RECIPES[recipe].crops if kind.side == 1)
    maker = ViewMaker(Recipe("whole views alone", whole), (3, 8, 8))
    first, second = maker(images, maker.draw(len(images), seeded())).targets.mean((3, 4))
    assert uncorrelated(first, second)


@pytest.mark.parametrize(
    ("recipe", "images", "says"),
    [
        ("conrek", noise(2, 1, 16, 16), "did you mean 'conrec'"),
        ("conrec", torch.rand(2, 1, 16, 16), "found float32 [2, 1, 16, 16]"),
        ("conrec", noise(2, 2, 16, 16), "found uint8 [2, 2, 16, 16]"),
        ("simclr", noise(16, 16, 3), "found uint8 [16, 16, 3]"),
    ],
)
def test_mistakes_are_one_line(recipe: str, images: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=r"^(expected|unknown)") as caught:
        make_views(recipe, images, seeded())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_picture(recipe: str, channels: int) -> None:
    seen: list[Tensor] = []

    def predict(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return torch.zeros_like(inputs)

    def columns(predicted: bool) -> int:
        images = noise(6, channels, 16, 16)
        figure = views_figure(images, recipe=recipe, seed=0, title="a title", predict=predict if predicted else None)
        (axes,) = figure.axes
        assert figure.get_size_inches()[0] in (COLUMN, PAGE)
        assert axes.get_ylim() == (4, 0)
        return round(axes.get_xlim()[1])

    kinds = len(CORRUPTIONS[channels]) if RECIPES[recipe].corrupt else 0
    plain = columns(not kinds)  # without corruption nothing is predicted
    predicted = columns(True) if kinds else plain
    assert [tuple(x.shape) for x in seen] == [(4, channels, 16, 16)] * kinds
    # The source, then a column for each view, small crops too; or the target, and one or two for each corruption.
    assert plain == 1 + (1 + kinds if kinds else sum(crops.n for crops in RECIPES[recipe].crops))
    assert predicted == plain + kinds


def test_the_boxes_of_the_picture_are_those_of_the_crops() -> None:
    """Of the first recipe with two large views: their corners, in pixels of the source, in its colours."""
    images = noise(3, 1, 32, 48)
    views = make_views("simclr", images, seeded())
    (axes,) = views_figure(images, recipe="simclr", seed=0, title="", predict=None).axes
    framed = [patch for patch in axes.patches if to_hex(patch.get_edgecolor()) == FRAMES[0]]
    boxes = [patch for patch in framed if isinstance(patch, Rectangle) and patch.get_x() < 1]
    assert len(boxes) == 3
    scale = (1 - 2 * GAP) / 48
    for patch, box in zip(boxes, views.boxes[0].tolist(), strict=True):
        assert patch.get_x() == pytest.approx(GAP + scale * box[0], abs=1e-6)
        assert patch.get_width() == pytest.approx(scale * (box[2] - box[0]), abs=1e-6)
        assert patch.get_height() == pytest.approx(scale * (box[3] - box[1]), abs=1e-6)


def test_the_scale_bar_counts_pixels_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 64 px are averaged to 16 before they are drawn."""
    drawn: list[Figure] = []
    monkeypatch.setattr(draw, "save", lambda figure, out: drawn.append(figure))
    monkeypatch.setattr(draw, "MOST", 16)
    path = small_shapes(tmp_path / "a.h5", n=4, n_test=4, size=64).path
    draw.draw_method("simclr", path, out=None, split=None, seed=0)
    (axes,) = drawn[0].axes
    (text,) = [text for text in axes.texts if re.fullmatch(r"\d+ px", text.get_text())]
    (bar,) = axes.lines
    ends = np.asarray(bar.get_xdata())
    assert text.get_text() == "16 px"
    assert (ends[1] - ends[0]) / (1 - 2 * GAP) == pytest.approx(16 / 64)


def test_picture_is_of_views_of_the_size_that_is_asked_for() -> None:
    seen: list[Tensor] = []

    def predict(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return inputs

    images = noise(2, 1, 32, 48)
    views_figure(images, recipe="conrec", seed=0, title="a title", predict=predict, size=(16, 24))
    assert {tuple(x.shape) for x in seen} == {(2, 1, 16, 24)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_first_of_a_recipe_is_one_view_by_its_first_law(recipe: str) -> None:
    """Nothing else is drawn, and nothing is corrupted."""
    whole, one = (ViewMaker(r, (3, 32, 32), size=(16, 24)) for r in (RECIPES[recipe], RECIPES[recipe].first))
    kind = RECIPES[recipe].crops[0]
    assert one.recipe.crops == (replace(kind, n=1),)
    images, drawn = noise(6, 3, 32, 32), one.draw(6, seeded())
    made = one(images, drawn)
    assert made.inputs.shape == (1, 6, 3, 16, 24)
    assert made.inputs is made.targets
    assert made.local is None
    assert not drawn.corruption
    assert drawn.boxes.shape[1] * sum(k.n for k in whole.recipe.crops) == whole.draw(6, seeded()).boxes.shape[1]
