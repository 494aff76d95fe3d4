"""Backbones under the names of other libraries, loaded there: torchvision, timm, and a resnet as detectron2 builds it.

Alone: pytest tests/share/test_named.py
"""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probekit.data.split import CPU
from probekit.models import Encoder
from probekit.models.backbones import import_module, import_timm
from probekit.models.layout import Layout
from probekit.restore.opened import Opened
from probekit.share import to_detectron2, to_timm, to_torchvision
from probekit.share.to_torchvision import MODELS
from tests.models.foreign.base import drawn

BLOCK = re.compile(r"```python\n(.+?)```", re.DOTALL)
NORMALISE = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}


def opened(backbone: str, *, channels: int = 3, size: int = 32, **more: Any) -> Opened:
    """All its numbers drawn so that each of them counts."""
    normalise = {key: values[:channels] for key, values in NORMALISE.items()}
    encoder = Encoder(**{"pooling": "gap", "channels": channels, "backbone": backbone, "normalise": normalise, **more})
    drawn(encoder.backbone)
    header = {"spec": encoder.spec, "image_size": [size, size], "max_size": 1024, "method": "x", "epoch": 0}
    return Opened("mine", encoder, header, CPU)


def ran(usage: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a card's code makes."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    [block] = BLOCK.findall(usage)
    exec(block, names)
    return names


def same(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest value."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def features(encoder: Encoder, image: Tensor) -> Any:
    with torch.no_grad():
        return encoder(image)


def unnormalised(names: dict[str, Any]) -> Tensor:
    """The image of a card's code before it was normalised."""
    image: Tensor = names["image"] * names["std"] + names["mean"]
    return image


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", 3), ("resnet50", 1), ("resnext50_32x4d", 3), ("densenet121", 1)],
)
def test_torchvision_gives_the_same_features(
    name: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = opened(f"timm:{name}", channels=channels)
    written = to_torchvision.write(ours, tmp_path)
    assert ("one channel is spread over three" in written.about) == (channels == 1)
    names = ran(written.usage, tmp_path, monkeypatch)
    image = unnormalised(names)
    if channels == 1:  # grey, three times
        image = image[:, :1]
        names["image"] = ((image - names["mean"][:, :1]) / names["std"][:, :1]).expand(-1, 3, -1, -1)
        exec("\n".join(BLOCK.findall(written.usage)[0].splitlines()[-2:]), names)
    found = features(ours.encoder, image)
    same(names["feature_map"], found.map)
    same(names["embedding"], found.pooled)


def test_torchvisions_transformer_takes_the_runs_size_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small one under the name of a large one, whose positions are for images of 224 px."""
    import_timm()
    models = import_module("torchvision.models")
    create = import_timm().create_model
    monkeypatch.setattr(import_timm(), "create_model", lambda name, **given: create(name, **{**VIT, **given}))

    def small(*, image_size: int) -> Any:
        return models.VisionTransformer(image_size, 16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)

    monkeypatch.setattr(models, "vit_b_16", small)
    ours = opened("timm:vit_base_patch16_224", size=64)
    written = to_torchvision.write(ours, tmp_path)
    names = ran(written.usage, tmp_path, monkeypatch)
    found = features(ours.encoder, unnormalised(names))
    same(names["feature_map"], found.map.flatten(2).transpose(1, 2))
    same(names["embedding"], found.pooled)
    ours.header["image_size"] = [64, 32]  # type: ignore[index]
    with pytest.raises(ValueError, match="expected square images for torchvision's transformers, found 64x32"):
        to_torchvision.write(ours, tmp_path)


def test_torchvisions_convnext_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_timm()
    models, module = import_module("torchvision.models"), import_module("torchvision.models.convnext")
    create, small = import_timm().create_model, {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)}
    monkeypatch.setattr(import_timm(), "create_model", lambda name, **given: create(name, **{**small, **given}))
    blocks = [
        module.CNBlockConfig(width, wider, depth)
        for width, wider, depth in zip(small["dims"], (*small["dims"][1:], None), small["depths"], strict=True)
    ]
    monkeypatch.setattr(models, "convnext_tiny", lambda: module.ConvNeXt(blocks))
    ours = opened("timm:convnext_tiny")
    names = ran(to_torchvision.write(ours, tmp_path).usage, tmp_path, monkeypatch)
    found = features(ours.encoder, unnormalised(names))
    same(names["feature_map"], found.map)
    same(names["embedding"], found.pooled)


@pytest.mark.parametrize("name", MODELS)
def test_torchvision_has_each_network_of_the_table(name: str) -> None:
    """Names and shapes alone, also of those that a test cannot hold; both are made without memory."""
    timm, models = import_timm(), import_module("torchvision.models")
    assert timm.is_model(name)
    assert hasattr(models, MODELS[name])
    with torch.device("meta"):
        theirs = getattr(models, MODELS[name])().state_dict()
        state = timm.create_model(name, num_classes=0).state_dict()
    rules = to_torchvision.RULES.get(to_torchvision._family(name), {})
    own = Layout("torchvision", name, rules).renamed(state)
    left = {key for key in theirs if key not in own}
    assert all(key.startswith(to_torchvision.HEADS) for key in left)
    assert all(theirs[key].numel() == own[key].numel() for key in theirs.keys() - left)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("resnet18", {}),
        ("vit_small_patch16_224", {"arguments": {**VIT, "layer_norm_eps": 1e-3}}),
        ("resnetv2_18", {"arguments": {"without": ["norm"], "layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}}),
    ],
)
def test_timm_gives_the_same_features(
    name: str, more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_timm()
    ours = opened(f"timm:{name}", **more)
    written = to_timm.write(ours, tmp_path)
    names = ran(written.usage, tmp_path, monkeypatch)
    same(names["embedding"], features(ours.encoder, unnormalised(names)).pooled)
    assert "<All keys matched successfully>" in capsys.readouterr().out


class Conv(nn.Conv2d):
    """As detectron2's own: a convolution that holds its norm."""

    def __init__(self, before: int, after: int, size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(before, after, size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Of two or three convolutions; STRIDE_IN_1X1 False: the 3x3 strides."""

    def __init__(self, before: int, inner: int, after: int, stride: int, *, deep: bool) -> None:
        super().__init__()
        if deep:
            self.conv1 = Conv(before, inner, 1)
            self.conv2 = Conv(inner, inner, 3, stride=stride, padding=1)
            self.conv3 = Conv(inner, after, 1)
        else:
            self.conv1 = Conv(before, after, 3, stride=stride, padding=1)
            self.conv2 = Conv(after, after, 3, padding=1)
        self.shortcut = Conv(before, after, 1, stride=stride) if before != after else None
        self.deep = deep

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv2(torch.relu(self.conv1(x)))
        found = self.conv3(torch.relu(found)) if self.deep else found
        return torch.relu(found + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    """What makes 64 channels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(3, 64, 7, stride=2, padding=3)


class ResNet(nn.Module):
    """`stem`, `res2` to `res5`, as detectron2's modeling/backbone/resnet.py names them."""

    def __init__(self, counts: list[int], *, deep: bool) -> None:
        super().__init__()
        self.stem = Stem()
        before = 64
        for stage, count in enumerate(counts):
            after = 64 * 2**stage * (4 if deep else 1)
            blocks = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                blocks.append(Block(before, 64 * 2**stage, after, stride, deep=deep))
                before = after
            setattr(self, f"res{stage + 2}", nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.stem.conv1(image)), 3, 2, 1)
        for stage in ("res2", "res3", "res4", "res5"):
            x = self.get_submodule(stage)(x)
        return x


@pytest.mark.parametrize(("name", "counts", "channels"), [("resnet18", [2, 2, 2, 2], 3), ("resnet50", [3, 4, 6, 3], 1)])
def test_detectron2s_resnet_gives_the_same_features(
    name: str, counts: list[int], channels: int, tmp_path: Path
) -> None:
    ours = opened(f"timm:{name}", channels=channels)
    written = to_detectron2.write(ours, tmp_path)
    content = pickle.loads((tmp_path / to_detectron2.NAME).read_bytes())
    assert content["matching_heuristics"] is True
    assert {type(value) for value in content["model"].values()} == {np.ndarray}
    network = ResNet(counts, deep=name == "resnet50")
    state = {key: torch.from_numpy(value) for key, value in content["model"].items()}
    kept = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    assert state.keys() == kept
    network.load_state_dict(state, strict=False)
    yaml = dict(re.findall(r"(\w+): (.+)", written.usage))
    mean, std = (torch.tensor(eval(yaml[f"PIXEL_{key}"])).view(1, 3, 1, 1) for key in ("MEAN", "STD"))
    image = torch.rand(2, channels, 32, 32)
    rgb = 255 * image.expand(-1, 3, -1, -1)
    with torch.no_grad():
        same(network.eval()((rgb - mean) / std), features(ours.encoder, image).map)
    assert (yaml["DEPTH"], yaml["STRIDE_IN_1X1"], yaml["FORMAT"]) == (name.removeprefix("resnet"), "False", '"RGB"')
    assert ("RES2_OUT_CHANNELS" in yaml) == (name == "resnet18")


def test_what_a_library_lacks_is_refused_in_one_line(tmp_path: Path) -> None:
    small, unet = opened("timm:resnet18", stem="small"), opened("unet", width=4, depth=2)
    for library, write in {"torchvision": to_torchvision, "timm": to_timm, "detectron2": to_detectron2}.items():
        with pytest.raises(ValueError, match=f"expected the stem that {library} has, found model.stem=small"):
            write.write(small, tmp_path)
        with pytest.raises(ValueError, match=f"for --to {library}, found the U-Net, which no other library has"):
            write.write(unet, tmp_path)
    other = opened("timm:resnet18", arguments={"layers": [1, 1, 1, 1]})
    for named in (to_torchvision, to_detectron2):
        with pytest.raises(ValueError, match=r"found timm:resnet18 of other numbers \(layers\); type: --to timm"):
            named.write(other, tmp_path)
    with pytest.raises(ValueError, match=r"expected a backbone that detectron2 has .+ found timm:densenet121"):
        to_detectron2.write(opened("timm:densenet121"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_attention_that_pools_is_said_to_be_left_out(tmp_path: Path) -> None:
    ours = opened("timm:resnet18")
    ours.encoder.spec["pooling"] = "attention"
    for named in (to_torchvision, to_timm, to_detectron2):
        written = named.write(ours, tmp_path)
        assert "the attention that pools its map is left out" in written.about
        assert "embedding =" not in written.usage
