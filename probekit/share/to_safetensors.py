"""Safetensors of an encoder, as probekit keeps it, with what probekit needs to load it."""

from pathlib import Path

from probekit.models.encoder import save_encoder
from probekit.restore.opened import OpenedRun
from probekit.share.base import Format, Written, code, kind_of, refuse_files

NAME = "model.safetensors"


def write(opened: OpenedRun, folder: Path) -> Written:
    """Writes model.safetensors, which any reader of the format opens; a ValueError if there are no tensors of torch."""
    refuse_files(opened)
    info = {key: value for key, value in opened.header.items() if key not in ("format", "spec")}
    save_encoder(folder / NAME, opened.encoder, info)
    count = len(opened.encoder.state_dict())
    about = f"{count} tensors; its header holds architecture, normalisation and image size as JSON, under `probekit`"
    return Written(NAME, about, f"{_probekit(opened)}\n\n{_plain(opened)}")


def _probekit(opened: OpenedRun) -> str:
    """Whatever it is, its header rebuilds it; `--weights` does where its name alone says the network."""
    spec = opened.header["spec"]
    plain = not spec.get("arguments") and not spec.get("input")
    command = f", or `probekit probe --encoder {spec.get('backbone', 'unet')} --weights {NAME}`" if plain else ""
    lines = (
        "from pathlib import Path",
        "",
        "from probekit.models import load_encoder",
        "",
        f'encoder, header = load_encoder(Path("{NAME}"))',
        "# encoder(images [B, C, H, W] in [0, 1]) gives .pooled [B, D] and .map [B, D, h, w]",
    )
    return f"**probekit**{command}:\n\n{code('python', *lines)}"


def _plain(opened: OpenedRun) -> str:
    told = "The class is this project's own" if kind_of(opened) == "unet" else "The architecture is not in the file"
    ways = "`--to onnx`" if kind_of(opened) != "timm" else "`--to onnx`, for other libraries `--to timm,torchvision`"
    lines = ("from safetensors.torch import load_file", "", f'tensors = load_file("{NAME}")  # by name')
    return f"**torch** alone. {told}: for a graph that runs without it export {ways}.\n\n{code('python', *lines)}"


FORMAT = Format(NAME, write)
