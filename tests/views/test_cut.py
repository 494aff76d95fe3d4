"""Crops of photographs: the law over many sizes, the pixels of each, threads, reduced decoding, where they are placed.

Alone: pytest tests/views/test_cut.py
"""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probekit.data.split import Photographs, open_split
from probekit.h5 import CentreCrop, DatasetWriter, EncodedBlock, Header
from probekit.views.batched import uniform
from probekit.views.crops import TRIES, CropTables, Placement, areas_, boxes_of, limits_of
from probekit.views.cut import Cutter, reduction
from probekit.views.recipes import RECIPES, ViewMaker
from tests.datasets import edited
from tests.h5.test_h5 import assert_one_line
from tests.h5.test_photographs import SIZES, files, photographs, saved, scene

CPU = torch.device("cpu")
N = 12
Boxes = list[list[int]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("cut") / "a.h5", N, masked=False)


def opened(path: Path, max_size: int = 64) -> Photographs:
    images = open_split(path, "train", CPU, max_size=max_size, cut=True).images
    assert isinstance(images, Photographs)
    return images


def cutter_of(images: Photographs, recipe: str = "moco-v2") -> Cutter:
    return Cutter(images, ViewMaker(RECIPES[recipe], images.shape[1:], cut=True))


def numbers(n: int, seed: int = 0) -> Tensor:
    return uniform((4, n, TRIES), torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=5),
    area=st.sampled_from([None, (0.08, 1.0), (0.05, 0.14), (2.0, 2.0)]),
    seed=st.integers(0, 99),
)
def test_boxes_of_many_sizes_are_those_of_each(
    sizes: list[tuple[int, int]], area: tuple[float, float] | None, seed: int
) -> None:
    drawn = numbers(2 * len(sizes), seed)
    drawn = drawn if area is None else areas_(drawn, area)
    torchvision = area is not None
    limits = limits_of(torch.tensor(sizes).repeat(2, 1), torchvision=torchvision)
    found = boxes_of(drawn, limits)
    for row, (height, width) in enumerate(sizes * 2):
        tables = CropTables((height, width), (8, 8), torchvision=torchvision)
        assert torch.equal(found[row : row + 1], boxes_of(drawn[:, row : row + 1], tables.limits))
        x0, y0, x1, y1 = found[row].tolist()
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def boxes(cutter: Cutter, drawn: Tensor, index: list[int]) -> list[Boxes]:
    """By image, its boxes (x0, y0, x1, y1), drawn one size at a time."""
    views = drawn.shape[1] // len(index)
    found: list[Boxes] = []
    for row, image in enumerate(index):
        size = cutter.images.encoded.size(image)
        tables = CropTables(size, (8, 8), torchvision=cutter.torchvision)
        own = drawn[:, [view * len(index) + row for view in range(views)]]
        found.append(boxes_of(own, tables.limits).tolist())
    return found


def piece(image: Image.Image, box: list[int], size: tuple[int, int], how: Image.Resampling) -> NDArray[np.int64]:
    """By Pillow: the box cut out, then resized to (width, height)."""
    x0, y0, x1, y1 = box
    return np.asarray(image.crop((x0, y0, x1, y1)).resize(size, how)).astype(np.int64)


@pytest.mark.parametrize("recipe", ["moco-v2", "conrec", "swav"])
def test_crops_are_pillows(path: Path, recipe: str) -> None:
    """Crop, then Pillow's resize, antialiased: what torchvision does to images of Pillow's."""
    cutter = cutter_of(opened(path), recipe)
    index = [5, 0, 1, 7, 3, 8]
    drawn = cutter.maker.draw_boxes(len(index), seeded(1))
    crops = cutter(torch.tensor(index), drawn)
    assert crops.shape == (len(index), cutter.packing.bytes)
    pillow = [Image.open(io.BytesIO(data)).convert("RGB") for data in files(N)]
    how = Image.Resampling.BICUBIC if recipe == "conrec" else Image.Resampling.BILINEAR
    for row, own in enumerate(boxes(cutter, drawn, index)):
        for box, (place, (height, width)) in zip(own, cutter.packing.places, strict=True):
            expected = piece(pillow[index[row]], box, (width, height), how)
            differ = np.abs(crops[row, place].view(height, width, 3).numpy() - expected)
            assert differ.max() <= 2
            assert differ.mean() < 0.5


@pytest.mark.parametrize("recipe", ["moco-v2", "swav", "supervised"])
def test_same_crops_for_any_number_of_threads_and_any_order(path: Path, recipe: str) -> None:
    images = opened(path)
    cutter = cutter_of(images, recipe)
    jobs = [(torch.tensor(index), 10 + k) for k, index in enumerate(([3, 1, 4], [4, 5, 9], [2, 6, 11]))]
    expected = [crops.clone() for _, crops in cutter.feed(jobs)]
    for threads in (1, 3, 8):
        images.pool = ThreadPoolExecutor(threads)
        for order in ([0, 1, 2], [2, 0, 1], [1]):
            found = list(cutter.feed([jobs[k] for k in order]))
            for k, (index, crops) in zip(order, found, strict=True):
                assert torch.equal(index, jobs[k][0])
                assert torch.equal(crops, expected[k])
    assert not torch.equal(expected[0][2], expected[1][0])  # the same image, another batch


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 2000)), min_size=1, max_size=4), st.integers(1, 100))
def test_no_view_is_enlarged_for_being_reduced(crops: list[tuple[int, int]], side: int) -> None:
    times = reduction(crops, [(side, side)] * len(crops))
    least = min(map(min, crops))
    assert times == max((k for k in (1, 2, 4, 8) if least >= k * side), default=1)


def large(path: Path, size: tuple[int, int], kind: str) -> tuple[Path, Image.Image]:
    """A file of one photograph."""
    header = Header(generator="", parameters={}, seed=0, classes=(), factors=(), mask_names=())
    image = scene(*size, 3)
    with DatasetWriter(path, header=header, compression="none", overwrite=True) as writer:
        writer.begin("train", 1)
        data, crop = saved(image, kind, quality=95), CentreCrop(18, 16)
        writer.append(EncodedBlock((16, 16, 3), [data], {}, None, np.array([size], np.int32), crop))
    with Image.open(io.BytesIO(data)) as opened_image:
        return path, opened_image.convert("RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(150, 201), (301, 222)])
def test_reduced_decoding_shows_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: tuple[int, int]
) -> None:
    path, image = large(tmp_path / "a.h5", size, kind)
    cutter = cutter_of(opened(path), "moco-v2")
    encoded, asked = cutter.images.encoded, set[int]()
    whole = encoded.photograph

    def noted(index: int, reduced: int = 1) -> NDArray[np.uint8]:
        asked.add(reduced)
        return whole(index, reduced)

    monkeypatch.setattr(encoded, "photograph", noted)
    for seed in range(12):
        drawn = cutter.maker.draw_boxes(1, seeded(seed))
        crops = cutter(torch.tensor([0]), drawn)
        [own] = boxes(cutter, drawn, [0])
        for box, (place, view) in zip(own, cutter.packing.places, strict=True):
            expected = piece(image, box, view, Image.Resampling.BILINEAR)
            assert np.abs(crops[0, place].view(*view, 3).numpy() - expected).mean() < 4
    assert {2, 4, 8} & asked


def test_views_of_crops_are_flipped_as_drawn(path: Path) -> None:
    cutter = cutter_of(opened(path), "supervised")
    index = torch.tensor([0, 2, 4, 6])
    crops = cutter(index, cutter.maker.draw_boxes(4, seeded(2)))
    drawn = cutter.maker.draw(4, seeded(4))
    assert drawn.boxes.numel() == 0
    views = cutter.maker(crops, drawn)
    expected = crops.view(4, 16, 16, 3).permute(0, 3, 1, 2) / 255
    for row, flipped in enumerate(drawn.flipped.tolist()):
        assert torch.equal(views.inputs[0, row], expected[row].flip(-1) if flipped else expected[row])
    assert 0 < drawn.flipped.sum() < 4


def test_large_and_small_views_are_unpacked_in_order(path: Path) -> None:
    cutter = cutter_of(opened(path), "swav")
    shapes = [view for _, view in cutter.packing.places]
    assert shapes == [(16, 16)] * 2 + [(8, 8)] * 6
    packed = torch.empty(3, cutter.packing.bytes, dtype=torch.uint8)
    for row in range(3):
        for number, (place, _) in enumerate(cutter.packing.places):
            packed[row, place] = 10 * row + number
    for kind, (views, first) in enumerate(((2, 0), (6, 2))):
        crops = cutter.packing.crops(packed, kind).view(views, 3, -1)
        for view in range(views):
            for row in range(3):
                assert (crops[view, row] == 10 * row + first + view).all()


@pytest.mark.parametrize("max_size", [64, 8])
def test_placed_around_regions_of_the_test_crop(path: Path, monkeypatch: pytest.MonkeyPatch, max_size: int) -> None:
    """A region of the test crop holds the centres of all crops, in pixels of the photograph, but for its borders.

    Regions are in pixels of what the encoder sees: the test crop, or what `max_size` makes of it.
    """
    cutter = cutter_of(opened(path, max_size), "moco-v2")
    index = [0, 4, 8]  # 40x60, 24x24, 33x20
    regions = torch.tensor([[0, 0, 4, 4], [12, 12, 16, 16], [0, 8, 16, 16]])
    placement = Placement(regions * min(16, max_size) // 16, torch.linspace(0, 1, 9))
    seen: dict[int, list[list[int]]] = {image: [] for image in index}
    monkeypatch.setattr(Cutter, "_cut", lambda self, image, boxes, out: seen[image].extend(boxes))
    for seed in range(40):
        cutter(torch.tensor(index), cutter.maker.draw_boxes(3, seeded(seed)), placement)
    inside = dict.fromkeys(index, 0)
    for image, region in zip(index, regions.tolist(), strict=True):
        height, width = SIZES[image % len(SIZES)]
        resized = [
            20 if side == min(height, width) else int(20 * side / min(height, width)) for side in (width, height)
        ]
        for box in seen[image]:
            for axis, length in enumerate((width, height)):
                # Back to the test crop: of the resized whole the middle 16 pixels.
                centre = (box[axis] + box[axis + 2]) / 2 * resized[axis] / length - round((resized[axis] - 16) / 2)
                within = region[axis] - 1 <= centre <= region[axis + 2] + 1
                assert within or box[axis] == 0 or box[axis + 2] == length
                inside[image] += within
    assert min(inside.values()) > 20


def damaged(path: Path) -> Iterator[None]:
    with edited(path) as file:
        ends = file["train/encoded/offsets"][:]
        file["train/encoded/bytes"][ends[0] + 40 : ends[1]] = 0
    yield


def test_a_damaged_photograph_is_one_line(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5", 6, masked=False)
    list(damaged(path))
    cutter = cutter_of(opened(path))
    assert_one_line(lambda: list(cutter.feed([(torch.tensor([1, 0]), 0)])), "photograph of 60x40")


def test_grey_photographs(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5", 6, masked=False, mode="L")
    cutter = cutter_of(opened(path), "conrec")
    assert cutter.packing.bytes == 2 * 16 * 16
    crops = cutter(torch.arange(6), cutter.maker.draw_boxes(6, seeded(0)))
    views = cutter.maker(crops, cutter.maker.draw(6, seeded(1)))
    assert views.inputs.shape == views.targets.shape == (2, 6, 1, 16, 16)


@pytest.mark.parametrize("area", [None, (0.05, 0.14), (0.2, 1.0)])
def test_boxes_of_images_of_a_few_pixels_hold_some(area: tuple[float, float] | None) -> None:
    sizes = torch.tensor([(1, 1), (1, 3), (2, 1), (2, 2), (1, 50)]).repeat(100, 1)
    drawn = numbers(len(sizes))
    drawn = drawn if area is None else areas_(drawn, area)
    found = boxes_of(drawn, limits_of(sizes, torchvision=area is not None))
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] < found[:, 2:]).all()
    assert (found[:, 2:] <= sizes.flip(1)).all()
