"""Foregrounds on other backgrounds: against loops and SciPy, what is drawn, and where a view's mask is.

Alone: pytest tests/views/test_paste.py
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from probekit.views import paste
from probekit.views.crops import random_boxes
from probekit.views.paste import (
    KINDS,
    Paste,
    blurred,
    draw_paste,
    pasted,
    regions_of,
    seen_masks,
    swapped,
)
from probekit.views.recipes import RECIPES, ViewMaker
from tests.chance import noise, seeded, within_five_sigma

HOW: dict[str, Any] = {"share": 0.5, "background": "any", "blur": 0.5}


def blocks(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Masks uint8 `[n, 1, H, W]` of a rectangle each, all or nothing; the last one of several is empty."""
    boxes = random_boxes(n, height, width, seeded(seed)).tolist()
    masks = torch.zeros(n, 1, height, width, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[:, y0:y1, x0:x1] = 255
    if n > 1:
        masks[-1] = 0
    return masks


def background_of(everyone: Tensor, drawn: Paste, row: int) -> Tensor:
    """A view's background by loops, uint8 `[C, H, W]`."""
    other, kind = everyone[drawn.other[row]], KINDS[drawn.kind[row]]
    height, width = other.shape[1:]
    if kind == "grey":
        return torch.full_like(other, int(drawn.grey[row]))
    if kind == "image":
        return other
    patch = min(height, width) // 4
    top, left = (
        int(float(u) * (side - patch + 1)) for u, side in zip(drawn.corner[:, row], other.shape[1:], strict=True)
    )
    made = torch.empty_like(other)
    for y in range(height):
        for x in range(width):
            inside = [k % patch if k // patch % 2 == 0 else patch - 1 - k % patch for k in (y, x)]
            made[:, y, x] = other[:, top + inside[0], left + inside[1]]
    return made


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 16, 16), (3, 16, 24)])
def test_inside_the_mask_is_the_image_and_outside_the_background(channels: int, height: int, width: int) -> None:
    images, masks, everyone = (
        noise(6, channels, height, width),
        blocks(6, height, width),
        noise(6, channels, height, width),
    )
    drawn = draw_paste(6, 20, seeded(), share=0.7, background="any", blur=0.0)
    made = pasted(images, masks, everyone, drawn)
    assert made.shape == (120, channels, height, width)
    assert made.dtype == torch.uint8
    seen = set()
    for row, view in enumerate(made):
        image, mask = images[row % 6], masks[row % 6, 0] > 0
        if not drawn.chosen[row] or not mask.any():
            assert torch.equal(view, image)
            continue
        seen.add(int(drawn.kind[row]))
        assert torch.equal(view, torch.where(mask, image, background_of(everyone, drawn, row)))
    assert seen == set(range(len(KINDS)))


def test_a_soft_mask_mixes_the_two() -> None:
    images, everyone = noise(4, 3, 16, 16), noise(4, 3, 16, 16, seed=1)
    masks = noise(4, 1, 16, 16, seed=2)
    drawn = draw_paste(4, 4, seeded(), share=1.0, background="any", blur=0.5)
    assert 0 < drawn.soft.sum() < 16
    soft = torch.from_numpy(np.stack([by_scipy(mask[0].numpy()) for mask in masks]))[:, None]
    for row, view in enumerate(pasted(images, masks, everyone, drawn)):
        alpha = soft[row % 4] if drawn.soft[row] else masks[row % 4].double() / 255
        expected = alpha * images[row % 4] + (1 - alpha) * background_of(everyone, drawn, row)
        assert (view - expected).abs().max() < 0.51  # rounded


def by_scipy(mask: Any) -> Any:
    deviation = min(mask.shape) / paste.BLUR
    return gaussian_filter(mask / 255, deviation, mode="nearest", radius=int(np.ceil(paste.REACH * deviation)))


@pytest.mark.parametrize("side", [16, 64, 200])
def test_a_blurred_edge_is_that_of_a_gaussian_filter(side: int) -> None:
    masks = blocks(3, side, side + 8)
    found = blurred(masks)
    for mask, soft in zip(masks, found, strict=True):
        np.testing.assert_allclose(soft[0], by_scipy(mask[0].numpy()), atol=1e-6)
    assert side < 64 or not torch.equal(found, masks / 255)


def test_what_is_drawn() -> None:
    n = 4000
    drawn = draw_paste(n, 1, seeded(), share=0.3, background="any", blur=0.5)
    assert within_five_sigma(int(drawn.chosen.sum()), n, 0.3)
    assert within_five_sigma(int(drawn.soft.sum()), n, 0.5)
    for kind in range(len(KINDS)):
        assert within_five_sigma(int((drawn.kind == kind).sum()), n, 1 / len(KINDS))
    assert drawn.grey.min() == 0
    assert drawn.grey.max() == 255
    assert torch.equal(drawn.grey, drawn.grey.floor())
    for background in KINDS:
        only = draw_paste(8, 2, seeded(), share=1.0, background=background, blur=0.0)  # type: ignore[arg-type]
        assert only.chosen.all()
        assert not only.soft.any()
        assert (only.kind == KINDS.index(background)).all()


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_the_other_image_is_any_but_the_views_own(batch: int) -> None:
    drawn = draw_paste(batch, 500, seeded(), **HOW)
    own = torch.arange(batch).repeat(500)
    assert not (drawn.other == own).any()
    for image in range(batch):
        counts = torch.bincount(drawn.other[own == image], minlength=batch)
        for other in set(range(batch)) - {image}:
            assert within_five_sigma(int(counts[other]), 500, 1 / (batch - 1))


def test_each_rank_has_its_share_of_what_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw_paste(6, 2, seeded(), **HOW)
    monkeypatch.setattr("probekit.ranks.size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr("probekit.ranks.rank", lambda rank=rank: rank)
        own = draw_paste(6, 2, seeded(), **HOW)
        rows = torch.arange(12).view(2, 6)[:, rank::3].flatten()
        for name, value in vars(whole).items():
            assert torch.equal(vars(own)[name], value[..., rows]), name


def test_views_of_an_image_each_are_those_of_the_images() -> None:
    """The same crops of the same pixels, whether the images are given once or once for each view."""
    for recipe in ("moco-v2", "swav", "conrec", "supervised"):
        images = noise(4, 1, 32, 32)
        maker = ViewMaker(RECIPES[recipe], images.shape[1:])
        drawn = maker.draw(4, seeded())
        views, each = maker(images, drawn), maker(images.repeat(len(drawn.flipped) // 4, 1, 1, 1), drawn)
        torch.testing.assert_close(each.inputs, views.inputs)
        assert torch.equal(each.boxes, views.boxes)
        if views.local is not None:
            torch.testing.assert_close(each.local.inputs, views.local.inputs)


def test_every_view_is_cut_from_its_own_image() -> None:
    """Of images of one level each a view without colours has that level."""
    recipe = replace(RECIPES["moco-v2"], crops=(replace(RECIPES["moco-v2"].crops[0], colour=None),))
    levels = torch.arange(10, 250, 30, dtype=torch.uint8)
    images = levels.view(8, 1, 1, 1).expand(8, 1, 16, 16).contiguous()
    maker = ViewMaker(recipe, (1, 16, 16))
    views = maker(images, maker.draw(4, seeded()))
    torch.testing.assert_close(views.inputs.mean((2, 3, 4)).flatten(), levels / 255)


def test_regions_are_the_smallest_boxes() -> None:
    masks = (noise(40, 1, 9, 13) > 250).to(torch.uint8) * noise(40, 1, 9, 13, seed=1)
    masks[3] = 0
    for mask, region in zip(masks, regions_of(masks).tolist(), strict=True):
        places = mask[0].nonzero().tolist()
        if not places:
            assert region == [0, 0, 0, 0]
            continue
        rows, columns = zip(*places, strict=True)
        assert region == [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def test_a_region_takes_the_place_of_another_images() -> None:
    """Images of a level each: inside the other's region the own level, outside the other's; masks go with it."""
    levels = torch.arange(20, 220, 40, dtype=torch.uint8)
    images = levels.view(5, 1, 1, 1).expand(5, 1, 16, 24).contiguous()
    masks = blocks(5, 16, 24)  # the last one is empty
    drawn = draw_paste(5, 6, seeded(), **HOW)
    all_regions = regions_of(masks)
    regions = all_regions.repeat(6, 1), all_regions[drawn.other]
    made, covered = swapped(images, masks, images, regions, drawn)
    moved = 0
    for row in range(30):
        own, other = row % 5, int(drawn.other[row])
        if not drawn.chosen[row] or 4 in (own, other):
            assert torch.equal(made[row], images[own])
            assert torch.equal(covered[row], masks[own])
            continue
        moved += 1
        there = masks[other] > 0
        assert torch.equal(made[row], torch.where(there, levels[own], levels[other]))
        assert torch.equal(covered[row], masks[other])  # both are rectangles
    assert moved > 5


def test_what_is_swapped_is_resized_to_its_place() -> None:
    """Twice as large, bilinear, as torch's resize of the region alone has it."""
    images, masks = noise(2, 1, 16, 16), torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    masks[0, :, 4:8, 2:6], masks[1, :, 6:14, 5:13] = 255, 255
    drawn = replace(draw_paste(2, 1, seeded(), **HOW), chosen=torch.tensor([True, False]))
    regions = regions_of(masks)
    made, covered = swapped(images, masks, images, (regions, regions[drawn.other]), drawn)
    larger = torch.nn.functional.interpolate(images[:1, :, 4:8, 2:6].float(), scale_factor=2, mode="bilinear")
    assert (made[0, 0, 6:14, 5:13] - larger[0, 0]).abs().max() < 0.51
    assert (covered[0, 0, 6:14, 5:13] == 255).all()
    around = masks[1, 0] == 0
    assert torch.equal(made[0, 0][around], images[1, 0][around])
    assert not covered[0, 0][around].any()
    assert torch.equal(made[1], images[1])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_a_views_mask_is_the_mean_of_its_cells(height: int, width: int, h: int, w: int, seed: int) -> None:
    masks = noise(3, 1, height, width, seed=seed)
    corners = torch.rand(3, 4, generator=seeded(seed))
    x0, y0 = (corners[:, 0] * width).long(), (corners[:, 1] * height).long()
    x1, y1 = x0 + 1 + (corners[:, 2] * (width - x0)).long(), y0 + 1 + (corners[:, 3] * (height - y0)).long()
    boxes = torch.stack([x0, y0, x1.clamp(max=width), y1.clamp(max=height)], 1)
    flipped = torch.tensor([False, True, False])
    found = seen_masks(masks, boxes, flipped, (h, w))
    for n in range(3):
        left, top, right, bottom = boxes[n].tolist()
        for i in range(h):
            for j in range(w):
                j_seen = w - 1 - j if flipped[n] else j
                rows = [top + Fraction((bottom - top) * k, h) for k in (i, i + 1)]
                columns = [left + Fraction((right - left) * k, w) for k in (j, j + 1)]
                total = Fraction(0)
                for y in range(height):
                    for x in range(width):
                        tall = max(0, min(rows[1], y + 1) - max(rows[0], y))
                        wide = max(0, min(columns[1], x + 1) - max(columns[0], x))
                        total += tall * wide * int(masks[n, 0, y, x])
                mean = total / ((rows[1] - rows[0]) * (columns[1] - columns[0]) * 255)
                assert float(found[n, i, j_seen]) == pytest.approx(float(mean), abs=1e-5)


def test_the_mask_of_a_view_lies_where_its_foreground_is() -> None:
    """White foregrounds on black: a view's cells are as bright as its mask says, but for the resize."""
    recipe = replace(RECIPES["moco-v2"], crops=(replace(RECIPES["moco-v2"].crops[0], n=2, colour=None),))
    masks = blocks(8, 64, 64)
    white = torch.full((8, 1, 64, 64), 255, dtype=torch.uint8)
    drawn = draw_paste(8, 2, seeded(), share=1.0, background="grey", blur=0.0)
    given = pasted(white, masks, white, replace(drawn, grey=torch.zeros(16)))
    given[7::8] = 0  # without a foreground there is none to see
    maker = ViewMaker(recipe, (1, 64, 64))
    views = maker(given, maker.draw(8, seeded()))
    seen = seen_masks(masks.repeat(2, 1, 1, 1), views.boxes.flatten(0, 1), views.flipped.flatten(), (8, 8))
    cells = torch.nn.functional.avg_pool2d(views.inputs.flatten(0, 1), 8)[:, 0]
    assert (seen - cells).abs().max() < 0.1
    assert seen.std() > 0.3
