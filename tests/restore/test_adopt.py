"""Encoders from elsewhere: `probe --encoder`, what can be done with the run that it makes, `pretrain --init-from`.

Alone: pytest tests/restore/test_adopt.py
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.cli.measuring import outside_of
from probekit.config import resolve
from probekit.models import Encoder, build_encoder, load_encoder, save_encoder
from probekit.models.checkpoint import read_checkpoint
from probekit.models.outside import code_of, make_outside
from probekit.registry import METHODS, get
from probekit.restore.around import around
from probekit.restore.build import build_method, start_from_weights
from probekit.run import Run
from tests.datasets import noise_npz, small_shapes

pytest.importorskip("timm")
QUICK = ["--device", "cpu"]
MAPPED = ["--n", "2", "--perturb", "1", *QUICK]
pytestmark = pytest.mark.usefixtures("plain_pictures", "few_baselines", "few_strengths")
TINY = ["--epochs", "1", "--batch-size", "8", "--set", "views.max_size=32", *QUICK]

MODULE = """
import torch
from torch import nn
from probekit.models import Features

class Map(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 4, 4)
    def forward(self, x):
        return self.conv(x)

class Embedding(Map):
    def forward(self, x):
        return self.conv(x).amax((2, 3))

class Whole(Map):
    def forward(self, x):
        found = self.conv(x)
        return Features([found], found, found.mean((2, 3)), None)

class Max(Map):
    def forward(self, x):
        found = self.conv(x)
        return Features([found], found, found.amax((2, 3)), None)

def fails():
    raise RuntimeError("no\\nsuch thing")

def list_of_them():
    return [Map()]

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.session = [nn.Conv2d(1, 12, 4, 4)]  # of another library: torch sees no weights
    def forward(self, x):
        return self.session[0](x).amax((2, 3))

class Exits(Map):
    def forward(self, x):
        raise SystemExit(3)

class Complex(Map):
    def forward(self, x):
        return self.conv(x).to(torch.complex64)

class Sparse(Map):
    def forward(self, x):
        return self.conv(x).mean((2, 3)).to_sparse()

class Meta(Map):
    def forward(self, x):
        return self.conv(x).to("meta")

class Empty(Map):
    def forward(self, x):
        return self.conv(x)[:, :0]

class Infinite(Map):
    def forward(self, x):
        return self.conv(x) / 0

def Lazy():
    return nn.Sequential(nn.LazyConv2d(4, 4, 4), nn.BatchNorm2d(4))

class Mapless(Map):
    def forward(self, x):
        return Features([], None, self.conv(x).mean((2, 3)), None)

class Noise(Map):
    def forward(self, x):
        return nn.functional.dropout(self.conv(x).mean((2, 3)))

class Wrong(Map):
    def forward(self, x):
        return self.conv(x)[0]

class Scalar(Map):
    def forward(self, x):
        return self.conv(x).mean()
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rect-tri of 32 px."""
    return small_shapes(tmp_path_factory.mktemp("shapes") / "shapes.h5", n=32, n_test=16).path


@pytest.fixture(autouse=True)
def home(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with these and a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "data").mkdir()
    shutil.copy(shapes, "data/shapes.h5")
    # A name of its own: Python keeps modules.
    Path(f"mine_{tmp_path.name}.py").write_text(MODULE)
    return tmp_path


def mine(home: Path, function: str) -> str:
    return f"py:mine_{home.name}:{function}"


def run(*arguments: str, fails: bool = False) -> Result:
    done = CliRunner().invoke(app, list(arguments))
    if not fails:
        assert done.exit_code == 0, (done.output, done.exception)
    return done


def refused(*arguments: str) -> str:
    done = run(*arguments, fails=True)
    assert isinstance(done.exception, ValueError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return str(done.exception)


def result(*arguments: str) -> dict[str, Any]:
    """Of a heatmap, or of the linear probe."""
    found = dict(json.loads(run(*arguments, "--json").stdout))
    return dict(found["linear"]) if arguments[0] == "probe" else found


def test_an_encoder_of_timm_is_probed_looked_into_and_reported() -> None:
    probed = result("probe", "--encoder", "timm:test_resnet", "--data", "data/shapes.h5", "--knn", *QUICK)
    assert (probed["run"], probed["epoch"]) == ("test_resnet-shapes", 0)
    assert [row["name"] for row in probed["rows"]][:2] == ["timm:test_resnet (random weights) last", "random weights"]
    assert probed["notes"] == ["random weights: of seed 1, since those of seed 0 are the encoder's own"]
    assert probed["rows"][0]["log_loss"] != probed["rows"][1]["log_loss"]
    folder = Run(Path("runs/test_resnet-shapes"))
    content = folder.read()
    assert (content["state"], content["weights"]) == ("imported", None)
    encoder, header = load_encoder(folder.path)
    assert header["spec"] == {"channels": 1, "pooling": "gap", "backbone": "timm:test_resnet", "stem": "imagenet"}
    assert encoder.dim == probed["rows"][0]["dim"]

    mapped = result("heatmap", "test_resnet-shapes", "--n", "4", "--perturb", "1", *QUICK)
    assert {"cam", "gradcam", "gradcam-ssl"} <= {row["name"] for row in mapped["rows"]}
    scores = {row["name"]: row["scores"] for row in mapped["rows"]}
    assert scores["cam"] != scores["cam, random weights"]
    again = result("probe", "test_resnet-shapes", *QUICK)
    assert again["rows"][0]["accuracy"] == probed["rows"][0]["accuracy"]
    page = run("report", "test_resnet-shapes", "--format", "md").stdout
    assert "encoder imported; seed 0" in page
    assert "--resume" not in page
    second = result("probe", "--encoder", "timm:test_resnet", "--seed", "1", "--data", "data/shapes.h5", *QUICK)
    assert second["run"] == "test_resnet-shapes-2"
    both = run("report", "test_resnet-shapes", "test_resnet-shapes-2", "--format", "md").stdout
    assert "test_resnet-shapes-2" in both
    assert "was pretrained here" in refused("pretrain", "--resume", "--name", "test_resnet-shapes")
    assert "was pretrained here" in refused("show", "test_resnet-shapes")


def test_the_installed_command_needs_nothing_declared_for_timm(home: Path) -> None:
    """In an interpreter of its own: this one has imported torchvision already."""
    command = str(Path(sys.executable).with_name("probekit"))
    arguments = ["probe", "--encoder", "timm:test_resnet", "--no-baselines", "--data", "data/shapes.h5", *QUICK]
    done = subprocess.run([command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Run(Path("runs/test_resnet-shapes")).read()["state"] == "imported"


def test_a_module_may_import_torchvision(home: Path) -> None:
    """Its first import fails, as torchvision's does in an installation for the CPU."""
    name = f"vision_{home.name}"
    Path(f"{name}.py").write_text(
        f"import sys\nif not hasattr(sys, {name!r}):\n    sys.{name} = True\n"
        f"    raise RuntimeError('operator torchvision::nms does not exist')\n{MODULE}"
    )
    assert type(make_outside(f"py:{name}:Map")).__name__ == "Map"


def test_random_weights_are_other_weights() -> None:
    """Weights of seed 1 as if they were trained: the baseline is seed 0."""
    torch.manual_seed(1)
    source = Encoder(channels=1, pooling="gap", backbone="timm:test_resnet")
    torch.save(source.backbone.model.state_dict(), "weights.pt")
    done = run("probe", "--encoder", "timm:test_resnet", "--weights", "weights.pt", "--data", "data/shapes.h5", *QUICK)
    assert "weights: 120 of 120 tensors" in done.output.replace("\n", " ") or "tensors from weights.pt" in done.output
    probed = json.loads(next(Path("runs/test_resnet-shapes/results").glob("linear-tuned*.json")).read_text())
    assert probed["rows"][0]["log_loss"] != probed["rows"][1]["log_loss"]
    loaded, _ = load_encoder(Path("runs/test_resnet-shapes"))
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded(x).pooled, source.eval()(x).pooled)
    kept = Run(Path("runs/test_resnet-shapes")).read()["weights"]
    assert (kept["file"], kept["missing"], len(kept["sha256"])) == ("weights.pt", [], 64)


def test_weights_that_are_not_whole_are_refused_or_marked() -> None:
    """In the row, run.json, the report and the comparison."""
    source = Encoder(channels=1, pooling="gap", backbone="timm:test_resnet").backbone.model.state_dict()
    torch.save({key: value for key, value in source.items() if not key.startswith("layer4.0.bn")}, "cut.pt")
    arguments = ["probe", "--encoder", "timm:test_resnet", "--weights", "cut.pt", "--data", "data/shapes.h5", *QUICK]
    assert "missing: layer4.0.bn1.weight, " in refused(*arguments)
    assert "type: --allow-missing" in refused(*arguments)
    assert not Path("runs").exists()
    random = sum(key.startswith("layer4.0.bn") and "num_batches" not in key for key in source)
    marked = f"timm:test_resnet ({random} tensors random)"
    probed = result(*arguments, "--allow-missing", "--no-baselines")
    assert probed["rows"][0]["name"] == f"{marked} last"
    content = Run(Path("runs/test_resnet-shapes")).read()
    assert (content["config"]["method"], content["weights"]["mark"]) == (marked, f"{random} tensors random")
    state = load_encoder(Path("runs/test_resnet-shapes"))[0].state_dict()
    lacking = [value for key, value in state.items() if "layer4.0.bn" in key and key.endswith(".weight")]
    assert lacking
    assert all((value == 1).all() for value in lacking), "plain, not what timm zeroes to begin with"
    result("probe", "--encoder", "timm:test_resnet", "--no-baselines", "--data", "data/shapes.h5", *QUICK)
    for runs in (["test_resnet-shapes"], ["test_resnet-shapes", "test_resnet-shapes-2"]):  # alone, and compared
        page = run("report", *runs, "--format", "md").stdout.replace("\\", "")
        assert sum(marked in line for line in page.splitlines()) >= len(runs)
        assert f"cut.pt, {random} tensors random" in page


def test_pretraining_from_weights_that_are_not_whole_is_refused_or_marked() -> None:
    """In run.json, and in a setting, by which a comparison tells it from others."""
    torch.save({"conv1.0.weight": torch.rand(16, 1, 3, 3)}, "cut.pt")
    options: dict[str, Any] = {"model.backbone": "timm:test_resnet", "model.weights": "cut.pt"}
    for allowed in (False, True):
        options["model.allow_missing"] = allowed
        config = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, options=options)
        method = build_method(config, channels=1)
        if not allowed:
            with pytest.raises(ValueError, match=r"found 1 of its 75 tensors; missing: .*; .* type: --allow-missing"):
                start_from_weights(method, config, Console(quiet=True))
    match = start_from_weights(method, config, Console(quiet=True))
    assert match is not None
    assert match["mark"] == "74 tensors random"
    assert "expected --init-from with --allow-missing" in refused("pretrain", "simclr", "--allow-missing", *TINY)


def test_weights_of_three_channels_are_normalised() -> None:
    torch.save(Encoder(channels=3, pooling="gap", backbone="timm:test_resnet").backbone.model.state_dict(), "rgb.pt")
    arguments = ["--encoder", "timm:test_resnet", "--weights", "rgb.pt", "--no-baselines", "--data", "data/shapes.h5"]
    done = run("probe", *arguments, *QUICK)
    assert "3 channels summed to 1" in done.output
    _, header = load_encoder(Path("runs/test_resnet-shapes"))
    assert header["spec"]["normalise"]["mean"] == [0.5]  # as timm trained test_resnet
    assert "mean 0.500, standard deviation 0.500, not those of ImageNet" in done.output.replace("\n", " ")
    run("probe", *arguments, "--normalise", "none", *QUICK)
    assert "normalise" not in load_encoder(Path("runs/test_resnet-shapes-2"))[1]["spec"]


def spec_of(*words: str) -> dict[str, Any]:
    name = result("probe", *words, "--no-baselines", "--data", "data/shapes.h5", *QUICK)["run"]
    return dict(load_encoder(Path("runs") / name)[1]["spec"])


def test_a_file_with_a_small_stem_takes_one_by_itself() -> None:
    torch.manual_seed(3)
    source = Encoder(channels=1, pooling="gap", backbone="timm:test_resnet", stem="small").eval()
    torch.save({"encoder_q." + k: v for k, v in source.backbone.model.state_dict().items()}, "small.pt")
    arguments = ["--encoder", "timm:test_resnet", "--weights", "small.pt", "--no-baselines", "--data", "data/shapes.h5"]
    done = run("probe", *arguments, *QUICK)
    assert "model.stem=small, as the first convolution of small.pt is 3x3" in done.output
    loaded, header = load_encoder(Path("runs/test_resnet-shapes"))
    assert header["spec"]["stem"] == "small"
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded(x).pooled, source(x).pooled)
    assert "conv1" in refused("probe", *arguments, "--set", "model.stem=imagenet", *QUICK)


def test_what_pretrain_can_set_of_a_model_probe_can_too() -> None:
    typed = ["--set", "model.stem=small", "--set", "model.pooling=attention", "--set", "model.normalise=imagenet"]
    spec = spec_of("--encoder", "timm:test_resnet", *typed)
    assert (spec["stem"], spec["pooling"]) == ("small", "attention")
    assert spec["normalise"]["mean"] == pytest.approx([0.449], abs=1e-3)
    spec = spec_of("--encoder", "unet", "--set", "model.width=8", "--set", "model.depth=2")
    assert (spec["width"], spec["depth"]) == (8, 2)
    own = Encoder(channels=1, pooling="attention", width=8, depth=3)
    save_encoder(Path("own.safetensors"), own, {})
    assert spec_of("--encoder", "unet", "--weights", "own.safetensors") == own.spec
    torch.save(Encoder(channels=1, pooling="gap", backbone="timm:test_resnet").backbone.model.state_dict(), "gap.pt")
    message = refused("probe", "--encoder", "timm:test_resnet", "--weights", "gap.pt", *typed[2:4], *QUICK)
    assert message == "expected the weights of attention pooling in gap.pt, found none; type: --set model.pooling=gap"


@pytest.mark.parametrize(
    ("function", "dim", "grid"),
    [("Map", 12, [8, 8]), ("Whole", 12, [8, 8]), ("Embedding", 12, [4, 4]), ("Max", 12, [4, 4])],
)
def test_an_encoder_of_the_users_own(home: Path, function: str, dim: int, grid: list[int]) -> None:
    name = mine(home, function)
    probed = result("probe", "--encoder", name, "--data", "data/shapes.h5", *QUICK)
    assert probed["rows"][0]["dim"] == dim
    assert probed["rows"][0]["log_loss"] != probed["rows"][1]["log_loss"]
    _, header = load_encoder(Path("runs") / probed["run"])
    assert header["spec"]["pooling"] == ("gap" if function in ("Map", "Whole") else "own")
    if function in ("Map", "Whole"):
        mapped = result("heatmap", probed["run"], *MAPPED)
        assert "cam" in {row["name"] for row in mapped["rows"]}
    else:
        assert "no feature map that is pooled" in refused("heatmap", probed["run"], "--maps", "cam", "--n", "4", *QUICK)
        mapped = result("heatmap", probed["run"], "--window", "8", "--maps", "all", *MAPPED)
        names = {row["name"] for row in mapped["rows"]}
        assert {"input-gradient", "occlusion"} <= names
        assert not names & {"cam", "gradcam", "hirescam", "gradcam-ssl", "gradcam-similarity", "attention"}
    assert mapped["grid"] == grid


def test_what_cannot_be_drawn_anew_is_never_called_random(home: Path) -> None:
    words = ["probe", "--encoder", mine(home, "Fixed"), "--data", "data/shapes.h5", "--knn", "--json", *QUICK]
    measured = json.loads(run(*words).stdout)
    probed = measured["linear"]
    for found in measured.values():
        assert "random weights" not in {row["name"] for row in found["rows"]}
        assert "random weights are left out: no weights of this encoder can be drawn anew" in found["notes"][0]
    mapped = result("heatmap", probed["run"], *MAPPED)
    assert mapped["notes"][-1] == probed["notes"][0]
    assert {row["encoder"] for row in mapped["rows"]} == {"", "trained"}
    assert {row["sanity_check"] is None for row in mapped["rows"]} == {True}
    assert [line for line in mapped["left_out"] if line.startswith("random weights and the sanity check")]
    page = run("report", probed["run"], "--format", "md").stdout
    assert "random weights are left out" in page


def test_a_module_of_three_channels_is_measured_on_grey_images_which_is_said(home: Path) -> None:
    Path(f"rgb_{home.name}.py").write_text(MODULE.replace("nn.Conv2d(1,", "nn.Conv2d(3,"))
    name = f"py:rgb_{home.name}:Map"
    done = run("probe", "--encoder", name, "--data", "data/shapes.h5", "--protocol", "fixed", *QUICK)
    assert f"{name} takes three channels, and is given the one of grey images in each" in " ".join(done.output.split())
    [row, random, *_] = json.loads(next(Path("runs").glob("*/results/linear-fixed-last.json")).read_text())["rows"]
    assert random["name"] == "random weights", "the run's file makes it again"
    assert row["dim"] == 12


def test_code_that_has_changed_is_refused_before_a_line_of_it_runs(home: Path) -> None:
    """The module's file, and those of the packages that it is in."""
    package, trace = home / f"package_{home.name}", home / "trace"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text(MODULE)
    name = f"py:{package.name}.inner:Map"
    encoder = around(make_outside(name), name, torch.rand(2, 1, 32, 32), None, code_of(name))
    assert build_encoder(encoder.spec).spec == encoder.spec
    leaves_a_trace = f"open({str(trace)!r}, 'w')\n"
    for changed in (package / "__init__.py", package / "inner.py"):
        kept = changed.read_text()
        changed.write_text(kept + leaves_a_trace)
        for loaded in [m for m in sys.modules if m.startswith(package.name)]:
            del sys.modules[loaded]
        with pytest.raises(ValueError, match=r"has changed since the run was made; type: probekit probe --encoder py:"):
            build_encoder(encoder.spec)
        assert not trace.exists()
        changed.write_text(kept)
    shutil.rmtree(package)
    with pytest.raises(ValueError, match="is not where Python looks for it"):
        build_encoder(encoder.spec)


def test_the_hash_follows_what_a_module_imports_from_here(home: Path) -> None:
    """Nothing is run: each file would raise."""
    (home / "net").mkdir()
    files = {
        "top.py": "import net.a\nfrom plain import x\nimport torch, json\nraise SystemExit",
        "net/__init__.py": "",
        "net/a.py": "from . import b\nfrom .c import d\nraise SystemExit",
        "net/b.py": "raise SystemExit",
        "net/c.py": "import top\nraise SystemExit",
        "plain.py": "x = 1",
        "net/stranger.py": "y = 1",
    }
    for name, text in files.items():
        (home / name).write_text(text)
    whole = code_of("py:top:make")
    for name, text in files.items():
        (home / name).write_text(text + "\n# changed")
        assert (code_of("py:top:make") == whole) == (name == "net/stranger.py"), name
        (home / name).write_text(text)
    assert code_of("py:top:make") == whole


def test_the_hash_of_a_module_is_that_of_its_file(home: Path) -> None:
    assert code_of(mine(home, "Map")) == hashlib.sha256(MODULE.encode()).hexdigest()
    assert code_of("py:sys:exit") == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--encoder", "py:mine:fails"], "py:mine:fails cannot be made: RuntimeError: no"),
        (["--encoder", "py:mine:list_of_them"], "returns a torch.nn.Module, found list"),
        (["--encoder", "py:mine:Wrong"], "expected Features, a map"),
        (["--encoder", "py:mine:Scalar"], "expected Features, a map"),
        (["--encoder", "py:mine:nothing"], "cannot be made: AttributeError"),
        (["--encoder", "timm:test_resnet", "--allow-missing"], "expected --weights with --allow-missing, found none"),
        (["--encoder", "py:no_such_module:f"], "cannot be made: ModuleNotFoundError"),
        (["--encoder", "py:sys:exit"], "py:sys:exit cannot be made: SystemExit"),
        (["--encoder", "py:mine:Exits"], "fails on images [2, 1, 32, 32] in [0, 1]: SystemExit: 3"),
        (
            ["--encoder", "py:mine:Complex"],
            "expected real numbers of features from py:mine:Complex, found torch.complex64",
        ),
        (["--encoder", "py:mine:Sparse"], "found torch.float32 on cpu, torch.sparse_coo"),
        (["--encoder", "py:mine:Meta"], "found torch.float32 on meta"),
        (
            ["--encoder", "py:mine:Empty"],
            "expected features of one dimension or more from py:mine:Empty, found [2, 0, 8",
        ),
        (["--encoder", "py:mine:Mapless"], "expected Features, a map"),
        (["--encoder", "py:mine:Infinite"], "expected finite features from py:mine:Infinite, found nan or inf"),
        (
            ["--encoder", "py:mine:Lazy"],
            "expected weights of known shapes from py:mine:Lazy, found none yet in 0.weight, 0.bias; in Lazy pass",
        ),
        (["--encoder", "py:mine:Noise"], "found others when it was asked again"),
        (["--encoder", "timm:../x"], "unknown model of timm '../x'"),
        (["--encoder", "py:mine"], "expected an encoder py:MODULE:FUNCTION"),
        (
            ["--encoder", "resnet18"],
            "onnx:FILE[:OUTPUT], torchscript:FILE or unet, found 'res",
        ),
        (
            ["--encoder", "timm:resnet18.a1_in1k"],
            "expected --weights with timm:resnet18.a1_in1k, whose tag names pretrained weights "
            "(nothing is downloaded), found none; type: --encoder timm:resnet18 for random ones",
        ),
        (["--encoder", "timm:resnet18.a1_in", "--weights", "w.pt"], "expected a file of weights w.pt"),
        (
            ["--encoder", "unet", "--set", "model.depth=12"],
            "at most 6 for images of 32x32, found 12; type: --set model.d",
        ),
        (["--encoder", "timm:test_vit", "--set", "model.stem=small"], "a resnet or a densenet for model.stem small"),
        (["--encoder", "timm:test_resnet", "--set", "model.steam=small"], "did you mean 'model.stem'"),
        (["--encoder", "timm:test_resnet", "--set", "model.stem=big"], "expected model.stem = one of imagenet, small"),
        (["--encoder", "timm:test_resnet", "--set", "model.width=8"], "expected no model.width with timm:test_resnet"),
        (["--encoder", "timm:test_resnet", "--set", "train.epochs=8"], "unknown setting of an encoder 'train.epochs'"),
        (["--encoder", "unet", "--set", "model.weights=w.pt"], "expected --weights FILE in place of model.weights"),
        (["--encoder", "py:mine:Map", "--set", "model.stem=small"], "expected no model.stem with py:mine:Map"),
        (
            ["--set", "model.stem=small"],
            "expected --encoder with --weights, --allow-missing, --allow-download, --set and",
        ),
        (["--encoder", "timm:resnet5"], "did you mean timm:resnet50"),
        (["--encoder", "timm:test_resnet", "--weights", "none.pt"], "expected a file of weights none.pt, found none"),
        (["--encoder", "timm:test_resnet", "--normalise", "half"], "expected --normalise = one of auto"),
        (["--weights", "none.pt"], "expected --encoder with --weights"),
        (["somerun", "--encoder", "timm:test_resnet"], "expected a run or --encoder, found both"),
        *(
            (["--encoder", encoder, *asked], says)
            for encoder, asked, says in [
                ("timm:test_resnet", ["--pool", "nonsense"], "unknown pooling 'nonsense'"),
                ("timm:test_resnet", ["--pool", "attention"], "expected an encoder with attention pooling, found one"),
                (
                    "timm:test_resnet",
                    ["--pool", "branch"],
                    "expected a branch that pools for --pool branch, found none",
                ),
                ("py:mine:Embedding", ["--pool", "max"], "expected an encoder with a feature map for --pool, found"),
                ("timm:test_resnet", ["--checkpoint", "best_val"], "found best_val with --encoder; leave it out"),
                (
                    "timm:test_resnet",
                    ["--all-checkpoints"],
                    "expected --all-checkpoints for a run of pretrain, found it with --enc",
                ),
                ("timm:test_resnet", ["--device", "cuda:99"], "expected device cuda:99, found"),
                ("timm:test_resnet", ["--device", "tpu"], "expected --device auto, cpu or cuda[:i], found 'tpu'"),
                ("timm:test_resnet", ["--cv", "999"], "folds for so many samples, found 999; type: --cv 5"),
            ]
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(home: Path, arguments: list[str], says: str) -> None:
    arguments = [argument.replace("py:mine", f"py:mine_{home.name}") for argument in arguments]
    assert says in refused("probe", *QUICK, *arguments, "--data", "data/shapes.h5").replace(f"mine_{home.name}", "mine")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "resnet18": "timm:resnet18",
        "torchvision:resnet18": "timm:resnet18",
        "facebook/dinov2-small": "hf:facebook/dinov2-small",
        "hf-hub:timm/vit_tiny@main": "hf:timm/vit_tiny@main",
        "dinov2_vits14": "hf:facebook/dinov2-small --allow-download, or with the authors' file of weights --encoder "
        "timm:vit_small_patch14_dinov2 --weights FILE",
        "dinov3_vits16": "timm:vit_small_patch16_dinov3 --weights FILE, with the file of weights that the model's "
        "authors publish",
        "a folder": "'hf:a folder'",
        "data/shapes.h5": "timm:NAME --weights data/shapes.h5",
        "mine.py": "py:mine:FUNCTION",
        "net.onnx": "onnx:net.onnx",
    }.items(),
)
def test_of_a_name_that_is_no_kind_of_encoder_it_is_said_what_may_be_meant(home: Path, typed: str, meant: str) -> None:
    (home / "a folder").mkdir(exist_ok=True)
    for name in ("mine.py", "net.onnx"):
        (home / name).touch()
    assert refused("probe", "--encoder", typed, "--data", "data/shapes.h5").endswith(
        f"found {typed!r}; type: --encoder {meant}"
    )


def test_a_run_is_typed_without_encoder(home: Path) -> None:
    for name in ("mine", "unet"):
        (home / "runs" / name).mkdir(parents=True)
        (home / "runs" / name / "run.json").write_text("{}")
    assert outside_of("unet", None, "auto", 0, False, [], False) is not None, "what is an encoder's name stays one"
    for command in ("probe", "exam", "draw"):
        assert "found the run mine; leave --encoder out" in refused(command, "--encoder", "mine")


def test_weights_that_make_features_that_are_not_finite_are_refused_before_a_folder_is_made() -> None:
    state = Encoder(channels=1, pooling="gap", width=4, depth=2).state_dict()
    torch.save({name: -tensor - 1 if "var" in name else tensor for name, tensor in state.items()}, "negative.pt")
    small = ["--set", "model.width=4", "--set", "model.depth=2", "--data", "data/shapes.h5", *QUICK]
    for command in (
        ["probe", "--encoder", "unet", "--weights", "negative.pt"],
        ["pretrain", "simclr", "--init-from", "negative.pt", "--batch-size", "8"],
    ):
        assert "expected finite features from the U-Net, found nan or inf" in refused(*command, *small)
        assert not Path("runs").exists()


def test_images_too_small_for_a_backbone_are_refused_before_a_folder_is_made() -> None:
    small_shapes(Path("data/small.h5"), n=16, n_test=8, size=16)
    message = refused("probe", "--encoder", "timm:vgg11", "--data", "data/small.h5", *QUICK)
    assert "timm:vgg11 fails on images of 16x16" in message
    assert message.rstrip().endswith("type: probekit import SOURCE --size 224")
    assert not Path("runs").exists()


def test_images_without_labels_are_refused_before_a_folder_is_made() -> None:
    Path("plain").mkdir()
    for i in range(8):
        cv2.imwrite(f"plain/{i}.png", np.full((32, 32), 16 * i, np.uint8))
    run("import", "plain")
    message = refused("probe", "--encoder", "timm:test_resnet", "--data", "data/plain.h5", *QUICK)
    assert "expected a train and a test split" in message
    assert not Path("runs").exists()
    message = refused("pretrain", "supervised", "--data", "data/plain.h5", "--batch-size", "8", *QUICK)
    assert "expected one label an image, of two classes or more, for supervised, found none" in message


def test_contrasts_need_two_views() -> None:
    message = refused("pretrain", "simclr", "--data", "data/shapes.h5", "--set", "views.recipe=supervised", *QUICK)
    assert "expected views.recipe with two views of an image for simclr, found 'supervised'" in message


def test_pretraining_starts_from_weights_and_goes_on_without_the_file() -> None:
    backbone = ["--set", "model.backbone=timm:test_resnet"]
    source = Encoder(channels=3, pooling="gap", backbone="timm:test_resnet")
    torch.save(
        {"state_dict": {f"module.encoder_q.{k}": v for k, v in source.backbone.model.state_dict().items()}}, "moco.pth"
    )
    slow = ["--set", "optimizer.lr=0", "--set", "optimizer.weight_decay=0", "--set", "optimizer.warmup_epochs=0"]
    run("import", str(noise_npz(Path("noise.npz"), channels=3)))
    done = run("pretrain", "simclr", "--data", "data/noise.h5", "--init-from", "moco.pth", *backbone, *slow, *TINY)
    assert "tensors from moco.pth (state_dict: encoder_q.)" in done.output
    folder = Run(Path("runs/simclr-noise"))
    content = folder.read()
    assert content["config"]["model"]["weights"] == "moco.pth"
    assert content["config"]["model"]["normalise"] == "timm"
    assert "not those of ImageNet" in done.output.replace("\n", " ")
    assert content["weights"]["matched"] == content["weights"]["total"]
    trained, header = load_encoder(folder.path)
    weights = dict(source.backbone.model.named_parameters())
    for name, p in trained.backbone.model.named_parameters():  # a rate of 0 leaves them as they were
        assert torch.equal(p, weights[name])
    assert header["spec"]["normalise"]["mean"] == [0.5, 0.5, 0.5]
    Path("moco.pth").unlink()
    run("pretrain", "--resume", "--name", "simclr-noise", "--epochs", "2", *QUICK)
    run("show", "simclr-noise")


def test_our_own_encoder_starts_a_supervised_run() -> None:
    small = ["--set", "model.width=4", "--set", "model.depth=3", *TINY]
    run("pretrain", "simclr-attention", "--data", "data/shapes.h5", *small)
    weights = "runs/simclr-attention-shapes/encoder.safetensors"
    attention = ["--set", "model.pooling=attention"]
    done = run("pretrain", "supervised", "--data", "data/shapes.h5", "--init-from", weights, *attention, *small)
    assert f"tensors from {weights}, epoch 1 (" in " ".join(done.output.split())
    source = Run(Path(weights).parent)
    content = source.read()
    content["config"]["train"]["epochs"] = 45
    source.update(config=content["config"], state="interrupted")
    for file in (source.encoder, source.checkpoints / "last.pt"):
        assert read_checkpoint(file).after == "epoch 1 of 45, interrupted"
    line = Run(Path("runs/supervised-shapes")).read_metrics()[-1]
    assert line["loss"] > 0
    assert 0 <= line["accuracy"] <= 1
    assert result("probe", "supervised-shapes", *QUICK)["rows"][0]["n"] == 16
    run("heatmap", "supervised-shapes", *MAPPED)
    run("show", "supervised-shapes")
    assert "found 0 of its 48 tensors" in refused(
        "pretrain", "simclr", "--data", "data/shapes.h5", "--init-from", weights, *TINY
    )
