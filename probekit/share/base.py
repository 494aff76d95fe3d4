"""What a format writes of an encoder, and what the formats of other libraries have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from probekit.models.backbones import TimmBackbone, untagged
from probekit.restore.opened import Opened, OpenedRun


@dataclass(frozen=True)
class Written:
    """One file of an export."""

    name: str  # the file's
    about: str  # what is in it, one line
    usage: str  # how it is loaded, Markdown for the card


@dataclass(frozen=True)
class Format:
    """The name of a format's file, and what writes it: of an encoder on the CPU, to a folder."""

    file: str
    write: Callable[[OpenedRun, Path], Written]


def kind_of(opened: Opened) -> str:
    """The first word of the backbone's name: "unet", "timm", "py", ..."""
    return str(opened.header["spec"].get("backbone", "unet")).partition(":")[0]


def refuse_files(opened: Opened) -> None:
    """Refuses an encoder that is a file already."""
    if kind_of(opened) in ("onnx", "torchscript"):
        raise ValueError(f"expected an encoder of torch, found {opened.header['spec']['backbone']}; share that file")


def network_of(opened: Opened, library: str) -> TimmBackbone:
    """The backbone, for a library that knows networks by their names; a ValueError if it is none that timm makes."""
    refuse_files(opened)
    backbone, spec = opened.encoder.backbone, opened.header["spec"]
    if not isinstance(backbone, TimmBackbone):
        raise ValueError(
            f"expected a backbone of timm for --to {library}, found {spec.get('backbone', 'the U-Net')}, "
            "which no other library has; type: --to safetensors"
        )
    if spec["stem"] != "imagenet":
        raise ValueError(
            f"expected the stem that {library} has, found model.stem={spec['stem']}, a first convolution of 3x3 "
            "without max-pooling; type: --to safetensors"
        )
    return backbone


def named_network(opened: Opened, library: str, known: Mapping[str, Any]) -> tuple[str, Mapping[str, Tensor]]:
    """The name and the tensors of a network that a library has under one of timm's names; a ValueError for others."""
    backbone = network_of(opened, library)
    name = untagged(f"timm:{backbone.name}").removeprefix("timm:")
    arguments = opened.header["spec"].get("arguments", ())
    if name not in known or arguments:
        found = f"timm:{name}" + f" of other numbers ({', '.join(arguments)})" * bool(arguments)
        raise ValueError(f"expected a backbone that {library} has ({', '.join(known)}), found {found}; type: --to timm")
    return name, backbone.model.state_dict()


def without_pooling(opened: Opened) -> str:
    """The end of a line about a backbone: that an attention, which pools its map, is not in the file."""
    return "" if opened.header["spec"]["pooling"] == "gap" else "; the attention that pools its map is left out"


def normalised(opened: Opened, *, channels: int) -> list[str]:
    """Lines of Python that make an `image` and normalise it as the encoder does."""
    spec = opened.header["spec"]
    lines = [f"image = torch.rand(2, {channels}, {', '.join(map(str, size_of(opened)))})  # yours, in [0, 1]"]
    if opened.encoder.input is not None:
        lines[0] += f", {opened.encoder.input}"
    if (values := spec.get("normalise")) is not None:
        mean, std = (spread(values[key], channels) for key in ("mean", "std"))
        lines += [f"mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in ({mean}, {std}))"]
        lines += ["image = (image - mean) / std"]
    return lines


def size_of(opened: Opened) -> tuple[int, int]:
    """(height, width) of images as the backbone sees them."""
    height, width = opened.header["image_size"]
    given = opened.encoder.input
    if given is None:
        return height, width
    found = given.crop or given.size(height, width)
    return found[0], found[1]


def spread(values: list[float], channels: int) -> list[float]:
    """Numbers of each channel, those of one for all."""
    return values * channels if len(values) == 1 else values


def code(language: str, *lines: str) -> str:
    """A block of code of Markdown."""
    return "\n".join((f"```{language}", *lines, "```"))
