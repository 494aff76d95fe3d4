"""`probekit draw`: every kind on small runs, its JSON, what it refuses, and that nothing is written over.

Alone: pytest tests/draw/test_draw.py
"""

import ast
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from probekit.cli import app
from probekit.draw.asked import KINDS, Asked
from probekit.draw.cells import PATCHES
from probekit.draw.gallery import others
from probekit.draw.planes import Groups, scatter, umap
from probekit.draw.run import DRAW
from probekit.draw.sample import Subject, take_sample
from probekit.h5 import read_images, read_info, read_labels
from probekit.models.inputs import Input
from tests.datasets import noise_npz

SMALL = ["--epochs", "1", "--batch-size", "8", "--set", "model.width=4", "--set", "model.depth=3"]
USER = """
import torch
from torch import nn
def encoder():
    return nn.Sequential(nn.Conv2d(1, 6, 8, stride=8))
def embedder():
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 5))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    noise = noise_npz(folder / "noise.npz", channels=3)
    (folder / "mine.py").write_text(USER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            ["gen", "rect-tri", "--n", "16", "--n-test", "12", "--size", "32", "--pairs"],
            ["pretrain", "conrec", *SMALL],
            ["import", str(noise)],
        ):
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, plain_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    stub = ModuleType("umap")  # the real one compiles itself for half a minute
    stub.UMAP = StubUMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", stub)


class StubUMAP:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def fit_transform(self, x: Any) -> Any:
        assert self.settings["metric"] == "cosine"
        return x[:, :2] + 1e-3 * np.random.default_rng(self.settings["random_state"]).normal(size=(len(x), 2))


def drawn(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["draw", *words, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, ["draw", *words])
    assert done.exception is not None
    told = str(done.exception) if isinstance(done.exception, ValueError) else done.output
    assert "\n" not in told.strip() or done.exit_code == 2
    return told


@pytest.mark.pictures
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_beside_random_weights_and_tells_its_numbers(kind: str, home: Path) -> None:
    assert DRAW.keys() == KINDS.keys()
    first = drawn("conrec-rect-tri", "--as", kind)
    assert first["schema"] == "probekit-draw/1"
    assert [row["name"] for row in first["rows"]] == ["conrec last", "random weights"]
    assert (first["split"], first["n"], first["as"]) == ("test", 12, kind)
    image = cv2.imread(first["picture"])
    assert image is not None
    assert image.std() > 10
    assert Path(first["picture"]).name == f"{kind}-last-rect-tri.png"


def test_the_same_command_gives_the_same_numbers_and_a_picture_of_its_own() -> None:
    typed = ("conrec-rect-tri", "--as", "tsne", "--by", "triangle", "--n", "11")
    first, again = drawn(*typed), drawn(*typed)
    assert Path(first["picture"]) != Path(again["picture"])
    varies = ("picture", "seconds")
    assert {k: v for k, v in first.items() if k not in varies} == {k: v for k, v in again.items() if k not in varies}
    other = drawn(*typed, "--seed", "1")["rows"]
    assert other[0]["knn"]["embedding"] == first["rows"][0]["knn"]["embedding"]
    assert other[1]["knn"] != first["rows"][1]["knn"] or other[1]["kept"] != first["rows"][1]["kept"]


def test_the_gallery_names_what_is_nearest() -> None:
    found = drawn("conrec-rect-tri", "--k", "3", "--of", "5,2")
    info, labels = read_info(Path("data/rect-tri.h5")), read_labels(Path("data/rect-tri.h5"), "test")
    assert labels is not None
    assert [entry["query"]["index"] for entry in found["gallery"]] == [5, 2]
    for entry in found["gallery"]:
        own = entry["query"]["index"]
        assert entry["query"]["name"] == info.classes[labels[own]]
        cosines = [near["cosine"] for near in entry["nearest"]]
        assert len(cosines) == 3
        assert cosines == sorted(cosines, reverse=True)
        for near in entry["nearest"]:
            assert near["index"] != own
            assert near["right"] == (labels[near["index"]] == labels[own])
            assert near["name"] == info.classes[labels[near["index"]]]
    (row, _) = found["rows"]
    assert row["precision"]["chance"] == pytest.approx(2 / 11, abs=0.06)


def test_nearest_others_are_those_of_loops_and_never_the_image_itself() -> None:
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    x[7] = x[8] = x[9]
    cosines, rows = others(x, k=4, seed=0, device="cpu")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for i in range(20):
        table = unit @ unit[i]
        table[i] = -np.inf
        np.testing.assert_allclose(cosines[i], np.sort(table)[::-1][:4], atol=1e-5)
        np.testing.assert_allclose(table[rows[i]], cosines[i], atol=1e-5)
        assert i not in rows[i]
    equal = others(np.ones((50, 3), np.float32), k=5, seed=0, device="cpu")[1]
    assert all(i not in equal[i] and len(set(equal[i])) == 5 for i in range(50))


def test_counterfactuals_are_left_out_unless_they_are_asked_for() -> None:
    drawn_with = ["gen", "rect-tri", "--n", "8", "--n-test", "8", "--size", "32", "--pairs", "--out", "data/pairs.h5"]
    assert CliRunner().invoke(app, [*drawn_with, "--overwrite"]).exit_code == 0
    info = read_info(Path("data/pairs.h5"))
    assert info.splits["test"].n > 8
    sample = take_sample(info, Asked("neighbours"))
    assert len(sample) == 8
    other = next(i for i in range(info.splits["test"].n) if i not in sample.index)
    more = take_sample(info, Asked("neighbours", of=(other,)))
    assert len(more) == 9
    np.testing.assert_array_equal(
        more.images(more.shown(Asked("neighbours", of=(other,)), 6)), read_images(info.path, "test", [other]).images
    )
    assert take_sample(info, Asked("neighbours", n=3)).index.tolist() == sample.index[[0, 4, 7]].tolist()


def test_shown_images_are_of_every_class_in_turn() -> None:
    sample = take_sample(read_info(Path("data/rect-tri.h5")), Asked("pca"))
    assert sample.labels is not None
    shown = sample.shown(Asked("pca"), 4)
    assert shown == sorted(shown)
    assert len({int(sample.labels[row]) for row in shown}) == len(set(sample.labels.tolist())) == 4


def test_pairs_are_counterfactuals_where_a_generator_drew_them_and_else_of_one_class() -> None:
    scene = drawn("conrec-rect-tri", "--as", "matches", "--of", "3")
    assert scene["pair"] == {
        "first": 3,
        "second": None,
        "counterfactual": "corner",
        "text": "#3 to its counterfactual in corner",
    }
    assert 0 <= scene["rows"][0]["same_place"]["share"] <= 1
    assert len(scene["rows"][0]["matches"]) == PATCHES
    two = drawn("conrec-rect-tri", "--as", "matches", "--of", "4,4,1")
    assert (two["pair"]["first"], two["pair"]["second"]) == (4, 1)
    assert two["rows"][0]["same_place"] is None
    plain = drawn("--encoder", "timm:test_vit", "--data", "data/noise.h5", "--as", "matches")
    labels = read_labels(Path("data/noise.h5"), "test")
    assert labels is not None
    assert labels[plain["pair"]["first"]] == labels[plain["pair"]["second"]]
    assert plain["rows"][0]["cells"] == [2, 2]


@pytest.mark.parametrize("encoder", ["timm:test_vit", "py:mine:encoder"])
def test_encoders_from_elsewhere_are_drawn_as_imported_runs(encoder: str) -> None:
    found = drawn("--encoder", encoder, "--data", "data/rect-tri.h5", "--as", "pca", "--images", "3")
    assert len(found["images"]) == 3
    assert found["rows"][0]["n"] == 3
    assert Path("runs", found["run"], "run.json").exists()


def test_what_is_refused_of_the_data_leaves_no_run_behind() -> None:
    before = set(Path("runs").iterdir())
    typed = ["--encoder", "py:mine:encoder", "--data", "data/rect-tri.h5", "--as", "tsne"]
    for wrong in (["--by", "coner"], ["--n", "4"]):
        refused(*typed, *wrong)
    assert set(Path("runs").iterdir()) == before


def test_an_encoder_without_a_map_has_neighbours_and_no_patches() -> None:
    typed = ["--encoder", "py:mine:embedder", "--data", "data/rect-tri.h5"]
    assert drawn(*typed)["rows"][0]["k"] == 5
    assert "expected an encoder with a feature map of several cells for pca" in refused(*typed, "--as", "pca")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--as", "pca", "--k", "3"], "expected --k with neighbours or tsne or umap, found it with pca"),
        (["--by", "corner"], "expected --by with tsne or umap"),
        (["--as", "matches", "--images", "3"], "expected --images with neighbours or pca"),
        (["--of", "1,x"], "expected places of images with commas between them"),
        (["--of", "1", "--images", "2"], "expected --images or --of, found both"),
        (["--as", "matches", "--of", "1,2,3"], "expected one image or two for matches, found 3"),
        (["--of", "99"], "in the split test, found 99; type: --of 0,1"),
        (["--as", "tsne", "--by", "coner"], "did you mean 'corner'"),
        (["--as", "umap", "--n", "9"], "expected at least 10 images for a plane, found 9"),
        (["--out", "here.jpg"], "type --out here.png"),
        (["--data", "data/noise.h5"], "channel"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(words: list[str], told: str) -> None:
    assert told in refused("conrec-rect-tri", *words)


@pytest.mark.pictures
def test_nothing_is_written_over_unless_it_is_asked_for(home: Path) -> None:
    mine, foreign = home / "a.png", home / "b.png"
    drawn("conrec-rect-tri", "--out", "a.png")
    before = mine.read_bytes()
    told = refused("conrec-rect-tri", "--out", "a.png", "--as", "pca")
    assert told == "a.png exists; type --overwrite to replace it, or another --out"
    assert mine.read_bytes() == before
    drawn("conrec-rect-tri", "--out", "a.png", "--as", "pca", "--overwrite")
    assert mine.read_bytes() != before
    foreign.write_bytes(b"a picture of somebody's")
    assert "no picture that probekit drew" in refused("conrec-rect-tri", "--out", "b.png", "--overwrite")
    assert foreign.read_bytes() == b"a picture of somebody's"


def test_next_runs() -> None:
    done = CliRunner().invoke(app, ["draw", "conrec-rect-tri", "--as", "pca", "--images", "2"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.output.splitlines() if line.startswith("next: "))
    words = shlex.split(line.removeprefix("next: ").partition("   ")[0])
    assert CliRunner().invoke(app, words[1:]).exit_code == 0


def test_what_to_type_next_keeps_what_was_typed() -> None:
    given = "--data data/rect-tri.h5 --pool max --n 11 --seed 1"
    done = CliRunner().invoke(app, ["draw", "conrec-rect-tri", *given.split()])
    assert f"next: probekit draw conrec-rect-tri {given} --as tsne" in done.stdout


def test_umap_learn_takes_what_it_is_given_and_its_absence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "umap")
    spec = importlib.util.find_spec("umap")
    assert spec is not None
    assert spec.origin is not None
    code = ast.parse(Path(spec.origin).with_name("umap_.py").read_text())
    kind = next(n for n in code.body if isinstance(n, ast.ClassDef) and n.name == "UMAP")
    made = next(n for n in kind.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    names = {argument.arg for argument in (*made.args.args, *made.args.kwonlyargs)}
    assert {"n_neighbors", "min_dist", "metric", "random_state", "n_jobs"} <= names
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"found no umap; type: pip install 'umap-learn>=0\.5\.6'"):
        umap(np.ones((12, 3)), seed=0)


def test_many_classes_have_colours_and_marks_of_their_own_and_the_rest_is_grey() -> None:
    groups = Groups.__new__(Groups)
    groups.by, groups.what, groups.kind, groups.values, groups.names = "label", "label", "class", None, ()
    groups.classes = np.concatenate([np.repeat(np.arange(25), 3), np.arange(25, 31)])
    plane = np.random.default_rng(0).normal(size=(81, 2))
    figure = scatter([("one", plane, ["kept"])], groups, "title")
    assert isinstance(figure, Figure)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*map(str, range(25)), "6 others"]
    offsets: list[Any] = [found.get_offsets() for found in figure.axes[0].collections]
    assert sum(map(len, offsets)) == 81


def test_patches_lie_on_what_reaches_the_network() -> None:
    """Weights may expect the middle of an image: the picture shows that, and in its own pixels where nothing is cut."""

    class Stub:
        encoder = SimpleNamespace(input=Input((16,), (8, 8), "nearest"))

        def take(self, images: Any) -> torch.Tensor:
            return (
                torch.from_numpy(images)[:, None] if images.ndim == 3 else torch.from_numpy(images).permute(0, 3, 1, 2)
            )

    opened: Any = Stub()
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(Subject("a", opened).seen(images), images[:, 4:12, 4:12])
    np.testing.assert_array_equal(Subject("a", opened).seen(images[..., 0]), images[:, 4:12, 4:12, 0])
    opened.encoder.input = None
    assert Subject("a", opened).seen(images) is images
