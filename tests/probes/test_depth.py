"""`--layer` and `--pool` of tokens as a user types them: results, caches, random weights, curves, refusals.

Alone: pytest tests/probes/test_depth.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.h5 import read_info
from probekit.probes import attentive
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.weights import RANDOM, Weights
from tests.datasets import small_shapes

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("plain_pictures", "few_baselines", "few_strengths")
BLOCKS = [f"blocks.{i}" for i in range(6)]


def typed(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(word) for word in words])


def sure(*words: str) -> str:
    done = typed(*words)
    assert done.exit_code == 0, done.output or done.exception
    return done.stdout


def told(*words: str) -> str:
    """The one line of a refusal."""
    done = typed(*words)
    assert isinstance(done.exception, ValueError), done.output
    message = str(done.exception)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer of timm and a run of the U-Net, on one dataset."""
    folder = tmp_path_factory.mktemp("depth")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_shapes(folder / "data/d.h5", n=24, n_test=16, size=32)
        words = ("--data", "data/d.h5", "--epochs", "1", "--batch-size", "8", "--set", "model.width=4")
        sure("pretrain", "simclr", *words, "--set", "model.depth=3", "--name", "unet", "-q")
        sure("probe", "--encoder", "timm:test_vit", "--data", "data/d.h5", "--no-baselines", "-q")
        Path("runs/test_vit-d").rename("runs/vit")
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own, without results."""
    shutil.copytree(template, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def probed(run: str, *words: str) -> dict[str, Any]:
    """Results by measurement."""
    found: dict[str, Any] = json.loads(sure("probe", run, "--data", "data/d.h5", *words, "--json"))
    return found


def test_every_layer_has_a_row_and_is_scored_as_by_itself(home: Path) -> None:
    found = probed("vit", "--layer", "all", "--pool", "cls", "--knn")
    depth = found["depth"]
    rows = {row["name"]: row for row in depth["rows"]}
    own, random = BLOCKS, [f"{RANDOM}, {name}" for name in BLOCKS]
    assert list(rows)[:12] == [*own, *random], "patch_embed has no class token, the norm is in every block"
    assert "Left out: patch_embed: expected a layer with a class token" in depth["how"]
    assert [rows[name]["depth"] for name in own] == [rows[name]["depth"] for name in random] == [1, 2, 3, 4, 5, 6]
    assert depth["command"].endswith("--knn --layer all --data data/d.h5 --checkpoint last@cls")
    assert depth["checkpoint"] == "last@cls"
    assert "chance" in rows
    for number, name in ((2, "blocks.1"), (6, "blocks.5")):
        alone = probed("vit", "--layer", str(number), "--pool", "cls", "--knn")
        for kind, score in (("linear", "linear"), ("knn", "kNN")):
            assert alone[kind]["checkpoint"] == f"last:{name}@cls"
            for row, mine in zip(alone[kind]["rows"], (name, f"{RANDOM}, {name}"), strict=False):
                assert rows[mine]["scores"][score]["value"] == row["accuracy"], "the same layer and pool"
    assert rows["blocks.5"]["scores"]["linear"]["value"] == found["linear"]["rows"][0]["accuracy"], "last@cls"
    stem = "depth-tuned-knn-last@cls-d"
    assert {path.stem for path in (home / "runs/vit/figures").glob("depth*")} == {f"{stem}-depth-{i}" for i in (0, 1)}


def test_one_pass_reads_all_layers_and_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = read_info(Path("data/d.h5"))
    opened = open_encoder(Run(Path("runs/unet")), Weights(), CPU)
    views = [opened.at(name) for name in ("level1", "level2", "level3")]
    passes: list[int] = []
    opened.encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    opened.embed_at(views, info, "test")
    assert passes == [1]
    first = [np.array(view.embed(info, "test")) for view in views]
    assert passes == [1], "each was kept"
    assert [rows.shape[1] for rows in first] == [view.encoder.dim for view in views]
    alone = np.concatenate(list(views[1]._embed(info, "test")))
    np.testing.assert_array_equal(first[1], alone)


def test_embeddings_of_layers_and_pools_are_never_mixed_up(home: Path) -> None:
    info = read_info(Path("data/d.h5"))
    readings: list[tuple[str | None, str | None]] = [
        (None, None), ("cls", None), ("last4", None), ("max", None),
        ("gap", "1"), ("gap", "2"), ("max", "1"), ("cls", "1"),
    ]  # fmt: skip
    views = [open_encoder(Run(Path("runs/vit")), Weights("last", *reading), CPU) for reading in readings]
    fresh = [np.concatenate(list(view._embed(info, "test"))) for view in views]
    assert not any(np.array_equal(a, b) for i, a in enumerate(fresh) for b in fresh[:i])
    for _ in range(2):  # computed, then found
        for view, expected in zip(views, fresh, strict=True):
            np.testing.assert_array_equal(view.embed(info, "test"), expected)
    random = [views[i].random(5) for i in (0, 1, 4, 5, 7)]
    found = [np.array(view.embed(info, "test")) for view in random]
    assert not any(np.array_equal(a, b) for i, a in enumerate([*fresh, *found]) for b in [*fresh, *found][:i])


def test_results_of_layers_stand_beside_each_other_and_are_compared(home: Path) -> None:
    for words in ([], ["--layer", "2"], ["--layer", "blocks.1", "--pool", "cls"], ["--pool", "cls"]):
        probed("vit", *words, "--no-baselines")
    names = {path.stem for path in (home / "runs/vit/results").glob("linear*")}
    kept = {"last", "last:blocks.1@gap", "last:blocks.1@cls", "last@cls"}
    assert names >= {f"linear-tuned-{weights}-d" for weights in kept}
    found = json.loads(sure("compare", "vit@cls", "vit:blocks.1@cls", "--json"))
    runs = {row["run"]: row["accuracy"] for row in found["groups"][0]["runs"]}
    assert len(found["groups"]) == 1
    results = [
        json.loads((home / f"runs/vit/results/linear-tuned-last{at}-d.json").read_text())
        for at in ("@cls", ":blocks.1@cls")
    ]
    assert runs == {
        f"vit{at}": r["rows"][0]["accuracy"] for at, r in zip(("@cls", ":blocks.1@cls"), results, strict=True)
    }
    assert "last:blocks.1@cls" in sure("report", "vit", "--format", "md")
    out = json.loads(sure("export-embeddings", "vit", "--layer", "2", "--data", "data/d.h5", "--json"))
    assert out["checkpoint"] == "last:blocks.1@gap"
    with np.load(out["path"]) as file:
        assert file["test/embeddings"].shape == (16, 64)


def test_an_attentive_probe_stands_beside_the_linear_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "STEPS", 6)
    monkeypatch.setattr(attentive, "EPOCHS", 3)
    found = probed("unet", "--pool", "attentive")["attentive"]
    names = [row["name"] for row in found["rows"]]
    assert names == ["simclr last", RANDOM, "chance"]
    first = found["rows"][0]
    assert first["tokens"] == 64
    assert first["linear"]["attentive"] in ("above", "below", "not told apart from")
    assert first["rate"] in attentive.RATES
    assert found["command"] == "probekit probe unet --attentive shared --data data/d.h5"
    again = probed("unet", "--attentive", "shared")["attentive"]
    assert [row["predicted"] for row in again["rows"]] == [row["predicted"] for row in found["rows"]]
    assert again["rows"][0]["log_loss"] == first["log_loss"], "bit for bit"
    shown = sure("probe", "unet", "--attentive", "class", "--layer", "all", "--no-baselines", "--data", "data/d.h5")
    assert "Over depth" in shown
    assert "attentive probe, query class" in " ".join(shown.split())


def test_heatmaps_of_a_layer_are_of_its_cells_and_of_a_class_token_refused_by_name(home: Path) -> None:
    few = ("--n", "2", "--perturb", "0", "--data", "data/d.h5", "--json")
    found = json.loads(sure("heatmap", "unet", "--layer", "2", *few))
    assert found["checkpoint"] == "last:level2@gap"
    assert {row["map"] for row in found["rows"]} >= {"cam", "gradcam"}
    assert "--checkpoint last:level2@gap" in found["command"]
    assert "feature map" in told("heatmap", "vit", "--pool", "cls", "--maps", "cam", *few)
    assert "expected one layer, found all; type: --layer NAME" in told("export-embeddings", "vit", "--layer", "all")
    assert "expected a pooling that is not trained" in told("heatmap", "vit", "--pool", "attentive")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("unet", "--pool", "cls"),
            "expected a class token for --pool cls, found none in level1, level2, level3; type",
        ),
        (
            ("unet", "--layer", "all", "--pool", "projection"),
            "expected --pool gap, max, norm, cls, cls+gap with --layer",
        ),
        (("unet", "--layer", "4"), "expected --layer 1 to 3, found 4: these layers are level1 to level3"),
        (("vit", "--layer", "head"), "unknown layer 'head'; known: "),
    ],
)
def test_what_cannot_be_read_is_one_line(home: Path, words: tuple[str, ...], message: str) -> None:
    assert message in told("probe", *words, "--data", "data/d.h5")
