"""Where the pixels of an image come to stand in a view, against loops over rectangles and pixels.

Alone: pytest tests/audit/test_geometry.py
"""

import numpy as np
import pytest
import torch

from probekit.audit.geometry import carried, enlarged, kept, unmoved
from probekit.views.corrupt import CORRUPTIONS, CorruptionTables, corrupt_as, draw_corruption

SOURCE, SIZE = (6, 9), (5, 4)
BOXES = torch.tensor([[0, 0, 9, 6], [2, 1, 5, 6], [8, 5, 9, 6], [1, 0, 8, 3]])
FLIPPED = torch.tensor([False, True, False, True])


def test_what_is_kept_of_each_pixel_is_the_part_of_its_rectangle_that_is_seen() -> None:
    rng = np.random.default_rng(0)
    seen = rng.random((4, *SIZE)) < 0.6
    found = kept(BOXES, FLIPPED, torch.from_numpy(seen), SOURCE).numpy()
    for n, (x0, y0, x1, y1) in enumerate(BOXES.tolist()):
        wide, high = (x1 - x0) / SIZE[1], (y1 - y0) / SIZE[0]  # of a view's pixel, in pixels of the image
        expected = np.zeros(SOURCE)
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                if not seen[n, i, j]:
                    continue
                k = SIZE[1] - 1 - j if FLIPPED[n] else j
                for y in range(SOURCE[0]):
                    for x in range(SOURCE[1]):
                        across = min(x + 1, x0 + (k + 1) * wide) - max(x, x0 + k * wide)
                        along = min(y + 1, y0 + (i + 1) * high) - max(y, y0 + i * high)
                        expected[y, x] += max(across, 0) * max(along, 0)
        np.testing.assert_allclose(found[n], expected, atol=1e-6)


def test_all_of_the_crop_is_kept_and_nothing_else() -> None:
    found = kept(BOXES, FLIPPED, torch.ones(4, *SIZE, dtype=torch.bool), SOURCE).numpy()
    for part, (x0, y0, x1, y1) in zip(found, BOXES.tolist(), strict=True):
        inside = np.zeros(SOURCE)
        inside[y0:y1, x0:x1] = 1
        np.testing.assert_allclose(part, inside, atol=1e-6)
        assert (part[inside == 0] == 0).all(), "nothing left is nothing at all"


def test_a_mask_is_carried_to_the_centres_of_the_views_pixels() -> None:
    masks = torch.rand(4, *SOURCE, generator=torch.Generator().manual_seed(0))
    found = carried(masks, BOXES, FLIPPED, SIZE)
    for n, (x0, y0, x1, y1) in enumerate(BOXES.tolist()):
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                k = SIZE[1] - 1 - j if FLIPPED[n] else j
                y, x = y0 + (i + 0.5) / SIZE[0] * (y1 - y0), x0 + (k + 0.5) / SIZE[1] * (x1 - x0)
                assert found[n, i, j] == masks[n, int(y), int(x)]


def test_enlargement_is_the_mean_of_both_sides() -> None:
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 4, 4], [0, 0, 2, 8]])
    assert enlarged(boxes, (8, 8)).tolist() == pytest.approx([1, 2, 2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("way", range(4))
def test_unmoved_pixels_are_those_that_a_corruption_leaves_alone(channels: int, way: int) -> None:
    """Every pixel of the view has a value of its own, so that one that was moved or painted has another."""
    names = [name for name, _ in CORRUPTIONS[channels]]
    if way >= len(names):
        return
    height, width, n = 24, 32, 6
    tables = CorruptionTables(channels, height, width)
    _, *drawn = draw_corruption(n, tables, torch.Generator().manual_seed(way))
    every = (torch.full((n,), way), *drawn)
    views = (torch.arange(1.0, 1 + height * width) / (1 + height * width)).view(1, 1, height, width)
    views = views.expand(n, channels, -1, -1).contiguous()
    found = unmoved(every, tables)
    assert found.shape == (n, height, width)
    if names[way] == "intensity":
        assert found.all()
        return
    np.testing.assert_array_equal(found.numpy(), (corrupt_as(views, every, tables) == views).all(1).numpy())
    assert found.any()
    assert not found.all()
