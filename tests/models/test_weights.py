"""Weights of other projects: every key style is written here as that project writes it, and read back.

The oracle is torchvision: the same weights give the same features in our encoder as in its own model.

Alone: pytest tests/models/test_weights.py
"""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from probekit.commands.adopt import build_outside
from probekit.models import Encoder, save_encoder
from probekit.models.normalise import IMAGENET
from probekit.models.weights import Checkpoint, Match, default_normalise, load_weights, read_checkpoint

pytest.importorskip("timm")
State = dict[str, Tensor]


def encoder(name: str = "timm:test_resnet", *, channels: int = 3, seed: int = 1, **changes: Any) -> Encoder:
    torch.manual_seed(seed)
    size = {"width": 4, "depth": 3} if name == "unet" else {}
    return Encoder(channels=channels, backbone=name, **{"pooling": "gap", **size, **changes}).eval()


def state(built: Encoder) -> State:
    """The backbone's tensors under timm's own names, and a classifier that nobody asked for."""
    return {**built.backbone.model.state_dict(), "fc.weight": torch.ones(2, built.dim), "fc.bias": torch.ones(2)}


def load(path: Path, into: Encoder, **options: Any) -> Match:
    return load_weights(into, read_checkpoint(path), **options)


def prefixed(tensors: State, prefix: str) -> State:
    return {prefix + key: value for key, value in tensors.items()}


def with_others(prefix: str, *others: str) -> Callable[[State], Any]:
    """The weights under a prefix; under the others the same names with other numbers."""
    return lambda s: {**prefixed(s, prefix), **{k: v for o in others for k, v in prefixed(spoiled(s), o).items()}}


def spoiled(tensors: State) -> State:
    return {key: value + 1 for key, value in tensors.items()}


STYLES: dict[str, Callable[[State], Any]] = {
    "torchvision, timm": lambda s: s,
    "data parallel": lambda s: {"state_dict": prefixed(s, "module."), "epoch": 3},
    "moco v2": lambda s: {
        "state_dict": with_others("module.encoder_q.", "module.encoder_k.")(s) | {"module.queue": torch.ones(3, 4)},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
    },
    "moco v3": lambda s: {"state_dict": with_others("module.base_encoder.", "module.momentum_encoder.")(s)},
    "lightly": lambda s: {"state_dict": with_others("backbone.", "backbone_momentum.")(s)},
    "solo-learn": lambda s: {"state_dict": with_others("backbone.", "momentum_backbone.")(s)},
    "old solo-learn": lambda s: {"state_dict": prefixed(s, "encoder.")},
    "dino": lambda s: {
        "student": prefixed(spoiled(s), "module.backbone."),
        "teacher": prefixed(s, "backbone."),
        "args": argparse.Namespace(lr=1.0),
    },
    "vicreg, barlow twins": lambda s: {"model": prefixed(s, "module.backbone.")},
    "nobody's": lambda s: {"net": {"ema": prefixed(spoiled(s), "a.b."), "online": prefixed(s, "a.b.")}},
}


@pytest.mark.parametrize("form", [".pt", ".safetensors"])
@pytest.mark.parametrize("style", STYLES)
def test_every_key_style_is_read(style: str, form: str, tmp_path: Path) -> None:
    source, target = encoder(seed=1), encoder(seed=2)
    written, path = STYLES[style](state(source)), tmp_path / f"weights{form}"
    if form == ".pt":
        torch.save(written, path)
    else:
        tensors = next((part for part in (written, *written.values()) if _flat(part)), None)
        if tensors is None or style == "dino":
            return  # nested, which this format is not
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    match = load(path, target)
    assert (match.matched, match.missing, match.misshapen, match.changed) == (match.total, [], [], [])
    assert any("fc.weight" in name for name in match.unexpected)
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(target(x).pooled, source(x).pooled)
    assert f"{match.total} of {match.total} tensors" in match.lines()[0]


def _flat(part: Any) -> bool:
    return isinstance(part, dict) and all(isinstance(value, Tensor) for value in part.values())


def torchvision_models() -> Any:
    from torchvision import models

    return models


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("cut", [False, True])
def test_torchvisions_resnets_give_its_features(name: str, cut: bool, tmp_path: Path) -> None:
    """Whole, and as a Sequential of its children, as lightly's examples make a backbone."""
    torch.manual_seed(0)
    theirs = getattr(torchvision_models(), name)(weights=None)
    backbone = nn.Sequential(*list(theirs.children())[:-1])
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": {f"backbone.{k}": v for k, v in backbone.state_dict().items()}} if cut else theirs.state_dict(),
        path,
    )
    ours = encoder(f"timm:{name}")
    match = load(path, ours)
    assert match.matched == match.total
    assert match.unexpected == ([] if cut else ["fc.weight", "fc.bias"])
    x = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x).pooled, backbone.eval()(x).flatten(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["densenet121", "convnext_tiny", "vit"])
def test_torchvisions_other_families_give_its_features(name: str, tmp_path: Path) -> None:
    models = torchvision_models()
    torch.manual_seed(0)
    ours = encoder("timm:test_vit" if name == "vit" else f"timm:{name}")
    if name == "vit":  # as small as timm's
        theirs = models.VisionTransformer(160, 16, num_layers=6, num_heads=2, hidden_dim=64, mlp_dim=192).eval()
    else:
        theirs = getattr(models, name)(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    match = load(tmp_path / "weights.pth", ours)
    assert match.matched == match.total
    x = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        if name == "vit":
            tokens = theirs._process_input(x)
            expected = theirs.encoder(torch.cat([theirs.class_token, tokens], dim=1))[:, 1:].mean(1)
        else:
            expected = theirs.features(x)
            expected = (expected.relu() if name.startswith("dense") else expected).mean((2, 3))
        torch.testing.assert_close(ours(x).pooled, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["unet", "timm:test_resnet"])
def test_our_own_files(name: str, tmp_path: Path) -> None:
    """encoder.safetensors and last.pt, with their pooling."""
    source, target = encoder(name, pooling="attention"), encoder(name, pooling="attention", seed=2)
    other = encoder(name, pooling="attention", seed=3)
    save_encoder(tmp_path / "encoder.safetensors", source, {})
    method = {f"encoder.{key}": value for key, value in source.state_dict().items()}
    torch.save(
        {"method": method, "encoder_header": {"spec": source.spec}, "progress": {"epoch": 1}}, tmp_path / "last.pt"
    )
    x = torch.rand(1, 3, 64, 64)
    for path, into in ((tmp_path / "encoder.safetensors", target), (tmp_path / "last.pt", other)):
        match = load(path, into)
        assert match.matched == match.total
        assert torch.equal(into(x).pooled, source(x).pooled)
        assert read_checkpoint(path).spec == source.spec


def test_channels_of_the_first_convolution(tmp_path: Path) -> None:
    torch.save(state(encoder()), tmp_path / "rgb.pt")
    grey = encoder(channels=1, seed=2)
    match = load(tmp_path / "rgb.pt", grey)
    assert match.matched == match.total
    assert match.changed == ["conv1.0.weight: 3 channels summed to 1"]
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():  # a grey image is the same in all channels
        torch.testing.assert_close(grey(x).pooled, encoder()(x.expand(-1, 3, -1, -1)).pooled, atol=1e-5, rtol=1e-4)
        torch.save(state(grey), tmp_path / "grey.pt")
        back = encoder(seed=3)
        assert load(tmp_path / "grey.pt", back).changed == ["conv1.0.weight: 1 channel spread over 3"]
        torch.testing.assert_close(back(x.expand(-1, 3, -1, -1)).pooled, grey(x).pooled, atol=1e-5, rtol=1e-4)


def test_positions_of_another_grid_are_resampled(tmp_path: Path) -> None:
    tensors = state(encoder("timm:test_vit"))
    tensors["pos_embed"] = torch.rand(1, 1 + 36, 64)
    torch.save(tensors, tmp_path / "vit.pt")
    match = load(tmp_path / "vit.pt", encoder("timm:test_vit", seed=2))
    assert match.matched == match.total
    assert match.changed == ["pos_embed: positions resampled from 37 to 101"]


def test_a_small_stem_keeps_the_rest(tmp_path: Path) -> None:
    tensors = {k: v for k, v in state(encoder()).items() if not k.startswith("conv1.1")}
    torch.save(tensors, tmp_path / "weights.pt")
    small = encoder(stem="small", seed=2)
    match = load(tmp_path / "weights.pt", small)
    assert match.missing == ["conv1.weight"]
    assert 0.9 < match.matched / match.total < 1


@pytest.mark.parametrize(
    ("target", "lacking"),
    [
        ("timm:resnet34", "layer1.2.conv1.weight"),
        ("timm:resnet50", "layer1.0.bn3.weight"),
        ("unet", "levels.0.0.0.weight"),
    ],
)
def test_too_few_tensors_are_refused(target: str, lacking: str, tmp_path: Path) -> None:
    torch.save(state(encoder("timm:resnet18")), tmp_path / "resnet18.pt")
    into = encoder(target)
    before = {key: value.clone() for key, value in into.state_dict().items()}
    with pytest.raises(ValueError, match=r"^expected weights of .* tensors, fewer than 90%; lacking ") as caught:
        load(tmp_path / "resnet18.pt", into)
    assert lacking.split(".")[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in into.state_dict().items())


def test_a_larger_network_is_refused_too(tmp_path: Path) -> None:
    """All of resnet18's names stand in resnet34, in the same shapes."""
    torch.save(state(encoder("timm:resnet34")), tmp_path / "resnet34.pt")
    with pytest.raises(ValueError, match=r"those of a larger network, with 80 tensors more: layer1\.2\.conv1\.weight,"):
        load(tmp_path / "resnet34.pt", encoder("timm:resnet18"))


class Code:
    """What weights_only refuses to make."""


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = folder / "whole.pt"
    tensors = state(encoder())
    torch.save(tensors, whole)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "whole.safetensors")
    files = {
        "code": (folder / "code.pt", "needs code to be read .*Code.*is refused"),
        "a module": (folder / "module.pt", "needs code to be read .*Linear.*is refused"),
        "cut": (folder / "cut.pt", "expected a whole checkpoint"),
        "cut safetensors": (folder / "cut.safetensors", "expected a whole safetensors file"),
        "text": (folder / "text.pt", "expected a whole checkpoint"),
        "text, safetensors": (folder / "text.safetensors", "expected a whole safetensors file"),
        "empty": (folder / "empty.pt", "expected a whole checkpoint"),
        "pickle": (folder / "pickle.pt", "expected a whole checkpoint"),
        "no tensors": (folder / "none.pt", "expected tensors in .*found none"),
        "a list": (folder / "list.pt", "expected tensors in .*found none"),
        "a folder": (folder, "expected a file of weights"),
        "a run": (folder / "run", "found none but a folder; type: .*/run/encoder.safetensors"),
        "nothing": (folder / "nothing.pt", "expected a file of weights .*found none"),
    }
    files["a run"][0].mkdir()
    (files["a run"][0] / "encoder.safetensors").touch()
    torch.save({"state_dict": tensors, "callback": Code()}, files["code"][0])
    torch.save(nn.Linear(2, 2), files["a module"][0])
    files["cut"][0].write_bytes(whole.read_bytes()[:2000])
    files["cut safetensors"][0].write_bytes((folder / "whole.safetensors").read_bytes()[:-2000])
    for name in ("text", "text, safetensors"):
        files[name][0].write_text("hello, world\n" * 20)
    files["empty"][0].touch()
    files["pickle"][0].write_bytes(pickle.dumps({"a": 1}))
    torch.save({"epoch": 3}, files["no tensors"][0])
    torch.save([torch.ones(3)], files["a list"][0])
    return files


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    for name, (path, says) in broken_files(tmp_path).items():
        with pytest.raises(ValueError, match=says) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("header", ["[]", '{"spec": 3}', '{"spec": {}}'])
def test_headers_of_others_are_no_matter(tmp_path: Path, header: str) -> None:
    tensors = {key: value.contiguous() for key, value in state(encoder()).items()}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"probekit": header})
    torch.save({**tensors, "encoder_header": json.loads(header)}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        assert read_checkpoint(tmp_path / name).spec is None


def test_tensors_without_plain_values_are_not_taken(tmp_path: Path) -> None:
    torch.save({"sparse": torch.eye(2).to_sparse(), "shape": torch.empty(2, device="meta")}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"expected tensors in .*found none"):
        read_checkpoint(tmp_path / "a.pt")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    tensors = state(encoder())
    tensors["bn1.weight"] = torch.full_like(tensors["bn1.weight"], torch.nan)
    torch.save(tensors, tmp_path / "nan.pt")
    with pytest.raises(
        ValueError, match=r"expected finite weights in .*, found others in bn1.weight|backbone.model.bn1"
    ):
        load(tmp_path / "nan.pt", encoder())


def test_what_images_the_weights_expect(tmp_path: Path) -> None:
    """[0, 1] for our own, ImageNet's mean and deviation for those of three channels."""

    def held(channels: int, spec: dict[str, Any] | None = None) -> Checkpoint:
        return Checkpoint(tmp_path, {"": {"conv1.weight": torch.rand(4, channels, 3, 3)}}, spec)

    name = "timm:vit_small_patch16_224"
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert default_normalise(None, name) == "none"
    assert default_normalise(held(3), name) == "imagenet"
    assert default_normalise(held(1), name) == "none"
    assert default_normalise(held(3, {"channels": 3}), name) == "none"
    assert default_normalise(held(3, {"channels": 3, "normalise": IMAGENET}), "unet") == "imagenet"
    assert default_normalise(held(3, {"channels": 3, "normalise": half}), name) == "timm"
    with pytest.raises(ValueError, match=r"found \{.mean.: .* type the nearest: --set model.normalise"):
        default_normalise(held(3, {"channels": 3, "normalise": half}), "timm:resnet18")


def test_what_has_no_weights_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "weightless.py").write_text("from torch import nn\ndef pool():\n    return nn.AvgPool2d(4)\n")
    torch.save(state(encoder()), tmp_path / "weights.pt")
    pooled = build_outside("py:weightless:pool", torch.rand(2, 3, 16, 16), None)
    with pytest.raises(ValueError, match="expected an encoder with weights, found none in py:weightless:pool"):
        load(tmp_path / "weights.pt", pooled)
