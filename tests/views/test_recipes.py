"""The base methods' views: crops by torchvision's law, solarisation, unequal pairs, crops of two sizes, one channel.

Alone: pytest tests/views/test_recipes.py
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from probekit.config import ViewsConfig, resolve
from probekit.registry import METHODS, get
from probekit.views import jitter
from probekit.views import recipes as views
from probekit.views.crops import resize_crops
from probekit.views.jitter import change, changes_of, solarise
from probekit.views.recipes import RECIPES, make_views, recipe_of, size_of
from tests.chance import apply_to_all, noise, seeded, within_five_sigma
from tests.views.drawn import draw_changes, random_resized_boxes

N = 4000
NEW = ("moco-v2", "byol", "vicreg", "swav", "swav-pair", "dino")


# --- Crops.


@pytest.mark.parametrize(
    ("height", "width", "area"),
    [
        *((*sides, (0.08, 1.0)) for sides in ((64, 64), (128, 96), (40, 120), (120, 40), (16, 16))),
        *((*sides, area) for sides in ((64, 64), (120, 40)) for area in ((0.05, 0.14), (0.2, 1.0))),
    ],
)
def test_boxes_follow_torchvisions_law(height: int, width: int, area: tuple[float, float]) -> None:
    """Area, aspect ratio and place; two-sample Kolmogorov-Smirnov, at one in a million."""
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    drawn = [RandomResizedCrop.get_params(image, list(area), [3 / 4, 4 / 3]) for _ in range(N)]
    top, left, h, w = np.array(drawn, float).T
    x0, y0, x1, y1 = random_resized_boxes(N, height, width, area, seeded()).double().numpy().T
    assert x0.min() >= 0
    assert y0.min() >= 0
    assert x1.max() <= width
    assert y1.max() <= height
    pairs = {
        "area": ((x1 - x0) * (y1 - y0), h * w),
        "aspect": (np.log((x1 - x0) / (y1 - y0)), np.log(w / h)),
        "left": (x0, left),
        "top": (y0, top),
    }
    for what, (ours, theirs) in pairs.items():
        # Near ties: rounding is theirs, too, but float32 may fall to the other side of a half.
        assert ks_2samp(ours, theirs).pvalue > 1e-6, what


def test_where_no_try_fits_the_box_is_torchvisions_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.transforms import RandomResizedCrop

    for height, width in ((16, 400), (400, 16), (32, 32), (30, 37)):
        # More than the whole image fits nowhere.
        top, left, h, w = RandomResizedCrop.get_params(torch.empty(1, height, width), [1.5, 2.0], [3 / 4, 4 / 3])
        boxes = random_resized_boxes(3, height, width, (1.5, 2.0), seeded())
        assert boxes.tolist() == [[left, top, left + w, top + h]] * 3


# --- Solarisation.


def test_solarise_is_torchvisions() -> None:
    from torchvision.transforms.functional import solarize

    x = torch.cat([torch.rand(4000, generator=seeded()), torch.tensor([0.0, 0.5, 1.0])]).view(1, 1, -1, 1)
    assert torch.equal(solarise(x), solarize(x, 0.5))


# --- Who gets what.


def drawn_by(recipe: str, channels: int, monkeypatch: pytest.MonkeyPatch, n: int = N) -> list[tuple[Tensor, ...]]:
    """What each kind of crops of a recipe draws for its views."""
    seen: list[tuple[Tensor, ...]] = []

    def changes(*args: Any) -> tuple[Tensor, ...]:
        seen.append(changes_of(*args))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(views, "changes_of", changes)
        views.ViewMaker(RECIPES[recipe], (channels, 16, 16)).draw(n, seeded())
    return seen


EXPECTED = {  # share of blurred and solarised views of each kind of crops: the official code of each
    "moco-v2": [(0.5, 0.0)],
    "byol": [(1.0, 0.0), (0.1, 0.2)],
    "vicreg": [(0.5, 0.1)],
    "swav": [(0.5, 0.0), (0.5, 0.0)],
    "swav-pair": [(0.5, 0.0)],
    "dino": [(1.0, 0.0), (0.1, 0.2), (0.5, 0.0)],
}
COLOURS = {  # largest change of brightness, contrast, saturation, hue
    "moco-v2": (0.4, 0.4, 0.4, 0.1),
    "swav": (0.8, 0.8, 0.8, 0.2),
    "swav-pair": (0.8, 0.8, 0.8, 0.2),
}


@pytest.mark.parametrize("recipe", NEW)
@pytest.mark.parametrize("channels", [1, 3])
def test_shares_of_blurred_and_solarised_views(recipe: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = drawn_by(recipe, channels, monkeypatch)
    assert len(kinds) == len(EXPECTED[recipe])
    for (jittered, order, factors, grayed, blurred, sigma, *solarised), (p_blur, p_solarise) in zip(
        kinds, EXPECTED[recipe], strict=True
    ):
        n = len(jittered)
        for what, p in ((jittered, 0.8), (grayed, 0.2), (blurred, p_blur)):
            assert within_five_sigma(int(what.sum()), n, p)
        assert bool(solarised) == (p_solarise > 0)
        assert within_five_sigma(int(solarised[0].sum()) if solarised else 0, n, p_solarise)
        assert order.shape == (n, 4)
        assert 0.1 <= sigma.min() < 0.15
        assert 1.95 < sigma.max() <= 2.0
        widths = COLOURS.get(recipe, (0.4, 0.4, 0.2, 0.1))
        for column, wide, middle in zip(factors.T, widths, (1, 1, 1, 0), strict=True):
            assert abs(float(column.min()) - (middle - wide)) < 0.01 * wide
            assert abs(float(column.max()) - (middle + wide)) < 0.01 * wide


def test_areas_of_the_recipes() -> None:
    found = {name: [(kind.n, kind.area, kind.side) for kind in RECIPES[name].crops] for name in NEW}
    swavs, dinos = ((n, (0.05, 0.14), 96 / 224) for n in (6, 8))  # official codes
    assert found == {
        "moco-v2": [(2, (0.2, 1.0), 1.0)],
        "byol": [(1, (0.08, 1.0), 1.0)] * 2,
        "vicreg": [(2, (0.08, 1.0), 1.0)],
        "swav": [(2, (0.14, 1.0), 1.0), swavs],
        "swav-pair": [(2, (0.08, 1.0), 1.0)],
        "dino": [(1, (0.14, 1.0), 1.0)] * 2 + [dinos],
    }


def test_byols_first_views_are_never_solarised_and_its_second_at_times() -> None:
    """In the pixels: of a bright image, solarised views are dark."""
    images = torch.full((2000, 1, 16, 16), 250, dtype=torch.uint8)
    made = make_views("byol", images, seeded()).inputs
    dark = (made < 0.45).flatten(2).all(2).sum(1)
    assert int(dark[0]) == 0
    # Brightness by .6 gives .59 at least; contrast does nothing to a plain image.
    assert within_five_sigma(int(dark[1]), 2000, 0.2)


def test_one_channel_gets_brightness_and_contrast_at_its_chance_and_no_colour() -> None:
    """Of the new recipes; the older ones keep the ConRec authors' way with one channel."""
    x = torch.rand(200, 1, 16, 16, generator=seeded())
    colour = RECIPES["moco-v2"].crops[0].colour
    assert colour is not None
    drawn = draw_changes(200, 1, seeded(), colour)
    jittered = drawn[0]
    found = change(x.clone(), *drawn)
    same = (found == x).flatten(1).all(1)
    assert torch.equal(same, ~jittered)  # below 20 px the blur has one tap
    assert len(draw_changes(4, 1, seeded(), jitter.PAPER)) == 2
    three = change(x.expand(-1, 3, -1, -1).clone(), *drawn)
    torch.testing.assert_close(three[:, :1], found, rtol=1e-4, atol=1e-4)  # a grey image has no colour to change


# --- Crops of two sizes.


@pytest.mark.parametrize("recipe", ["swav", "dino"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "small"), [((64, 64), (24, 24)), ((32, 48), (16, 24)), ((16, 16), (8, 8)), ((224, 224), (96, 96))]
)
def test_small_crops(recipe: str, channels: int, size: tuple[int, int], small: tuple[int, int]) -> None:
    images = noise(2, channels, *size)
    made = make_views(recipe, images, seeded())
    assert made.inputs.shape == (2, 2, channels, *size)
    local = made.local
    assert local is not None
    n = {"swav": 6, "dino": 8}[recipe]
    assert local.inputs.shape == (n, 2, channels, *small)
    assert local.inputs.is_contiguous()
    assert float(local.inputs.min()) >= 0
    assert float(local.inputs.max()) <= 1
    assert local.boxes.shape == (n, 2, 4)
    assert local.flipped.shape == (n, 2)
    x0, y0, x1, y1 = local.boxes.unbind(2)
    share = (x1 - x0) * (y1 - y0) / (size[0] * size[1])
    edge = 2 / min(size)  # of rounding to whole pixels
    assert share.max() < 0.14 + edge
    assert len({tuple(row) for row in local.boxes.view(-1, 4).tolist()}) > 6
    again = make_views(recipe, images, seeded()).local
    other = make_views(recipe, images, seeded(1)).local
    assert again is not None
    assert other is not None
    assert torch.equal(local.inputs, again.inputs)
    assert not torch.equal(local.inputs, other.inputs)


@pytest.mark.parametrize(
    ("stride", "size", "small"),
    [
        (8, (64, 64), (24, 24)),
        (4, (64, 64), (24, 24)),
        (16, (64, 96), (32, 48)),
        (16, (224, 224), (96, 96)),
        (14, (224, 224), (98, 98)),
        (32, (224, 224), (96, 96)),
        (32, (64, 64), (32, 32)),
        (16, (16, 16), (16, 16)),
    ],
)
def test_small_crops_are_of_whole_cells(stride: int, size: tuple[int, int], small: tuple[int, int]) -> None:
    (kind,) = (kind for kind in RECIPES["swav"].crops if kind.side < 1)
    assert size_of(kind, size, stride) == small
    local = make_views("swav", noise(2, 1, *size), seeded(), stride=stride).local
    assert local is not None
    assert local.inputs.shape == (6, 2, 1, *small)


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r not in ("swav", "dino")])
def test_other_recipes_have_no_small_crops(recipe: str) -> None:
    assert make_views(recipe, noise(2, 1, 32, 32), seeded()).local is None


@pytest.mark.parametrize("recipe", ["swav", "dino"])
def test_small_crops_of_neighbours_do_not_matter(recipe: str) -> None:
    images, others = noise(4, 3, 32, 32), noise(4, 3, 32, 32, seed=1)
    others[2] = images[2]
    mine, theirs = (make_views(recipe, x, seeded()).local for x in (images, others))
    assert mine is not None
    assert theirs is not None
    assert torch.equal(mine.inputs[:, 2], theirs.inputs[:, 2])
    assert not torch.equal(mine.inputs[:, 1], theirs.inputs[:, 1])


@pytest.mark.parametrize("recipe", ["swav", "dino"])
def test_of_small_crops_no_value_is_read_on_the_way(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.views.jitter.apply_where", apply_to_all)
    with FakeTensorMode():
        made = make_views(recipe, torch.zeros(4, 3, 64, 64, dtype=torch.uint8), seeded())
    assert made.local is not None
    assert made.local.inputs.shape[1:] == (4, 3, 24, 24)


@pytest.mark.parametrize("recipe", ["byol", "dino"])
def test_views_of_unequal_kinds_keep_their_boxes_in_order(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first kind's views first: each view is its own box, resized and mirrored."""
    monkeypatch.setattr("probekit.views.recipes.change", lambda x, *drawn: x)
    images = noise(3, 1, 32, 32)
    made = make_views(recipe, images, seeded())
    for view in range(2):
        crops = resize_crops(images.float() / 255, made.boxes[view], made.flipped[view], (32, 32))
        torch.testing.assert_close(made.inputs[view], crops)


OLD = {
    ("simclr", 1): 4139.09995,
    ("simclr", 3): 12012.18175,
    ("simclr-weak", 1): 4110.09839,
    ("simclr-weak", 3): 12379.56723,
    ("conrec", 1): 4357.08514,
    ("conrec", 3): 11324.72161,
    ("supervised", 1): 2003.58203,
    ("supervised", 3): 6165.26054,
}


def test_old_recipes_are_what_they_were() -> None:
    """Sums of pixels of the views before the new recipes came; another order of draws would change them.

    Those in colour at full strength are lower by 4e-5 since the crop's overshoot is cut before the first operation.
    """
    found: dict[tuple[str, int], float] = {}
    for recipe in ("simclr", "simclr-weak", "conrec", "supervised"):
        for channels in (1, 3):
            made = make_views(recipe, noise(4, channels, 32, 32), seeded(7))
            found[recipe, channels] = math.fsum(made.inputs.double().flatten().tolist())
    assert found == pytest.approx(OLD, rel=1e-5)


# --- Settings.


def settings(method: str, **options: float) -> ViewsConfig:
    given = {f"views.{name}": value for name, value in options.items()}
    return resolve(method, get(METHODS, "method", method), preset="paper", seed=0, options=given).views


@pytest.mark.parametrize("method", ["simclr", "conrec", "byol", "dino", "supervised"])
def test_at_1_every_setting_leaves_a_recipe_as_it_is(method: str) -> None:
    assert recipe_of(settings(method)) == RECIPES[settings(method).recipe]


def test_jitter_is_a_factor_of_all_four_strengths_and_of_no_chance() -> None:
    """Half of BYOL's .4, .4, .2, .1; its blur and solarisation stay."""
    first, other = recipe_of(settings("byol", jitter=0.5)).crops
    assert first.colour is not None
    assert other.colour is not None
    for colour in (first.colour, other.colour):
        assert (colour.brightness, colour.contrast, colour.saturation, colour.hue) == (0.2, 0.2, 0.1, 0.05)
    assert (first.colour.p_blur, other.colour.p_blur, other.colour.p_solarise) == (1.0, 0.1, 0.2)
    wild = recipe_of(settings("simclr", jitter=4.0)).crops[0].colour
    assert wild is not None
    assert wild.hue == 0.5, "half of the circle either way is all of it"


def test_without_jitter_one_channel_stays_as_it_is_but_for_the_corruption() -> None:
    images = noise(4, 1, 32, 32)
    made = make_views(recipe_of(settings("conrec", jitter=0.0, in_painting=0.0)), images, seeded())
    plain = make_views(
        replace(RECIPES["conrec"], crops=(replace(RECIPES["conrec"].crops[0], colour=None),)), images, seeded()
    )
    assert made.targets.amin() < 0.05
    assert made.targets.std() == pytest.approx(float(plain.targets.std()), rel=0.1)
    assert not torch.equal(made.inputs, made.targets)
