"""`--encoder onnx:FILE[:OUTPUT]` and `torchscript:FILE`: against torch, kept in a run, and what is no such file.

Alone: pytest tests/restore/test_encoder_files.py
"""

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner, Result

import probekit
from probekit.cli import app
from probekit.models import load_encoder
from probekit.models.onnx_file import OnnxModule
from tests.datasets import small_shapes

pytestmark = pytest.mark.usefixtures("plain_pictures", "few_baselines", "few_strengths")
WEIGHT = np.random.default_rng(0).normal(size=(12, 1, 4, 4)).astype(np.float32)
BIAS = np.linspace(-1, 1, 12, dtype=np.float32)


def expected_map(images: Tensor) -> Tensor:
    return F.relu(F.conv2d(images, torch.from_numpy(WEIGHT), torch.from_numpy(BIAS), stride=4))


def graph(
    path: Path,
    *,
    shape: Sequence[int | str] = ("n", 1, "h", "w"),
    outputs: Sequence[str] = ("embedding",),
    kind: int = TensorProto.FLOAT,
    external: bool = False,
    weight: NDArray[np.float32] = WEIGHT,
) -> Path:
    """A convolution, its activation "map", and the mean over cells "embedding"; `kind`: of what it takes."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["real", "weight", "bias"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    weights = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(BIAS, "bias")]
    taken = [helper.make_tensor_value_info("image", kind, shape)]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", taken, given, weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 4, 4)
        self.conv.load_state_dict({"weight": torch.from_numpy(WEIGHT), "bias": torch.from_numpy(BIAS)})

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class ForOne(Net):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x).amax((2, 3)).reshape(1, -1)
        return found


class Named(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"map": self.conv(x)}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_shapes(tmp_path_factory.mktemp("shapes") / "shapes.h5", n=32, n_test=16).path


@pytest.fixture(autouse=True)
def home(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(shapes, "data/shapes.h5")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--device", "cpu"])


def done(*arguments: str) -> str:
    found = run(*arguments)
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


def images(n: int, side: int = 16) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
@pytest.mark.parametrize("external", [False, True])
def test_a_files_outputs_are_torchs(kind: int, external: bool) -> None:
    graph(Path("m.onnx"), kind=kind, external=external)
    close = 1e-3 if kind == TensorProto.FLOAT16 else 1e-5
    expected = expected_map(images(3))
    torch.testing.assert_close(OnnxModule("onnx:m.onnx")(images(3)), expected.mean((2, 3)), rtol=close, atol=close)
    torch.testing.assert_close(OnnxModule("onnx:m.onnx:map")(images(3)), expected, rtol=close, atol=close)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_is_asked_as_often_as_it_takes(batch: int, n: int) -> None:
    graph(Path("m.onnx"), shape=(batch, 1, 16, 16))
    torch.testing.assert_close(OnnxModule("onnx:m.onnx")(images(n)), expected_map(images(n)).mean((2, 3)))


def test_random_weights_are_the_files_in_another_order() -> None:
    graph(Path("m.onnx"))
    plain, other, again = (OnnxModule("onnx:m.onnx:map", seed)(images(2)) for seed in (0, 3, 3))
    assert torch.equal(other, again)
    assert not torch.allclose(plain, other)
    shuffled = np.random.default_rng(3).permutation(WEIGHT.ravel()).reshape(WEIGHT.shape)
    expected = F.relu(F.conv2d(images(2), torch.from_numpy(shuffled), torch.from_numpy(BIAS), stride=4))
    torch.testing.assert_close(other, expected)


def test_copies_and_kept_seeds_open_the_file_anew() -> None:
    graph(Path("m.onnx"))
    module, random = OnnxModule("onnx:m.onnx"), OnnxModule("onnx:m.onnx", 5)
    copied = copy.deepcopy(module)
    copied.load_state_dict(random.state_dict())
    assert torch.equal(copied(images(2)), random(images(2)))
    assert not torch.equal(copied(images(2)), module(images(2)))


def traced(path: Path) -> Path:
    torch.jit.trace(Net().eval(), images(1)).save(str(path))  # type: ignore[no-untyped-call]
    return path


def frozen(path: Path) -> Path:
    torch.jit.freeze(torch.jit.script(Net().eval())).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "make", "baseline"),
    [
        ("onnx:m.onnx:map", graph, True),
        ("onnx:m.onnx", graph, True),
        ("torchscript:m.pt", traced, True),
        ("torchscript:m.pt", frozen, False),
    ],
)
def test_it_is_probed_looked_into_and_found_again(name: str, make: Callable[[Path], Path], baseline: bool) -> None:
    file = make(Path(name.split(":")[1]))
    told = done("probe", "--encoder", name, "--data", "data/shapes.h5", "--protocol", "fixed")
    assert f"weights: those that {name} comes with" in told
    folder = next(Path("runs").iterdir())
    result = json.loads((folder / "results" / "linear-fixed-last.json").read_text())
    assert ("random weights" in [row["name"] for row in result["rows"]]) == baseline
    opened = probekit.load(folder.name, device="cpu")
    torch.testing.assert_close(opened.encoder(images(4, 32)).pooled, expected_map(images(4, 32)).mean((2, 3)))
    assert opened.encoder.has_map == (name != "onnx:m.onnx")
    if make is graph:
        refused = run("heatmap", folder.name, "--maps", "input-gradient,occlusion").exception
        assert "input-gradient: needs gradients through the encoder, which a file of ONNX does not give" in str(refused)
        without = () if opened.encoder.has_map else ("--maps", "occlusion")
        told = done("heatmap", folder.name, "--n", "2", "--perturb", "1", *without)
        assert ("input-gradient: needs gradients" in told) == opened.encoder.has_map
        assert any((folder / "figures").iterdir())
    with file.open("ab") as changed:
        changed.write(b"\0")
    with pytest.raises(ValueError, match="has changed since the run was made; type: probekit probe --encoder"):
        load_encoder(folder)
    file.unlink()
    with pytest.raises(ValueError, match="is not where it was"):
        load_encoder(folder)


def channels_last(path: Path) -> Path:
    return graph(path, shape=("n", 16, 16, 3))


def truncated(path: Path) -> Path:
    path.write_bytes(graph(path).read_bytes()[:-100])
    return path


def without_data(path: Path) -> Path:
    graph(path, external=True)
    path.with_name("weights.bin").unlink()
    return path


def leading_out(path: Path) -> Path:
    model = onnx.load(graph(path, external=True), load_external_data=False)
    for data in model.graph.initializer:
        data.external_data[0].value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    return path


def text(path: Path) -> Path:
    path.write_text("<html>not found</html>\n")
    return path


def scripted(module: nn.Module) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        torch.jit.script(module.eval()).save(str(path))  # type: ignore[no-untyped-call]
        return path

    return make


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def plain(path: Path) -> Path:
    torch.save(Net().state_dict(), path)
    return path


def test_a_file_of_three_channels_is_given_the_one_of_grey_images_in_each() -> None:
    thirds = np.repeat(WEIGHT / 3, 3, axis=1).astype(np.float32)
    graph(Path("m.onnx"), shape=("n", 3, "h", "w"), weight=thirds)
    images = torch.rand(3, 1, 16, 16)
    opened = probekit.load("onnx:m.onnx", channels=1, size=16, device="cpu")
    np.testing.assert_allclose(opened.embed(images), expected_map(images).mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("onnx:m.onnx", truncated, "expected a model of ONNX in m.onnx, found none"),
        ("onnx:m.onnx", text, "expected a model of ONNX in m.onnx, found"),
        ("onnx:m.onnx", without_data, "expected the data of m.onnx in weights.bin, found nothing there"),
        ("onnx:m.onnx", leading_out, "expected the data of a model beside it, found them in ../weights.bin"),
        ("onnx:m.onnx", lambda path: graph(path, outputs=("map", "embedding")), "type: --encoder onnx:m.onnx:map"),
        (
            "onnx:m.onnx:mpa",
            graph,
            "unknown output of onnx:m.onnx 'mpa'; known: conv, embedding, map, mean, real; did you",
        ),
        ("onnx:m.onnx:mean", graph, None),
        ("onnx:m.onnx", folder, "expected a file after onnx:, found a folder at m.onnx"),
        ("onnx:no.onnx", graph, "expected a file after onnx:, found nothing at no.onnx"),
        ("onnx:m.onnx", channels_last, "whose channels are last"),
        ("onnx:m.onnx", lambda path: graph(path, kind=TensorProto.INT32), "found tensor(int32)"),
        ("onnx:m.onnx", lambda path: graph(path, shape=("n", 1, 64, 64)), "type: probekit import SOURCE --size 64"),
        ("onnx:m.onnx", lambda path: graph(path, shape=("n", 2, 32, 32)), "of 2 channels and 32x32 px, as onnx:m"),
        ("torchscript:m.pt", scripted(Named()), "from torchscript:m.pt, found dict"),
        ("torchscript:m.pt", scripted(ForOne()), "from torchscript:m.pt, found a tensor [1, 24]"),
        ("torchscript:m.pt", text, "expected a file of TorchScript in m.pt, found another"),
        ("torchscript:m.pt", plain, "expected a file of TorchScript in m.pt, found another"),
        ("torchscript:m.pt", folder, "expected a file after torchscript:, found a folder at m.pt"),
    ],
)
def test_odd_files_are_refused_in_one_line(name: str, make: Callable[[Path], Path], told: str | None) -> None:
    make(Path("m.onnx" if name.startswith("onnx") else "m.pt"))
    found = run("probe", "--encoder", name, "--data", "data/shapes.h5", "--protocol", "fixed")
    if told is None:
        assert found.exit_code == 0, found.output
        return
    assert found.exit_code == 1
    assert isinstance(found.exception, SystemExit | ValueError)
    line = str(found.exception) if isinstance(found.exception, ValueError) else found.output
    assert told in line
    assert "\n" not in line.strip()
    assert not Path("runs").exists()
