"""Corruptions: how often, where and how many, and their pixels against plain loops.

Alone: pytest tests/views/test_corrupt.py
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from probekit.views import corrupt as module
from probekit.views.corrupt import CORRUPTIONS, CorruptionTables, boxes_of, corrupt_as, draw_corruption
from tests.chance import apply_to_all, seeded, within_five_sigma

Array = NDArray[np.float64]
SIZES = [(64, 64), (128, 128), (224, 224), (64, 96)]


def random_views(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed))


def corrupt(views: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each view corrupted in one way, drawn as often as it is to be, and the kinds."""
    tables = CorruptionTables(views.shape[1], views.shape[2], views.shape[3])
    drawn = draw_corruption(len(views), tables, generator)
    return corrupt_as(views, drawn, tables), drawn[0]


def kind_of(name: str, channels: int) -> int:
    return [known for known, _ in CORRUPTIONS[channels]].index(name)


# --- Which corruption.


@pytest.mark.parametrize(("channels", "shares"), [(1, (0.25, 0.25, 0.25, 0.25)), (3, (0.33, 0.33, 0.34))])
def test_frequencies(channels: int, shares: tuple[float, ...]) -> None:
    table = CORRUPTIONS[channels]
    assert tuple(p for _, p in table) == shares
    kinds, *_ = draw_corruption(40_000, CorruptionTables(channels, 8, 8), seeded())
    counts = torch.bincount(kinds, minlength=len(table)).tolist()
    assert sum(counts) == 40_000
    assert len(counts) == len(table)
    assert all(within_five_sigma(count, 40_000, p) for count, (_, p) in zip(counts, table, strict=True))


@pytest.mark.parametrize(
    ("channels", "odds", "shares"),
    [
        (1, {"intensity": 0.0}, (1 / 3, 0, 1 / 3, 1 / 3)),
        (1, {"pixel-shuffling": 5.0}, (5 / 8, 1 / 8, 1 / 8, 1 / 8)),
        (3, {"in-painting": 0.0, "out-painting": 2.0}, (0.33 / 1.01, 0, 0.68 / 1.01)),
    ],
)
def test_odds_multiply_a_corruptions_share(channels: int, odds: dict[str, float], shares: tuple[float, ...]) -> None:
    kinds, *_ = draw_corruption(40_000, CorruptionTables(channels, 8, 8, odds), seeded())
    counts = torch.bincount(kinds, minlength=len(shares)).tolist()
    assert all(
        within_five_sigma(count, 40_000, p) if p else count == 0 for count, p in zip(counts, shares, strict=True)
    )


def test_without_any_odds_nothing_is_left_to_draw() -> None:
    """Of three channels there is no bend of intensities, so that its odds are none."""
    odds = dict.fromkeys(("pixel-shuffling", "in-painting", "out-painting"), 0.0)
    with pytest.raises(ValueError, match=r"odds above 0 .* type: --set views.pixel_shuffling=1 --set views"):
        CorruptionTables(3, 8, 8, odds)
    CorruptionTables(1, 8, 8, odds)


def looks_like(name: str, before: Tensor, after: Tensor) -> bool:
    """Whether a view [C, H, W] of pixels that are all different was changed in the way of `name`."""
    changed = (before != after).any(0)
    old = {tuple(pixel) for pixel in before.flatten(1).T.tolist()}
    new = [tuple(pixel) for pixel in after.flatten(1).T[changed.flatten()].tolist()]
    if name == "pixel-shuffling":
        return bool(changed.any()) and all(pixel in old for pixel in new)
    if name == "intensity":
        order = before.flatten().argsort()
        steps = after.flatten()[order].diff()
        monotone = (steps >= -1e-5).all() or (steps <= 1e-5).all()
        return bool(monotone and changed.float().mean() > 0.9)
    fresh = len({pixel for pixel in new if pixel not in old})
    if name == "in-painting":
        return fresh == len(set(new)) <= 5 and not changed[:3].any() and not changed[:, -3:].any()
    return fresh == 1 and bool(changed[:3].all() and changed[-3:].all() and changed[:, :3].all())


@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_each_view_suffers_exactly_the_one_that_is_told(channels: int) -> None:
    views = random_views(40, channels, 32, 48)
    before = views.clone()
    after, kind = corrupt(views, seeded(1))
    assert torch.equal(views, before)
    assert after.is_contiguous()
    assert after.dtype == torch.float32
    assert after.min() >= 0
    assert after.max() <= 1
    assert kind.dtype == torch.int64
    for n in range(len(views)):
        name = CORRUPTIONS[channels][int(kind[n])][0]
        assert looks_like(name, views[n], after[n]), (n, name)


def corrupted(views: Tensor, kind: Tensor, seed: int = 0) -> Tensor:
    n, channels, height, width = views.shape
    tables = CorruptionTables(channels, height, width)
    _, *drawn = draw_corruption(n, tables, seeded(seed))
    return corrupt_as(views, (kind, *drawn), tables)


@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_rows_of_what_was_drawn_go_with_rows_of_the_views(channels: int) -> None:
    """What several processes rest on, each with its own part of a batch."""
    views, tables = random_views(12, channels, 40, 40), CorruptionTables(channels, 40, 40)
    drawn = draw_corruption(12, tables, seeded(3))
    assert all(len(rows) == 12 for rows in drawn)
    part = slice(5, 9)
    assert torch.equal(
        corrupt_as(views, drawn, tables)[part], corrupt_as(views[part], tuple(rows[part] for rows in drawn), tables)
    )


def test_generator_neighbours_and_kinds_of_others_do_not_mix() -> None:
    views, others = random_views(12, 1, 32, 32), random_views(12, 1, 32, 32, seed=1)
    others[5] = views[5]
    kind = torch.arange(12) % 4
    other_kinds = kind.flip(0)
    other_kinds[5] = kind[5]
    mine = corrupted(views, kind, 3)
    assert torch.equal(mine, corrupted(views, kind, 3))
    assert torch.equal(mine[5], corrupted(others, other_kinds, 3)[5])
    assert not torch.equal(mine, corrupted(views, kind, 4))


@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_computing_all_views_as_a_gpu_does_gives_the_same(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    views = random_views(16, channels, 40, 32)
    by_rows, kind = corrupt(views, seeded(2))
    monkeypatch.setattr(module, "apply_where", apply_to_all)
    by_all, same_kind = corrupt(views, seeded(2))
    assert torch.equal(kind, same_kind)
    torch.testing.assert_close(by_rows, by_all, atol=1e-6, rtol=0)


# --- Where, and how many.


def blocks(name: str, n: int, channels: int, height: int, width: int) -> Tensor:
    u = torch.rand(n, 25, 5, generator=seeded())
    return boxes_of(u, CorruptionTables(channels, height, width))[("shuffle", "paint", "window").index(name)]


def law(name: str, size: int) -> tuple[range, int]:
    """The sides that the authors' constants allow at this size, and the margin."""
    if name == "shuffle":
        return range(1, int(0.2 * size)), 0
    if name == "paint":
        return range(int(0.14 * size), int(0.2 * size)), 3
    return range(size - 3 * size // 7 + 1, size - 2 * size // 7 + 1), 3


@pytest.mark.parametrize("name", ["shuffle", "paint", "window"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sides_and_positions_are_uniform_in_their_ranges(name: str, height: int, width: int) -> None:
    boxes = blocks(name, 4000, 1, height, width).flatten(0, 1)
    boxes = boxes[boxes[:, 2] > 0]
    for axis, size in ((0, width), (1, height)):
        allowed, margin = law(name, size)
        start, side = boxes[:, axis], boxes[:, axis + 2] - boxes[:, axis]
        assert set(side.tolist()) == set(allowed)  # every side occurs, and no other
        n = len(side)
        assert all(within_five_sigma(int((side == s).sum()), n, 1 / len(allowed)) for s in allowed)
        assert start.min() == margin
        assert (start + side < size - margin).all()  # the code's upper bound is exclusive
        # Uniform between its bounds, whatever the side.
        place = (start - margin).double() / (size - side - 2 * margin - 1).clamp(min=1)
        place = place[size - side - 2 * margin > 1]
        assert abs(place.mean().item() - 0.5) < 5 * 0.5 / math.sqrt(len(place))


@pytest.mark.parametrize(
    ("name", "channels", "most", "first", "later"),
    [("shuffle", 1, 15, 1, 1), ("shuffle", 3, 15, 0.99, 0.99), ("paint", 1, 5, 0.95, 0.95), ("window", 3, 5, 1, 0.95)],
)
def test_block_counts(name: str, channels: int, most: int, first: float, later: float) -> None:
    n = 20_000
    used = blocks(name, n, channels, 64, 64)[:, :, 2] > 0
    assert used.shape == (n, most)
    assert (used[:, :-1] | ~used[:, 1:]).all()  # no block after a stop
    for k in range(most):
        assert within_five_sigma(int(used[:, k].sum()), n, first * later**k)


@given(st.integers(16, 512), st.integers(16, 512), st.sampled_from(["shuffle", "paint", "window"]))
@settings(max_examples=60)
def test_boxes_exist_and_fit_at_every_size(height: int, width: int, name: str) -> None:
    x0, y0, x1, y1 = blocks(name, 50, 1, height, width).flatten(0, 1).unbind(1)
    used = x1 > 0
    assert used.any()
    assert ((x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)).all()
    assert ((x1 > x0) & (y1 > y0))[used].all()


@pytest.mark.parametrize("channels", CORRUPTIONS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 512), (19, 23)])
def test_small_and_long_views_work(channels: int, height: int, width: int) -> None:
    kinds = len(CORRUPTIONS[channels])
    views = random_views(2 * kinds, channels, height, width)
    after = corrupted(views, torch.arange(2 * kinds) % kinds)
    assert ((after != views).flatten(1).any(1)).float().mean() > 0.5
    assert after.isfinite().all()


# --- Pixels.


def pixels(view: Tensor) -> list[list[float]]:
    """The pixels of [C, h, w], sorted: a multiset."""
    return sorted(view.flatten(1).T.tolist())


@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_shuffling_permutes_one_block_and_touches_nothing_else(channels: int) -> None:
    views = random_views(6, channels, 24, 32)
    boxes = torch.tensor([[2, 3, 12, 9], [0, 0, 1, 1], [24, 20, 32, 24], [5, 5, 6, 15], [0, 0, 0, 0], [7, 1, 9, 3]])
    after = module.shuffle_pixels(views, boxes[:, None], random_views(6, 1, 70, seed=1), CorruptionTables(3, 24, 32))
    for before, view, (x0, y0, x1, y1) in zip(views, after, boxes.tolist(), strict=True):
        assert pixels(before[:, y0:y1, x0:x1]) == pixels(view[:, y0:y1, x0:x1])
        outside = torch.ones(24, 32, dtype=torch.bool)
        outside[y0:y1, x0:x1] = False
        assert torch.equal(before[:, outside], view[:, outside])
    assert not torch.equal(after[0], views[0])


def test_shuffling_is_a_uniform_permutation() -> None:
    """Six orders of a 3 x 1 block, each as often as the others."""
    n = 12_000
    views = torch.arange(25.0).view(1, 1, 5, 5).repeat(n, 1, 1, 1)
    boxes = torch.tensor([1, 2, 4, 3]).expand(n, 1, 4)
    after = module.shuffle_pixels(views, boxes, random_views(n, 1, 4), CorruptionTables(1, 5, 5))[:, 0, 2, 1:4]
    orders, counts = torch.unique(after, dim=0, return_counts=True)
    assert len(orders) == 6
    assert all(within_five_sigma(count, n, 1 / 6) for count in counts.tolist())


def test_later_blocks_overwrite_and_all_read_the_original() -> None:
    views = random_views(5, 3, 20, 20)
    boxes = blocks("shuffle", 5, 3, 40, 40)[:, :4].remainder(20)
    boxes = torch.stack([boxes[..., :2].amin(-1), boxes[..., :2].amin(-1), *[torch.tensor(14).expand(5, 4)] * 2], -1)
    keys = random_views(5, 4, 400, seed=2)
    after = module.shuffle_pixels(views, boxes, keys, CorruptionTables(3, 20, 20))
    for n in range(5):
        expected = views[n].clone()
        for k, (x0, y0, x1, y1) in enumerate(boxes[n].tolist()):
            if x1 > x0:
                block = views[n, :, y0:y1, x0:x1].flatten(1)
                order = keys[n, k, : block.shape[1]].argsort()
                expected[:, y0:y1, x0:x1] = block[:, order].view(3, y1 - y0, x1 - x0)
        assert torch.equal(after[n], expected)


@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_shuffling_is_the_same_under_deterministic_algorithms(channels: int) -> None:
    """They refuse the maximum that is scattered otherwise: torch's alert `scatter_reduce_cuda`."""
    views, kind = random_views(8, channels, 40, 32), torch.zeros(8, dtype=torch.int64)
    plain = corrupted(views, kind)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(corrupted(views, kind), plain)
    finally:
        torch.use_deterministic_algorithms(False)


def slow_intensity(values: Array, curve: list[float], inverted: bool) -> Array:
    """The authors' steps: the curve is listed from (1, 1) to (0, 0); x is sorted, y only without inversion."""
    x1, y1, x2, y2 = curve
    t = np.linspace(0, 1, 100_000)
    basis = np.array([math.comb(3, i) * t ** (3 - i) * (1 - t) ** i for i in range(4)])
    x, y = np.array([0, x1, x2, 1]) @ basis, np.array([0, y1, y2, 1]) @ basis
    mapped: Array = np.interp(values, np.sort(x), y if inverted else np.sort(y))
    return mapped


@pytest.mark.parametrize("inverted", [False, True])
def test_intensity_is_the_curve_of_100_000_points(inverted: bool) -> None:
    curves = torch.rand(60, 4, generator=seeded())
    curves[:5] = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]])
    values = torch.linspace(0, 1, 1024)
    views = values.view(1, 1, 32, 32).repeat(60, 1, 1, 1)
    ours = (
        module.bend_intensity(views, curves, torch.full((60,), inverted), CorruptionTables(1, 32, 32))
        .flatten(1)
        .numpy()
    )
    for n in range(60):
        expected = slow_intensity(values.double().numpy(), curves[n].tolist(), inverted)
        # Where the curve is vertical (rows 0 to 4 are the extreme cases) a cell of 1/1024 shows.
        assert np.abs(ours[n] - expected).max() < (0.02 if n < 5 else 2e-3)
        assert np.abs(ours[n] - expected).mean() < 2e-4


def test_half_of_the_intensities_are_inverted() -> None:
    views = torch.linspace(0, 1, 256).view(1, 1, 16, 16).repeat(4000, 1, 1, 1)
    after = corrupted(views, torch.full((4000,), kind_of("intensity", 1)))
    first, last = after[:, 0, 0, 0], after[:, 0, -1, -1]
    assert ((first - last).abs() > 0.999).all()
    assert within_five_sigma(int((first > last).sum()), 4000, 0.5)


@pytest.mark.parametrize("channels", CORRUPTIONS)
def test_painting_is_the_loop(channels: int) -> None:
    views = random_views(20, channels, 40, 48)
    tables = CorruptionTables(channels, 40, 48)
    _, inner, windows = boxes_of(torch.rand(20, 25, 5, generator=seeded(1)), tables)
    colours = random_views(20, 5, channels, seed=3)
    inside = module.paint_inside(views, inner, colours, tables)
    outside = module.paint_outside(views, windows, colours[:, 0], tables)
    for n in range(20):
        expected = views[n].clone()
        for k, (x0, y0, x1, y1) in enumerate(inner[n].tolist()):
            expected[:, y0:y1, x0:x1] = colours[n, k, :, None, None]
        assert torch.equal(inside[n], expected)
        expected = colours[n, 0, :, None, None].repeat(1, 40, 48)
        for x0, y0, x1, y1 in windows[n].tolist():
            expected[:, y0:y1, x0:x1] = views[n, :, y0:y1, x0:x1]
        assert torch.equal(outside[n], expected)
