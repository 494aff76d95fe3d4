"""`probe` with further measurements, its cache, `compare` and `export-embeddings`, as a user types them.

Alone: pytest tests/probes/test_command.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner, Result

from generators import RectTri
from generators.certificates import shipped, told
from probekit.cli import app
from probekit.data import split as data
from probekit.data.generate import generate
from probekit.data.split import open_split
from probekit.h5 import DatasetWriter, Header, Split, pack, read_info, read_split
from probekit.measurement import read_result
from probekit.models.encoder import load_encoder, save_encoder
from probekit.models.extract import extract
from probekit.probes import measure
from probekit.reports.collect import collect
from probekit.restore import opened
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.weights import LAST, Weights, kept_checkpoints
from tests.datasets import edited

QUICK = ["--epochs", "2", "--batch-size", "8", "--set", "model.width=4", "--set", "train.keep_every=1"]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("plain_pictures", "few_strengths")


def typed(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(word) for word in words])


def sure(*words: str) -> str:
    done = typed(*words)
    assert done.exit_code == 0, done.output or done.exception
    return done.stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs on one dataset, trained once."""
    folder = tmp_path_factory.mktemp("protocols")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sure("gen", "rect-tri", "--n", "20", "--n-test", "28", "--size", "32", "--pairs")
        sure("pretrain", "simclr", *QUICK, "--name", "a")
        sure("pretrain", "simclr", *QUICK, "--name", "b", "--seed", "1")
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own, without results."""
    shutil.copytree(template, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def passes(few_baselines: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward pass over a split has embedded."""
    seen: list[int] = []

    def counted(encoder: Any, images: torch.Tensor) -> Any:
        seen.append(len(images))
        return extract(encoder, images)

    monkeypatch.setattr(opened, "extract", counted)
    return seen


def probe_json(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sure("probe", "a", *words, "--json"))
    return found


def new_weights(home: Path) -> None:
    """Other weights in the place of run a's last ones."""
    encoder, header = load_encoder(home / "runs/a")
    with torch.no_grad():
        next(encoder.parameters()).mul_(-1)
    info = {key: value for key, value in header.items() if key not in ("format", "spec")}
    save_encoder(home / "runs/a/encoder.safetensors", encoder, info)


def test_every_measurement_is_printed_and_written_as_it_is_promised(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[dict[str, Any]] = []
    real = measure.measure

    def noted(*args: Any, **named: Any) -> dict[str, Any]:
        returned.append(real(*args, **named))
        return returned[-1]

    monkeypatch.setattr(measure, "measure", noted)
    out = sure(
        "probe", "a", "--fractions", "1,2,5,10,20,50,100", "--draws", "2", "--knn", "--retrieval", "--cv", "3",
        "--repeats", "1", "--metric", "kappa", "--multilabel", "--all-checkpoints",
    )  # fmt: skip
    for title in (
        "Fractions of the labels.",
        "Nearest neighbours.",
        "Retrieval.",
        "neighbours share",
        "Along pretraining",
        "Effective rank",
    ):
        assert title in out
    assert "…" not in out
    assert max(map(len, (line for line in out.splitlines() if line.startswith(" ")))) <= 80, "tables fit 80 columns"
    (found,) = returned
    folder = Run(home / "runs/a").results
    files = {
        "linear": "linear-tuned-last",
        "fractions": "fractions-tuned-last",
        "multilabel": "multilabel-tuned-last",
        "knn": "knn-last",
        "retrieval": "retrieval-last",
        "cv": "cv-tuned-last",
        "health": "health-last",
        "all-checkpoints": "all-checkpoints-tuned-multilabel-knn-retrieval-cv-last",
    }
    assert sorted(path.stem for path in folder.iterdir()) == sorted(files.values())
    for name, stem in files.items():
        saved = json.loads((folder / f"{stem}.json").read_text())
        assert saved == found[name]
        assert read_result(saved).name == name
        assert "95 %" in saved["how"] or name in ("all-checkpoints", "health")
        assert saved["command"].startswith("probekit probe a")
        assert (f"--{name}" in saved["command"]) == (name != "linear")
    drawn = {path.stem for path in (home / "runs/a/figures").glob("*-last-*.png")}
    assert drawn >= {"fractions-tuned-last-curve", "retrieval-last-gallery", "linear-tuned-last-bars"}
    assert any(stem.startswith(files["all-checkpoints"]) for stem in drawn)
    for name in ("fractions", "knn", "retrieval"):
        assert [row["name"] for row in found[name]["rows"]] == [
            "simclr last", "random weights", "chance", "raw pixels", "patch bag",
        ]  # fmt: skip
    along = found["all-checkpoints"]["rows"]
    assert {row["name"] for row in along if row["kind"] == "baseline"} >= {"random weights", "chance", "patch bag"}
    assert [row["name"] for row in found["cv"]["rows"]] == ["simclr last", "random weights", "chance"]
    points = found["fractions"]["rows"][0]["points"]
    assert [point["fraction"] for point in points] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    # With all labels the curve ends at the linear probe.
    assert points[-1]["scores"]["linear"]["value"] == found["linear"]["rows"][0]["accuracy"]


def test_fractions_are_of_any_measurement_that_takes_labels(home: Path, few_baselines: None) -> None:
    """And its command says with what it is measured, so that the same is measured again."""
    asked = {
        "cv": ["--cv", "3", "--metric", "kappa", "--repeats", "1"],
        "sgd": ["--sgd", "lcr", "--epochs", "1"],
        "knn": ["--knn"],
    }
    stems = {"cv": "cv-tuned", "sgd": "sgd-lcr-1-epochs-lr-30", "knn": "knn"}
    for of, words in asked.items():
        both = probe_json("--fractions", "50", "--draws", "2", "--fractions-of", of, *words)
        found = both["fractions"]
        kept = json.loads((home / f"runs/a/results/fractions-{stems[of]}-last.json").read_text())
        assert kept == found
        assert read_result(kept).name == "fractions"
        assert [row["name"] for row in found["rows"]] == ["simclr last", "random weights", "chance"]
        for row, alone in zip(found["rows"], both[of]["rows"], strict=True):
            reader = read_result(both[of])
            (name, whole), *_ = reader.scores(alone).items()
            half, last = (next(iter(point["scores"].items())) for point in row["points"])
            assert (half[0], last[0], last[1]["value"]) == (name, name, whole.value)
            assert len(half[1]["values"]) == 2
        again = probe_json(*found["command"].split()[3:])["fractions"]
        assert again["rows"] == found["rows"]


def test_fractions_of_cross_validation_need_no_test_labels(home: Path) -> None:
    """APTOS 2019, ConRec paper, Figure 2."""
    drop(home, "test")
    found = probe_json(
        "--fractions", "50", "--draws", "1", "--fractions-of", "cv", "--cv", "3", "--repeats", "1", "--no-baselines"
    )
    assert found.keys() == {"fractions", "cv"}
    assert found["fractions"]["rows"][0]["n_test"] == 60
    done = typed("probe", "a", "--fractions", "50")
    assert "expected labels in the split test for --fractions, found none" in str(done.exception)


def test_health_needs_no_labels(home: Path) -> None:
    with edited(home / "data/rect-tri.h5") as file:
        del file["train/labels"], file["test/labels"]
    healthy = probe_json("--health")
    assert healthy.keys() == {"health"}
    row, random = healthy["health"]["rows"]
    assert (row["n"], random["name"]) == (84, "random weights")
    x = open_encoder(Run(home / "runs/a"), LAST, CPU).embed(read_info(home / "data/rect-tri.h5"), "test")
    sigma = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    p = sigma / sigma.sum()
    assert row["rankme"]["centred"] == pytest.approx(float(np.exp(-(p * np.log(p + 1e-7)).sum())), rel=1e-3)
    assert "Effective rank" in sure("probe", "a", "--health")
    page = sure("report", "a", "--format", "md")
    assert "Label-free health" in page
    assert f"{row['rankme']['centred']:.1f}" in page
    assert "with labels of 2 classes or more, found" in str(typed("probe", "a").exception)
    drop(home, "test")
    assert "expected two test images or more for --health, found no test split" in str(
        typed("probe", "a", "--health").exception
    )


def test_one_test_image_is_probed_without_a_rank(home: Path) -> None:
    sure("gen", "rect-tri", "--n", "12", "--n-test", "1", "--size", "32", "--out", "data/one.h5")
    assert probe_json("--data", "data/one.h5", "--no-baselines").keys() == {"linear"}
    assert "found one test image" in str(typed("probe", "a", "--data", "data/one.h5", "--health").exception)


def test_the_printed_command_makes_the_same_numbers(home: Path) -> None:
    found = probe_json(
        "--fractions", "20,50", "--draws", "2", "--cv", "3", "--repeats", "1", "--metric", "kappa", "--no-baselines"
    )
    for name in ("linear", "fractions", "cv", "health"):
        words = found[name]["command"].split()[3:]
        again = probe_json(*words, "--no-baselines")[name]
        assert again["rows"] == found[name]["rows"]


def test_average_precision_of_one_label_an_image_is_class_against_rest(home: Path) -> None:
    found = probe_json("--multilabel", "--no-baselines")
    row = found["multilabel"]["rows"][0]
    truth = np.array(row["labels"])
    assert (truth.sum(axis=1) == 1).all()
    assert truth.argmax(axis=1).tolist() == found["linear"]["rows"][0]["labels"]
    assert [own["positives"] for own in row["per_class"]] == truth.sum(axis=0).tolist()
    scores = np.array(row["scores"])
    for k, own in enumerate(row["per_class"]):
        assert own["ap"]["step"] == pytest.approx(average_precision_score(truth[:, k], scores[:, k]), abs=0.01)
    assert "--multilabel" in found["multilabel"]["command"].split()
    assert (home / "runs/a/results/multilabel-tuned-last.json").exists()


def test_a_second_measurement_costs_no_forward_pass(home: Path, passes: list[int]) -> None:
    first = probe_json()
    assert sorted(passes) == [60, 60, 84, 84]  # train and test, of the encoder and of random weights; 3 images a pair
    passes.clear()
    assert probe_json("--knn", "--retrieval", "--protocol", "fixed")["knn"]["rows"][0]["n"] == 84
    assert probe_json()["linear"]["rows"] == first["linear"]["rows"]
    assert passes == []


def test_another_encoder_seed_size_or_data_is_never_taken_from_the_cache(home: Path, passes: list[int]) -> None:
    probe_json()
    passes.clear()
    probe_json("--seed", "1")  # other random weights
    assert sorted(passes) == [60, 84]
    passes.clear()
    encoder, header = load_encoder(home / "runs/a")
    before = probe_json()["health"]["rows"][0]
    new_weights(home)
    assert probe_json()["health"]["rows"][0] != before
    assert sorted(passes) == [60, 84]
    passes.clear()
    info = {key: value for key, value in header.items() if key not in ("format", "spec")}
    save_encoder(home / "runs/a/encoder.safetensors", encoder, {**info, "max_size": 16})
    probe_json("--no-baselines")
    assert sorted(passes) == [60, 84]
    passes.clear()
    sure("gen", "rect-tri", "--n", "12", "--n-test", "12", "--size", "32", "--out", "data/other.h5")
    probe_json("--no-baselines", "--data", "data/other.h5")
    assert passes == [12, 12]


def test_kept_embeddings_are_those_of_the_encoder_in_any_chunks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHUNK_BYTES", 32 * 32 * 33)  # 32 images
    info = read_info(home / "data/rect-tri.h5")
    encoder, header = load_encoder(home / "runs/a")
    kept = open_encoder(Run(home / "runs/a"), LAST, CPU).embed(info, "test")
    images = open_split(info.path, "test", CPU, max_size=header["max_size"]).images
    np.testing.assert_array_equal(kept, extract(encoder, images))
    assert [path.name.split("-")[0] for path in (home / "runs/a/embeddings").iterdir()] == ["test"]


def test_an_interrupted_pass_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHUNK_BYTES", 32 * 32 * 33)  # 32 images

    def broken(encoder: Any, images: torch.Tensor) -> Any:
        if len(images) < 32:  # the last chunk
            raise KeyboardInterrupt
        return extract(encoder, images)

    monkeypatch.setattr(opened, "extract", broken)
    with pytest.raises(KeyboardInterrupt):
        open_encoder(Run(home / "runs/a"), LAST, CPU).embed(read_info(home / "data/rect-tri.h5"), "test")
    assert list((home / "runs/a/embeddings").iterdir()) == []


def test_every_kept_encoder_is_scored_as_by_itself(home: Path) -> None:
    assert kept_checkpoints(home / "runs/a") == ["epoch-0001", "epoch-0002"]
    along = probe_json("--all-checkpoints", "--knn", "--no-baselines")["all-checkpoints"]
    assert [(row["epoch"], row["kind"]) for row in along["rows"]] == [(1, "encoder"), (2, "encoder")]
    for row in along["rows"]:
        alone = probe_json("--checkpoint", row["checkpoint"], "--no-baselines", "--knn")
        for score, name in (("linear", "linear"), ("kNN", "knn")):
            found = alone[name]["rows"][0]
            assert row["scores"][score] == {"value": found["accuracy"], "ci": found["ci"]}
            assert row["checkpoint_hash"] == alone[name]["checkpoint_hash"]


def test_results_on_files_of_one_name_stay_both(home: Path) -> None:
    for folder in ("x", "y"):
        (home / folder).mkdir()
        shutil.copy(home / "data/rect-tri.h5", home / folder / "same.h5")
        for _ in range(2):
            probe_json("--data", f"{folder}/same.h5", "--no-baselines")
    results = sorted((home / "runs/a/results").glob("linear-tuned-last-same*.json"))
    assert [json.loads(path.read_text())["data"] for path in results] == ["y/same.h5", "x/same.h5"]
    assert [path.stem for path in results] == ["linear-tuned-last-same-2", "linear-tuned-last-same"]


def test_a_smaller_request_never_replaces_a_larger_result(home: Path, few_baselines: None) -> None:
    found = probe_json("--knn", "--all-checkpoints")
    assert len(probe_json("--knn", "--all-checkpoints", "--no-baselines")["linear"]["rows"]) == 1
    results = Run(home / "runs/a").results

    def saved(stem: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((results / f"{stem}.json").read_text())
        return content

    assert saved("linear-tuned-last")["rows"] == found["linear"]["rows"]
    assert saved("knn-last")["rows"] == found["knn"]["rows"]
    assert saved("all-checkpoints-tuned-knn-last")["rows"] == found["all-checkpoints"]["rows"]
    other = probe_json("--seed", "1", "--no-baselines")["linear"]  # another request: beside it
    assert saved("linear-tuned-last")["rows"] == found["linear"]["rows"]
    assert saved("linear-tuned-last-2") == other


def test_a_result_of_weights_that_are_gone_is_replaced_or_left_out(home: Path) -> None:
    """Also on the same data elsewhere: `pretrain --resume --data PATH` after the file was moved."""
    run = Run(home / "runs/a")
    old = probe_json("--no-baselines")
    new_weights(home)
    (line,) = (line for line in collect([run])["runs"][0]["left_out"] if "linear-tuned-last.json" in line)
    assert line.endswith("linear-tuned-last.json was not used: last has other weights now; measure again")
    assert not any(collect([run])["runs"][0]["results"].values())
    (home / "moved").mkdir()
    (home / "data/rect-tri.h5").rename(home / "moved/rect-tri.h5")
    run.update(dataset=run.read()["dataset"] | {"path": "moved/rect-tri.h5"})
    new = probe_json("--no-baselines", "--seed", "1")  # another request, too
    assert new["health"]["rows"][0] != old["health"]["rows"][0]
    assert sorted(path.name for path in run.results.iterdir()) == ["health-last.json", "linear-tuned-last.json"]
    (found,) = collect([run])["runs"][0]["results"]["linear"]
    assert found["rows"] == new["linear"]["rows"]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--draws", "3"), "--fractions 1,2,5,10,20,50,100"),
        (("--metric", "accuracy"), "--cv 5"),
        (("--repeats", "2"), "--cv 5"),
        (("--epochs", "2"), "--sgd conrec"),
    ],
)
def test_an_option_of_another_one_is_not_ignored(home: Path, words: tuple[str, str], asked: str) -> None:
    done = CliRunner().invoke(app, ["probe", "a", *words])
    assert isinstance(done.exception, ValueError)
    assert f"expected {words[0]} with --" in str(done.exception)
    assert f"type {asked}, too, or leave it out" in str(done.exception)


def test_what_to_type_next_keeps_what_was_typed(home: Path) -> None:
    words = "--data data/rect-tri.h5 --checkpoint epoch-0001 --pool max --seed 1"
    done = sure("probe", "a", *words.split(), "--no-baselines")
    assert done.endswith(f"next: probekit heatmap a {words}   or   probekit probe a {words} --protocol fixed\n")


def test_the_last_encoder_follows_those_that_were_kept(home: Path) -> None:
    probe_json("--all-checkpoints", "--no-baselines")
    (home / "runs/a/checkpoints/epoch-0002.safetensors").unlink()
    found = probe_json("--all-checkpoints", "--no-baselines")["all-checkpoints"]
    kept = json.loads((home / "runs/a/results/all-checkpoints-tuned-last.json").read_text())
    for rows in (found["rows"], kept["rows"]):  # of what was measured before nothing is left
        assert [row["checkpoint"] for row in rows] == ["epoch-0001", "last"]


def drop(home: Path, split: str) -> None:
    with edited(home / "data/rect-tri.h5") as file:
        del file[split]


def test_cross_validation_needs_no_test_split(home: Path) -> None:
    drop(home, "test")
    found = probe_json("--cv", "3", "--repeats", "1", "--metric", "accuracy", "--no-baselines")
    assert found.keys() == {"cv"}
    assert found["cv"]["rows"][0]["n"] == 60
    held = read_split(home / "data/rect-tri.h5", "train").labels
    assert found["cv"]["rows"][0]["labels"] == (None if held is None else held.tolist())


def test_a_head_is_trained_anew_in_each_fold_of_train(home: Path) -> None:
    """ConRec's Table 2, APTOS: the row of random weights is of a network that is trained from these."""
    drop(home, "test")
    words = ("--cv", "2", "--repeats", "1", "--metric", "kappa", "--cv-sgd", "aptos")
    found = probe_json(*words)["cv"]
    assert read_result(found).name == "cv"
    assert (home / "runs/a/results/cv-aptos-last.json").exists()
    assert "the encoder too (lr 5e-05); Adam, lr 5e-05, constant" in found["how"]
    assert "zoom 0.85 to 1.15, black around, mirrored both ways, ordinal targets" in found["how"]
    trained, random, chance = found["rows"]
    assert [row["name"] for row in found["rows"]] == ["simclr last", "random weights", "chance"]
    assert set(trained["decodings"]) == set(random["decodings"]) == set(chance["decodings"]) == {"cumulative"}
    scores = [read_result(found).scores(row) for row in (trained, random, chance)]
    assert scores[0].keys() == scores[1].keys() == scores[2].keys(), "chance stands beside what it is chance of"
    assert (trained["recipe"], trained["protocol"]) == ("aptos", "aptos")
    [name, *_] = read_result(found).scores(trained)
    assert name == "cross-validated aptos kappa, cumulative"
    plain = probe_json(*words[:-2], "--all-checkpoints", "--no-baselines")["cv"]
    assert plain["rows"][0]["decodings"].keys() == {"cumulative", "plain"}
    probe_json(*words, "--all-checkpoints", "--no-baselines")
    stems = ("cv-tuned-last", "cv-aptos-last", "all-checkpoints-tuned-cv-last", "all-checkpoints-tuned-cv-aptos-last")
    assert all((home / f"runs/a/results/{stem}.json").exists() for stem in stems), "all stay"


def several_labels(path: Path) -> Path:
    """Images of noise with up to three labels each."""
    rng = np.random.default_rng(0)
    header = Header(generator="", parameters={}, seed=0, classes=("cat", "dog", "hat"), factors=(), mask_names=())
    with DatasetWriter(path, header=header, compression="none", overwrite=True) as writer:
        for name, n in (("train", 60), ("test", 40)):
            labels = rng.choice(np.array([0, 1, 255], np.uint8), (n, 3), p=[0.6, 0.3, 0.1])
            images = rng.integers(0, 256, (n, 32, 32), np.uint8)
            writer.begin(name, n)
            writer.append(pack(Split(images, labels, {}, None), "none"))
    return path


def test_several_labels_an_image_have_average_precision(home: Path) -> None:
    several_labels(home / "data/voc.h5")
    found = probe_json("--data", "data/voc.h5")
    assert found.keys() == {"multilabel", "health"}
    assert [row["name"] for row in found["multilabel"]["rows"]] == ["simclr last", "random weights", "chance"]
    assert read_result(found["multilabel"]).name == "multilabel"
    out = sure("probe", "a", "--data", "data/voc.h5", "--pool", "max")
    look, again = (f"probekit {command} a --data data/voc.h5 --pool max" for command in ("heatmap", "probe"))
    assert out.endswith(f"\nnext: {look}   or   {again} --protocol fixed\n")
    for form in ("voc2007", "voc2010", "step"):
        assert f"mAP {form}" in " ".join(out.split())
    assert "…" not in out


def test_a_head_by_sgd_stands_beside_the_probes(home: Path) -> None:
    found = probe_json("--sgd", "conrec", "--epochs", "3", "--knn")
    assert found.keys() == {"linear", "sgd", "knn", "health"}
    saved = json.loads((home / "runs/a/results/sgd-conrec-3-epochs-lr-0.1-last.json").read_text())
    assert saved == found["sgd"]
    assert read_result(saved).name == "sgd"
    row, random, chance = saved["rows"]
    assert (row["recipe"]["epochs"], row["recipe"]["lr"], len(row["by_epoch"])) == (3, 0.1, 3)
    assert row["by_epoch"][-1] == row["accuracy"] == np.mean(np.equal(row["labels"], row["predicted"]))
    assert row["best_test"]["score"] == max(row["by_epoch"])
    assert (random["name"], chance["name"]) == ("random weights", "chance")
    assert saved["command"] == "probekit probe a --sgd conrec --epochs 3"
    page = sure("report", "a", "--format", "md")
    assert "rotocol conrec-3-epochs-lr-0.1" in page
    assert "--sgd conrec --epochs 3" in page
    out = sure("probe", "a", "--epochs", "1", "--sgd", "lcr")
    assert "Best epoch on test (as the papers choose)" in out


def test_fine_tuning_scores_several_labels_an_image(home: Path) -> None:
    several_labels(home / "data/voc.h5")
    words = ("--data", "data/voc.h5", "--sgd", "voc", "--epochs", "2", "--no-baselines")
    found = probe_json(*words)["sgd"]
    assert read_result(found).name == "sgd"
    assert (home / "runs/a/results/sgd-voc-2-epochs-lr-0.05-last-voc.json").exists()
    [row] = found["rows"]
    assert row["by_epoch"][-1] == pytest.approx(row["map"]["voc2010"]["value"])
    assert row["recipe"]["encoder_lr"] == 1.5e-4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "1"], "expected --lr with --sgd, found it without; type --sgd conrec, too, or leave it out"),
        (
            ["--epochs", "1", "--lr", "1"],
            "expected --epochs and --lr with --sgd, found it without; type --sgd conrec, too, or leave it out",
        ),
        (["--sgd", "conrec", "--lr", "-1"], "expected a learning rate above 0, found -1"),
        (["--fractions", "1;2"], "expected percentages with commas, found '1;2'"),
        (["--fractions", "0,10"], "expected fractions above 0 and up to 100 %, found 0"),
        (["--cv", "1"], "expected 2 folds or more, found 1"),
        (["--fractions", "50", "--data", "data/voc.h5"], "type: --fractions-of multilabel"),
        (["--checkpoint", "epoch-0009"], "found best_test, epoch-0001, epoch-0002, last; type: --checkpoint last"),
        (["--knn", "--data", "data/voc.h5"], "expected one label an image for --knn, found several in data/voc.h5"),
    ],
)
def test_mistakes_are_one_line(home: Path, words: list[str], message: str) -> None:
    several_labels(home / "data/voc.h5")
    (home / "runs/a/checkpoints/best_val.pt").unlink(missing_ok=True)
    done = typed("probe", "a", *words)
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)


def test_what_the_data_lack_is_one_line(home: Path) -> None:
    drop(home, "test")
    done = typed("probe", "a", "--retrieval")
    assert "expected labels in the split test for --retrieval, found none in data/rect-tri.h5" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sgd", "conrek"], "'conrek' is not one of 'conrec', 'xcorr', 'lcr', 'voc'"),
        (["--cv", "5", "--metric", "kapa"], "'kapa' is not one of 'kappa', 'accuracy'"),
        (["--fractions", "5", "--fractions-of", "health"], "'health' is not one of"),
        (["--protocol", "sgd"], "'sgd' is not one of 'tuned', 'fixed'"),
        (["--fractions", "5", "--draws", "0"], "should be greater than or equal to 1"),
    ],
)
def test_a_value_that_an_option_has_not_is_refused_with_those_that_it_has(words: list[str], message: str) -> None:
    done = typed("probe", "a", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_grades_are_not_learned_from_several_labels_an_image(home: Path) -> None:
    several_labels(home / "data/voc.h5")
    done = typed("probe", "a", "--data", "data/voc.h5", "--sgd", "aptos")
    assert "expected one grade an image for --sgd aptos, found several labels; type: --sgd voc" in str(done.exception)


def test_a_head_is_never_left_out_in_silence(home: Path) -> None:
    drop(home, "test")
    done = typed("probe", "a", "--sgd", "conrec", "--cv", "3")
    assert "expected labels in the split test for --sgd, found none in data/rect-tri.h5" in str(done.exception)


def test_the_epochs_of_a_head_are_no_course_along_pretraining(home: Path) -> None:
    words = ("--sgd", "conrec", "--all-checkpoints", "--no-baselines", "--epochs", "1")
    found = probe_json(*words, "--knn")["all-checkpoints"]
    assert list(found["rows"][0]["scores"]) == ["linear", "kNN"]
    with edited(home / "data/rect-tri.h5") as file:
        del file["train/labels"], file["test/labels"]
    done = typed("probe", "a", "--health", "--all-checkpoints")
    assert "expected something to follow with --all-checkpoints, found only health" in str(done.exception)


def test_without_kept_encoders_there_is_nothing_to_follow(home: Path) -> None:
    for path in (home / "runs/a/checkpoints").glob("epoch-*"):
        path.unlink()
    assert "type: probekit pretrain simclr --set train.keep_every=20" in str(
        typed("probe", "a", "--all-checkpoints").exception
    )


def test_compare_pairs_runs_by_image_for_each_protocol(home: Path) -> None:
    for name in "ab":
        sure("probe", name, "--knn", "--retrieval", "--no-baselines")
    found = json.loads(sure("compare", "a", "b", "--json"))
    assert [group["measurement"] for group in found["groups"]] == ["linear", "knn", "retrieval"]
    assert [group["protocol"] for group in found["groups"]] == ["tuned", "knn", "retrieval"]
    for group in found["groups"]:
        pair = group["pairs"][0]
        accuracy = {row["run"]: row["accuracy"] for row in group["runs"]}
        assert pair["difference"] == pytest.approx(accuracy["a"] - accuracy["b"])
        assert pair["p_holm"] == pair["p"]
        assert [method["seeds"] for method in group["over_seeds"]["methods"]] == [[0, 1]]
    only = json.loads(sure("compare", "a", "b", "--protocol", "knn", "--data", "data/rect-tri.h5", "--json"))
    assert only["groups"] == found["groups"][1:2]
    out = sure("compare", "a", "b")
    assert "McNemar" in out
    assert "Methods over seeds" in out
    assert "head of this report" not in out
    assert "Retrieval: data/rect-tri.h5, protocol retrieval, checkpoint last, further scores\n" in out


def test_compare_without_common_results_is_one_line(home: Path) -> None:
    assert "expected two runs or more" in str(typed("compare", "a").exception)
    assert "expected each run once, found a twice" in str(typed("compare", "a", "runs/a").exception)
    assert "a is not compared: it has not been measured" in str(typed("compare", "a", "b").exception)
    sure("probe", "a", "--no-baselines", "--retrieval", "--fractions", "50,100", "--draws", "1")
    assert "b is not compared: it has not been measured" in str(typed("compare", "a", "b").exception)
    for name in "ab":
        sure("probe", name, "--no-baselines")
    message = str(typed("compare", "a", "b", "--protocol", "fixed").exception)
    assert "found: tuned, last, on data/rect-tri.h5" in message


@pytest.mark.parametrize("name", ["e.npz", "e.h5"])
def test_exported_embeddings_are_those_of_the_file(home: Path, name: str) -> None:
    out = home / "new" / name
    assert "train [60, 32], test [84, 32]" in sure("export-embeddings", "a", "--out", str(out))
    assert "type --overwrite" in str(typed("export-embeddings", "a", "--out", str(out)).exception)
    with Run(Path("runs/a")).locked("probe"):  # a probe writes the same embeddings
        message = str(typed("export-embeddings", "a", "--out", str(out), "--overwrite").exception)
    assert message.startswith("expected runs/a for this command alone, found process ")
    sure("export-embeddings", "a", "--out", str(out), "--overwrite", "--checkpoint", "epoch-0001")
    info = read_info(home / "data/rect-tri.h5")
    expected = open_encoder(Run(home / "runs/a"), Weights("epoch-0001"), CPU).embed(info, "test")
    split = read_split(info.path, "test")
    arrays: dict[str, Any] = {}
    if name.endswith(".npz"):
        with np.load(out) as file:
            arrays = {key: file[key] for key in file.files}
        header = json.loads(str(arrays["header"]))
    else:
        with h5py.File(out) as file:
            header = json.loads(file.attrs["header"])
            file.visititems(
                lambda key, value: arrays.update({key: value[()]} if isinstance(value, h5py.Dataset) else {})
            )
    np.testing.assert_array_equal(arrays["test/embeddings"], expected)
    np.testing.assert_array_equal(arrays["test/labels"], split.labels)
    np.testing.assert_array_equal(arrays["train/factors/angle"], read_split(info.path, "train").factors["angle"])
    assert (header["checkpoint"], header["data_hash"], header["splits"]) == (
        "epoch-0001",
        info.content_hash,
        {"train": 60, "test": 84},
    )
    assert header["encoder"]["epoch"] == 1
    assert list(out.parent.iterdir()) == [out]


def test_exports_have_a_known_suffix(home: Path) -> None:
    assert "expected a file NAME.npz or NAME.h5" in str(typed("export-embeddings", "a", "--out", "e.csv").exception)


def test_changed_images_never_get_the_old_accuracy(home: Path) -> None:
    """Embeddings are kept under the content hash, which images changed in place still bear."""
    words = ("probe", "a", "--no-baselines")
    sure(*words)
    with h5py.File(home / "data/rect-tri.h5", "r+") as file:
        file["test/images"][:] = 0
    for command in (words, ("pretrain", "--resume", "--name", "a", "--epochs", "4"), ("export-embeddings", "a")):
        assert "/test/images" in str(typed(*command).exception)
    with edited(home / "data/rect-tri.h5") as file:  # other images, honestly
        file["test/images"][:] = 0
    assert "has changed since" in sure(*words)
    found = json.loads((home / "runs/a/results/linear-tuned-last.json").read_text())
    assert found["rows"][0]["accuracy"] == 0.25  # all alike: one class, of four equal ones


@pytest.mark.parametrize("kind", ["data", "link", "npz", "damaged"])
def test_exports_replace_nothing_but_exports(home: Path, tmp_path: Path, kind: str) -> None:
    data = Path(Run(Path("runs/a")).read()["dataset"]["path"])
    out = {"data": data, "link": tmp_path / "link.h5"}.get(kind, tmp_path / "set.npz")
    if kind == "link":
        out.symlink_to(data.absolute())
    elif kind == "npz":
        np.savez(out, x_train=np.zeros(3))
    elif kind == "damaged":
        out.write_bytes(b"PK no archive")
    before = out.read_bytes()
    for words in ([], ["--overwrite"]):
        said = str(typed("export-embeddings", "a", "--out", str(out), *words).exception)
        assert f"expected a file of embeddings or nothing at {out}" in said
    assert out.read_bytes() == before


def test_the_certificate_of_the_images_stands_under_each_table_of_classes(home: Path) -> None:
    certificate = shipped(RectTri())
    assert certificate is not None
    certificate = {**certificate, "size": 32}
    generate("rect-tri", out=home / "data/c.h5", n=20, n_test=28, size=32, certificate=certificate)
    words = ("probe", "a", "--knn", "--no-baselines")
    assert not any("certificate" in result for result in probe_json(*words[2:]).values())
    found = probe_json("--data", "data/c.h5", *words[2:])
    told_by = {name: result.get("certificate") for name, result in found.items()}
    assert told_by == {"linear": told(certificate), "knn": told(certificate), "health": None}
    assert sure(*words, "--data", "data/c.h5").count(f"{told(certificate)[0]}\n") == 2
