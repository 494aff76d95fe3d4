"""A backbone of timm under timm's own names: safetensors that its `create_model` takes."""

from pathlib import Path
from typing import Any

from probekit.models.backbones import timm_config
from probekit.models.tensor_files import save_tensors
from probekit.restore.opened import Opened
from probekit.share.base import Format, Written, code, network_of, normalised, without_pooling

NAME = "timm.safetensors"


def write(opened: Opened, folder: Path) -> Written:
    """Writes the backbone's tensors; a ValueError if timm has no such network."""
    backbone = network_of(opened, "timm")
    state = {key: value.detach().contiguous().clone() for key, value in backbone.model.state_dict().items()}
    save_tensors(folder / NAME, state, {"backbone": opened.header["spec"]["backbone"]})
    about = f"the {len(state)} tensors of timm's {backbone.name}, without its head{without_pooling(opened)}"
    return Written(NAME, about, f"**timm**:\n\n{code('python', *_usage(opened))}")


def _usage(opened: Opened) -> list[str]:
    backbone, spec = opened.encoder.backbone, opened.header["spec"]
    given = dict[str, Any](spec.get("arguments") or {})
    eps, without = given.pop("layer_norm_eps", None), given.pop("without", ())
    if timm_config(backbone.name).fixed_input_size and hasattr(backbone.model, "dynamic_img_size"):
        given = {"dynamic_img_size": True, **given}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    more = "".join(f", {name}={value!r}" for name, value in given.items())
    more += "" if eps is None else f", norm_layer=partial(timm.layers.LayerNorm, eps={eps!r})"
    return [
        *(["from functools import partial", ""] if eps is not None else []),
        "import timm",
        "import torch",
        "from safetensors.torch import load_file",
        "",
        f'model = timm.create_model("{backbone.name}", num_classes=0, in_chans={spec["channels"]}{more})',
        *(f"model.{part} = torch.nn.Identity()" for part in without),
        f'print(model.load_state_dict(load_file("{NAME}"), strict=False))  # at most the head is missing',
        *normalised(opened, channels=spec["channels"]),
        *_pooled(opened),
    ]


def _pooled(opened: Opened) -> list[str]:
    model = opened.encoder.backbone.model
    features = "model.eval().forward_features(image)"
    if opened.header["spec"]["pooling"] != "gap":
        return [f"features = {features}  # the embedding is pooled from it by attention, which timm has not"]
    if hasattr(model, "num_prefix_tokens"):
        return [f"embedding = {features}[:, model.num_prefix_tokens :].mean(1)"]
    return [f"embedding = {features}.mean({'(1, 2)' if getattr(model, 'output_fmt', 'NCHW') == 'NHWC' else '(2, 3)'})"]


FORMAT = Format(NAME, write)
