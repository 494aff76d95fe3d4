"""`probekit heatmap`: the whole path on small runs, what it writes, what it leaves out, and one-line errors.

Alone: pytest tests/heatmaps/test_heatmap.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner

import probekit.heatmaps.run as command
from probekit.cli import app
from probekit.h5 import read_split
from probekit.heatmaps.base import Questions, Row, Subject, map_rows
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.protocol import BASELINES, DEFAULT_MAPS, OF_TRANSFORMERS
from probekit.heatmaps.run import heatmap_run
from probekit.heatmaps.score import SCORES
from probekit.measurement import read_result
from probekit.output.pictures import save
from probekit.probes.protocol import Part, fit_label
from probekit.registry import MAPS
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.run import open_run
from probekit.weights import LAST, Weights
from tests.datasets import edited, noise_npz

pytestmark = pytest.mark.usefixtures("few_strengths")

SMALL = ["--epochs", "1", "--batch-size", "8", "--set", "model.width=8", "--set", "model.depth=3"]
FEW = {"n": 4, "perturb": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ConRec and a SimCLR run on rect-tri of 32 px, and one on noise in colour without masks."""
    folder = tmp_path_factory.mktemp("home")
    noise = noise_npz(folder / "noise.npz", channels=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            ["gen", "rect-tri", "--n", "24", "--n-test", "16", "--size", "32"],
            ["pretrain", "conrec", *SMALL],
            ["pretrain", "simclr", *SMALL],
            ["import", str(noise)],
            ["pretrain", "conrec", "--data", "data/noise.h5", "--name", "noise", *SMALL],
        ):
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def whole(home: Path) -> dict[str, Any]:
    """All of `heatmap whole`, once: a run like conrec-rect-tri, with every map, score and picture."""
    shutil.copytree(home / "runs/conrec-rect-tri", home / "runs/whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return heatmap("whole", n=10, perturb=4)


@pytest.fixture(autouse=True)
def at_home(
    request: pytest.FixtureRequest,
    home: Path,
    whole: dict[str, Any],
    plain_pictures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In that folder, where only tests marked `pictures` draw what takes half of the time."""
    monkeypatch.chdir(home)
    if not request.node.get_closest_marker("pictures"):

        def draw_run(opened: OpenedRun, path: Path | None, **options: Any) -> tuple[Path, bool]:
            return save(Figure(), opened.run.figures / "views.png"), True

        monkeypatch.setattr(command, "draw_gallery", lambda *args: Figure())
        monkeypatch.setattr(command, "draw_run", draw_run)


def heatmap(
    run: str, *, data: str | None = None, weights: Weights = LAST, seed: int = 0, **changes: Any
) -> dict[str, Any]:
    opened = open_encoder(open_run(run, Path("runs")), weights, torch.device("cpu"))
    asked = Heatmap(**{**FEW, **changes})
    path = None if data is None else Path(data)
    return heatmap_run(opened, asked, data=path, seed=seed, console=Console(quiet=True)).result


def by_name(result: dict[str, Any], name: str, target: str = "") -> dict[str, Any]:
    (row,) = [row for row in result["rows"] if (row["name"], row["target"]) == (name, target)]
    return dict(row)


def test_every_table_has_its_baselines_and_its_ceiling(whole: dict[str, Any]) -> None:
    result = whole
    names = {row["name"] for row in result["rows"]}
    assert names >= set(BASELINES) | set(DEFAULT_MAPS) | {"-gradcam-ssl", "ceiling"}
    assert names >= {f"{name}, random weights" for name in DEFAULT_MAPS}
    assert result["masks"] == ["rectangle", "triangle", "evidence:corner", "evidence:triangle"]
    assert (result["split"], result["n"], result["size"], result["grid"]) == ("test", 10, [32, 32], [8, 8])
    assert result["target"] == "pair"
    for row in result["rows"]:
        assert row["scores"].keys() == set(result["masks"])
        for scores in row["scores"].values():
            assert scores.keys() == set(SCORES)
            for score in scores.values():
                assert score["n"] + score["undefined"] == 10
    for mask, share in result["chance"].items():
        uniform = by_name(result, "uniform")["scores"][mask]
        assert uniform["relevance_mass"]["mean"] == pytest.approx(share)
        assert uniform["rank_accuracy"]["normalised"]["mean"] == pytest.approx(0, abs=1e-9)
    assert [line for line in result["left_out"] if "occlusion" in line]


def test_the_ceiling_is_the_true_evidence_seen_through_the_grid() -> None:
    """OpenCV enlarges it: its cells are the means of 4 px x 4 px."""
    result = heatmap("simclr-rect-tri", maps=("cam",), n=10, perturb=0)
    with h5py.File("data/rect-tri.h5") as file:
        evidence = file["test/masks"][:] >> 2 & 1  # bit 2: of the corners
    shares = []
    for mask in evidence[np.linspace(0, 15, 10).round().astype(int)]:
        cells = mask.reshape(8, 4, 8, 4).mean((1, 3))
        seen = cv2.resize(cells, (32, 32), interpolation=cv2.INTER_LINEAR)
        shares.append(seen[mask == 1].sum() / seen.sum())
    mass = by_name(result, "ceiling", "corner")["scores"]["evidence:corner"]["relevance_mass"]
    assert mass["mean"] == pytest.approx(np.mean(shares), rel=1e-5)


def test_maps_of_random_weights_explain_the_random_networks_own_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of a class activation map is the logit that it explains, up to the bias; here the true class's."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def spy(names: list[str], subject: Subject, questions: Questions, *, encoder: str) -> tuple[list[Row], Tensor]:
        (row,), pooled = map_rows(names, subject, questions, encoder=encoder)
        assert subject.classifier is not None
        known = read_split(Path("data/rect-tri.h5"), "test").class_labels
        assert known is not None
        labels = torch.from_numpy(known)[questions.index]
        logits = pooled @ subject.classifier.weight.T
        seen[encoder] = torch.from_numpy(row.maps.mean((1, 2))), logits[torch.arange(len(labels)), labels]
        return [row], pooled

    monkeypatch.setattr("probekit.heatmaps.protocol.map_rows", spy)
    heatmap("simclr-rect-tri", maps=("cam",), target="logit", perturb=0)
    assert seen.keys() == {"trained", "random"}
    for mean, logit in seen.values():
        torch.testing.assert_close(mean, logit, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(seen["trained"][1], seen["random"][1], rtol=0.1)


def test_scores_that_ask_the_encoder_again(whole: dict[str, Any]) -> None:
    uniform = by_name(whole, "uniform")
    for score in ("average_drop", "average_increase", "average_gain"):
        assert uniform["perturbation"][""][score]["mean"] == 0, "a map of ones hides nothing"
    assert uniform["swap"].keys() == {"corner", "triangle"}
    assert by_name(whole, "cam", "corner")["swap"].keys() == {"corner"}
    assert by_name(whole, "cam", "corner")["sanity_check"]["stages"] == [
        "head",
        "pooling",
        "level 3",
        "level 2",
        "level 1",
    ]
    assert by_name(whole, "uniform")["sanity_check"] is None
    without = heatmap("conrec-rect-tri", maps=("cam",), n=2, perturb=0)
    assert all(not row["perturbation"] and not row["swap"] for row in without["rows"])
    told = ["Average Drop, Increase, Gain and the swap curve", "the sanity check"]
    assert [line.split(":")[0] for line in without["left_out"] if "--perturb 0" in line] == told


def test_the_same_command_gives_the_same_numbers() -> None:
    first, again, other = (heatmap("simclr-rect-tri", n=2, perturb=1, seed=seed) for seed in (0, 0, 1))
    for result in (first, again):
        del result["seconds"]
    assert first == again
    assert first["rows"] != other["rows"]


@pytest.mark.pictures
def test_files_are_as_promised(home: Path, whole: dict[str, Any]) -> None:
    run = home / "runs/whole"
    assert json.loads((run / "results/heatmap-last.json").read_text()) == whole
    assert read_result(whole).name == "heatmap"
    assert (run / "figures/heatmap-last-gallery.png").stat().st_size > 10_000
    drawn = {path.stem.removeprefix("heatmap-last-") for path in (run / "figures").glob("heatmap-last-*.png")}
    assert drawn == {chart.key for chart in Heatmap().charts(whole)} | {"gallery.dark"}
    assert (whole["schema"], whole["protocol"], whole["target"]) == ("probekit-heatmap/2", "tuned", "pair")
    assert whole["options"] == Heatmap(n=10, perturb=4).options
    assert whole["command"] == "probekit heatmap whole --n 10 --perturb 4"
    assert (run / "figures/views-rect-tri.png").stat().st_size > 10_000, "ConRec has a decoder"
    last = (run / "figures/views-rect-tri.png").read_bytes()
    heatmap("whole", data="data/rect-tri.h5", weights=Weights("best_val"), maps=("cam",), n=2, perturb=0)
    assert (run / "figures/views-rect-tri.png").read_bytes() == last, "the pictures of two checkpoints stay apart"
    assert (run / "figures/views-rect-tri-best_val.png").exists()
    assert (run / "results/heatmap-best_val-rect-tri.json").exists()


def test_another_commands_results_are_kept(home: Path) -> None:
    """The same command replaces its own results, another one takes the next number."""
    run = home / "runs/simclr-rect-tri"
    first = heatmap("simclr-rect-tri", maps=("cam",), n=2, perturb=0)
    (path,) = [
        p for p in (run / "results").glob("heatmap*.json") if json.loads(p.read_text())["command"] == first["command"]
    ]
    again = heatmap("simclr-rect-tri", maps=("cam",), n=2, perturb=0)
    other = heatmap("simclr-rect-tri", maps=("gradcam",), n=2, perturb=0)
    kept = {p.name: json.loads(p.read_text())["command"] for p in (run / "results").glob("heatmap*.json")}
    assert kept[path.name] == again["command"]
    assert sorted(kept.values()).count(again["command"]) == 1
    assert other["command"] in kept.values()
    path.write_text("{")  # half a file, of whoever's: the work is not lost for it, and it is not replaced
    heatmap("simclr-rect-tri", maps=("cam",), n=2, perturb=0)
    assert path.read_text() == "{"
    path.unlink()


def test_counterfactual_fills_belong_to_their_factor() -> None:
    result = heatmap("simclr-rect-tri", maps=("cam", "occlusion"), fill="counterfactual", n=4)
    assert by_name(result, "cam", "corner")["perturbation"].keys() == {"corner"}
    assert by_name(result, "edges")["perturbation"].keys() == {"corner", "triangle"}
    occlusion = by_name(result, "occlusion", "corner")
    assert occlusion["grid"] == [32, 32]
    assert occlusion["sanity_check"] is None
    (told,) = (line for line in result["left_out"] if "sanity check" in line)
    assert told.startswith("the sanity check of occlusion: ")


def test_other_targets() -> None:
    for target in ("logit", "margin"):
        result = heatmap("simclr-rect-tri", maps=("cam",), target=target)
        assert by_name(result, "cam")["swap"] == {}
        assert [line for line in result["left_out"] if "--target pair" in line]


def test_real_images_without_masks_get_what_needs_none() -> None:
    result = heatmap("noise")
    assert result["target"] == "margin"
    assert result["masks"] == []
    assert all(row["scores"] == {} for row in result["rows"])
    assert by_name(result, "cam")["perturbation"][""]["average_drop"]["mean"] is not None
    told = " ".join(result["left_out"])
    assert "these images have no masks" in told
    assert "these images have no counterfactuals" in told


def test_unlabelled_images_get_the_maps_that_need_no_classifier(home: Path) -> None:
    folder = home / "pictures"
    folder.mkdir()
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    done = CliRunner().invoke(app, ["import", "pictures"])
    assert done.exit_code == 0, done.output
    result = heatmap("noise", data="data/pictures.h5")
    assert (result["split"], result["target"], result["probe"]) == ("train", None, None)
    assert {row["map"] for row in result["rows"] if row["kind"] == "map"} == {"gradcam-ssl", "attention"}
    told = " ".join(result["left_out"])
    assert "cam: needs labels" in told
    assert "they need labels" in told
    occlusion = by_name(heatmap("noise", data="data/pictures.h5", maps=("occlusion",), n=3), "occlusion")
    assert occlusion["all_zero"] == 0


def test_labels_of_train_alone_explain_nothing(home: Path) -> None:
    """The probe could be fitted, but there is no true class of a test image to ask about."""
    shutil.copy(home / "data/rect-tri.h5", home / "data/unlabelled-test.h5")
    with edited(home / "data/unlabelled-test.h5") as file:
        del file["test/labels"]
    result = heatmap("conrec-rect-tri", data="data/unlabelled-test.h5", perturb=0)
    assert (result["split"], result["target"], result["probe"]) == ("test", None, None)
    assert {row["map"] for row in result["rows"] if row["kind"] == "map"} == {"gradcam-ssl", "attention"}


def test_all_maps_are_all_that_this_encoder_allows() -> None:
    result = heatmap("simclr-rect-tri", maps=tuple(MAPS), n=2, perturb=0)
    assert {row["map"] for row in result["rows"] if row["kind"] == "map"} == (
        set(MAPS) - {"attention", "gfb", *OF_TRANSFORMERS}
    )
    assert [line for line in result["left_out"] if line.startswith("attention")]


def test_a_transformers_attention_is_scored_like_every_map(home: Path) -> None:
    typed = ["--encoder", "timm:test_vit", "--data", "data/rect-tri.h5", "--no-baselines"]
    done = CliRunner().invoke(app, ["probe", *typed])
    assert done.exit_code == 0, done.output
    result = heatmap("test_vit-rect-tri", maps=("self-attention:all", "rollout"), n=4, perturb=1)
    names = ["self-attention:0", "self-attention:1", "rollout"]
    assert [row["name"] for row in result["rows"] if row["kind"] == "map"] == names
    for name in names:
        row = by_name(result, name)
        assert row["grid"] == [2, 2]
        assert row["scores"]["evidence:corner"]["auroc"]["n"] == 4
        assert row["swap"].keys() == {"corner", "triangle"}
        assert row["sanity_check"]["n"] == 4
        assert by_name(result, f"{name}, random weights")["kind"] == "baseline"
    shown = read_result(result)
    assert "self-attention:1" in [line[0].text for line in shown.tables(result)[0].rows]


def test_one_image_is_enough() -> None:
    result = heatmap("conrec-rect-tri", maps=("cam",), n=1)
    assert result["n"] == 1
    assert by_name(result, "cam", "corner")["scores"]["evidence:corner"]["rank_accuracy"]["n"] == 1


def test_random_networks_are_not_the_runs_own_first_weights() -> None:
    """The attention of a run of seed 1 that learned nothing is still that of its first weights, and of no others."""
    unlearned = ["--seed", "1", "--set", "optimizer.lr=1e-9", "--data", "data/rect-tri.h5", "--name", "one"]
    done = CliRunner().invoke(app, ["pretrain", "conrec", *SMALL, *unlearned])
    assert done.exit_code == 0, done.output
    found = by_name(heatmap("one", maps=("attention",), n=10, perturb=1), "attention")["sanity_check"]
    assert found["stages"][1] == "pooling"
    assert found["cascade"][1] < 0.8


def test_the_probe_is_chosen_on_the_validation_split(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As probekit probe does."""
    done = CliRunner().invoke(app, ["import", "noise.npz", "--val-fraction", "0.25", "--out", "data/val.h5"])
    assert done.exit_code == 0, done.output
    seen = []

    def spy(train: Part, *, val: Part | None = None, **settings: Any) -> Any:
        seen.append(val)
        return fit_label(train, val=val, **settings)

    monkeypatch.setattr("probekit.heatmaps.run.fit_label", spy)
    heatmap("noise", data="data/val.h5", maps=("cam",), n=2, perturb=0)
    labels = read_split(home / "data/val.h5", "val").labels
    assert len(seen) == 2, "of the trained and of the random network"
    for val in seen:
        assert val is not None
        assert labels is not None
        assert val.y.tolist() == labels.tolist()
        assert len(val.x) == len(labels)


def test_the_terminal_shows_a_verdict_a_factor() -> None:
    done = CliRunner().invoke(app, ["heatmap", "conrec-rect-tri", "--n", "10", "--perturb", "0", "--maps", "cam"])
    assert done.exit_code == 0, done.output
    for factor in ("corner", "triangle"):
        assert f"{factor}: best map cam, AUROC " in done.output
    assert "Scores against" not in done.output
    assert len(done.output.splitlines()) < 20


def test_the_terminal_shows_every_table_and_what_was_left_out(home: Path) -> None:
    typed = ["heatmap", "conrec-rect-tri", "--n", "10", "--perturb", "2", "--full"]
    done = CliRunner().invoke(app, typed, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    for text in (
        "evidence of corner",
        "evidence of triangle",
        "Perturbation scores",
        "Sanity check",
        "ceiling",
        "cam, random weights",
        "Left out: occlusion",
    ):
        assert text in " ".join(done.output.split()), text
    lines = done.output.splitlines()
    tables = [line for line in lines if line.startswith(" ")]
    assert max(map(len, tables)) <= 80
    assert "…" not in done.output
    result = json.loads((home / "runs/conrec-rect-tri/results/heatmap-last.json").read_text())
    shown = " ".join(done.output.split())
    for row in result["rows"]:  # every interval that is known, against the evidence of both factors
        for mask, scores in row["scores"].items():
            if mask.startswith("evidence:") and row["target"] in ("", mask.removeprefix("evidence:")):
                for score in scores.values():
                    if score["ci"]:
                        low, high = score["ci"]
                        brief = f"[{low:.2f},{high:.2f}]"
                        assert brief in shown or brief.replace("0.", ".") in shown, (row["name"], brief)


def test_the_report_takes_what_was_written(home: Path) -> None:
    """The real file has the shape that the report checks, and its scores stand on the page."""
    done = CliRunner().invoke(app, ["report", "whole"])
    assert done.exit_code == 0, done.output
    page = (home / "runs/whole/report.html").read_text()
    for title in (
        "Maps of single images",
        "Scores against the evidence of corner",
        "Perturbation scores: seen through the map",
        "Perturbation scores: swap with the counterfactual, triangle",
        "Sanity check by random weights",
        "-gradcam-ssl, random weights",
    ):
        assert title in page
    assert "probekit heatmap whole --n 10 --perturb 4" in page


@pytest.mark.parametrize(
    ("run", "changes", "told"),
    [
        ("conrec-rect-tri", {"maps": ("gradcm",)}, "unknown map 'gradcm'.*did you mean 'gradcam'"),
        ("conrec-rect-tri", {"target": "pairs"}, "unknown value of --target 'pairs'.*did you mean 'pair'"),
        ("conrec-rect-tri", {"fill": "white"}, "unknown value of --fill 'white'"),
        ("simclr-rect-tri", {"maps": ("attention",)}, "attention: this encoder pools without weights"),
        ("noise", {"target": "pair"}, "expected images that a generator drew for --target pair"),
        ("noise", {"fill": "counterfactual"}, "found no counterfactuals; type: --fill mean"),
        ("noise", {"data": "data/rect-tri.h5"}, "expected images of 3 channels.*found 1"),
        ("nosie", {}, "unknown run 'nosie'.*did you mean 'noise'"),
        ("conrec-rect-tri", {"maps": ("occlusion",), "stride": 17}, "expected --stride of at most.*16.*--stride 16"),
    ],
)
def test_mistakes_are_one_line(run: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        heatmap(run, **changes)
    assert "\n" not in str(error.value)


def test_a_run_without_its_checkpoint_uses_the_embedding_itself(home: Path, tmp_path: Path) -> None:
    """Only encoder.safetensors was brought along: there is no projection head, and the maps say nothing false."""
    shutil.copytree(home / "runs/simclr-rect-tri", home / "runs/alone")
    for file in (home / "runs/alone/checkpoints").glob("*.pt"):
        file.unlink()
    result = heatmap("alone")
    assert result["notes"] == ["no projection head here, so gradcam-ssl contrasts the embedding itself"]
    assert by_name(result, "gradcam-ssl")["all_zero"] == 0
