"""Folders of weights with a description: what they say, and what is said of half ones.

Alone: pytest tests/models/test_snapshot.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from probekit.models import Encoder
from probekit.models.described import Config, network_of
from probekit.models.snapshot import expected_in, network_in, weights_in
from probekit.models.weights import load_weights
from tests.models.foreign.base import SIDE, VIT, folder_of_safetensors, model_of_timm, renamed

pytest.importorskip("timm")
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
OPEN_CLIP: dict[str, Any] = {
    "model_cfg": {
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "mlp_ratio": 2.0,
        },
    },
    "preprocess_cfg": {**HALF, "interpolation": "bicubic", "resize_mode": "squash"},
}


def of_timm(folder: Path) -> Path:
    """As timm's repositories are: a name, numbers that are others, what its weights expect."""
    model = model_of_timm("vit_base_patch16_224", VIT)
    about = {**HALF, "input_size": [3, SIDE, SIDE], "crop_pct": 0.8, "interpolation": "bilinear"}
    config = {"architecture": "vit_base_patch16_224", "model_args": VIT, "pretrained_cfg": about}
    return folder_of_safetensors(folder, config, model.state_dict())


def features(folder: Path) -> torch.Tensor:
    network = network_in(folder)
    encoder = Encoder(channels=3, pooling="gap", backbone=f"timm:{network.name}", arguments=network.arguments).eval()
    match = load_weights(encoder, weights_in(folder))
    assert match.matched == match.total
    with torch.no_grad():
        found: torch.Tensor = encoder(torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))).pooled
    return found


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_parts_that_an_index_names_are_one_network(form: str, tmp_path: Path) -> None:
    whole = of_timm(tmp_path / "whole")
    tensors = weights_in(whole).tables[""]
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "config.json").write_text((whole / "config.json").read_text())
    name = "model" if form == "safetensors" else "pytorch_model"
    places: dict[str, str] = {}
    for n, keys in enumerate((list(tensors)[::2], list(tensors)[1::2])):
        file = f"{name}-0000{n + 1}-of-00002.{form}"
        inner = {key: tensors[key] for key in keys}
        save_file(inner, parts / file) if form == "safetensors" else torch.save(inner, parts / file)
        places |= dict.fromkeys(keys, file)
    (parts / f"{name}.{form}.index.json").write_text(json.dumps({"weight_map": places}))
    assert torch.equal(features(parts), features(whole))
    assert weights_in(parts).sha256 != weights_in(whole).sha256


def test_what_timms_and_open_clips_repositories_say(tmp_path: Path) -> None:
    said = expected_in(of_timm(tmp_path / "timm"))
    assert said.normalise == HALF
    assert str(said.input) == "resized to a shorter side of 40 px (bilinear), of which the middle 32x32 is taken"
    folder = tmp_path / "clip"
    model = model_of_timm("vit_base_patch16_clip_224", {**VIT, "act_layer": "quick_gelu"})
    folder_of_safetensors(folder, {}, model.state_dict())
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))
    assert str(expected_in(folder).input) == "resized to 32x32 px (bicubic)"
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(features(folder), model.forward_features(x)[:, 1:].mean(1))


def test_a_wrapped_network_of_transformers_is_found(tmp_path: Path) -> None:
    """A classifier's file has the network under a name of its own."""
    whole = of_timm(tmp_path / "a")
    state = renamed(weights_in(whole).tables[""], prefix="vit.") | {"classifier.weight": torch.rand(2, 32)}
    other = folder_of_safetensors(tmp_path / "b", json.loads((whole / "config.json").read_text()), state)
    assert torch.equal(features(other), features(whole))


def emptied(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def indexed(**places: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))

    return change


def described(config: Any) -> Callable[[Path], Any]:
    text = config if isinstance(config, str) else json.dumps(config)
    return lambda folder: (folder / "config.json").write_text(text)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def page(folder: Path) -> None:
    (folder / "model.safetensors").write_text("<html>401</html>")


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (emptied, r"expected model.safetensors or pytorch_model.bin in .*, found config.json; download"),
    "no description": (lambda folder: (folder / "config.json").unlink(), "expected config.json in .*, found none; "),
    "half a file": (cut, "expected a whole safetensors file"),
    "a web page": (page, "found a web page: the download answered with text"),
    "an absent part": (indexed(a="model-1.safetensors"), r"expected model-1.safetensors in .*, found none; download"),
    "a part elsewhere": (indexed(a="../part.safetensors"), "expected names of files in .*, found ../part.saf"),
    "an absent tensor": (indexed(nowhere="part.safetensors"), "expected all tensors that .* found none .* nowhere"),
    "no index": (indexed(), "expected a weight_map from tensors to files"),
    "a text model": (described({"model_type": "bert"}), "expected model_type one of vit, .*, found 'bert'; for an"),
    "a list of types": (described({"model_type": ["vit"]}), r"expected model_type one of vit, .*, found \['vit'\]"),
    "a list of activations": (described({"model_type": "vit", "hidden_act": ["gelu"]}), "one of gelu, .* hidden_act"),
    "nothing said": (described({}), "expected model_type one of vit, .*, found None"),
    "no JSON": (described("<html>"), "expected JSON in .*config.json, found: "),
    "a list": (described([1]), "expected a JSON object in .*, found list"),
    "no width": (described({"model_type": "vit", "hidden_size": "wide"}), "whole number of 1 or more for hidden_size"),
    "another activation": (described({"model_type": "vit", "hidden_act": "mish"}), "one of gelu, .* for hidden_act"),
    "unknown numbers": (
        described({"architecture": "vit_base_patch16_224", "model_args": {"checkpoint_path": "x.pt"}}),
        "expected arguments of timm's models among .*, found checkpoint_path",
    ),
    "no model of timm": (described({"architecture": "vit_bsae"}), "unknown model of timm 'vit_bsae'"),
    "impossible numbers": (
        described({"model_type": "vit", "hidden_size": 30, "num_attention_heads": 7}),
        "expected a model of timm vit_base_patch16_224 with .*, found",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_half_and_odd_folders_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    folder = of_timm(tmp_path / "folder")
    change, says = BROKEN[what]
    change(folder)
    with pytest.raises(ValueError, match=says) as caught:
        features(folder)
    assert "\n" not in str(caught.value)


def test_numbers_that_transformers_takes_for_granted() -> None:
    """A config.json may lack them; the sizes are those of the published base models."""
    for kind, width, patch in (("vit", 768, 16), ("clip", 768, 32), ("siglip", 768, 16), ("dinov3_vit", 384, 16)):
        network = network_of(Config({"model_type": kind, "vision_config": {}}, "config.json"))
        assert (network.arguments["embed_dim"], network.arguments["patch_size"]) == (width, patch)
    arguments = network_of(Config({"model_type": "clip"}, "")).arguments
    assert (arguments["act_layer"], arguments["layer_norm_eps"]) == ("quick_gelu", 1e-5)
