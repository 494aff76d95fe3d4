"""Weights of other projects: every key style is written here as that project writes it, and read back.

The oracle is torchvision: the same weights give the same features in our encoder as in its own model.

Alone: pytest tests/models/test_weights.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from probekit.models import Encoder, save_encoder
from probekit.models.backbones import IMAGENET
from probekit.models.checkpoint import Checkpoint, read_checkpoint, unwrapped
from probekit.models.outside import make_outside
from probekit.models.weights import Match, default_normalise, load_weights, reshaped
from probekit.restore.around import around
from tests.datasets import ABOUT

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
    save_encoder(tmp_path / "encoder.safetensors", source, ABOUT)
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


def without(part: str) -> Callable[[State], State]:
    return lambda tensors: {key: value for key, value in tensors.items() if part not in key}


LACKING: dict[str, tuple[str, Callable[[State], State], list[str]]] = {
    "a block": ("timm:test_vit", without("blocks.5"), ["missing: blocks.5.norm1.weight"]),
    "the class token": ("timm:test_vit", without("cls_token"), ["missing: cls_token;"]),
    "a stage": ("timm:test_resnet", without("layer4"), ["missing: layer4.0.conv1.weight"]),
    "one bias": ("timm:test_resnet", without("bn1.bias"), ["missing: bn1.bias"]),
    "a mean": ("timm:test_resnet", without("bn1.running_mean"), ["missing: bn1.running_mean"]),
    "4 channels": (
        "timm:test_resnet",
        lambda s: {**s, "conv1.0.weight": torch.rand(s["conv1.0.weight"].shape[0], 4, 3, 3)},
        ["of another shape: conv1.0.weight", "x4x3x3 for"],
    ),
}


@pytest.mark.parametrize("what", LACKING)
def test_weights_are_whole_or_refused(what: str, tmp_path: Path) -> None:
    """And what stays random is counted."""
    name, cut, says = LACKING[what]
    source, into = encoder(name), encoder(name, seed=2)
    whole = state(source)
    torch.save(cut(whole), tmp_path / "cut.pt")
    before = {key: value.clone() for key, value in into.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"found \d+ of its \d+ tensors; .*; to take the rest, type: --allow-missing$"
    ) as e:
        load(tmp_path / "cut.pt", into)
    assert all(text in str(e.value) for text in says)
    assert "\n" not in str(e.value)
    assert all(torch.equal(value, before[key]) for key, value in into.state_dict().items())
    match = load(tmp_path / "cut.pt", into, allow_missing=True)
    random = {key for key in whole if key in into.backbone.model.state_dict() and whole[key].is_floating_point()}
    random = {key for key in random if not torch.equal(into.backbone.model.state_dict()[key], whole[key])}
    lacking = [*match.missing, *(line.partition(" ")[0] for line in match.misshapen)]
    assert random <= set(lacking)  # zeros and ones are what an initialisation gives, too
    assert len(lacking) == match.total - match.matched
    assert match.mark == f"{len(lacking)} tensor{'s' * (len(lacking) > 1)} random" == match.as_dict()["mark"]
    assert match.mark in match.lines()[0]


def test_counters_and_tables_of_positions_are_not_learnt(tmp_path: Path) -> None:
    """Older files lack the one, and hold the other."""
    tensors = {k: v for k, v in state(encoder()).items() if not k.endswith("num_batches_tracked")}
    torch.save({**tensors, "layer1.0.relative_position_index": torch.arange(4)}, tmp_path / "old.pt")
    match = load(tmp_path / "old.pt", encoder(seed=2))
    assert (match.matched, match.mark) == (match.total, "")


@pytest.mark.parametrize(
    ("target", "lacking"),
    [
        ("timm:resnet34", "layer1.2.conv1.weight"),
        ("timm:resnet50", "layer1.0.bn3.weight"),
        ("unet", "levels.0.0.0.weight"),
    ],
)
def test_another_network_is_refused(target: str, lacking: str, tmp_path: Path) -> None:
    torch.save(state(encoder("timm:resnet18")), tmp_path / "resnet18.pt")
    into = encoder(target)
    with pytest.raises(ValueError, match=r"^expected weights of .* tensors; missing: ") as caught:
        load(tmp_path / "resnet18.pt", into)
    assert lacking in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("--allow-missing" in str(caught.value)) == (target != "unet")  # of which it has nothing


def test_a_larger_network_is_refused_too(tmp_path: Path) -> None:
    """All of resnet18's names stand in resnet34, in the same shapes; one block more is another network."""
    tensors = state(encoder())
    more = {key.replace("layer4.0", "layer4.1"): value for key, value in tensors.items() if "layer4.0.bn1" in key}
    torch.save({**tensors, **more}, tmp_path / "larger.pt")
    with pytest.raises(ValueError, match=r"those of another network, which also has layer4\.1\.bn1\.weight,"):
        load(tmp_path / "larger.pt", encoder())
    assert load(tmp_path / "larger.pt", encoder(seed=2), allow_missing=True).mark == ""


# Where the authors evaluate one of two networks in their file, that one; else the one that is trained.
TWINS = {
    "DINO, iBOT, DINOv2": ("teacher.backbone", "student.module.backbone"),
    "I-JEPA, MSN": ("target_encoder.module", "encoder.module"),
    "ConvNeXt, DeiT": ("model_ema", "model"),
    "timm": ("state_dict_ema", "state_dict"),
    "MoCo v1, v2": ("state_dict.module.encoder_q", "state_dict.module.encoder_k"),
    "MoCo v3": ("state_dict.module.base_encoder", "state_dict.module.momentum_encoder"),
    "BYOL": ("online_network", "target_network"),
    "lightly": ("state_dict.backbone", "state_dict.backbone_momentum"),
    "solo-learn": ("state_dict.backbone", "state_dict.momentum_backbone"),
}


@pytest.mark.parametrize("project", TWINS)
@pytest.mark.parametrize("order", [1, -1])
def test_of_two_networks_the_one_that_its_authors_evaluate(project: str, order: int, tmp_path: Path) -> None:
    """The line names the other, and FILE:KEY takes it."""
    first, second = encoder(seed=1), encoder(seed=2)
    tree: dict[str, Any] = {}
    for place, source in list(zip(TWINS[project], (first, second), strict=True))[::order]:
        root, _, prefix = place.partition(".")
        tree.setdefault(root, {}).update(prefixed(source.backbone.model.state_dict(), f"{prefix}." if prefix else ""))
    path, x = tmp_path / "twins.pt", torch.rand(1, 3, 64, 64)
    torch.save(tree, path)
    into = encoder(seed=3)
    match = load(path, into)
    assert torch.equal(into(x).pooled, first(x).pooled)
    other = TWINS[project][1].replace("module.", "").removesuffix(".module")
    assert match.others == [other]
    assert f"as many stand under {other}: {path}:{other} takes those" in match.lines()[1]
    for key in (other, TWINS[project][1]):
        load(Path(f"{path}:{key}"), into)
        assert torch.equal(into(x).pooled, second(x).pooled)
    with pytest.raises(ValueError, match=r"expected weights under 'nobody' .*; \S+ takes those$") as caught:
        load(Path(f"{path}:nobody"), into)
    load(Path(str(caught.value).removesuffix(" takes those").rpartition("; ")[2]), into)


def test_one_network_at_the_top_and_one_below(tmp_path: Path) -> None:
    """The top level has no name: its key is empty."""
    first, second = encoder(seed=1), encoder(seed=2)
    torch.save({**first.backbone.model.state_dict(), "ema": second.backbone.model.state_dict()}, tmp_path / "a.pt")
    into, x = encoder(seed=3), torch.rand(1, 3, 64, 64)
    assert load(tmp_path / "a.pt", into).others == ["ema"]
    assert torch.equal(into(x).pooled, first(x).pooled)
    assert load(Path(f"{tmp_path}/a.pt:ema"), into).others == [""]
    assert torch.equal(into(x).pooled, second(x).pooled)
    load(Path(f"{tmp_path}/a.pt:"), into)
    assert torch.equal(into(x).pooled, first(x).pooled)


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_are_left_out_wherever_they_stand(wrapper: str, tmp_path: Path) -> None:
    """As torch's own parallel, compiled, sharded and checkpointed modules name what is in them."""
    source, into = encoder(), encoder(seed=2)
    inside = {key.replace("2.", f"2.{wrapper}."): value for key, value in source.backbone.model.state_dict().items()}
    torch.save({"state_dict": prefixed(inside, f"{wrapper}.backbone.")}, tmp_path / "wrapped.pt")
    match = load(tmp_path / "wrapped.pt", into)
    assert (match.matched, match.where) == (match.total, "state_dict: backbone.")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(into(x).pooled, source(x).pooled)


def test_a_name_that_would_fill_the_screen_is_cut(tmp_path: Path) -> None:
    """Before the weights, in another place that has as many, and of what is not used."""
    source = encoder(seed=2)
    first, second = ({f"{c * 10_000}.{name}": tensor for name, tensor in state(source).items()} for c in "ab")
    torch.save({**first, **second, "c" * 10_000: torch.ones(1)}, tmp_path / "a.pt")
    match = load(tmp_path / "a.pt", encoder())
    assert match.matched == match.total
    assert len(match.lines()) == 3
    assert max(map(len, match.lines())) < 500


def test_names_that_would_become_one_stay() -> None:
    assert unwrapped({"a.module.b": 1, "a.b": 2}) == {"a.module.b": 1, "a.b": 2}


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    tensors = state(encoder())
    tensors["bn1.weight"] = torch.full_like(tensors["bn1.weight"], torch.nan)
    torch.save(tensors, tmp_path / "nan.pt")
    with pytest.raises(
        ValueError, match=r"expected finite weights in .*, found others in bn1.weight|backbone.model.bn1"
    ):
        load(tmp_path / "nan.pt", encoder())


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    tensors = state(encoder(seed=0))
    tensors["layer1.0.conv1.weight"] = tensors["layer1.0.conv1.weight"].to(kind)
    torch.save(tensors, tmp_path / "a.pt")
    name = str(kind).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"of another shape: \S*layer1\.0\.conv1\.weight \({name} for float32\)"):
        load(tmp_path / "a.pt", encoder())


def test_half_precision_is_taken(tmp_path: Path) -> None:
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in state(encoder(seed=0)).items()}
    torch.save(tensors, tmp_path / "a.pt")
    into = encoder()
    assert load(tmp_path / "a.pt", into).mark == ""
    assert torch.equal(into.backbone.model.bn1.weight, tensors["bn1.weight"].float())


def test_damage_of_our_own_file_is_found_on_this_way_too(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, encoder("unet"), ABOUT)
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="found other bytes: it is damaged"):
        read_checkpoint(path)


def test_what_images_the_weights_expect(tmp_path: Path) -> None:
    """[0, 1] for our own, ImageNet's mean and deviation for those of three channels."""

    def held(channels: int, spec: dict[str, Any] | None = None) -> Checkpoint:
        return Checkpoint(tmp_path, {"": {"conv1.weight": torch.rand(4, channels, 3, 3)}}, spec)

    name = "timm:vit_small_patch16_224"
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert default_normalise(None, name) == "none"
    with pytest.raises(ValueError, match="the tag of the weights behind timm:vit_small_patch16_224"):
        default_normalise(held(3), name)
    assert default_normalise(held(3), f"{name}.dino") == "imagenet"
    assert default_normalise(held(3), f"{name}.augreg_in21k") == "timm"
    assert default_normalise(held(1), name) == "none"
    assert default_normalise(held(3, {"channels": 3}), name) == "none"
    assert default_normalise(held(3, {"channels": 3, "normalise": IMAGENET}), "unet") == "imagenet"
    swav = {"mean": [0.485, 0.456, 0.406], "std": [0.228, 0.224, 0.225]}
    assert default_normalise(held(3, {"channels": 3, "normalise": swav}), "unet") == "swav"
    assert default_normalise(held(3, {"channels": 3, "normalise": half}), name) == "timm"
    with pytest.raises(ValueError, match=r"found \{.mean.: .* type --set model.normalise=imagenet"):
        default_normalise(held(3, {"channels": 3, "normalise": half}), "timm:resnet18")


def test_what_has_no_weights_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "weightless.py").write_text("from torch import nn\ndef pool():\n    return nn.AvgPool2d(4)\n")
    torch.save(state(encoder()), tmp_path / "weights.pt")
    pooled = around(make_outside("py:weightless:pool"), "py:weightless:pool", torch.rand(2, 3, 16, 16), None)
    with pytest.raises(ValueError, match="expected an encoder with weights, found none in py:weightless:pool"):
        load(tmp_path / "weights.pt", pooled)


def test_complex_weights_fit_nowhere_and_8_bits_are_asked_too() -> None:
    wanted = torch.zeros(2, 3)
    assert reshaped(torch.zeros(2, 3, dtype=torch.complex64), wanted) == (None, "complex numbers")
    assert reshaped(torch.zeros(2, 3, dtype=torch.float8_e4m3fn), wanted)[1] == ""
