"""`probekit.load`: runs, encoders of timm, the user's own modules. Alone: pytest tests/restore/test_load.py."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import probekit
from probekit.h5 import read_info, read_split
from probekit.models import Features
from probekit.restore.load import adopt_alone
from probekit.restore.outside import Outside
from probekit.weights import LAST
from tests.datasets import small_shapes
from tests.typed import typed


class Tiny(nn.Module):
    """A map whose embedding is its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 6, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "d.h5"
    small_shapes(path, n=12, n_test=6, size=16)
    return path


def test_a_module_of_three_channels_is_given_the_one_of_grey_images_in_each(data: Path) -> None:
    """As one of one channel whose weights are the sums; also with other weights, and with a mean of one channel."""
    colour, grey, info = nn.Conv2d(3, 6, 4, 4, bias=False), nn.Conv2d(1, 6, 4, 4, bias=False), read_info(data)
    with torch.no_grad():
        grey.weight.copy_(colour.weight.sum(1, keepdim=True))
    for normalise in ("none", "imagenet"):
        named: dict[str, Any] = {"channels": 1, "size": 16, "normalise": normalise, "device": "cpu"}
        ours, theirs = (probekit.load(module, **named) for module in (colour, grey))
        np.testing.assert_allclose(ours.embed(info, "test"), theirs.embed(info, "test"), rtol=1e-4, atol=1e-5)
        assert ours.random(0).encoder.spec["thrice"] is True
        assert "thrice" not in theirs.encoder.spec
    with pytest.raises(ValueError, match=r"Conv2d fails on images \[2, 1, 16, 16\]"):
        probekit.load(nn.Conv2d(2, 6, 4, 4), channels=1, size=16, normalise="none", device="cpu")


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.full((2, 16, 16), 0.5), "ndarray of float64 [2, 16, 16]"),
        (np.zeros((16, 16), np.uint8), "ndarray of uint8 [16, 16]"),
        ([[0] * 16] * 16, "list"),
        (torch.full((2, 1, 16, 16), torch.nan), "Tensor of float32 [2, 1, 16, 16]"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), "Tensor of uint8 [2, 1, 16, 16]"),
        (np.zeros((2, 16, 16, 3), np.uint8), "ndarray of uint8 [2, 16, 16, 3]"),
        (torch.zeros(2, 3, 16, 16), "Tensor of float32 [2, 3, 16, 16]"),
    ],
)
def test_images_that_would_give_other_numbers_are_one_line(images: Any, found: str) -> None:
    """Shares of 1 in an array would be taken for levels of 255, and all be black."""
    opened = probekit.load(Tiny(), channels=1, size=16, device="cpu")
    for read in (opened.embed, opened.map):
        with pytest.raises(ValueError, match=r"expected images (as an array of uint8|of 1 channels)") as caught:
            read(images)
        assert str(caught.value).endswith(f", found {found}")
    with pytest.raises(ValueError, match="fails on images of 0x16"):
        opened.embed(np.zeros((2, 0, 16), np.uint8))


@pytest.mark.parametrize("source", [3, None, [], Tiny, torch.zeros(3)])
def test_what_is_no_encoder_is_one_line(source: Any) -> None:
    with pytest.raises(ValueError, match=r"expected source of type str \\| Path \\| Module, found "):
        probekit.load(source)


def test_a_module_is_embedded_as_it_is_and_random_ones_are_others(data: Path) -> None:
    module, info = Tiny(), read_info(data)
    opened = probekit.load(module, channels=1, size=16, normalise="none", device="cpu")
    images = torch.from_numpy(read_split(data, "test").images)[:, None].float() / 255
    with torch.no_grad():
        maps = module(images)
    np.testing.assert_allclose(opened.embed(info, "test"), maps.mean((2, 3)), rtol=1e-5)
    torch.testing.assert_close(opened.map(read_split(data, "test").images), maps)
    assert (opened.row, opened.encoder.dim, opened.encoder.stride) == ("Tiny last", 6, 4)
    first, again, other = (opened.random(seed).embed(info, "test") for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first - opened.embed(info, "test")).max() > 0.01
    assert torch.equal(module.layer.weight, opened.encoder.backbone.module.layer.weight), "it is the user's own"
    assert module.training, "a copy of it"
    third = opened.random(0).random(1).embed(info, "test")
    np.testing.assert_array_equal(third, other)
    largest = probekit.load(module, channels=1, size=16, normalise="none", pool="max", device="cpu")
    np.testing.assert_allclose(largest.embed(info, "test"), maps.amax((2, 3)), rtol=1e-5)
    assert np.isfinite(largest.random(0).embed(info, "test")).all()


class Whole(Tiny):
    """The same, with features that it pools by itself."""

    def forward(self, x: Tensor) -> Features:  # type: ignore[override]
        found = self.layer(x).relu()
        return Features([found], found, found.mean((2, 3)), None)


def test_a_pooling_that_was_asked_for_is_taken_of_a_module_that_pools_by_itself(data: Path) -> None:
    named: dict[str, Any] = {"channels": 1, "size": 16, "normalise": "none", "device": "cpu"}
    module, info = Whole(), read_info(data)
    images = torch.from_numpy(read_split(data, "test").images)[:, None].float() / 255
    with torch.no_grad():
        maps = module(images).map
    for pool, expected in ((None, maps.mean((2, 3))), ("max", maps.amax((2, 3)))):
        np.testing.assert_allclose(probekit.load(module, pool=pool, **named).embed(info, "test"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        (Tiny(), {"checkpoint": "best_test"}, "expected a checkpoint of a run, found best_test"),
        (Tiny(), {"weights": "nosuch.pt"}, "expected weights and allow_missing for timm:NAME or unet"),
        ("a", {"weights": "nosuch.pt"}, "expected weights and allow_missing for timm:NAME or unet"),
        (Tiny(), {"settings": ["model.input=none"]}, "expected settings for an encoder by name"),
        ("a", {"settings": ["model.input=none"]}, "expected settings for an encoder by name"),
        ("a", {"normalise": "none"}, "expected normalise for an encoder from elsewhere"),
        ("timm:test_resnet", {"checkpoint": "best_val"}, "expected a checkpoint of a run, found best_val"),
    ],
)
def test_what_does_not_apply_is_refused(source: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        probekit.load(source, device="cpu", **options)


def test_an_encoder_of_timm_and_its_file_give_timms_features(data: Path, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    theirs: Any = timm.create_model("test_resnet", in_chans=1, num_classes=0).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    named: dict[str, Any] = {"channels": 1, "size": 32, "normalise": "none", "device": "cpu"}
    opened = probekit.load("timm:test_resnet", weights=tmp_path / "w.pth", **named)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    with torch.no_grad():
        features = theirs.forward_features(torch.from_numpy(images)[:, None].float() / 255)
    torch.testing.assert_close(opened.map(images), features, rtol=1e-4, atol=1e-5)
    assert len(opened.hash) == 64
    assert probekit.load("timm:test_resnet", **named).row == "timm:test_resnet (random weights) last"


def test_a_run_is_opened_as_the_commands_do(data: Path, tmp_path: Path) -> None:
    words = ("--epochs", "1", "--batch-size", "6", "--set", "model.width=2", "--name", "a")
    assert typed("pretrain", "simclr", "--data", str(data), *words, cwd=tmp_path).returncode == 0
    opened = probekit.load("a", runs=tmp_path / "runs", device="cpu")
    assert typed("export-embeddings", "a", cwd=tmp_path).returncode == 0
    with np.load(tmp_path / "runs/a/embeddings-last.npz") as file:
        np.testing.assert_array_equal(opened.embed(read_info(data), "test"), file["test/embeddings"])
    with pytest.raises(ValueError, match="unknown run 'b'; known: a"):
        probekit.load("b", runs=tmp_path / "runs")


def test_importing_probekit_leaves_torch_alone() -> None:
    check = "import sys, probekit; assert 'torch' not in sys.modules; probekit.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_hint_names_all_that_was_typed_of_an_encoder() -> None:
    asked = Outside("timm:resnet18", Path("w.pth"), "none", 0, True, ("model.stem=small",))
    words = "--encoder timm:resnet18 --weights w.pth --allow-missing --normalise none --set model.stem=small"
    assert asked.words == words.split()
    assert Outside("unet").words == ["--encoder", "unet"]


def test_the_same_encoder_is_imported_once(tmp_path: Path) -> None:
    """Another seed is another encoder, and another size of images tells other layers."""

    def kept(*, size: int = 32, seed: int = 0) -> str:
        asked = Outside("unet", seed=seed, settings=("model.width=4", "model.depth=2"))
        about: dict[str, Any] = {"measured": LAST, "device": "cpu", "runs": tmp_path, "console": Console(quiet=True)}
        return adopt_alone(asked, size=size, **about)

    first = kept()
    assert len({first, kept(), kept(seed=1), kept(size=64)}) == 3
    assert kept(size=64) != first == kept()
