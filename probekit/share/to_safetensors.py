"""Safetensors of an encoder, as probekit keeps it, with what probekit and timm need to load it."""

from pathlib import Path

from probekit.models.backbones import TimmBackbone, timm_config
from probekit.models.encoder import save_encoder
from probekit.restore.opened import OpenedRun
from probekit.share.base import Written, code, kind_of

NAME = "model.safetensors"


def write(opened: OpenedRun, folder: Path) -> Written:
    """Writes model.safetensors, which any reader of the format opens; a ValueError if there are no tensors of torch."""
    kind = kind_of(opened)
    if kind in ("onnx", "torchscript"):
        raise ValueError(f"expected an encoder of torch, found {opened.header['spec']['backbone']}; share that file")
    info = {key: value for key, value in opened.header.items() if key not in ("format", "spec")}
    save_encoder(folder / NAME, opened.encoder, info)
    count = len(opened.encoder.state_dict())
    about = f"{count} tensors; its header holds architecture, normalisation and image size as JSON, under `probekit`"
    usage = [_probekit(opened), _timm(opened), _plain(opened)]
    return Written(NAME, about, "\n\n".join(filter(None, usage)))


def _probekit(opened: OpenedRun) -> str:
    spec = opened.header["spec"]
    name, height = spec.get("backbone", "unet"), opened.header["image_size"][0]
    return "**probekit**:\n\n" + code(
        "python",
        "import probekit",
        "",
        f'opened = probekit.load("{name}", weights="{NAME}", channels={spec["channels"]}, size={height})',
        "features = opened.encoder  # [B, C, H, W] in [0, 1] -> .pooled [B, D], .map [B, D, h, w]",
    )


def _timm(opened: OpenedRun) -> str:
    """The same embedding by timm alone, where it has the model as it stands."""
    spec, backbone = opened.header["spec"], opened.encoder.backbone
    if not isinstance(backbone, TimmBackbone):
        return ""
    if spec["stem"] != "imagenet":
        return "timm has no such model: the first convolution is 3x3 and there is no max-pooling (`model.stem=small`)."
    fixed = timm_config(backbone.name).fixed_input_size and hasattr(backbone.model, "dynamic_img_size")
    more = ", dynamic_img_size=True" if fixed else ""
    normalise = opened.header["spec"].get("normalise")
    lines = [
        "import timm",
        "import torch",
        "from safetensors.torch import load_file",
        "",
        f'prefix, weights = "backbone.model.", load_file("{NAME}")',
        "weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}",
        f'model = timm.create_model("{backbone.name}", num_classes=0, in_chans={spec["channels"]}{more})',
        "model.load_state_dict(weights, strict=False)",
        f"image = torch.rand(2, {spec['channels']}, {', '.join(map(str, opened.header['image_size']))})  # in [0, 1]",
    ]
    if normalise is not None:
        lines += [f"mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in ({normalise['mean']}, {normalise['std']}))"]
        lines += ["image = (image - mean) / std"]
    return "**timm**, whose heads are not in the file:\n\n" + code("python", *lines, *_pooled(opened))


def _pooled(opened: OpenedRun) -> list[str]:
    model = opened.encoder.backbone.model
    tokens = hasattr(model, "num_prefix_tokens")
    features = "model.eval().forward_features(image)"
    if opened.header["spec"]["pooling"] != "gap":
        return [f"features = {features}  # the embedding is pooled from it by attention, which timm has not"]
    if tokens:
        return [f"embedding = {features}[:, model.num_prefix_tokens :].mean(1)"]
    return [f"embedding = {features}.mean({'(1, 2)' if getattr(model, 'output_fmt', 'NCHW') == 'NHWC' else '(2, 3)'})"]


def _plain(opened: OpenedRun) -> str:
    told = "The class is this project's own" if kind_of(opened) == "unet" else "The architecture is not in the file"
    lines = ("from safetensors.torch import load_file", "", f'tensors = load_file("{NAME}")  # by name')
    return f"**torch** alone. {told}: for a graph that runs without it export `--to onnx`.\n\n{code('python', *lines)}"
