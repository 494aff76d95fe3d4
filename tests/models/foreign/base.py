"""Small networks whose numbers all count, and files of their weights in the names of other projects."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from probekit.models.backbones import import_module, import_timm

State = dict[str, Tensor]
SIDE = 32  # px
VIT: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "img_size": SIDE, "patch_size": 8}
CONVNEXT: dict[str, Any] = {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
RESNET: dict[str, Any] = {"layers": [1, 1, 2, 1], "channels": [8, 16, 24, 32]}


@dataclass(frozen=True)
class Case:
    """A file of weights `[path]`, the encoder that is to take it, and what their network makes of images."""

    path: Path
    encoder: Mapping[str, Any]
    features: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Foreign:
    """`example`: a name in the file; `backbone`: timm's; `reference`: whose code gives the features."""

    example: str
    backbone: str
    reference: str
    make: Callable[[Path], Case]


def drawn(module: nn.Module) -> Any:
    """All its numbers drawn so that each of them counts."""
    generator = torch.Generator().manual_seed(0)

    def numbers(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.2 * numbers(tensor.shape).abs())
            elif tensor.ndim > 1:
                tensor.copy_(numbers(tensor.shape) / tensor[0].numel() ** 0.5)
            else:
                shift = 1 if re.search(r"(weight|gamma|gamma_\d|lambda1|layer_scale\w*)$", name) else 0
                tensor.copy_(shift + 0.2 * numbers(tensor.shape))
    return module.eval()


def model_of_timm(name: str, arguments: Mapping[str, Any]) -> Any:
    timm = import_timm()
    return drawn(timm.create_model(name, pretrained=False, num_classes=0, **arguments))


def as_map(tokens: Tensor, prefix: int = 0) -> Tensor:
    """`[B, prefix + n * n, D] -> [B, D, n, n]`."""
    patches = tokens[:, prefix:]
    side = int(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).reshape(len(tokens), -1, side, side)


def renamed(state: Mapping[str, Tensor], *pairs: tuple[str, str], prefix: str = "") -> State:
    """Each pair of a pattern and what takes its place, one after another."""
    made = {}
    for name, tensor in state.items():
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        made[prefix + name] = tensor.clone()
    return made


def of_timm(
    name: str,
    arguments: Mapping[str, Any],
    write: Callable[[State], Any],
    *,
    filtered: str = "",
    stem: str = "imagenet",
    end: str = ".pth",
) -> Callable[[Path], Case]:
    """A network of timm, written in others' names.

    `filtered`: the module of timm whose own filter reads what was written, for the reference; else the reference is
    the network itself.
    """

    def make(folder: Path) -> Case:
        model = model_of_timm(name, arguments)
        written = write(dict(model.state_dict()))
        path = folder / f"weights{end}"
        if end == ".npz":
            np.savez(path, **{key: tensor.numpy() for key, tensor in written.items()})
            model = drawn(import_timm().create_model(name, pretrained=False, num_classes=0, **arguments))
            model.load_pretrained(str(path))
        else:
            torch.save(written, path)
        if filtered:
            module = import_module(f"timm.models.{filtered}")
            inner = written
            while not isinstance(next(iter(inner.values())), Tensor):
                inner = inner.get("teacher") or next(iter(inner.values()))
            again = import_timm().create_model(name, pretrained=False, num_classes=0, **arguments)
            again.load_state_dict(module.checkpoint_filter_fn({k: v.clone() for k, v in inner.items()}, again))
            model = again.eval()

        def features(x: Tensor) -> Tensor:
            out: Tensor = model.forward_features(x)
            return as_map(out, model.num_prefix_tokens) if out.ndim == 3 else out

        return Case(path, {"backbone": f"timm:{name}", "arguments": arguments, "stem": stem}, features)

    return make


def folder_of_safetensors(folder: Path, config: Mapping[str, Any], state: State) -> Path:
    """A folder as repositories of models have it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: value.clone().contiguous() for key, value in state.items()}, folder / "model.safetensors")
    return folder
