"""The dense probe: scikit-learn's scores and classifier, labels in loops, what reads masks exactly, and what does not.

Alone: pytest tests/probes/test_dense.py
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from typer.testing import CliRunner

import probekit
from probekit.cli import app
from probekit.h5 import DatasetWriter, Header, Split, pack
from probekit.measurement import read_result
from probekit.models.inputs import Input
from probekit.probes import dense
from probekit.probes.dense import (
    NONE,
    REST,
    Cells,
    Question,
    fit_cells,
    of_cells,
    pixel_maps,
    position,
    questions,
    read_cells,
    score,
    seen,
)
from probekit.probes.measurements.dense import CEILING, PIXELS, PLACE
from probekit.probes.protocol import GRID
from probekit.statistics import RESAMPLES
from tests.datasets import noise_npz, small_shapes

pytestmark = pytest.mark.usefixtures("plain_pictures", "few_baselines")
ASKED = Question("objects", ("disc", "bar"))
SIDE = 16


def masks(n: int, side: int = SIDE, *, seed: int = 0, cell: int = 1) -> dict[str, NDArray[np.bool_]]:
    """A disc and a bar that share no pixel, whose edges are edges of cells."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, (n, side // cell, side // cell)).repeat(cell, 1).repeat(cell, 2)
    return {"disc": classes == 1, "bar": classes == 2}


def file_of(path: Path, *splits: tuple[str, dict[str, NDArray[np.bool_]]], grey: int = 100) -> Path:
    """Images whose grey levels are their masks."""
    names = tuple(splits[0][1])
    header = Header(generator="", parameters={}, seed=0, classes=("a", "b"), factors=(), mask_names=names)
    with DatasetWriter(path, header=header, compression="none", overwrite=False) as writer:
        for name, own in splits:
            bits: NDArray[np.uint8] = np.sum(
                [mask.astype(np.uint8) << bit for bit, mask in enumerate(own.values())], axis=0, dtype=np.uint8
            )
            writer.begin(name, len(bits))
            writer.append(pack(Split(bits * np.uint8(grey), np.arange(len(bits)) % 2, {}, bits), "none"))
    return path


class Levels(nn.Module):
    """The grey levels 0, 100 and 200 of each cell of so many pixels as a map of three channels."""

    def __init__(self, cell: int = 1) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        levels = (255 * x[:, 0, self.cell // 2 :: self.cell, self.cell // 2 :: self.cell]).round()
        return torch.stack([(levels == level).float() for level in (0, 100, 200)], dim=1)


def measured(encoder: nn.Module, path: Path, **more: Any) -> dict[str, dict[str, Any]]:
    """The rows of the dense probe by name."""
    found = probekit.probe(encoder, path, also="dense", **more)["dense"].to_dict()
    assert read_result(found).name == "dense"
    return {row["name"] if row["kind"] == "baseline" else "encoder": row for row in found["rows"]}


@pytest.mark.parametrize("protocol", ["tuned", "fixed"])
def test_an_encoder_that_passes_the_masks_through_reads_them_all(protocol: str, tmp_path: Path) -> None:
    path = file_of(tmp_path / "d.h5", ("train", masks(12)), ("test", masks(10, seed=1)))
    rows = measured(Levels(), path, protocol=protocol)
    [asked] = rows["encoder"]["questions"]
    assert asked["classes"] == [REST, "disc", "bar"]
    assert asked["miou"]["value"] == asked["accuracy"]["value"] == 1.0
    assert rows["encoder"]["grid"] == [SIDE, SIDE]
    assert rows["encoder"]["n"] == 10
    assert rows[CEILING]["questions"][0]["miou"]["value"] == 1.0
    assert rows["chance"]["questions"][0]["miou"]["value"] < 0.15
    assert rows[PLACE]["questions"][0]["miou"]["value"] < 0.5, "where nothing stays in place"
    assert rows[PIXELS]["dim"] == 1


def test_position_alone_reads_what_stays_in_place_and_no_more(tmp_path: Path) -> None:
    """Half planes whose edge is an edge of cells are read exactly on a coarse grid, too."""
    still = np.zeros((12, SIDE, SIDE), bool)
    still[:, :, 8:] = True
    path = file_of(tmp_path / "d.h5", ("train", {"right": still}), ("test", {"right": still[:10]}))
    rows = measured(Levels(4), path)
    for name in (PLACE, CEILING, "encoder"):
        assert rows[name]["questions"][0]["miou"]["value"] == 1.0
    assert rows["chance"]["questions"][0]["accuracy"]["value"] == 0.5


def test_position_is_the_most_frequent_class_of_each_cell() -> None:
    drawn = [ASKED.labels(masks(9, seed=seed, cell=4)) for seed in (0, 1)]
    found = position(({"objects": each} for each in drawn), [ASKED], (4, 4))["objects"][0]
    cells = np.concatenate(drawn)[:, 1::4, 1::4]
    for i in range(4):
        for j in range(4):
            counts = np.bincount(cells[:, i, j], minlength=3)
            np.testing.assert_allclose(found[:, i, j], np.log((counts + 1) / 21))


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 3, (11, 8, 8))
    logits = torch.from_numpy(rng.normal(size=(11, 4, 8, 8)))
    logits[:, 3] = -9  # nobody has the class
    asked = [Question("q", ("a", "b", "c"))]
    [counts] = dense.confusions([(torch.empty(0), {"q": truth})], asked, lambda maps, labels: {"q": logits})
    found = score(counts["q"], seed=0)
    y, guess = truth[truth != NONE], logits.argmax(1).numpy()[truth != NONE]
    expected = jaccard_score(y, guess, average=None)
    assert [each["value"] for each in found["iou"]] == pytest.approx([*expected, None])
    assert found["miou"]["value"] == pytest.approx(jaccard_score(y, guess, average="macro"))
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(y, guess))


def test_intervals_are_over_whole_images() -> None:
    """Each resample again by scikit-learn, with as many copies of each image as were drawn."""
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 2, (12, 4, 4)), rng.integers(0, 2, (12, 4, 4))
    truth[:4] = guess[:4]
    counts = np.stack(
        [np.bincount(2 * t.ravel() + g.ravel(), minlength=4).reshape(2, 2) for t, g in zip(truth, guess, strict=True)]
    )
    drawn = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=RESAMPLES)
    means = [
        jaccard_score(truth.repeat(times, 0).ravel(), guess.repeat(times, 0).ravel(), average="macro")
        for times in drawn[:: RESAMPLES // 100]
    ]
    found = score(counts, seed=5)["miou"]
    assert found["ci"] == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.03)
    assert score(counts[:9], seed=5)["miou"]["ci"] is None, "fewer than 10 images"


def test_a_cell_has_the_class_of_most_of_its_area() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, (5, 12, 8))
    labels[0, :4, :4] = [[0, 0, 2, 2]] * 4  # a tie: the first
    labels[1, :4, :4] = NONE
    labels[1, 0, :4] = 1  # a quarter counts
    found = of_cells(labels, 3, (3, 2))
    for n in range(5):
        for i in range(3):
            for j in range(2):
                own = labels[n, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
                counts = [int((own == k).sum()) for k in range(3)]
                assert found[n, i, j] == (NONE if sum(counts) < 8 else counts.index(max(counts)))
    assert found[0, 0, 0] == 0
    assert found[1, 0, 0] == NONE


def test_logits_come_to_pixels_as_opencv_resizes_them() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 3, 4, 4)).astype(np.float32)
    large = np.stack(
        [[cv2.resize(plane, (16, 16), interpolation=cv2.INTER_LINEAR) for plane in each] for each in logits]
    )
    truth = rng.integers(0, 3, (3, 16, 16))
    found = dense._counts(truth, torch.from_numpy(logits), 3)
    for n in range(3):
        codes = 3 * truth[n] + large[n].argmax(0)
        np.testing.assert_array_equal(found[n].ravel(), np.bincount(codes.ravel(), minlength=9))


def cells(n: int, k: int, *, seed: int = 0, dim: int = 5, images: int = 10) -> Cells:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    x = rng.normal(size=(n, dim)) * [1, 10, 1, 1, 0.1] + 3
    x[:, 0] += y
    return Cells(x.astype(np.float32), {"q": y}, np.arange(n) % images)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("protocol", ["fixed", "tuned"])
def test_the_classifier_is_scikit_learns(k: int, protocol: str) -> None:
    train = cells(200, k)
    asked = [Question("q", tuple("abc"[: k - 1]))]
    found = fit_cells(train, cells(90, k, seed=2), asked, protocol=protocol, seed=0)["q"]
    assert found.C is not None
    scaler = StandardScaler(with_mean=protocol == "tuned", with_std=protocol == "tuned").fit(train.x.astype(float))
    theirs = LogisticRegression(C=found.C, tol=1e-6, solver="newton-cholesky").fit(
        scaler.transform(train.x), train.y["q"]
    )
    x = cells(50, k, seed=3).x
    logits = found.logits(torch.from_numpy(x)[:, :, None, None])[:, :, 0, 0]
    np.testing.assert_allclose(logits.softmax(1), theirs.predict_proba(scaler.transform(x)), atol=1e-4)


def test_the_penalty_is_chosen_on_val_and_without_it_on_whole_images_of_train() -> None:
    """Where val's labels are wrong the strongest penalty does the least harm there; train is the same."""
    train, asked, first = cells(200, 2), [Question("q", ("a",))], GRID[0]

    def chosen(train: Cells, val: Cells | None) -> float | None:
        return fit_cells(train, val, asked, protocol="tuned", seed=0)["q"].C

    wrong = Cells(train.x, {"q": 1 - train.y["q"]}, train.image)
    assert chosen(train, wrong) == first
    assert chosen(train, train) != first
    held = np.random.default_rng(0).permutation(10)[:2]
    flipped = np.where(np.isin(train.image, held), 1 - train.y["q"], train.y["q"])
    assert chosen(Cells(train.x, {"q": flipped}, train.image), None) == first, "cells of two of ten images choose"


def test_a_class_that_train_lacks_is_never_said_and_one_class_alone_is_always() -> None:
    train = cells(60, 2)
    found = fit_cells(train, None, [Question("q", ("a", "b"))], protocol="fixed", seed=0)["q"]
    logits = found.logits(torch.from_numpy(train.x)[:, :, None, None])
    assert (logits[:, 2] < logits[:, :2].amin(1)).all()
    same = Cells(train.x, {"q": np.ones(60, np.int64)}, train.image)
    constant = fit_cells(same, None, [Question("q", ("a",))], protocol="tuned", seed=0)["q"]
    assert constant.logits(torch.from_numpy(train.x)[:, :, None, None]).argmax(1).tolist() == [[[1]]] * 60
    assert constant.note == "the cells of train are of one class"


def test_cells_are_drawn_by_the_seed_from_each_image_and_never_void_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "CELLS", 20)
    labels = np.zeros((4, 8, 8), np.int64)
    labels[:, :, 4:] = NONE
    maps = torch.arange(4 * 16.0).view(4, 1, 4, 4)

    def drawn(seed: int) -> Cells:
        return read_cells(
            [(maps[:2], {"objects": labels[:2]}), (maps[2:], {"objects": labels[2:]})], [ASKED], 4, seed=seed
        )

    found = drawn(0)
    assert found.image.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert set((found.x[:, 0] % 4).tolist()) == {0, 1}, "the left half of the grid"
    assert len(set(found.x[:, 0].tolist())) == 20
    np.testing.assert_array_equal(found.x, drawn(0).x)
    assert not np.array_equal(found.x, drawn(1).x)


def test_masks_that_share_pixels_and_evidence_are_asked_about_one_by_one() -> None:
    apart, evidence = masks(3), {"evidence:gap": masks(3, seed=4)["disc"]}
    void = {"border": np.zeros((3, SIDE, SIDE), bool)}
    assert [each.masks for each in questions([apart | evidence | void])] == [("disc", "bar"), ("evidence:gap",)]
    both = {**apart, "bar": apart["bar"] | apart["disc"]}
    assert [each.masks for each in questions([both, apart])] == [("disc",), ("bar",)]
    assert questions([{}]) == []
    assert questions([void]) == []
    void["border"][:, 0] = True
    labels = Question("disc", ("disc",)).labels(apart | void)
    assert (labels[:, 0] == NONE).all()
    np.testing.assert_array_equal(labels[:, 1:], apart["disc"][:, 1:])


def test_images_without_a_segmentation_are_left_out_and_counted(tmp_path: Path) -> None:
    """As most photographs of VOC: what they show is not known, and is not the rest."""
    train, test = masks(12), masks(10, seed=1)
    for own in (*train.values(), *test.values()):
        own[:4] = False
    path = file_of(tmp_path / "d.h5", ("train", train), ("test", test))
    found = probekit.probe(Levels(), path, also="dense")["dense"].to_dict()
    assert {row["n"] for row in found["rows"]} == {6}
    assert "Images without masks are left out: 4 of train, 4 of test." in found["how"]
    assert found["rows"][0]["cells"] == 8 * SIDE**2
    for own in test.values():
        own[:] = False
    with pytest.raises(ValueError, match=r"expected masks for .+, found none in"):
        probekit.probe(Levels(), file_of(tmp_path / "none.h5", ("train", train), ("test", test)), also="dense")


def test_labels_are_cut_as_images_are_and_black_borders_do_not_count() -> None:
    labels = ASKED.labels(masks(2, 8, cell=2))
    doubled = labels.repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(seen(labels, Input((16,), (8, 8))), doubled[:, 4:12, 4:12])
    framed = seen(labels, Input((8,), (12, 12)))
    np.testing.assert_array_equal(framed[:, 2:10, 2:10], labels)
    assert (framed[:, :2] == NONE).all()
    assert (framed[:, :, 10:] == NONE).all()


def test_what_no_test_image_shows_is_no_question(tmp_path: Path) -> None:
    """Nothing but the rest would be right everywhere, 100 %."""
    train, test = masks(12), masks(10, seed=1)
    both = (
        {"disc": np.ones_like(train["disc"]), "bar": train["bar"]},
        {"disc": test["disc"], "bar": test["bar"] & False},
    )
    path = file_of(tmp_path / "d.h5", ("train", both[0]), ("test", both[1]))
    assert [each["name"] for each in measured(Levels(), path)["encoder"]["questions"]] == ["disc"]


def test_one_class_everywhere_has_no_mean() -> None:
    found = score(np.array([[[0, 0], [0, 9]], [[0, 0], [0, 9]]]), seed=0)
    assert found["miou"] == {"value": None, "ci": None}
    assert found["accuracy"]["value"] == 1.0


def test_voids_alone_are_refused(tmp_path: Path) -> None:
    void = {"pet": np.zeros((6, SIDE, SIDE), bool), "border": np.ones((6, SIDE, SIDE), bool)}
    test = {"pet": np.ones((6, SIDE, SIDE), bool), "border": np.zeros((6, SIDE, SIDE), bool)}
    path = file_of(tmp_path / "d.h5", ("train", void), ("test", test))
    with pytest.raises(ValueError, match="expected pixels of train that count, found border and void alone"):
        probekit.probe(Levels(), path, also="dense")


def test_pixels_of_a_cell_are_its_features() -> None:
    images = torch.rand(2, 3, 8, 12)
    found = pixel_maps(images, (2, 3))
    assert found.shape == (2, 48, 2, 3)
    assert torch.equal(found[1, :, 1, 2].view(3, 4, 4), images[1, :, 4:, 8:])
    assert pixel_maps(torch.rand(1, 3, 128, 128), (2, 2)).shape == (1, 3 * 16 * 16, 2, 2)


FLAT = """
from torch import nn

def network() -> nn.Module:
    first = nn.Conv2d(1, 4, 4, 4)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


def typed(*words: object) -> Any:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(word) for word in words])


def test_as_it_is_typed_on_a_generated_set_and_refused_without_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    info = small_shapes(tmp_path / "data" / "shapes.h5", size=16, pairs=True)
    network = ("--encoder", "unet", "--set", "model.width=4", "--set", "model.depth=2", "--protocol", "fixed")
    done = typed("probe", *network, "--data", info.path, "--dense")
    assert done.exit_code == 0, done.output or done.exception
    assert "mean IoU" in done.output
    [path] = tmp_path.glob("runs/*/results/dense-fixed-last.json")
    assert "evidence:corner" in path.read_text()
    assert '"n": 16' in path.read_text(), "counterfactuals are left out"
    done = typed("probe", *network, "--data", info.path, "--dense", "--layer", "all", "--json")
    assert done.exit_code == 0, done.output or done.exception
    names = [row["name"] for row in json.loads(done.stdout)["depth"]["rows"] if "depth" not in row]
    assert "chance" in names
    assert not {"pixels", "position alone", "masks in cells"} & set(names), "they belong to the last layer's grid"
    Path("flat.py").write_text(FLAT)
    flat = ("--encoder", "py:flat:network", "--data", info.path, "--protocol", "fixed")
    assert str(typed("probe", *flat, "--dense").exception).endswith(
        "which gives one embedding an image; type: --layer 1, the last of its layers that has one"
    )
    done = typed("probe", *flat, "--dense", "--layer", "all", "--json")
    assert done.exit_code == 0, done.output or done.exception
    found = json.loads(done.stdout)
    assert "dense" not in found, "the encoder itself has no map"
    assert "Left out: dense probe of " in found["depth"]["how"]
    scores = {row["name"]: row["scores"].keys() for row in found["depth"]["rows"] if row["kind"] == "encoder"}
    assert list(scores) == ["1", "4"]
    assert [name for name, kept in scores.items() if any(score.startswith("mIoU") for score in kept)] == ["1"]
    noise_npz(Path("noise.npz"))
    assert typed("import", "noise.npz", "--out", "data/noise.h5").exit_code == 0
    done = typed("probe", *network, "--data", "data/noise.h5", "--dense")
    assert "expected masks for --dense, found none in data/noise.h5" in str(done.exception)
