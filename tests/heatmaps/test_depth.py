"""`heatmap --layer all`: each layer is scored as by itself, beside random weights, ceilings and pixels.

Alone: pytest tests/heatmaps/test_depth.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from probekit.cli import app
from probekit.heatmaps.depth import MapDepth, kept_scores
from probekit.heatmaps.protocol import BASELINES
from probekit.measurement import read_result
from probekit.weights import RANDOM
from tests.datasets import noise_npz, small_shapes

pytestmark = pytest.mark.usefixtures("few_strengths")
FEW = ("--n", "12", "--perturb", "0")


def typed(*words: str) -> Any:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(word) for word in words])


def sure(*words: str) -> str:
    done = typed(*words)
    assert done.exit_code == 0, done.output or done.exception
    return str(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the U-Net of three levels, and a transformer of timm, on shapes of 32 px."""
    folder = tmp_path_factory.mktemp("map-depth")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_shapes(folder / "data/d.h5", n=24, n_test=12, size=32)
        words = ("--data", "data/d.h5", "--epochs", "1", "--batch-size", "8", "--set", "model.width=4")
        sure("pretrain", "simclr", *words, "--set", "model.depth=3", "--name", "unet", "-q")
        sure("probe", "--encoder", "timm:test_vit", "--data", "data/d.h5", "--no-baselines", "-q")
        sure("import", str(noise_npz(folder / "noise.npz", channels=1)), "-q")
    return folder


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch, plain_pictures: None) -> None:
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def deep(home: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        found: dict[str, Any] = json.loads(sure("heatmap", "unet", "--layer", "all", *FEW, "--json"))
    return found


def test_every_layer_is_scored_as_by_itself(deep: dict[str, Any]) -> None:
    assert deep.keys() == {"heatmap", "map-depth"}
    result = deep["map-depth"]
    rows = {row["name"]: row for row in result["rows"]}
    assert [rows[f"level{i}, cam"]["depth"] for i in (1, 2, 3)] == [1, 2, 3]
    assert [rows[f"level{i}, cam"]["grid"] for i in (1, 2, 3)] == [[32, 32], [16, 16], [8, 8]]
    alone = json.loads(sure("heatmap", "unet", "--layer", "2", *FEW, "--json"))
    for before, encoder in (("", "trained"), (f"{RANDOM}, ", "random")):
        for name in ("cam", "gradcam-ssl", "-gradcam-ssl", "input-gradient"):
            own = [
                row for row in alone["rows"] if row["encoder"] == encoder and row["name"] in (name, f"{name}, {RANDOM}")
            ]
            assert own
            for row in own:
                for mask in ("corner", "triangle"):
                    if row["target"] not in ("", mask):
                        continue
                    kept, whole = rows[f"{before}level2, {name}"]["scores"], row["scores"][f"evidence:{mask}"]
                    assert kept[f"AUROC: {mask}"]["value"] == whole["auroc"]["mean"]
                    assert kept[f"AUROC: {mask}"]["ci"] == whole["auroc"]["ci"]
                    rank = kept[f"rank accuracy, normalised: {mask}"]["value"]
                    assert rank == (whole["rank_accuracy"]["normalised"] or {"mean": None})["mean"]


def test_beside_layers_stand_ceilings_and_what_has_no_layer(deep: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in deep["map-depth"]["rows"]}
    for name in set(BASELINES) - {"random"}:
        own = next(row for row in deep["heatmap"]["rows"] if row["name"] == name)
        assert "layer" not in rows[name]
        assert rows[name]["scores"]["AUROC: corner"]["value"] == own["scores"]["evidence:corner"]["auroc"]["mean"]
    assert "random" not in rows, "its cells are those of a grid"
    ceilings = [rows[f"level{i}, ceiling"]["scores"] for i in (1, 2, 3)]
    assert all(np.isclose(found["rank accuracy, normalised: corner"]["value"], 1) for found in ceilings)
    sharp = [found["AUROC: corner"]["value"] for found in ceilings]
    assert sharp == sorted(sharp, reverse=True), "coarser grids draw the evidence less sharply"
    assert sharp[0] > sharp[-1]


def test_it_is_read_drawn_and_made_again_by_its_command(deep: dict[str, Any], home: Path) -> None:
    result = deep["map-depth"]
    assert read_result(result).name == "map-depth"
    assert result["command"] == "probekit heatmap unet --n 12 --perturb 0 --layer all"
    kept = json.loads((home / "runs/unet/results/map-depth-last.json").read_text())
    assert kept == result
    charts = MapDepth().charts(result)
    assert [chart.title for chart in charts][:2] == ["Over depth: cam", "Over depth: gradcam"]
    assert len(list((home / "runs/unet/figures").glob("map-depth-last-*.png"))) == len(charts)
    axes = charts[0].draw().axes[0]
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    rows = {row["name"]: row for row in result["rows"]}
    for before, label in (("", "corner"), (f"{RANDOM}, ", f"corner, {RANDOM}")):
        own = [rows[f"{before}level{i}, cam"]["scores"]["rank accuracy, normalised: corner"] for i in (1, 2, 3)]
        assert drawn[label] == [score["value"] for score in own]
    assert "Maps over depth" in sure("report", "unet", "--format", "md")


def test_layers_of_a_transformer_and_what_is_left_out(home: Path) -> None:
    words = ("heatmap", "test_vit-d", "--layer", "all", "--maps", "cam", *FEW, "--json")
    result = json.loads(sure(*words))["map-depth"]
    own = [row["name"] for row in result["rows"] if row["kind"] == "encoder"]
    assert own == ["patch_embed, cam", *(f"blocks.{i}, cam" for i in range(6))]
    assert [row["depth"] for row in result["rows"] if row["kind"] == "encoder"] == [0, 1, 2, 3, 4, 5, 6]


def test_scores_are_of_the_evidence_that_a_map_explains_or_of_objects_where_there_is_none() -> None:
    def of(mean: float | None) -> dict[str, Any]:
        score = {"mean": mean, "ci": None, "n": 3, "undefined": 0, "normalised": None}
        return {"auroc": score, "rank_accuracy": score}

    both = {"rectangle": of(0.1), "evidence:corner": of(0.2), "evidence:triangle": of(0.3)}
    auroc = {key: score["value"] for key, score in kept_scores(both, "corner").items() if key.startswith("AUROC")}
    assert auroc == {"AUROC: corner": 0.2}
    assert "AUROC: triangle" in kept_scores(both, "")
    assert kept_scores({"bird": of(0.4)}, "")["AUROC: bird"]["value"] == 0.4


def test_images_without_masks_and_maps_of_no_layer_are_one_line(home: Path) -> None:
    sure("pretrain", "simclr", "--data", "data/noise.h5", "--epochs", "1", "--batch-size", "8", "--name", "n", "-q",
         "--set", "model.width=4", "--set", "model.depth=3")  # fmt: skip
    for words, said in (
        (("n",), r"expected masks in data/noise.h5 for the maps of all layers, found none; type: probekit probe"),
        (("unet", "--maps", "rollout"), "rollout"),
    ):
        done = typed("heatmap", *words, "--layer", "all", *FEW)
        assert isinstance(done.exception, ValueError)
        assert said in str(done.exception)
        assert "\n" not in str(done.exception)
    assert not list((home / "runs/n").glob("results/*"))
