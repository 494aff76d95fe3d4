"""`--pool`: another pooling at test time for probe and heatmap, in results, report, compare and exports; refusals.

Alone: pytest tests/restore/test_pool.py
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.config import Config
from probekit.data.split import open_split
from probekit.heatmaps.score import SCORES
from probekit.measurement import read_result
from probekit.methods.momentum import MomentumMethod
from probekit.models.encoder import Features, load_encoder
from probekit.models.extract import extract
from probekit.models.layers.read import TOKENS
from probekit.registry import POOLS
from probekit.restore.build import build_method
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.restore.pooled import MAKERS
from probekit.run import Run
from probekit.weights import Weights
from tests.datasets import edited

QUICK = ["--epochs", "1", "--batch-size", "8", "--set", "model.width=8", "--set", "model.depth=3"]
LCR, XCORR = ["--branch", "lcr", "--set", "branch.lcr.k=3"], ["--branch", "xcorr", "--set", "branch.xcorr.clusters=4"]
LEWEL = ["--branch", "lewel", "--set", "branch.lewel.k=3"]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("plain_pictures", "few_baselines", "few_strengths")


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
    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sure("gen", "rect-tri", "--n", "24", "--n-test", "16", "--size", "16", "--pairs")
        sure("pretrain", "simclr", *QUICK, *LCR, "--name", "lcr", "--set", "train.keep_every=1")
        sure("pretrain", "simclr", *QUICK, *XCORR, "--name", "xcorr")
        sure("pretrain", "conrec", *QUICK, *LCR, *XCORR, "--name", "both")
        sure("pretrain", "simclr", *QUICK, "--name", "plain")
        sure("pretrain", "byol", *QUICK, *LEWEL, "--set", "method.keep=target", "--name", "lewel")
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own, without results."""
    shutil.copytree(template, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def probed(run: str, *words: str) -> dict[str, Any]:
    """Results by measurement."""
    found: dict[str, Any] = json.loads(sure("probe", run, *words, "--json"))
    return found


def images(home: Path) -> torch.Tensor:
    found = open_split(home / "data/rect-tri.h5", "test", CPU, max_size=1024).images
    assert isinstance(found, torch.Tensor)
    return found


def opened(home: Path, run: str, pool: str | None = None) -> OpenedRun:
    return open_encoder(Run(home / "runs" / run), Weights(pool=pool), CPU)


def expected(home: Path, run: str, pool: str | None) -> NDArray[np.float32]:
    return defined(home, run, pool).numpy()


def defined(home: Path, run: str, pool: str | None) -> torch.Tensor:
    """Embeddings by the definitions, from the checkpoint's method and the encoder's map."""
    method = opened(home, run).whole
    x = images(home).float() / 255
    with torch.no_grad():
        features: Features = method.get_submodule(method.kept)(x)
        phi = features.map
        if pool is None or pool == "attention":
            return features.pooled
        if pool == "gap":
            return phi.mean((2, 3))
        if pool == "max":
            return phi.amax((2, 3))
        if pool == "norm":
            lengths = phi.square().sum(1, keepdim=True).sqrt()
            low, high = lengths.amin((2, 3), keepdim=True), lengths.amax((2, 3), keepdim=True)
            share = (lengths - low) / (high - low)
            mean: torch.Tensor = (share * phi).sum((2, 3)) / share.sum((2, 3))
            return mean
        branch: Any = next(iter(method.kept_branches))
        if pool == "branch":
            weights = branch.maps(features)[:, None]
            pooled: torch.Tensor = (weights * phi).sum((2, 3)) / weights.sum((2, 3))
            return pooled
        if run == "lewel":
            outputs = method.projection(phi.permute(0, 2, 3, 1).flatten(0, 2))[:, :12]  # type: ignore[misc]
            outputs = outputs / outputs.square().sum(1, keepdim=True).sqrt()
            maps = outputs.view(len(phi), -1, 4, 3).softmax(1)
            aligned = torch.einsum("ncgk,ngdc->nkgd", maps, phi.view(len(phi), 4, 8, -1))
            return aligned.flatten(1)
        maps = torch.einsum("kd,ndhw->nkhw", branch.filters.weight.flatten(1), phi).relu()
        return torch.einsum("nkhw,ndhw->nkdhw", maps, phi).mean((3, 4)).flatten(1)


def test_every_pooling_that_is_named_can_be_made() -> None:
    assert MAKERS.keys() | TOKENS.keys() == POOLS.keys()
    assert {name for name, pool in POOLS.items() if pool.of_tokens} == TOKENS.keys()


CASES = [("lcr", p) for p in (None, "gap", "max", "branch", "bilinear")]
CASES += [("xcorr", "branch"), ("both", "attention"), ("both", "gap"), ("both", "branch"), ("plain", "max")]
CASES += [("plain", "norm"), ("both", "norm"), ("lewel", "branch"), ("lewel", "bilinear")]


@pytest.mark.parametrize(("run", "pool"), CASES)
def test_each_pooling_is_what_it_says(home: Path, run: str, pool: str | None) -> None:
    encoder = opened(home, run, pool).encoder
    found = extract(encoder, images(home))
    np.testing.assert_allclose(found, expected(home, run, pool), rtol=1e-4, atol=1e-5)
    assert found.shape[1] == encoder.dim
    if encoder.has_map:  # then class activation maps may rest on the map and its weights
        with torch.no_grad():
            features = encoder(images(home).float() / 255)
        weights = features.weights if features.weights is not None else torch.ones_like(features.map[:, 0])
        mean = (features.map * weights[:, None]).sum((2, 3)) / weights.sum((1, 2))[:, None]
        torch.testing.assert_close(features.pooled, mean, rtol=1e-4, atol=1e-5)


def test_the_kept_encoder_loads_without_its_branch_and_pools_as_it_did(home: Path) -> None:
    for run in ("lcr", "xcorr", "both"):
        (home / "runs" / run / "checkpoints/last.pt").unlink()
        encoder, _ = load_encoder(home / "runs" / run)
        assert not [name for name, _ in encoder.named_parameters() if "branch" in name]
        assert encoder(torch.rand(2, 1, 16, 16)).pooled.shape == (2, encoder.dim)
        found = opened(home, run, "gap").encoder
        assert extract(found, images(home)).shape == (len(images(home)), encoder.dim)


def test_a_probe_under_a_pooling_is_named_so_and_stands_beside_the_others(home: Path) -> None:
    results = {pool: probed("lcr", *([] if pool is None else ["--pool", pool])) for pool in (None, "gap", "branch")}
    for pool, found in results.items():
        name = "last" if pool is None else f"last@{pool}"
        result = found["linear"]
        assert result["checkpoint"] == found["health"]["checkpoint"] == name
        assert result["rows"][0]["name"] == f"simclr {name}"
        assert read_result(json.loads((home / f"runs/lcr/results/linear-tuned-{name}.json").read_text()))
        assert (home / f"runs/lcr/figures/linear-tuned-{name}-bars.png").exists()
        assert (f"--checkpoint {name}" in result["command"]) == (pool is not None)
        if pool != "branch":
            continue
        again = json.loads(sure(*result["command"].split()[1:], "--json"))["linear"]
        assert again["rows"][0]["accuracy"] == result["rows"][0]["accuracy"]
    plain, gap, branch = (results[pool]["linear"]["rows"] for pool in (None, "gap", "branch"))
    assert plain[0]["predicted"] == gap[0]["predicted"], "simclr pools by average itself"
    own, other = (results[pool]["health"]["rows"] for pool in (None, "branch"))
    assert own[0] != other[0] | {"name": own[0]["name"]}
    assert own[1] != other[1], "random weights pool with a random branch"
    assert [row["name"] for row in plain[1:]] == [row["name"] for row in branch[1:]]
    assert plain[2]["accuracy"] == branch[2]["accuracy"], "other baselines know of no pooling"


def test_every_measurement_takes_a_pooling(home: Path) -> None:
    words = ["--pool", "bilinear", "--knn", "--retrieval", "--fractions", "50,100", "--draws", "1", "--no-baselines"]
    found = probed("lcr", *words)
    assert {"knn", "retrieval", "fractions"} <= set(found)
    assert found["linear"]["rows"][0]["dim"] == 3 * 32
    assert (home / "runs/lcr/results/knn-last@bilinear.json").exists()
    heads = probed("lcr", "--pool", "branch", "--sgd", "lcr", "--epochs", "1", "--no-baselines")
    assert "sgd" in heads
    assert {"last@branch"} == {result["checkpoint"] for result in heads.values()}


def test_kept_encoders_pool_as_the_one_asked_for(home: Path) -> None:
    words = ["lcr", "--all-checkpoints", "--no-baselines"]
    own, norm = probed(*words), probed(*words, "--pool", "norm")
    along = [[row["checkpoint"] for row in found["all-checkpoints"]["rows"]] for found in (own, norm)]
    assert along[1] == [f"{name}@norm" for name in along[0]]
    last = norm["all-checkpoints"]["rows"][-1]
    assert last["scores"]["linear"]["value"] == norm["linear"]["rows"][0]["accuracy"]
    assert "--checkpoint last@norm" in norm["all-checkpoints"]["command"]
    assert (home / "runs/lcr/results/all-checkpoints-tuned-last.json").exists()
    assert (home / "runs/lcr/results/all-checkpoints-tuned-last@norm.json").exists()
    assert "expected --all-checkpoints with --pool gap" in told("probe", *words, "--pool", "branch")


@pytest.mark.parametrize(
    ("run", "pool"),
    [
        ("lcr", "branch"),
        ("both", "attention"),
        ("plain", "norm"),
        ("lcr", "max"),
        ("lcr", "bilinear"),
        ("lewel", "branch"),
    ],
)
def test_heatmaps_under_a_pooling(home: Path, run: str, pool: str) -> None:
    words = ["heatmap", run, "--pool", pool, "--n", "2", "--perturb", "0", "--json"]
    result = json.loads(sure(*words))
    assert result["checkpoint"] == f"last@{pool}"
    assert read_result(json.loads((home / f"runs/{run}/results/heatmap-last@{pool}.json").read_text()))
    names = {row["name"] for row in result["rows"]}
    assert ("attention" in names) == (pool in ("branch", "attention", "norm"))
    assert ("cam" in names) == (pool not in ("max", "bilinear"))
    for row in result["rows"]:
        for scores in row["scores"].values():
            assert scores.keys() == set(SCORES)


def test_reports_and_comparisons_show_poolings(home: Path) -> None:
    for pool in ("gap", "branch"):
        sure("probe", "lcr", "--pool", pool, "--no-baselines")
    sure("heatmap", "lcr", "--pool", "branch", "--n", "2", "--perturb", "0")
    sure("probe", "plain", "--no-baselines")
    sure("probe", "plain", "--pool", "gap", "--no-baselines")
    page = sure("report", "lcr", "plain", "--format", "md")
    assert "last@branch" in page
    assert "last@gap" in page
    assert "lcr" in json.loads(sure("report", "lcr", "--json"))["runs"][0]["config"]["branches"]
    compared = json.loads(sure("compare", "lcr", "plain", "--checkpoint", "last@gap", "--json"))
    assert "last@gap" in json.dumps(compared)
    assert "last@branch" not in json.dumps(compared)
    sure("probe", "lcr", "--no-baselines", "--retrieval")
    sure("probe", "lcr", "--pool", "branch", "--no-baselines", "--retrieval")
    (linear, ranked) = json.loads(sure("compare", "lcr", "lcr@branch", "--json"))["groups"]
    for group in (linear, ranked):
        assert [row["run"] for row in group["runs"]] == ["lcr", "lcr@branch"]
        assert [row["method"] for row in group["runs"]] == ["simclr + lcr", "simclr + lcr@branch"]
        assert (group["checkpoint"], len(group["pairs"])) == ("last", 1)
    files = [home / f"runs/lcr/results/linear-tuned-{checkpoint}.json" for checkpoint in ("last", "last@branch")]
    found = [json.loads(file.read_text())["rows"][0]["accuracy"] for file in files]
    assert [row["accuracy"] for row in linear["runs"]] == found
    assert "unknown pooling 'brunch'" in told("compare", "lcr", "lcr@brunch")
    assert "found lcr twice" in told("compare", "lcr@gap", "lcr@gap")
    assert "probekit probe plain --pool max" in told("compare", "lcr", "plain@max")
    sure("report", "lcr")
    assert "last@branch" in (home / "runs/lcr/report.html").read_text()


def test_exports_and_pictures_of_such_runs(home: Path) -> None:
    sure("export-embeddings", "lcr", "--pool", "branch")
    with np.load(home / "runs/lcr/embeddings-last@branch.npz") as file:
        np.testing.assert_allclose(file["test/embeddings"], expected(home, "lcr", "branch"), rtol=1e-4, atol=1e-5)
        assert json.loads(str(file["header"]))["checkpoint"] == "last@branch"
    for run in ("lcr", "both"):
        assert "picture" in sure("show", run)


def test_another_seed_of_the_baseline_pools_with_another_random_branch(home: Path) -> None:
    rows = [probed("lcr", "--pool", "branch", "--seed", seed)["health"]["rows"][1] for seed in ("0", "1")]
    assert rows[0]["name"] == rows[1]["name"] == "random weights"
    assert rows[0] != rows[1]


def test_the_baselines_branch_is_as_random_as_its_encoder(home: Path) -> None:
    trained = opened(home, "lcr", "branch")
    filters = [next(trained.encoder.pooling.parameters())]
    for seed in (0, 0, 1):
        filters.append(next(trained.random(seed).encoder.pooling.parameters()))
        config = replace(Config.from_dict(trained.run.read()["config"]), seed=seed)
        fresh = build_method(config, channels=1, classes=len(trained.header["classes"]))
        assert torch.equal(filters[-1], next(fresh.branches.parameters()))
    assert torch.equal(filters[1], filters[2])
    assert not torch.equal(filters[0], filters[1])
    assert not torch.equal(filters[1], filters[3])


@pytest.mark.parametrize("command", ["probe", "heatmap"])
def test_refusals_are_one_line(home: Path, command: str) -> None:
    known = "attention, bilinear, branch, cls, cls+gap, gap, last4, last4+gap, max, norm, projection"
    message = told(command, "lcr", "--pool", "brunch")
    assert f"unknown pooling 'brunch'; known: {known}; did you mean 'branch'?" in message
    assert "unknown pooling 'brunch'" in told(command, "lcr", "--checkpoint", "last@brunch")
    assert "plain: expected a branch that pools for --pool branch, found none" in told(
        command, "plain", "--pool", "branch"
    )
    for run in ("plain", "xcorr"):
        assert f"{run}: expected the branch lcr or lewel for --pool bilinear" in told(
            command, run, "--pool", "bilinear"
        )
    assert "expected an encoder with attention pooling, found one without" in told(
        command, "lcr", "--pool", "attention"
    )
    assert "it keeps no branch" in told(command, "lcr", "--checkpoint", "epoch-0001", "--pool", "branch")
    (home / "runs/lcr/checkpoints/last.pt").unlink()
    assert "last.pt" in str(typed(command, "lcr", "--pool", "branch").exception)


def test_a_branch_of_several_stages_has_no_pooling(home: Path) -> None:
    sure("pretrain", "simclr", *QUICK, *XCORR, "--set", "branch.xcorr.stages=multi", "--name", "multi")
    assert "multi: expected a branch that pools for --pool branch, found xcorr, which does not" in told(
        "probe", "multi", "--pool", "branch"
    )


def test_a_kept_target_pools_by_its_own_copy_of_a_branch_that_pooled_while_training(home: Path) -> None:
    sure("pretrain", "byol", *QUICK, "--branch", "lcr-dual-pooling", "--set", "method.keep=target", "--name", "kept")
    method = opened(home, "kept").whole
    assert isinstance(method, MomentumMethod)
    encoder, copies = method.target["encoder"], method.target["branches"]
    assert isinstance(copies, torch.nn.ModuleDict)
    with torch.no_grad():
        pooled = copies["lcr"].pool(encoder(images(home).float() / 255))  # type: ignore[operator]
    kept = opened(home, "kept", "branch").encoder
    np.testing.assert_allclose(extract(kept, images(home)), pooled, atol=1e-5)


def test_norm_is_the_control_of_lcr_without_a_run_of_its_own(home: Path) -> None:
    sure("pretrain", "simclr", *QUICK, *LCR, "--set", "branch.lcr.attention=norm", "--name", "attention")
    embedded = [
        extract(opened(home, run, pool).encoder, images(home))
        for run, pool in (("attention", "branch"), ("lcr", "norm"))
    ]
    np.testing.assert_array_equal(embedded[0], embedded[1])


def test_embeddings_that_depend_on_their_batch_come_with_a_warning(home: Path) -> None:
    batch = ["--set", "branch.lcr.normalise=batch"]
    assert "depends on" in sure("pretrain", "simclr", *QUICK, *LCR, *batch, "--name", "batch")
    assert "depends on" not in sure("pretrain", "simclr", *QUICK, *LCR)
    for words in (["probe", "batch", "--no-baselines"], ["heatmap", "batch", "--n", "2", "--perturb", "0"]):
        assert "depends on" in sure(*words, "--pool", "branch")
        assert "depends on" not in sure(*words, "--pool", "gap")
    assert "depends on" in sure("export-embeddings", "batch", "--checkpoint", "last@branch")


@pytest.mark.parametrize("pool", POOLS)
def test_help_names_every_pooling(pool: str) -> None:
    assert pool in typed("probe", "--help").stdout
    assert pool in typed("heatmap", "--help").stdout
    assert pool in typed("export-embeddings", "--help").stdout


def test_the_catalogue_lists_branches_with_their_settings(home: Path) -> None:
    branches = {entry["name"]: entry for entry in json.loads(sure("list", "--json"))["branches"]}
    assert branches["lcr"]["options"]["temperature"] == 0.4
    variants = {entry["name"]: entry["options"] for entry in branches["lcr"]["variants"]}
    assert variants["lcr-sam"] == {"head": "linear"}
    assert variants["lcr-bilinear"] == {"weight": 0.0, "train_pool": "bilinear"}
    assert branches["xcorr"]["variants"] == []
    assert branches["xcorr"]["options"]["positives"] == 2
    assert branches["xcorr"]["quick"] == {"clusters": 12, "lr_share": 1.0}
    assert branches["xcorr"]["needs"] == ["embedding_loss", "map"]
    text = sure("list", "branches")
    assert "lcr-bilinear     weight=0, train_pool=bilinear: the same without a fit" in text
    assert "quick: clusters=12, lr_share=1\n" in text
    assert "pretrain METHOD --branch NAME" in text


def test_images_smaller_than_a_cell_of_the_encoder_are_one_line(home: Path) -> None:
    tiny = home / "tiny.h5"
    shutil.copy(next(Path("data").glob("*.h5")), tiny)
    with edited(tiny) as file:
        for split in ("train", "test"):
            n = len(file[split]["labels"])
            del file[split]["images"], file[split]["masks"]
            file[split].create_dataset("images", data=np.zeros((n, 1, 1), np.uint8), chunks=(n, 1, 1))
    done = typed("probe", "plain", "--data", str(tiny), "--no-baselines")
    assert isinstance(done.exception, ValueError)
    assert "found 1x1; type: probekit import SOURCE --size 16" in str(done.exception)
