"""ContrastiveCrop: regions from the encoder's map, centres across them, and runs of any method.

Alone: pytest tests/branches/test_contrastive_crop.py
"""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import beta, ks_2samp
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from probekit.branches.base import Epoch, branches_of
from probekit.branches.contrastive_crop import QUANTILES, ContrastiveCrop, beta_quantiles, strong_boxes
from probekit.data.split import Images, StreamedImages
from probekit.models import Encoder
from probekit.models.extract import read_all
from probekit.registry import METHODS
from probekit.restore.draw import draw_run, views_figure
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.train.pretrain import resume
from probekit.train.step import WARM_UP, RecordedStep
from probekit.views.crops import Placement, random_boxes
from probekit.views.recipes import RECIPES, make_views
from probekit.weights import LAST
from tests.chance import apply_to_all, noise, seeded
from tests.train.test_loop import assert_same, assert_same_run, content, quiet, stop_after, train
from tests.train.test_loop import larger_data as data  # noqa: F401
from tests.train.test_step import configured, losses, step_of
from tests.views.drawn import random_resized_boxes

N = 4000
LAWS = {
    "torchvision": lambda n, h, w, g, p=None: random_resized_boxes(n, h, w, (0.1, 0.5), g, p),
    "tensorflow": random_boxes,
}


SMALL = Encoder(channels=1, pooling="gap", width=4, depth=4)
CROPS, BRANCH, REGION = ("contrastive-crop",), "branch.contrastive-crop", "contrastive-crop region"


def epoch_of(images: Images, encoder: Encoder = SMALL, *, said: list[str] | None = None) -> Epoch:
    """The first epoch of ten, whose features are the encoder's."""
    return Epoch(
        0,
        10,
        lambda: pytest.fail("no projections"),
        lambda read: read_all(encoder, images, read),
        (images.shape[-2], images.shape[-1]),
        say=lambda line: said.append(line) if said is not None else None,
    )


def found_in(images: Images, encoder: Encoder, *, threshold: float) -> Tensor:
    """The regions of images."""
    epoch = epoch_of(images, encoder)
    return ContrastiveCrop(encoder, threshold=threshold).place(epoch.read, epoch.size).regions


def placed(region: tuple[int, int, int, int], alpha: float) -> Placement:
    return Placement(torch.tensor([region]), beta_quantiles(alpha))


# --- The law of the centres.


def naive_boxes(
    n: int, height: int, width: int, region: tuple[int, int, int, int], alpha: float
) -> Iterator[tuple[int, int, int, int]]:
    """The paper's sampling, one crop at a time: a size, then a centre in the region by a beta law."""
    random = np.random.default_rng(0)
    x0, y0, x1, y1 = region
    while n:
        area = height * width * random.uniform(0.2, 1.0)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < w <= width and 0 < h <= height):
            continue
        corner = []
        for start, stop, side, whole in ((x0, x1, w, width), (y0, y1, h, height)):
            first = min(max(math.ceil(start - side / 2), 0), whole - side)
            last = min(max(math.floor(stop - side / 2), 0), whole - side)
            corner.append(min(first + int((last - first + 1) * random.beta(alpha, alpha)), last))
        yield corner[0], corner[1], corner[0] + w, corner[1] + h
        n -= 1


@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0, 3.0])
@pytest.mark.parametrize(
    ("height", "width", "region"),
    [(64, 64, (10, 20, 40, 60)), (64, 64, (0, 0, 64, 64)), (48, 96, (70, 5, 71, 9)), (40, 40, (0, 30, 12, 40))],
)
def test_boxes_follow_the_papers_law(height: int, width: int, region: tuple[int, int, int, int], alpha: float) -> None:
    """Size and both centres; two-sample Kolmogorov-Smirnov, at one in a million."""
    theirs = np.array(list(naive_boxes(N, height, width, region, alpha)), float)
    placement = placed(region, alpha)
    ours = random_resized_boxes(N, height, width, (0.2, 1.0), seeded(), placement).double().numpy()

    def facts(boxes: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        x0, y0, x1, y1 = boxes.T
        return {"area": (x1 - x0) * (y1 - y0), "x": (x0 + x1) / 2, "y": (y0 + y1) / 2}

    for (what, mine), expected in zip(facts(ours).items(), facts(theirs).values(), strict=True):
        assert ks_2samp(mine, expected).pvalue > 1e-6, what


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=50, deadline=None)
@given(st.integers(12, 80), st.floats(0.75, 1.33), st.data())
def test_centres_lie_in_the_region_as_far_as_the_border_allows(law: str, height: int, ratio: float, more: Any) -> None:
    """For images of which half, in any aspect ratio, fits: otherwise a crop may stand in the middle."""
    width = round(height * ratio)
    x0, y0 = more.draw(st.integers(0, width - 1)), more.draw(st.integers(0, height - 1))
    region = (x0, y0, more.draw(st.integers(x0 + 1, width)), more.draw(st.integers(y0 + 1, height)))
    boxes = LAWS[law](50, height, width, seeded(), placed(region, more.draw(st.sampled_from([0.1, 0.6, 1.0, 5.0]))))
    for left, top, right, bottom in boxes.tolist():
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        for low, high, start, stop, whole in (
            (left, right, region[0], region[2], width),
            (top, bottom, region[1], region[3], height),
        ):
            # TensorFlow's law never takes the last position, and so may stay a pixel before the border.
            assert start <= (low + high) / 2 <= stop or low == 0 or high >= whole - (law == "tensorflow")


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=50, deadline=None)
@given(st.integers(8, 80), st.integers(8, 80), st.integers(0, 9))
def test_the_whole_image_with_even_centres_is_the_plain_law(law: str, height: int, width: int, seed: int) -> None:
    """Draw for draw: a run in its warm-up is the run with random crops."""
    whole = (0, 0, width, height)
    plain = LAWS[law](40, height, width, seeded(seed))
    for placement in (placed(whole, 1.0), Placement(torch.tensor([whole]), torch.linspace(0, 1, QUANTILES + 1))):
        assert torch.equal(LAWS[law](40, height, width, seeded(seed), placement), plain)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.6, 1.0, 4.0, 1e6])
def test_draws_follow_the_beta_law(alpha: float) -> None:
    quantiles = beta_quantiles(alpha)
    assert quantiles[[0, -1]].tolist() == [0, 1]
    assert bool((quantiles.diff() >= 0).all())
    u = (torch.arange(2**16) + 0.5) / 2**16
    drawn = Placement(torch.empty(0), quantiles).drawn(u).double().numpy()
    at = np.linspace(0.001, 0.999, 999)
    shares = np.searchsorted(drawn, at) / len(u)
    # For 1e6 the law is narrower than float32's steps at one half.
    assert np.abs(shares - beta(alpha, alpha).cdf(at)).max() < 1.1 / QUANTILES
    if alpha < 1:  # edges more than the middle
        assert shares[99] > 0.1
        assert shares[599] - shares[399] < 0.2


def test_small_alpha_keeps_to_the_edges_of_the_region() -> None:
    boxes = random_resized_boxes(N, 100, 100, (0.2, 0.2), seeded(), placed((30, 30, 70, 70), 0.1))
    x = (boxes[:, 0] + boxes[:, 2]).double() / 2
    near = ((x < 34) | (x > 66)).double().mean()
    assert near == pytest.approx(2 * beta(0.1, 0.1).cdf(0.1), abs=0.03)


# --- Regions.


def naive_box(channels: NDArray[np.float64], height: int, width: int, threshold: float) -> list[int]:
    """The authors' localisation of one image, pixel by pixel."""
    heat = np.maximum(channels, 0).sum(0)
    if heat.max() == heat.min():
        return [0, 0, width, height]
    heat = (heat - heat.min()) / (heat.max() - heat.min())
    h, w = heat.shape
    strong = []
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) * h / height - 0.5, (column + 0.5) * w / width - 0.5
            y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
            top, left = min(int(y), h - 2) if h > 1 else 0, min(int(x), w - 2) if w > 1 else 0
            value = 0.0
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (abs(y - top) if i else 1 - abs(y - top)) * (abs(x - left) if j else 1 - abs(x - left))
                value += share * heat[min(top + i, h - 1), min(left + j, w - 1)]
            if value > threshold:
                strong.append((row, column))
    if not strong:
        return [0, 0, width, height]
    rows, columns = zip(*strong, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([(16, 16), (8, 24), (12, 12)]),
    st.sampled_from([0.1, 0.37, 0.9]),
    st.integers(0, 99),
)
def test_regions_are_the_papers(h: int, w: int, size: tuple[int, int], threshold: float, seed: int) -> None:
    maps = torch.randn(3, 5, h, w, generator=seeded(seed)) ** 3
    found = strong_boxes(maps, size, threshold)
    assert found.dtype == torch.int64
    assert found.tolist() == [naive_box(m.double().numpy(), *size, threshold) for m in maps]
    alone = torch.cat([strong_boxes(m[None], size, threshold) for m in maps])
    assert torch.equal(found, alone)


def test_where_nothing_stands_out_the_region_is_the_whole_image() -> None:
    even = torch.stack([torch.full((4, 5, 5), 2.0), torch.zeros(4, 5, 5), -torch.rand(4, 5, 5, generator=seeded())])
    assert strong_boxes(even, (20, 30), 0.1).tolist() == [[0, 0, 30, 20]] * 3
    peak = torch.zeros(1, 1, 4, 4)
    peak[0, 0, 1, 2] = 1
    assert strong_boxes(peak, (16, 16), 0.999).tolist() == [[0, 0, 16, 16]]  # between cells no pixel is that strong
    assert strong_boxes(peak, (4, 4), 0.999).tolist() == [[2, 1, 3, 2]]


@pytest.mark.parametrize(
    ("warmup", "every", "epochs", "expected"),
    [
        (0.2, 0.2, 100, [20, 40, 60, 80]),  # authors' code, ImageNet
        (0.2, 0.2, 500, [100, 200, 300, 400]),  # CIFAR
        (0.2, 0.2, 45, [9, 18, 27, 36]),
        (0.0, 0.5, 4, [0, 2]),
        (0.2, 0.2, 1, []),
        (0.2, 0.2, 2, [1]),
        (0.2, 0.2, 7, [2, 3, 4, 5, 6]),
        (0.07, 0.4, 100, [7, 47, 87]),  # .07 * 100 is 7.000000000000001
        (0.0, 0.0, 3, [0, 1, 2]),
        (0.5, 9.0, 10, [5]),
    ],
)
def test_regions_are_found_after_the_warm_up_and_every_so_often(
    warmup: float, every: float, epochs: int, expected: list[int]
) -> None:
    crop = ContrastiveCrop(SMALL, warmup=warmup, every=every)
    assert [done for done in range(epochs) if crop.due(done, epochs)] == expected


def test_regions_are_found_and_restored_in_place() -> None:
    """A recorded step reads the memory that it was recorded with."""
    crop = ContrastiveCrop(SMALL, threshold=0.9, warmup=0.0)
    assert crop.resting
    said: list[str] = []
    numbers = crop.begin_epoch(epoch_of(noise(3, 1, 32, 32), said=said))
    assert not crop.resting
    assert 0 < numbers["region"] < 1
    assert said == [crop.told(numbers["region"])]
    first, before = crop.boxes.clone(), [tensor.data_ptr() for tensor in crop.buffers()]
    crop.begin_epoch(epoch_of(noise(3, 1, 32, 32, seed=1)))
    assert not torch.equal(crop.boxes, first)
    assert torch.equal(crop.quantiles, beta_quantiles(0.6))
    other = ContrastiveCrop(SMALL, threshold=0.9, warmup=0.0)
    other.begin_epoch(epoch_of(noise(3, 1, 32, 32, seed=2)))
    pointers = [tensor.data_ptr() for tensor in other.buffers()]
    other.load_state_dict(crop.state_dict())
    assert_same(dict(other.state_dict()), dict(crop.state_dict()))
    assert [tensor.data_ptr() for tensor in other.buffers()] == pointers
    assert [tensor.data_ptr() for tensor in crop.buffers()] == before


def test_a_fresh_branch_takes_over_regions_of_any_number_of_images() -> None:
    crop, fresh = (ContrastiveCrop(SMALL, warmup=0.0) for _ in range(2))
    crop.begin_epoch(epoch_of(noise(5, 1, 32, 32)))
    fresh.load_state_dict(crop.state_dict())
    assert not fresh.resting
    index = torch.tensor([4, 0])
    assert_same(fresh.placement(index).regions, crop.boxes[index].long())


@pytest.mark.parametrize(
    ("setting", "value", "limits"),
    [
        ("threshold", 1.0, "below 1"),
        ("threshold", -0.1, "of at least 0"),
        ("alpha", 0.0, "of at least 0.01"),
        ("warmup", 1.0, "below 1"),
        ("every", -0.5, "of at least 0"),
        ("every", math.nan, "of at least 0 and below 1e\\+09"),
    ],
)
def test_a_setting_out_of_range_is_refused_in_one_line(setting: str, value: float, limits: str) -> None:
    options: dict[str, Any] = {f"{BRANCH}.{setting}": value}
    with pytest.raises(ValueError, match=f"^expected {BRANCH}.{setting} = a number {limits}, found {value}$"):
        configured("simclr", "contrastive-crop", **options)


def test_a_map_of_one_cell_is_refused_in_one_line() -> None:
    crop = ContrastiveCrop(SimpleNamespace(stride=32))  # type: ignore[arg-type]
    crop.check_size((32, 64))
    with pytest.raises(ValueError, match=r"expected a map of several cells .*found one: images of 32x40") as caught:
        crop.check_size((32, 40))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["unet", "test_resnet", "test_vit", "test_convnext"])
def test_encoders_of_every_family_find_regions(name: str) -> None:
    """Two images, two regions; maps that end in a norm have no ReLU of their own."""
    torch.manual_seed(0)
    backbone = {"width": 8, "depth": 4} if name == "unet" else {"backbone": f"timm:{name}"}
    encoder = Encoder(channels=1, pooling="gap", **backbone)
    images = torch.zeros(2, 1, 128, 128, dtype=torch.uint8)
    images[0, :, 8:56, 8:56] = images[1, :, 72:120, 72:120] = noise(1, 48, 48)
    found = found_in(images, encoder, threshold=0.9)
    assert bool((found >= 0).all())
    assert bool((found <= 128).all())
    assert bool((found[:, 2:] > found[:, :2]).all())
    assert not torch.equal(found[0], found[1])
    assert encoder.training


# --- Views.


def of_four(alpha: float = 0.6) -> Placement:
    return Placement(
        torch.tensor([[0, 0, 9, 9], [30, 0, 40, 8], [1, 20, 3, 30], [0, 0, 40, 32]]), beta_quantiles(alpha)
    )


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {"whole"}))
def test_every_crop_of_every_recipe_stands_in_its_own_images_region(recipe: str) -> None:
    placement = of_four()
    made = make_views(recipe, noise(4, 3, 32, 40), seeded(), placement=placement)
    for views in (made, made.local):
        if views is None:
            continue
        for box in views.boxes:
            x, y = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
            x0, y0, x1, y1 = placement.regions.unbind(1)
            assert bool(((x >= x0) & (x <= x1) | (box[:, 0] == 0) | (box[:, 2] >= 39)).all())
            assert bool(((y >= y0) & (y <= y1) | (box[:, 1] == 0) | (box[:, 3] >= 31)).all())
        plain = make_views(recipe, noise(4, 3, 32, 40), seeded())
        same = plain if views is made else plain.local
        assert same is not None
        assert torch.equal(views.boxes[..., 2:] - views.boxes[..., :2], same.boxes[..., 2:] - same.boxes[..., :2])
        assert torch.equal(views.flipped, same.flipped)
        assert not torch.equal(views.boxes, same.boxes)


@pytest.mark.parametrize("recipe", ["conrec", "swav"])
def test_regions_of_neighbours_do_not_matter(recipe: str) -> None:
    images, mine = noise(4, 1, 32, 40), of_four()
    others = Placement(mine.regions.clone(), mine.quantiles)
    others.regions[[0, 1, 3]] = others.regions[[3, 0, 1]]
    first, second, again = (make_views(recipe, images, seeded(), placement=p) for p in (mine, others, mine))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.inputs[:, 2], second.inputs[:, 2])
    assert not torch.equal(first.boxes[:, 1], second.boxes[:, 1])


@pytest.mark.parametrize("recipe", ["simclr", "dino"])
def test_of_placed_crops_no_value_is_read_on_the_way(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.views.jitter.apply_where", apply_to_all)
    quantiles = beta_quantiles(0.6)
    with FakeTensorMode(allow_non_fake_inputs=True):
        placement = Placement(torch.zeros(4, 4, dtype=torch.int64), quantiles)
        made = make_views(recipe, torch.zeros(4, 1, 32, 32, dtype=torch.uint8), seeded(), placement=placement)
    assert made.inputs.shape == (2, 4, 1, 32, 32)


def test_a_step_takes_the_regions_of_its_own_images() -> None:
    step = step_of(configured("simclr", "contrastive-crop"))
    (crop,) = branches_of(step.method)
    assert isinstance(crop, ContrastiveCrop)
    crop.boxes[:16] = torch.tensor([0, 0, 1, 1])  # crops of the first half stand in one corner
    crop.boxes[16:] = torch.tensor([15, 15, 16, 16])
    index = torch.tensor([3, 30, 2, 17])
    boxes = step.views(index, step.images[index]).boxes
    assert bool((boxes[:, [0, 2], :2] == 0).all())
    assert bool((boxes[:, [1, 3], 2:] >= 15).all())


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["conrec", "dino"])
def test_a_recorded_step_sees_regions_that_are_found_later_on_a_gpu(method: str) -> None:
    device = torch.device("cuda")
    found = []
    for recorded in (False, True):
        options: dict[str, Any] = {f"{BRANCH}.warmup": 0.0, f"{BRANCH}.every": 0.0}
        step = step_of(configured(method, "contrastive-crop", **options), device)
        whole = RecordedStep(step, pytest.fail) if recorded else step
        first = losses(whole, WARM_UP + 3, device)
        (crop,) = branches_of(step.method)
        crop.begin_epoch(epoch_of(step.images, step.method.encoder))
        step.method.train()
        found.append(torch.cat([first, losses(whole, 5, device)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_the_picture_of_a_run_shows_the_regions() -> None:
    images = noise(4, 1, 32, 40)
    drawn: dict[str, Any] = {"recipe": "simclr", "seed": 0, "title": "a title", "predict": None}
    (plain,), (shown,) = (views_figure(images, placement=of, **drawn).axes for of in (None, of_four()))
    white = [patch for patch in shown.patches if patch.get_edgecolor() == (1, 1, 1, 1)]
    assert len(white) == 4
    assert len(shown.patches) == len(plain.patches) + 2 * 4, "and an edge around each"


# --- Runs.

SOON = {f"{BRANCH}.warmup": 0.4, f"{BRANCH}.every": 0.4, f"{BRANCH}.threshold": 0.6}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_with_it(method: str, data: Path, tmp_path: Path) -> None:  # noqa: F811
    options = {**SOON, f"{BRANCH}.warmup": 0.0, "train.precision": "fp32"}
    run, finished = train(data, tmp_path, method=method, branches=CROPS, epochs=1, options=options)
    assert finished
    (line,) = run.read_metrics()
    assert math.isfinite(line["loss"])
    assert 0 < line[REGION] <= 1
    boxes = content(run)["method"]["branches.contrastive-crop.boxes"]
    assert boxes.shape == (32, 4)
    share = (boxes[:, 2:] - boxes[:, :2]).double().prod(1).mean() / 32**2
    assert float(share) == pytest.approx(line[REGION])
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    assert len(set(map(tuple, boxes.tolist()))) > 1


@pytest.mark.parametrize("method", ["conrec", "swav"])
def test_a_run_in_its_warm_up_is_the_run_with_random_crops(method: str, data: Path, tmp_path: Path) -> None:  # noqa: F811
    plain, _ = train(data, tmp_path, method=method, name="plain", epochs=5)
    placed_, _ = train(data, tmp_path, method=method, name="placed", branches=CROPS, epochs=5, options=SOON)
    mine, theirs = (run.read_metrics() for run in (placed_, plain))
    assert mine[:2] == theirs[:2]
    assert mine[2]["loss"] != theirs[2]["loss"]
    assert [line["epoch"] for line in mine if REGION in line] == [3, 5]


@pytest.fixture(scope="module")
def never_stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:  # noqa: F811
    return train(
        data, tmp_path_factory.mktemp("runs"), method="dino", name="whole", branches=CROPS, epochs=5, options=SOON
    )[0]


@pytest.mark.parametrize("stop", [3, 8, 11, 16])
def test_stopped_and_resumed_is_the_run_that_was_never_stopped(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never_stopped: Run,
    stop: int,
) -> None:
    """Four steps an epoch; the regions are found after 8 and 16 steps. Streamed, with small crops."""
    options = {**SOON, "data.placement": "host"}
    with monkeypatch.context() as patch:
        stop_after(stop, patch)
        part, finished = train(data, tmp_path, method="dino", name="part", branches=CROPS, epochs=5, options=options)
    assert not finished
    resume(part, epochs=None, device="cpu", console=quiet())
    assert_same_run(part, never_stopped)


def test_companions_of_a_branch_have_regions_too(data: Path, tmp_path: Path) -> None:  # noqa: F811
    options = {**SOON, f"{BRANCH}.warmup": 0.0, "branch.xcorr.clusters": 3}
    branches = ("lcr", "xcorr", *CROPS)
    run, finished = train(data, tmp_path, method="simsiam", branches=branches, epochs=2, options=options)
    assert finished
    assert all(math.isfinite(line["xcorr mu"]) for line in run.read_metrics())


def test_the_regions_of_a_run_are_those_that_its_encoder_finds(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With every=0 they are found anew before each epoch; a picture shows those of its own images."""
    still = {"optimizer.lr": 0.0, "optimizer.weight_decay": 0.0}
    options = {**SOON, f"{BRANCH}.warmup": 0.0, f"{BRANCH}.every": 0.0, **still}
    run, _ = train(data, tmp_path, method="simclr", branches=CROPS, epochs=2, options=options)
    opened = open_encoder(run, LAST, torch.device("cpu"))
    encoder = opened.whole.encoder
    images = noise(5, 1, 32, 32)
    alone = found_in(images, encoder, threshold=0.6)
    streamed = StreamedImages(lambda index: images[index], images.shape, torch.device("cpu"))
    assert_same(found_in(streamed, encoder, threshold=0.6), alone)
    expected: Tensor = strong_boxes(encoder(images.float() / 255).map, (32, 32), 0.6)
    assert torch.equal(alone, expected)

    def drawn(images: Tensor, *, placement: Placement, **options: Any) -> Figure:
        assert_same(placement.regions, found_in(images, encoder, threshold=0.6))
        return Figure()

    monkeypatch.setattr("probekit.restore.draw.views_figure", drawn)
    draw_run(opened, data, split="test", seed=0)


def test_images_too_small_for_a_region_are_refused_before_the_run(data: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="expected a map of several cells"):
        train(data, tmp_path, method="simclr", branches=CROPS, options={**SOON, "model.depth": 6})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("share", "says"), [(0.6, "60% of an image"), (0.99, "type: --set branch.contrastive-crop.threshold=0.55")]
)
def test_regions_of_whole_images_come_with_what_to_type(share: float, says: str) -> None:
    assert ContrastiveCrop(SMALL).told(share).endswith(says)
