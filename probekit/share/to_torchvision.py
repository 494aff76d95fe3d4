"""A backbone under torchvision's names: what `load_state_dict` of its own model takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probekit.files import replaced
from probekit.models.backbones import import_module
from probekit.models.layout import Layout, Rules
from probekit.models.layouts import TORCHVISION_CONVNEXT, TORCHVISION_VIT
from probekit.models.translate import POSITIONS
from probekit.models.weights import reshaped
from probekit.restore.opened import Opened
from probekit.share.base import Format, Written, code, named_network, normalised, size_of, without_pooling
from probekit.visible import first_line, some

NAME = "torchvision.pth"
CHANNELS = 3
SAME = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2", "densenet121", "densenet161", "densenet169", "densenet201"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
)
MODELS: dict[str, str] = {name: name for name in SAME} | {  # by timm's names
    f"vit_{size}_patch{patch}_224": f"vit_{size[0]}_{patch}"
    for size, patch in (("base", 16), ("base", 32), ("large", 16), ("large", 32), ("huge", 14))
}
RULES: Mapping[str, Rules] = {
    "vit": TORCHVISION_VIT,
    "convnext": TORCHVISION_CONVNEXT,
}  # of others the names are timm's
HEADS = ("fc.", "classifier.", "heads.")
TOKENS = 'create_feature_extractor(model, ["encoder.ln"])(image)["encoder.ln"][:, 1:]'
MAPS = {  # by the family: its map in torchvision, `[B, D, h, w]` or tokens `[B, N, D]`
    "vit": TOKENS,
    "convnext": "model.features(image)",
    "vgg": "model.features(image)",
    "densenet": "model.features(image).relu()",
    "resnet": "torch.nn.Sequential(*list(model.children())[:-2])(image)",
}


def write(opened: Opened, folder: Path) -> Written:
    """Writes the tensors; a ValueError if torchvision has no such network, or takes no images of this shape."""
    name, state = named_network(opened, "torchvision", MODELS)
    family, size = _family(name), size_of(opened)
    given: dict[str, Any] = {}
    if family == "vit":
        if size[0] != size[1]:
            raise ValueError(
                f"expected square images for torchvision's transformers, found {size[0]}x{size[1]}; type: --to timm"
            )
        given = {"image_size": size[0]}
        state = {**state, POSITIONS: _positions(state[POSITIONS], size[0] // opened.encoder.stride)}
    tensors = of_torchvision(state, MODELS[name], RULES.get(family, {}), given)
    with replaced(folder / NAME) as temporary:
        torch.save(tensors, temporary)
    grey = "; its one channel is spread over three, so grey images are to be given thrice"
    spread = grey if opened.header["spec"]["channels"] != CHANNELS else ""
    about = f"{len(tensors)} tensors of torchvision's {MODELS[name]}, without its head{spread}{without_pooling(opened)}"
    typed = "".join(f"{key}={value}" for key, value in given.items())
    usage = [
        "import torch",
        "import torchvision",
        *(["from torchvision.models.feature_extraction import create_feature_extractor"] if family == "vit" else []),
        "",
        f"model = torchvision.models.{MODELS[name]}({typed})",
        f'print(model.load_state_dict(torch.load("{NAME}"), strict=False))  # the head alone is missing',
        "model.eval()",
        *normalised(opened, channels=CHANNELS),
        f"feature_map = {MAPS[family]}",
    ]
    if opened.header["spec"]["pooling"] == "gap":
        usage += [f"embedding = feature_map.mean({1 if family == 'vit' else (2, 3)})"]
    return Written(NAME, about, f"**torchvision**:\n\n{code('python', *usage)}")


def of_torchvision(
    state: Mapping[str, Tensor], model: str, rules: Rules, given: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Tensors of timm by torchvision's names and in its shapes; a ValueError if they are not all but those of a head.

    `model`: torchvision's name of the network; `rules`: its row of `probekit.models.layouts`; `given`: arguments.
    """
    try:
        models = import_module("torchvision.models")
    except Exception as error:  # it has ways of its own to fail
        raise ValueError(
            f"expected torchvision for --to torchvision, found: {first_line(error)}; type: pip install torchvision"
        ) from error
    with torch.device("meta"):
        wanted = getattr(models, model)(**given).state_dict()
    found = Layout("torchvision", model, rules).renamed(state)
    odd = [key for key in wanted if key not in found and not key.startswith(HEADS)]
    odd += [key for key in found if key not in wanted]
    tensors = {key: reshaped(found[key], wanted[key])[0] for key in found if key in wanted}
    odd += [key for key, tensor in tensors.items() if tensor is None]
    if odd:
        raise ValueError(f"expected the tensors of torchvision's {model}, found others: {some(odd)}; type: --to timm")
    return {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items() if tensor is not None}


def _family(name: str) -> str:
    return next((family for family in MAPS if name.startswith(family)), "resnet")


def _positions(table: Tensor, side: int) -> Tensor:
    """The table `[1, 1 + N, D]` for a grid of so many cells a side, as timm resamples it for every image."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    made: Tensor = resample_abs_pos_embed(table, [side, side], num_prefix_tokens=1)
    return made


FORMAT = Format(NAME, write)
