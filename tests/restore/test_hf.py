"""`--encoder hf:`: from a folder or a repository to a run that needs neither of them again.

Alone: pytest tests/restore/test_hf.py
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

import probekit
from probekit.device import choose_device
from probekit.exams.layers import Reader
from probekit.h5 import read_info, read_split
from probekit.heatmaps.base import Context, Target, encode, make_map
from probekit.models.encoder import build_encoder, save_encoder
from probekit.models.inputs import Input
from probekit.restore.opened import open_encoder
from probekit.restore.outside import Outside, make_encoder
from probekit.run import Run
from probekit.weights import LAST
from tests.datasets import small_shapes
from tests.models.foreign.base import SIDE, VIT, drawn, folder_of_safetensors, model_of_timm
from tests.models.foreign.libraries import PreActResNet18
from tests.typed import typed

pytest.importorskip("timm")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ABOUT: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, SIDE, SIDE], "crop_pct": 0.8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rect-tri of 48 px: neither the size of the weights, nor one that patches of 8 px would divide after a crop."""
    return small_shapes(tmp_path_factory.mktemp("data") / "shapes.h5", n=24, n_test=12, size=48).path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = model_of_timm("vit_base_patch16_224", VIT)
    config = {"architecture": "vit_base_patch16_224", "model_args": VIT, "pretrained_cfg": ABOUT}
    return folder_of_safetensors(tmp_path_factory.mktemp("hub") / "tiny-vit", config, model.state_dict())


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "tiny-vit")


def said(*words: str, code: int = 0) -> str:
    """What a command prints, in the working directory; it must end with this code."""
    done = typed(*words, cwd=Path.cwd())
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def reference(images: Any) -> torch.Tensor:
    """What timm's own network makes of grey images, resized to 40 px, of which the middle 32 are taken."""
    model = model_of_timm("vit_base_patch16_224", VIT)
    x = torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1).float() / 255
    x = torch.nn.functional.interpolate(x, (40, 40), mode="bicubic", antialias=True).clamp(0, 1)[..., 4:36, 4:36]
    with torch.no_grad():
        found: torch.Tensor = model.forward_features((x - 0.5) / 0.25)
    return found[:, 1:].mean(1)


def test_a_folder_gives_its_own_networks_features(folder: Path, data: Path) -> None:
    images = read_split(data, "test").images
    opened = probekit.load(f"hf:{folder}", size=48, device="cpu")
    colour = np.repeat(images[..., None], 3, axis=3)
    found = opened.map(colour).mean((2, 3))
    torch.testing.assert_close(found, reference(images), rtol=1e-4, atol=1e-5)
    # The exam resizes before the network, not in it.
    reader = Reader(opened, layers="all", size=48)
    torch.testing.assert_close(
        torch.from_numpy(reader.read(images)["embedding", "own"]), reference(images), rtol=1e-4, atol=1e-4
    )
    assert ("blocks.0", "gap") in reader.names
    plain = probekit.load(f"hf:{folder}", size=48, device="cpu", settings=["model.input=none"])
    assert plain.encoder.input is None
    assert plain.map(colour).shape[2:] == (6, 6)


def test_a_run_keeps_what_is_needed_to_open_it_again(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = said("probe", "--encoder", f"hf:{folder}", "--data", str(data), "--no-baselines")
    assert "images: resized to a shorter side of 40 px (bicubic), of which the middle 32x32 is taken" in " ".join(
        out.split()
    )
    assert "weights: 30 of 30 tensors" in out
    shutil.rmtree(folder)
    run = Run(Path("runs/tiny-vit-shapes"))
    opened = open_encoder(run, LAST, choose_device("cpu"))
    assert opened.encoder.spec["arguments"] == VIT
    assert opened.header["spec"]["input"] == {"resize": [40], "crop": [32, 32], "mode": "bicubic"}
    grey = opened.embed(read_info(data), "test")
    torch.testing.assert_close(
        torch.from_numpy(np.array(grey)), summed(read_split(data, "test").images), rtol=1e-3, atol=1e-4
    )
    assert np.abs(opened.random(0).embed(read_info(data), "test") - grey).max() > 0.01
    out = said("heatmap", "tiny-vit-shapes", "--n", "4", "--maps", "gradcam,cam")
    assert "gradcam" in out


def test_the_folder_that_one_is_in_gives_a_run_its_name(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    said("probe", "--encoder", "hf:.", "--data", str(data), "--no-baselines")
    assert [path.name for path in Path("runs").iterdir()] == ["tiny-vit-shapes"]
    monkeypatch.chdir("runs")
    assert probekit.probe("hf:..", data, baselines=False)["linear"].to_dict()["run"] == "tiny-vit"


def summed(images: Any) -> torch.Tensor:
    """Grey images for weights of three channels: the mean over the channels is taken off, which all share here."""
    return reference(images)


def test_its_file_is_opened_as_it_was(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network and a normalisation that have no name, which --weights refuses with this to type."""
    monkeypatch.chdir(tmp_path)
    said("probe", "--encoder", f"hf:{folder}", "--data", str(data), "--no-baselines")
    file = next((tmp_path / "runs").iterdir()) / "encoder.safetensors"
    first, again = probekit.load(file.parent), probekit.load(f"file:{file}", channels=1, size=48)
    np.testing.assert_array_equal(first.embed(data, "test"), again.embed(data, "test"))
    with pytest.raises(ValueError, match=r"file:.*encoder\.safetensors"):
        probekit.load("timm:vit_small_patch14_dinov2", weights=file, channels=1, size=56)
    with pytest.raises(ValueError, match="expected images of 1 channels"):
        probekit.load(f"file:{file}", channels=3, size=48)
    with pytest.raises(ValueError, match="expected an encoder in"):
        probekit.load(f"file:{tmp_path}/nothing.safetensors", channels=1, size=48)


def test_what_timm_knows_of_its_weights_is_taken_when_it_is_typed(data: Path) -> None:
    asked = Outside("timm:test_vit", settings=["model.input=timm"])
    made = make_encoder(asked, torch.rand(2, 3, 48, 48))
    assert made.encoder.input == Input([168], [160, 160], "bicubic")
    assert any(line.startswith("images: resized to a shorter side of 168 px") for line in made.lines)
    assert build_encoder(made.encoder.spec).input == made.encoder.input


def test_a_file_of_probekit_brings_along_how_images_come_to_their_size(tmp_path: Path) -> None:
    images, path = torch.rand(2, 3, 48, 48), tmp_path / "encoder.safetensors"
    first = make_encoder(Outside("timm:test_vit", settings=["model.input=timm"]), images).encoder.eval()
    save_encoder(path, first, {"method": "x", "epoch": 0, "image_size": [48, 48], "max_size": 64, "classes": []})
    again = make_encoder(Outside("timm:test_vit", path), images).encoder.eval()
    assert again.spec["input"] == first.spec["input"]
    assert torch.equal(again(images).pooled, first(images).pooled)
    assert make_encoder(Outside("timm:test_vit", path, settings=["model.input=none"]), images).encoder.input is None


def test_maps_of_an_encoder_that_sees_the_middle_are_zero_around_it(folder: Path) -> None:
    """Of 40 px the middle 32 are seen: of 50 px the middle 40."""
    encoder = probekit.load(f"hf:{folder}", size=50, device="cpu").encoder
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 50, 50), dtype=np.uint8))
    batch = encode(encoder, images, torch.arange(2))
    asked = replace(batch, target=Target(batch.features.pooled, torch.zeros(2)))
    for name in ("gradcam", "input-gradient"):
        found = make_map(name, Context())(encoder, asked)
        assert found.shape == (2, 50, 50)
        assert float(found[:, 5:-5, 5:-5].abs().max()) > 0
        assert float(found[:, :2].abs().max()) == float(found[..., -2:].abs().max()) == 0, (
            "what a filter does not reach"
        )


REFUSED = {
    "no folder": (["hf:nowhere"], "expected a folder nowhere with config.json and weights, found none"),
    "a file": (["hf:weights.pt"], "found a file; a file of weights alone is typed: --encoder timm:NAME --weights"),
    "a repository": (["hf:org/name"], "or a repository in the cache of huggingface_hub, found neither "),
    "weights": (
        ["hf:tiny-vit", "--weights", "weights.pt"],
        "expected no --weights with hf:tiny-vit, which has its own",
    ),
    "a stem": (["hf:tiny-vit", "--set", "model.stem=small"], "expected no model.stem with hf:tiny-vit"),
    "input of others": (["unet", "--set", "model.input=none"], "expected no model.input with unet"),
    "input of timm": (["hf:tiny-vit", "--set", "model.input=timm"], "expected model.input auto or none with a folder"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_there_is_one_line(
    what: str, folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    Path("weights.pt").write_bytes(b"x")
    words, says = REFUSED[what]
    out = said("probe", "--data", str(data), "--encoder", *words, code=1)
    assert says in " ".join(out.split())
    assert not Path("runs").exists()


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A stand-in on loopback for the server that huggingface_hub asks; the paths that it was asked for."""
    asked: list[str] = []
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"much text"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            name = self.path.rpartition("/")[2]
            if re.match(rf"/api/models/org/tiny/revision/(main|v1|{COMMIT})", self.path):
                body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]})
                return self.answer(body.encode())
            if self.path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
                tree = [{"type": "file", "path": n, "size": len(f), "oid": "0" * 40} for n, f in files.items()]
                return self.answer(json.dumps(tree).encode())
            if self.path.startswith(f"/org/tiny/resolve/{COMMIT}/") and name in files:
                return self.answer(files[name])
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{hash(body) & 0xFFFFFFFF:x}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    import huggingface_hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    there = partial(huggingface_hub.snapshot_download, endpoint=endpoint, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there)
    yield asked
    server.shutdown()
    server.server_close()


def test_a_repository_is_fetched_by_revision_and_only_when_it_is_allowed(
    hub: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["probe", "--data", str(data), "--no-baselines", "--encoder", "hf:org/tiny@v1"]
    out = said(*words, code=1)
    assert "type: --encoder hf:org/tiny@v1 --allow-download" in " ".join(out.split())
    assert hub == []
    out = said(*words, "--allow-download")
    assert f"repository: hf:org/tiny@v1, revision {COMMIT}" in out
    assert not any("README" in path for path in hub), "only what is needed"
    run = json.loads(Path("runs/tiny@v1-shapes/run.json").read_text())
    assert run["weights"]["revision"] == COMMIT
    asked = len(hub)
    said(*words)  # from the cache
    assert len(hub) == asked
    with pytest.raises(ValueError, match="expected the repository org/other at its newest revision, found: "):
        probekit.load("hf:org/other", allow_download=True)


def test_a_pre_activated_cifar_resnet_is_taken_without_its_last_norm(tmp_path: Path) -> None:
    """The stem is small, and a line says both; the reference is written out."""
    model = drawn(PreActResNet18())
    torch.save({"net": model.state_dict()}, tmp_path / "ckpt.pth")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    asked = Outside("timm:resnetv2_18", tmp_path / "ckpt.pth", normalise="none")
    made = make_encoder(asked, x)
    with torch.no_grad():
        torch.testing.assert_close(made.encoder.eval()(x).map, model(x), rtol=1e-4, atol=1e-4)
    assert any("the norm after the last block of timm:resnetv2_18 is left out" in line for line in made.lines)
    assert any("model.stem=small" in line for line in made.lines)
    assert build_encoder(made.encoder.spec).spec == made.encoder.spec
