"""Networks of other projects' own code: torchvision, transformers, open_clip, and one that is written out."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.models.backbones import import_module, import_timm
from probekit.models.snapshot import network_in
from tests.models.foreign.base import CONVNEXT, SIDE, VIT, Case, as_map, drawn, renamed

HF: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
HF_CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}


def transformers() -> Any:
    import_timm()  # torchvision's operators are declared by the way
    return import_module("transformers")


def of_hugging_face(
    config: str, model: str, settings: Mapping[str, Any], features: Callable[[Any, Tensor], Tensor]
) -> Callable[[Path], Case]:
    """A folder as transformers writes it, of a model with numbers drawn at random."""

    def make(folder: Path) -> Case:
        library = transformers()
        theirs = drawn(getattr(library, model)(getattr(library, config)(**settings)))
        theirs.save_pretrained(folder)
        network = network_in(folder)
        encoder = {"backbone": f"timm:{network.name}", "arguments": network.arguments}
        return Case(folder, encoder, lambda x: features(theirs, x))

    return make


def last(prefix: int) -> Callable[[Any, Tensor], Tensor]:
    """The patches of what a model gives, whose first tokens are others."""
    return lambda model, x: as_map(model(pixel_values=x).last_hidden_state, prefix)


def tower(model: Any, x: Tensor) -> Tensor:
    """CLIP normalises the class token alone; timm all tokens."""
    vision = getattr(model, "vision_model", model)
    return as_map(vision.post_layernorm(model(pixel_values=x).last_hidden_state), 1)


def last_map(model: Any, x: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=x).last_hidden_state
    return found


def last_stage(model: Any, x: Tensor) -> Tensor:
    """The last of all hidden states: what the final norm, after the average with us, is to be applied to."""
    found: Tensor = model(pixel_values=x, output_hidden_states=True).hidden_states[-1]
    return found


def unshuffled(model: Any, x: Tensor) -> Tensor:
    """ViT-MAE shuffles its patches; with an order that is given, it does not."""
    noise = torch.arange(16.0).expand(len(x), -1)
    return as_map(model(pixel_values=x, noise=noise).last_hidden_state, 1)


def open_clip_vit(*, quick: bool, scripted: bool = False) -> Callable[[Path], Case]:
    """open_clip's own transformer; OpenAI's is the same, and published as TorchScript, in half precision."""

    def make(folder: Path) -> Case:
        import_timm()
        library = import_module("open_clip.transformer")
        act = {"act_layer": library.QuickGELU} if quick else {}
        model = drawn(library.VisionTransformer(SIDE, 8, 32, 2, 2, 2.0, output_dim=16, output_tokens=True, **act))
        arguments = {**VIT, "act_layer": "quick_gelu" if quick else "gelu"}
        path = folder / "clip.pt"
        state = renamed(model.state_dict(), prefix="visual.")
        state |= {"positional_embedding": torch.rand(7, 32), "transformer.resblocks.0.ln_1.weight": torch.rand(32)}
        if scripted:
            with warnings.catch_warnings(action="ignore"):
                torch.jit.save(torch.jit.script(holder({k: v.half() for k, v in state.items()})), path)
            model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
        else:
            torch.save(state, path)
        encoder = {"backbone": "timm:vit_base_patch16_clip_224", "arguments": arguments}
        return Case(path, encoder, lambda x: as_map(model(x)[1]))

    return make


class Held(nn.Module):
    """A module that holds tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def holder(state: Mapping[str, Tensor]) -> nn.Module:
    """Modules that hold tensors of these names."""
    root = Held()
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        module: nn.Module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, Held())
            module = getattr(module, part)
        module.register_parameter(leaf, nn.Parameter(tensor))
    return root


def open_clip_resnet(folder: Path) -> Case:
    import_timm()
    model = drawn(import_module("open_clip.modified_resnet").ModifiedResNet([3, 4, 6, 3], 64, 32, image_size=SIDE))
    torch.save(renamed(model.state_dict(), prefix="visual."), folder / "clip.pt")

    def features(x: Tensor) -> Tensor:
        x = model.stem(x)
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            x = layer(x)
        return x

    return Case(folder / "clip.pt", {"backbone": "timm:resnet50_clip"}, features)


def torchvision_vit(folder: Path) -> Case:
    import_timm()
    models = import_module("torchvision.models")
    model = drawn(models.VisionTransformer(SIDE, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64))
    torch.save(model.state_dict(), folder / "vit.pth")

    def features(x: Tensor) -> Tensor:
        tokens = model._process_input(x)
        return as_map(model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), tokens], dim=1)), 1)

    return Case(folder / "vit.pth", {"backbone": "timm:vit_base_patch16_224", "arguments": VIT}, features)


def torchvision_convnext(folder: Path) -> Case:
    import_timm()
    module = import_module("torchvision.models.convnext")
    widths = [*CONVNEXT["dims"], None]
    blocks = [
        module.CNBlockConfig(width, wider, depth)
        for width, wider, depth in zip(widths, widths[1:], CONVNEXT["depths"], strict=False)
    ]
    model = drawn(module.ConvNeXt(blocks))
    torch.save(model.state_dict(), folder / "convnext.pth")
    return Case(folder / "convnext.pth", {"backbone": "timm:convnext_tiny", "arguments": CONVNEXT}, model.features)


def torchvision_resnet(folder: Path, *, cut: bool = False) -> Case:
    import_timm()
    models = import_module("torchvision.models.resnet")
    model = drawn(models.ResNet(models.BasicBlock, [1, 1, 1, 1]))
    trunk = nn.Sequential(*list(model.children())[:-2])
    state = renamed(trunk.state_dict(), prefix="backbone.") if cut else model.state_dict()
    torch.save({"state_dict": state}, folder / "resnet.pth")
    return Case(folder / "resnet.pth", {"backbone": "timm:resnet18", "arguments": {"layers": [1, 1, 1, 1]}}, trunk)


class CifarBlock(nn.Module):
    """As CIFAR resnets have it: `shortcut` in place of `downsample`."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """Two blocks a stage, after one 3x3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for n, width in enumerate((8, 16, 24, 32), 1):
            blocks = nn.Sequential(CifarBlock(before, width, 1 if n == 1 else 2), CifarBlock(width, width, 1))
            self.add_module(f"layer{n}", blocks)
            before = width
        self.linear = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return, operator]


def kuangliu(folder: Path) -> Case:
    model = drawn(CifarResNet())
    torch.save({"net": renamed(model.state_dict(), prefix="module."), "acc": 95.0}, folder / "ckpt.pth")
    return Case(
        folder / "ckpt.pth",
        {"backbone": "timm:resnet18", "arguments": {"channels": [8, 16, 24, 32]}, "stem": "small"},
        model,
    )
