"""Detectors on small encoders: which parts they are of, what a step sees, rates, and trainings that are interrupted.

Alone: pytest tests/detection/test_training.py
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from probekit.data.generate import generate
from probekit.detection import train
from probekit.detection.model import build_detector, check_encoder, is_resnet, weights_of
from probekit.detection.operators import detection_models
from probekit.detection.pictures import Batches, Pictures
from probekit.detection.protocol import COCO, QUICK, VOC, Recipe, recipe_for
from probekit.detection.train import Training, drawn, find
from probekit.h5 import DatasetInfo, Header, Objects, Split, pack, pack_objects, read_info
from probekit.h5.objects import IS_CROWD, runs_of
from probekit.h5.write import DatasetWriter
from probekit.models.encoder import Encoder

CPU = torch.device("cpu")
SMALL = replace(QUICK, steps=4, drops=(3,), warmup=2, batch=2, conv=4, hidden=8, regions=8, anchors=(12, 24))
MODELS = detection_models(CPU)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    folder = tmp_path_factory.mktemp("scenes")
    return generate("scenes", out=folder / "scenes.h5", n=7, n_test=3, size=32, seed=1)


def unet(seed: int = 0) -> Encoder:
    with drawn(seed, CPU):
        return Encoder(channels=1, pooling="gap", width=2, depth=3)


def resnet() -> Encoder:
    with drawn(0, CPU):
        return Encoder(channels=1, pooling="gap", backbone="timm:resnet10t", normalise={"mean": [0.4], "std": [0.2]})


def training(encoder: Encoder, recipe: Recipe, place: Path) -> Training:
    return Training(partial(build_detector, encoder, recipe, 3, MODELS), recipe, 5, CPU, place)


def batches(info: DatasetInfo, recipe: Recipe, seed: int = 5) -> Batches:
    return Batches(Pictures(info, "train"), recipe.batch, seed, flips=False, masked=recipe.masked)


def nothing(done: int, total: int) -> None:
    """Nobody looks."""


def test_schedules_are_those_of_the_paper() -> None:
    """Supplement 1.4.1 and 1.4.2."""
    assert (VOC.steps, VOC.drops, VOC.warmup, VOC.rate, VOC.decay) == (24_000, (18_000, 22_000), 100, 0.02, 1e-4)
    assert VOC.scales == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert (VOC.test_scale, VOC.batch, VOC.trials, VOC.masked) == (800, 16, 5, False)
    assert (COCO.steps, COCO.drops, COCO.rate, COCO.batch) == (180_000, (120_000, 160_000), 0.02, 16)
    assert (COCO.scales[0], COCO.scales[-1], COCO.test_scale, COCO.masked) == (640, 800, 600, True)
    rates = [VOC.rate_at(step) for step in (0, 50, 100, 17_999, 18_000, 21_999, 22_000)]
    assert rates == pytest.approx([2e-5, 0.01001, 0.02, 0.02, 0.002, 0.002, 0.0002])
    assert [recipe_for(preset, masked=masked) for preset in ("paper", "quick") for masked in (False, True)] == [
        VOC,
        COCO,
        replace(QUICK, masked=False, about=QUICK.about.replace("Mask R-CNN", "Faster R-CNN")),
        QUICK,
    ]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [unet, resnet])
def test_a_detector_has_the_encoders_weights_and_trains_all(
    make: Any, masked: bool, scenes: DatasetInfo, tmp_path: Path
) -> None:
    encoder, recipe = make(), replace(SMALL, masked=masked, steps=2, warmup=0)
    encoder.eval()
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    run = training(encoder, recipe, tmp_path / "x.pt")
    before = {name: value.clone() for name, value in run.make().state_dict().items()}
    own = {tuple(value.flatten()[:50].tolist()) for value in state.values() if value.numel() > 50}
    kept = {tuple(value.flatten()[:50].tolist()) for value in before.values() if value.numel() > 50}
    assert own - {tuple(state[name].flatten()[:50].tolist()) for name in state if "pooling" in name} <= kept
    with drawn(0, CPU):
        detector, loss = run.run(batches(scenes, recipe), nothing)
    assert np.isfinite(loss)
    after = detector.state_dict()
    still = [name for name, weight in detector.named_parameters() if torch.equal(before[name], after[name])]
    assert [name for name in still if "mask_predictor" not in name] == []
    assert [name for name in before if "running_mean" in name and torch.equal(before[name], after[name])] == []
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in state.items())  # a copy was trained
    assert is_resnet(encoder) == (make is resnet)
    found = find(detector, Pictures(scenes, "test"), recipe, CPU, nothing)
    assert len(found) == 3
    for each in found:
        assert (each.masks is not None) == masked
        assert all(runs.sum() == 32 * 32 for runs in each.masks or ())
        assert set(each.labels) <= {0, 1, 2}


def test_the_maps_of_c4_and_of_others() -> None:
    """Of a resnet the map before the last stage, whose regions are that stage's input; of others the last map."""
    image = torch.rand(1, 1, 64, 64)
    cut, whole = (build_detector(each, SMALL, 3, MODELS) for each in (resnet(), unet()))
    assert cut.backbone(image)["0"].shape == (1, 256, 4, 4)  # type: ignore[operator]
    assert whole.backbone(image)["0"].shape == (1, 8, 16, 16)  # type: ignore[operator]
    regions = torch.rand(3, 256, 14, 14)
    box, mask = cut.roi_heads.box_head, cut.roi_heads.mask_head  # type: ignore[union-attr]
    assert box(regions).shape == (3, 512)  # type: ignore[operator]
    assert mask(regions).shape == (3, 512, 7, 7)  # type: ignore[operator]
    assert isinstance(box.norm, nn.BatchNorm2d)
    assert box.stage is mask.stage  # type: ignore[union-attr]
    assert cut.transform.image_mean == [0.4]  # type: ignore[union-attr]


def test_norms_do_not_decay() -> None:
    detector = build_detector(resnet(), SMALL, 3, MODELS)
    groups = weights_of(detector, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    norms = [
        weight for module in detector.modules() if isinstance(module, nn.BatchNorm2d) for weight in module.parameters()
    ]
    assert {id(weight) for weight in groups[1]["params"]} == {id(weight) for weight in norms}
    assert sum(len(group["params"]) for group in groups) == len(list(detector.parameters()))


def test_an_interrupted_training_ends_as_one_that_was_not(
    scenes: DatasetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = training(unet(), SMALL, tmp_path / "a.pt").run(batches(scenes, SMALL), nothing)
    assert not (tmp_path / "a.pt").exists()
    monkeypatch.setattr(train, "EVERY", 0.0)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(unet(), SMALL, tmp_path / "b.pt").run(batches(scenes, SMALL), interrupt)
    steps: list[int] = []
    with drawn(123, CPU):
        again = training(unet(), SMALL, tmp_path / "b.pt")
        detector, _ = again.run(batches(scenes, SMALL), lambda done, total: steps.append(done))
    assert steps == [3, 4]  # the third was not kept
    for name, value in whole.state_dict().items():
        assert torch.equal(value, detector.state_dict()[name]), name


def test_torchs_own_generator_is_left_as_it_was(scenes: DatasetInfo, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    training(unet(), replace(SMALL, steps=1), tmp_path / "a.pt").run(batches(scenes, SMALL), nothing)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_state_is_refused(scenes: DatasetInfo, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"expected the state of a training in .*a.pt, found another; remove it"):
        training(unet(), SMALL, tmp_path / "a.pt").run(batches(scenes, SMALL), nothing)


def test_a_loss_that_is_no_number_is_refused(scenes: DatasetInfo, tmp_path: Path) -> None:
    encoder = unet()
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    with pytest.raises((ValueError, AssertionError), match=r"finite loss|loss"):
        training(encoder, SMALL, tmp_path / "a.pt").run(batches(scenes, SMALL), nothing)


def test_batches_go_through_all_images_in_one_order_after_another(scenes: DatasetInfo) -> None:
    seen = batches(scenes, SMALL)
    rows = [row for step in range(7) for row in seen.at(step)[0]]
    assert sorted(rows[:7]) == sorted(rows[7:]) == list(range(7))
    assert rows[:7] != rows[7:]
    assert [seen.at(step) for step in (5, 0)] == [batches(scenes, SMALL).at(step) for step in (5, 0)]
    assert batches(scenes, SMALL, seed=6).at(0) != seen.at(0)
    flips = Batches(seen.pictures, 2, 5, flips=True, masked=True)
    drawn_flips = [flip for step in range(40) for flip in flips.at(step)[1]]
    assert 20 < sum(drawn_flips) < 60


def test_a_mirrored_example_has_mirrored_boxes_and_masks(scenes: DatasetInfo) -> None:
    pictures = Pictures(scenes, "train")
    for row in range(7):
        (image, plain), (mirrored, other) = (pictures.example(row, flip=flip, masked=True) for flip in (False, True))
        assert torch.equal(mirrored, image.flip(2))
        for k, mask in enumerate(other["masks"]):
            assert torch.equal(mask, plain["masks"][k].flip(1))
            y, x = mask.nonzero().T
            assert other["boxes"][k].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert (plain["labels"] >= 1).all()


def test_crowds_are_not_learned_from(tmp_path: Path) -> None:
    boxes = np.array([[1, 1, 5, 5], [2, 2, 8, 8]], np.float32)
    mask = runs_of(np.eye(16) > 0)
    some = Objects(boxes, np.zeros(2, np.int64), np.array([0, IS_CROWD]), (mask, mask))
    crowd = Objects(boxes[1:], np.zeros(1, np.int64), np.array([IS_CROWD]), (mask,))
    header = Header(generator="", parameters={}, seed=0, classes=("a",), factors=(), mask_names=())
    with DatasetWriter(tmp_path / "a.h5", header=header, compression="none", overwrite=False) as writer:
        writer.begin("train", 2)
        writer.append(pack(Split(np.zeros((2, 16, 16), np.uint8), None, {}, None, pack_objects([some, crowd])), "none"))
    pictures = Pictures(read_info(tmp_path / "a.h5"), "train")
    assert pictures.trained() == [0]
    _, target = pictures.example(0, flip=False, masked=True)
    assert target["boxes"].tolist() == [[1, 1, 5, 5]]
    assert target["masks"].shape == (1, 16, 16)


def test_what_no_detector_can_stand_on_is_refused() -> None:
    other = unet()
    other.stride = 14
    with pytest.raises(ValueError, match=r"8, 16 or 32 px a cell, .* found 14 in a"):
        check_encoder(other, "a")
    other.has_map = False
    with pytest.raises(ValueError, match="expected an encoder with a feature map that can be trained, found a"):
        check_encoder(other, "a")
