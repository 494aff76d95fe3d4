"""Heatmaps of images with several labels: a row for each label, scored against its own mask, means over classes.

Alone: pytest tests/heatmaps/test_several_labels.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.truth import LABEL_BOXES, LABEL_MASK, of_labels, read_truth
from probekit.h5 import DIFFICULT, PRESENT, read_info, read_split
from probekit.h5.objects import mask_of
from probekit.heatmaps.base import ABSENT, Classifier
from probekit.heatmaps.means import OverClasses, OverImages
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.run import heatmap_run
from probekit.heatmaps.score import upsample
from probekit.heatmaps.tables import OF_LABELS
from probekit.measurement import read_result
from probekit.probes.average_precision import fit_each
from probekit.probes.protocol import Part
from probekit.restore.opened import open_encoder
from probekit.run import open_run
from probekit.statistics import MIN_IMAGES, mean_over_images, ratio_over_images, share_interval
from probekit.weights import LAST
from tests.heatmaps.several import CLASSES, several_labels

pytestmark = pytest.mark.usefixtures("few_strengths")
SMALL = ["--epochs", "1", "--batch-size", "8", "--set", "model.width=8", "--set", "model.depth=3"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SimCLR run on such images, whose maps were taken."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "data").mkdir()
    several_labels(folder / "data/voc.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, ["pretrain", "simclr", "--data", "data/voc.h5", "--name", "a", *SMALL])
        assert done.exit_code == 0, done.output
    return folder


def looked(home: Path, **options: Any) -> Any:
    opened = open_encoder(open_run("a", home / "runs"), LAST, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return heatmap_run(opened, Heatmap(**options), console=Console(quiet=True))


@pytest.fixture(scope="module")
def found(home: Path) -> Any:
    return looked(home, maps=("cam", "input-gradient"), n=40, perturb=20)


def test_a_row_is_a_label_of_an_image_and_its_mask_is_that_of_its_class(home: Path) -> None:
    info = read_info(home / "data/voc.h5")
    split = read_split(info.path, "test", masks=True)
    truth = of_labels(read_truth(info, "test", 40))
    assert split.labels is not None
    assert split.masks is not None
    assert truth.split.labels is not None
    pairs = list(zip(truth.index.tolist(), truth.split.labels.tolist(), strict=True))
    assert pairs == [(i, k) for i in range(40) for k in range(3) if split.labels[i, k] == PRESENT]
    assert (split.labels == DIFFICULT).any(), "which are left out"
    (mask,) = truth.masks.items()
    assert mask[0] == LABEL_MASK == OF_LABELS[0]
    for row, (i, k) in enumerate(pairs):
        assert (mask[1][row] == (split.masks[i] >> k & 1).astype(bool)).all()
        assert (truth.split.images[row] == split.images[i]).all()


def test_a_map_is_of_the_probe_of_its_label_alone(home: Path, found: Any) -> None:
    """The mean of a class activation map is the logit of scikit-learn's probe of this label, standardised alike."""
    opened = open_encoder(open_run("a", home / "runs"), LAST, torch.device("cpu"))
    train, test = (read_split(home / "data/voc.h5", name) for name in ("train", "test"))
    x, z = (opened.embed(split.images) for split in (train, test))
    mean, scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), np.inf)  # of dead features
    assert train.labels is not None
    _, probes, _ = fit_each(Part(x, train.labels.astype(np.int64)), None, protocol="tuned", seed=0)
    cam = next(row for row in found.rows if row.name == "cam")
    for k in range(3):
        known = train.labels[:, k] != DIFFICULT
        probe = probes[k]
        assert probe is not None
        model = LogisticRegression(C=probe.C, tol=1e-10, max_iter=100_000)
        model.fit((x[known] - mean) / scale, train.labels[known, k])
        rows = np.flatnonzero(found.truth.split.labels == k)
        weight = model.coef_[0] / scale
        expected = z[found.truth.index[rows]] @ weight
        np.testing.assert_allclose(cam.maps[rows].mean(axis=(1, 2)), expected, rtol=2e-2, atol=2e-2)


def test_scores_are_means_over_classes_of_means_over_images(found: Any) -> None:
    truth, result = found.truth, found.result
    cam = next(row for row in found.rows if row.name == "cam")
    full = upsample(cam.maps, (32, 32))
    masks = truth.masks[LABEL_MASK]
    areas = np.array([roc_auc_score(masks[i].ravel(), full[i].ravel()) for i in range(len(full))])
    by_class = {name: areas[truth.split.labels == k] for k, name in enumerate(CLASSES)}
    row = next(row for row in result["rows"] if row["name"] == "cam")
    score = row["scores"][LABEL_MASK]["auroc"]
    assert score["mean"] == pytest.approx(np.mean([values.mean() for values in by_class.values()]), abs=1e-5)
    assert {name: each["n"] for name, each in score["classes"].items()} == {k: len(v) for k, v in by_class.items()}
    for name, values in by_class.items():
        expected = mean_over_images(values, seed=0)
        assert score["classes"][name]["mean"] == pytest.approx(expected["mean"], abs=1e-5)
        assert score["classes"][name]["ci"] == pytest.approx(expected["ci"], abs=1e-5)
    uniform = next(row for row in result["rows"] if row["name"] == "uniform")["scores"][LABEL_MASK]
    assert uniform["relevance_mass"]["mean"] == pytest.approx(result["chance"][LABEL_MASK])
    assert uniform["pointing"]["mean"] == pytest.approx(result["chance"][LABEL_MASK])
    assert uniform["auroc"]["mean"] == 0.5
    assert {"centre", "random", "cam, random weights", "ceiling"} <= {row["name"] for row in result["rows"]}
    assert Heatmap().scores(row)[f"pointing: {LABEL_MASK}"].value == row["scores"][LABEL_MASK]["pointing"]["mean"]


def test_the_result_says_what_was_asked(found: Any) -> None:
    result = found.result
    n = len(np.unique(found.truth.index))
    assert n < 40, "some show nothing"
    assert (result["target"], result["n"], result["labels"]) == ("logit", n, len(found.truth.index))
    assert result["probe"]["n"] == result["labels"]
    hits = np.round(result["probe"]["accuracy"] * result["labels"])
    assert result["probe"]["ci"] != share_interval(int(hits), result["labels"]), "labels of an image are no samples"
    assert result["how"].startswith(f"Maps of the {result['labels']} labels of {n} images")
    read = read_result(result)
    titles = [table.title for table in read.tables(result)]
    assert titles[:2] == [f"Scores against {LABEL_MASK}", f"Each label, against the {LABEL_MASK}"]
    rows = read.tables(result)[1].rows
    assert {line[0].text for line in rows} == set(CLASSES)
    assert {line[1].text for line in rows} == {"cam", "input-gradient", "uniform", "centre"}
    told = " ".join(read.sentences(result))
    assert "of the labels here it finds" in told
    assert f"{LABEL_MASK}: best map" in told
    seen = next(row for row in result["rows"] if row["name"] == "uniform")["perturbation"][""]
    assert seen["average_drop"]["mean"] == 0
    assert set(seen["average_drop"]["classes"]) == set(CLASSES)


def test_a_probability_is_of_its_label_alone() -> None:
    classifier = Classifier(torch.eye(3), torch.tensor([0.0, 1.0, -2.0]), each=True)
    pooled, labels = torch.tensor([[0.5, 0, 0], [0, 0, 0.3]]), torch.tensor([0, 2])
    expected = [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(1.7))]
    assert classifier.probability(pooled, labels).tolist() == pytest.approx(expected)
    assert classifier.predicted(pooled, labels).tolist() == [0, ABSENT]


def test_intervals_are_of_images_with_all_their_labels() -> None:
    """Against resamples one by one; two labels of an image that always agree are no more evidence than one."""
    rng = np.random.default_rng(1)
    images = np.repeat(np.arange(30), 2)
    classes = rng.integers(0, 4, 60)
    values = rng.random(60)
    values[5] = np.nan
    over = OverClasses(0, images, classes, tuple("abcd"))
    drawn = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(images == i) for i in rng.integers(0, 30, 30)])
        means = [np.nanmean(values[rows[classes[rows] == k]]) for k in range(4) if (classes[rows] == k).any()]
        drawn.append(np.mean(means))
    found = over.mean(values)
    assert found["ci"] == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.02)
    assert (found["n"], found["undefined"]) == (59, 1)
    same = np.repeat(rng.random(30), 2)
    pair = np.tile([0, 1], 30)
    twice, once = OverClasses(0, images, pair, ("a", "b")).mean(same), OverImages(0).mean(same[::2])
    assert twice["mean"] == pytest.approx(once["mean"])
    assert twice["ci"] == pytest.approx(once["ci"], abs=1e-9)
    ratio = OverClasses(0, images, pair, ("a", "b")).ratio(same, same + 1)
    expected = ratio_over_images(same[::2], same[::2] + 1, seed=0)
    assert ratio is not None
    assert expected is not None
    assert ratio["mean"] == pytest.approx(expected["mean"])
    assert ratio["ci"] == pytest.approx(expected["ci"])
    hits = np.repeat(rng.random(30) < 0.6, 2)
    by_image = ratio_over_images(hits[::2].astype(float), np.ones(30), seed=0)
    assert by_image is not None
    assert over.share(hits) == pytest.approx(by_image["ci"])
    assert over.share(np.ones(60, bool)) == OverImages(0).share(np.ones(30, bool)) == share_interval(30, 30)
    few = over.part(np.arange(2 * (MIN_IMAGES - 1)))
    assert few.mean(values[: 2 * (MIN_IMAGES - 1)])["ci"] is None


def test_without_masks_maps_are_drawn_and_only_asked_again(home: Path, plain_pictures: None) -> None:
    several_labels(home / "data/bare.h5", masks=False)
    opened = open_encoder(open_run("a", home / "runs"), LAST, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        asked = Heatmap(maps=("cam",), n=20, perturb=20)
        result = heatmap_run(opened, asked, data=Path("data/bare.h5"), console=Console(quiet=True)).result
    assert result["masks"] == []
    assert result["rows"][0]["perturbation"][""]["average_increase"]["mean"] is not None


def test_a_target_that_labels_do_not_allow_is_refused_in_a_line(home: Path) -> None:
    with pytest.raises(ValueError, match=r"expected --target logit where .* several labels.*type: --target") as error:
        looked(home, maps=("cam",), target="margin")
    assert "\n" not in str(error.value)


def test_boxes_of_its_class_are_a_truth_of_their_own(tmp_path: Path) -> None:
    """Of generated scenes: the boxes that the file has, pixel by pixel, and the union of the objects' masks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        typed = ["gen", "scenes", "--n", "2", "--n-test", "6", "--size", "64", "--set", "fine=1", "--out", "data/s.h5"]
        done = CliRunner().invoke(app, typed)
        assert done.exit_code == 0, done.output
    info = read_info(tmp_path / "data/s.h5")
    split = read_split(info.path, "test", objects=True)
    truth = of_labels(read_truth(info, "test", 6))
    assert split.objects is not None
    assert truth.split.labels is not None
    assert list(truth.masks) == [LABEL_MASK, LABEL_BOXES]
    assert set(truth.masks) == set(OF_LABELS)
    for row, (i, k) in enumerate(zip(truth.index, truth.split.labels, strict=True)):
        inside, boxed = np.zeros((2, 64, 64), bool)
        own = split.objects[int(i)]
        assert own.masks is not None
        for box, label, runs in zip(own.boxes, own.labels, own.masks, strict=True):
            if label == k:
                x0, y0, x1, y1 = box.astype(int)
                boxed[y0:y1, x0:x1] = True
                inside |= mask_of(runs, (64, 64))
        assert (truth.masks[LABEL_BOXES][row] == boxed).all()
        assert (truth.masks[LABEL_MASK][row] == inside).all()
        assert inside.any()
