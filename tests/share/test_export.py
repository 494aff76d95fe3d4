"""`export`: ONNX against torch by onnxruntime, a card whose code gives the same embeddings, and what is refused.

Alone: pytest tests/share/test_export.py
"""

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.split import CPU
from probekit.models import Encoder
from probekit.models.backbones import import_timm
from probekit.models.encoder import load_encoder
from probekit.restore.load import adopt
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.restore.outside import Outside
from probekit.run import Run, open_run
from probekit.share import to_onnx
from probekit.share.card import card
from probekit.weights import LAST, Weights
from tests.datasets import noise_npz

pytestmark = pytest.mark.usefixtures("plain_pictures", "few_baselines", "few_strengths")
BLOCK = re.compile(r"```python\n(.+?)```", re.DOTALL)


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 1
    line = str(done.exception)
    assert "\n" not in line
    return line


def adopted(name: str, channels: int, **asked: Any) -> Run:
    """The run of an encoder from elsewhere, on noise of so many channels."""
    noise_npz(Path("noise.npz"), channels=channels)
    run("import", "noise.npz", "--out", "data/noise.h5")
    made = adopt(
        Outside(name, **asked),
        lambda info, named: None,
        run=None,
        data=Path("data/noise.h5"),
        measured=LAST,
        device="cpu",
        runs=Path("runs"),
        data_folder=Path("data"),
        console=Console(quiet=True),
    )
    return open_run(made, Path("runs"))


def opened(named: str) -> OpenedRun:
    return open_encoder(open_run(named, Path("runs")), LAST, CPU)


def same_as_torch(found: Any, network: Any, images: torch.Tensor) -> None:
    with torch.no_grad():
        features = network.encoder(images)
    for ours, theirs in zip(found, (features.pooled, features.map), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_onnx_gives_torchs_embedding_and_map_at_any_batch(home: Path) -> None:
    told = run("export", "mine", "--to", "onnx", "--out", "shared")
    assert "onnxruntime differs from torch by" in told
    session = onnxruntime.InferenceSession("shared/model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["embedding", "map"]
    for n in (1, 4):
        images = torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(n))
        same_as_torch(session.run(None, {"image": images.numpy()}), opened("mine"), images)
    again = run("probe", "--encoder", "onnx:shared/model.onnx:map", "--data", "data/shapes.h5", "--protocol", "fixed")
    assert "weights: those that onnx:shared/model.onnx:map comes with" in again


def test_the_card_tells_all_of_it_and_its_code_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("probe", "mine", "--protocol", "fixed", "--device", "cpu")
    run("export", "mine", "--to", "safetensors")
    folder = home / "runs" / "mine" / "export-last"
    card = (folder / "README.md").read_text()
    result = json.loads((home / "runs" / "mine" / "results" / "linear-fixed-last.json").read_text())
    for row in result["rows"]:
        assert re.search(rf"\| {re.escape(row['name'])} \|.*{100 * row['accuracy']:.1f}", card)
    assert {"chance", "random weights"} <= {row["name"] for row in result["rows"]}
    hash_ = json.loads((home / "runs" / "mine" / "run.json").read_text())["dataset"]["hash"]
    for told in (
        f"content hash `{hash_}`", "- train: 32 images of 16x16 px, channels: 1", "- certificate: ",
        "# license: yours to choose", "left out of the method: head, decoder", "Normalisation: none",
        "- `model.safetensors`: ", "conrec, epoch 1,", "- train.epochs: `1`",
    ):  # fmt: skip
        assert told in card
    assert "/" not in "".join(re.findall(r"\S*shapes\.h5", card))  # where the file lies is nobody else's business
    assert "license:" not in card.replace("# license:", "")
    monkeypatch.chdir(folder)
    ours = opened(str(home / "runs" / "mine"))
    images = torch.rand(2, 1, 16, 16)
    blocks = BLOCK.findall(card)
    assert len(blocks) == 2  # no timm
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        if "encoder" in names:
            assert torch.equal(names["encoder"](images).pooled, ours.encoder(images).pooled)
        else:
            assert {key: value.tolist() for key, value in names["tensors"].items()} == {
                key: value.tolist() for key, value in ours.encoder.state_dict().items()
            }


def test_where_files_lie_is_not_in_the_card(home: Path) -> None:
    folder = home / "my_own"
    folder.mkdir()
    torch.save(
        Encoder(channels=1, pooling="gap", backbone="timm:test_resnet").backbone.model.state_dict(), folder / "w_1.pt"
    )
    Path("data/shapes.h5").rename(folder / "d_1.h5")
    named = ("--encoder", "timm:test_resnet", "--weights", str(folder / "w_1.pt"), "--data", str(folder / "d_1.h5"))
    run("probe", *named, "--protocol", "fixed", "--no-baselines")
    noise_npz(Path("noise.npz"), channels=1)
    run("import", "noise.npz", "--out", str(folder / "e_1.h5"))
    run("probe", "test_resnet-d_1", "--data", str(folder / "e_1.h5"), "--protocol", "fixed", "--no-baselines")
    run("export", "test_resnet-d_1", "--out", "shared")
    card = Path("shared/README.md").read_text().replace("\\", "")
    assert "- began with weights of `w_1.pt`" in card
    assert "probe test_resnet-d_1 --protocol fixed --data e_1.h5" in card
    assert "my_own" not in card


@pytest.mark.parametrize(
    ("name", "channels", "formats", "smaller"),
    [("timm:test_resnet", 3, "timm", {}), ("timm:test_vit", 1, "timm,onnx", {"depth": 1})],
)
def test_timm_loads_what_its_models_are(
    name: str, channels: int, formats: str, smaller: dict[str, int], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = import_timm()
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **smaller))  # a block takes a second to trace
    ours = opened(adopted(name, channels, normalise="imagenet").name)
    run("export", ours.run.name, "--to", formats, "--out", "shared")
    card = Path("shared/README.md").read_text()
    assert "not trained by probekit" in card
    assert "Nothing was measured of these weights; `probekit probe" in card
    monkeypatch.chdir("shared")
    for block in BLOCK.findall(card):
        names: dict[str, Any] = {}
        exec(block, names)
        if "timm" in names:
            plain = torch.rand_like(names["image"])
            normalised = (plain - names["mean"]) / names["std"]
            names |= {"image": normalised}
            exec(block.splitlines()[-1], names)
            assert torch.allclose(names["embedding"], ours.encoder(plain).pooled, rtol=1e-5, atol=1e-6)
        if "session" in names:
            found = names["embedding"], names["feature_map"]
            same_as_torch(found, ours, torch.from_numpy(names["images"]))


def test_images_come_to_their_size_in_every_format(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `model.input`: in the graph, in what probekit loads again, and in words where a library has only weights."""
    made = adopted("timm:test_resnet", 3, normalise="imagenet", settings=("model.input=timm",))
    ours = opened(made.name)
    assert ours.encoder.input is not None
    run("export", made.name, "--to", "onnx,safetensors,timm", "--out", "shared")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession("shared/model.onnx", providers=["CPUExecutionProvider"])
    same_as_torch(session.run(None, {"image": images.numpy()}), ours, images)
    again, header = load_encoder(Path("shared/model.safetensors"))
    with torch.no_grad():
        assert torch.equal(again(images).pooled, ours.encoder(images).pooled)
    assert header["spec"]["input"] == ours.encoder.input.as_dict()
    card = Path("shared/README.md").read_text()
    assert f"Before it, images are {ours.encoder.input}." in card
    assert "--weights" not in card, "which would leave it out"
    monkeypatch.chdir("shared")
    [block] = [block for block in BLOCK.findall(card) if "import timm" in block]
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["image"].shape[2:] == (160, 160)
    plain = names["image"] * names["std"] + names["mean"]
    with torch.no_grad():
        expected = ours.encoder.without_input()(plain).pooled
    assert torch.allclose(names["embedding"], expected, rtol=1e-5, atol=1e-6)


def test_what_is_no_export_is_never_replaced(home: Path) -> None:
    Path("shared").mkdir()
    run("export", "mine", "--out", "shared")
    assert "type --overwrite to replace it" in refused("export", "mine", "--out", "shared")
    Path("shared/model.onnx").write_bytes(b"of an export before")
    run("export", "mine", "--out", "shared", "--overwrite")
    card = Path("shared/README.md").read_text()
    assert "model.onnx" in card
    assert "model.safetensors" in card
    assert Path("shared/model.onnx").read_bytes() != b"of an export before", "of these weights, and not lost"
    assert {path.name for path in Path("shared").iterdir()} == {"README.md", "model.onnx", "model.safetensors"}
    for folder in ("data", "runs"):
        told = refused("export", "mine", "--out", folder, "--overwrite")
        assert told == f"expected an export or nothing at {folder}, found something else; choose another --out"


def test_an_export_stays_whole_when_another_is_refused(home: Path) -> None:
    run("export", "mine", "--out", "shared")
    before = {path.name: path.read_bytes() for path in Path("shared").iterdir()}
    assert "expected a backbone of timm" in refused(
        "export", "mine", "--out", "shared", "--overwrite", "--to", "onnx,torchvision"
    )
    assert {path.name: path.read_bytes() for path in Path("shared").iterdir()} == before
    refused("export", "mine", "--out", "new", "--to", "safetensors,torchvision")
    run("export", "mine", "--out", "new")


def test_what_to_type_next_is_of_the_same_weights(home: Path) -> None:
    best = open_encoder(open_run("mine", Path("runs")), Weights("best_test"), CPU)
    assert "`probekit probe mine --checkpoint best_test` does" in card(best, [])
    assert "`probekit probe mine` does" in card(opened("mine"), [])
    assert "next: probekit push mine USER/NAME\n" in run("export", "mine")
    told = run("export", "mine", "--checkpoint", "best_test", "--out", "best")
    assert "next: probekit push mine USER/NAME --checkpoint best_test\n" in told


def test_odd_wishes_are_refused_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "unknown format 'onx'; known: detectron2, onnx, safetensors, timm, torchvision; did you mean 'onnx'?"
        in refused("export", "mine", "--to", "onx")
    )
    assert "expected --to FORMAT" in refused("export", "mine", "--to", ",")
    assert "expected --checkpoint without a pooling" in refused("export", "mine", "--checkpoint", "last@gap")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert "type: pip install onnx onnxruntime onnxscript" in refused("export", "mine", "--to", "onnx")
    assert not (home / "runs" / "mine" / "export-last" / "README.md").exists()


def test_a_graph_that_gives_other_numbers_is_not_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(network: torch.nn.Module, images: torch.Tensor, outputs: tuple[str, ...], path: Path) -> None:
        path.write_bytes(b"")

    class Session:
        def __init__(self, path: str, providers: object) -> None:
            self.network = to_onnx._Outputs(opened("mine").encoder)

        def run(self, names: list[str], given: dict[str, Any]) -> list[Any]:
            with torch.no_grad():
                return [each.numpy() * 1.001 for each in self.network(torch.from_numpy(given["image"]))]

    monkeypatch.setattr(to_onnx, "_trace", other)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert "found a difference of 0.001 of the largest" in refused("export", "mine", "--to", "onnx", "--out", "shared")
    assert list(Path("shared").iterdir()) == []


def test_what_torch_cannot_trace_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(torch.onnx, "export", fails)
    told = refused("export", "mine", "--to", "onnx")
    assert told.endswith("torch.onnx cannot write it: first; type: --to safetensors")
