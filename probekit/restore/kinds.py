"""The kinds of encoders from elsewhere, one row a kind: how it is typed, what can be set of it, and how it is made."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from torch import Tensor

from probekit.data.split import check_depth
from probekit.models import torch_hub
from probekit.models.backbones import find_stem, grey, normalisation, timm_config
from probekit.models.checkpoint import Checkpoint
from probekit.models.encoder import Encoder, check_takes, load_encoder
from probekit.models.inputs import Input, of_timm
from probekit.models.onnx_file import OnnxModule, onnx_code
from probekit.models.outside import code_of, in_colour, make_outside
from probekit.models.snapshot import IMAGES, expected_in, network_in, weights_in
from probekit.models.torchscript import ScriptedModule, script_code
from probekit.models.weights import default_normalise
from probekit.restore.around import around
from probekit.restore.build import make_plain
from probekit.restore.hub import REPOSITORY, Place, place_of

PLAIN: dict[str, Any] = {"pooling": "gap", "stem": "imagenet"}
UNET: dict[str, Any] = {"width": 64, "depth": 4}  # the paper's
# In pre-activated resnets of CIFAR, which have no norm after the last block, but one at the beginning of the first.
BARE = re.compile(r"(^|\.)layer1\.0\.bn1\.weight$")
# What resnets, densenets and resnets cut into a sequence call the convolution that takes images; in deep stems, which
# begin with 3x3 anyway, it is conv1.0.
FIRST = re.compile(r"(^|\.)(?<!conv1\.)(?<!0\.)(conv1|conv0|0)\.weight$")

Settings = Mapping[str, Any]
# Its name as it was typed, its settings ("normalise" among them), a file of weights, some images: the encoder.
Make = Callable[[str, Settings, Checkpoint | None, Tensor], Encoder]


@dataclass(frozen=True)
class Kind:
    """One kind of `--encoder`.

    Attributes:
        form: How it is typed.
        make: Makes it, random where nothing else is said; a ValueError if it cannot be made, or takes no such images.
        settings: What can be set of it, as in `ModelConfig`.
        own: Whether it comes with weights, so that it is not random without a file of them.
        place: Finds the folder that is meant, perhaps by downloading it; None for kinds that have none.
        weights: Reads those of the folder, which are to be matched by name; None where what is made has them.
    """

    form: str
    make: Make
    settings: frozenset[str]
    own: bool = False
    weights: Callable[[str], Checkpoint] | None = None
    place: Callable[..., Place] | None = None


def _network(name: str, typed: Settings, weights: Checkpoint | None, images: Tensor) -> Encoder:
    """A model of timm, or the U-Net."""
    channels, size = images.shape[1], (images.shape[2], images.shape[3])
    normalise = default_normalise(weights, name) if typed["normalise"] == "auto" else typed["normalise"]
    model = full_settings(typed, name, weights)
    check_depth(model.get("depth", 0), size)
    spec: dict[str, Any] = {"channels": channels, "backbone": name, **model}
    spec["normalise"] = normalisation(normalise, name, channels)
    if typed.get("input") == "timm":
        spec["input"] = input_of_timm(name.partition(":")[2]).as_dict()
    elif typed.get("input") != "none" and weights is not None and (own := (weights.spec or {}).get("input")):
        spec["input"] = own  # as the run had it whose file this is
    encoder = Encoder(**spec)
    if weights is not None and "stem" not in typed and has_small_stem(weights, encoder):
        spec |= {"stem": "small", **({"arguments": {"without": ["norm"]}} if ends_bare(weights, name) else {})}
        encoder = Encoder(**spec)
    make_plain(encoder)  # so that what a file lacks, or all, is as random as any baseline
    if name != "unet":
        check_takes(encoder, size)
    return encoder


def input_of_timm(name: str) -> Input:
    """How images come to the size that timm's own weights of a name expect."""
    expected = of_timm(timm_config(name).to_dict(), f"what timm knows of {name}").input
    assert expected is not None
    return expected


def _module(name: str, typed: Settings, weights: Checkpoint | None, images: Tensor) -> Encoder:
    """What a function of the user's own gives."""
    normalise = normalisation(typed["normalise"], name, images.shape[1])
    return around(make_outside(name), name, images, normalise, code_of(name))


def _folder(name: str, typed: Settings, weights: Checkpoint | None, images: Tensor) -> Encoder:
    """A model of timm, as the description in a folder has it."""
    folder, channels = Path(name.partition(":")[2]), images.shape[1]
    if typed.get("input") == "timm":
        raise ValueError("expected model.input auto or none with a folder, found timm; type: --set model.input=auto")
    network, expected = network_in(folder), expected_in(folder)
    backbone = f"timm:{network.name}"
    if typed["normalise"] != "auto":
        normalise = normalisation(typed["normalise"], backbone, channels)
    elif expected.normalise is None:
        raise ValueError(
            f"expected the mean and deviation of images in {folder / IMAGES}, found none; type: --normalise imagenet, "
            "or what the weights were trained with"
        )
    else:
        normalise = grey(expected.normalise) if channels == 1 else expected.normalise
    takes = None if expected.input is None or typed.get("input") == "none" else expected.input.as_dict()
    about: dict[str, Any] = {"channels": channels, "pooling": typed.get("pooling", "gap"), "normalise": normalise}
    encoder = Encoder(**about, backbone=backbone, arguments=network.arguments, input=takes)
    make_plain(encoder)
    check_takes(encoder, (images.shape[2], images.shape[3]))
    return encoder


def _onnx(name: str, typed: Settings, weights: Checkpoint | None, images: Tensor) -> Encoder:
    """A file of ONNX."""
    module = OnnxModule(name)
    module.check(in_colour(images) if (images.shape[1], module.channels) == (1, 3) else images)
    return around(module, name, images, normalisation(typed["normalise"], name, images.shape[1]), onnx_code(name))


def _torchscript(name: str, typed: Settings, weights: Checkpoint | None, images: Tensor) -> Encoder:
    """A file of TorchScript."""
    normalise = normalisation(typed["normalise"], name, images.shape[1])
    return around(ScriptedModule(name), name, images, normalise, script_code(name))


def _file(name: str, typed: Settings, weights: Checkpoint | None, images: Tensor) -> Encoder:
    """An encoder that probekit wrote: as it was, whatever it was made of."""
    encoder, _ = load_encoder(Path(name.partition(":")[2]))
    if typed["normalise"] != "auto":
        raise ValueError(f"expected no --normalise with {name}, whose file has its own; leave it out")
    if (wanted := encoder.spec["channels"]) != images.shape[1]:
        raise ValueError(f"expected images of {wanted} channels for {name}, found {images.shape[1]}")
    check_takes(encoder, (images.shape[2], images.shape[3]))
    return encoder


NETWORK = frozenset({"pooling", "stem", "normalise"})
KINDS = {
    "timm": Kind("timm:NAME", _network, NETWORK | {"input"}),
    "py": Kind("py:MODULE:FUNCTION", _module, frozenset({"normalise"}), own=True),
    "hf": Kind(
        "hf:FOLDER or hf:ORG/NAME[@REVISION]",
        _folder,
        frozenset({"pooling", "normalise", "input"}),
        own=True,
        place=place_of,
        weights=lambda name: weights_in(Path(name.partition(":")[2])),
    ),
    "file": Kind("file:ENCODER.safetensors", _file, frozenset(), own=True),
    "onnx": Kind("onnx:FILE[:OUTPUT]", _onnx, frozenset({"normalise"}), own=True),
    "torchscript": Kind("torchscript:FILE", _torchscript, frozenset({"normalise"}), own=True),
    "unet": Kind("unet", _network, NETWORK | frozenset(UNET)),
}


def kind_of(name: str) -> Kind:
    """The kind of an encoder from elsewhere, by its name; a ValueError if it is of none."""
    kind = name.partition(":")[0]
    if not is_outside(name):
        *first, last = (found.form for found in KINDS.values())
        known = f"{', '.join(first)} or {last}"
        raise ValueError(f"expected --encoder {known}, found {name!r}; type: --encoder {_meant(name)}")
    return KINDS[kind]


def _meant(name: str) -> str:
    """What may be meant by a name of no kind, by what lies under it, or by how it looks."""
    path, last = Path(name), name.rpartition(":")[2]
    if path.is_dir():
        return quote(f"hf:{name}")
    if path.is_file():
        own = {".onnx": f"onnx:{name}", ".py": f"py:{path.stem}:FUNCTION"}
        return quote(own[path.suffix]) if path.suffix in own else f"timm:NAME --weights {quote(name)}"
    if model := torch_hub.known(last):
        file = f"timm:{model.timm} --weights FILE"
        if not model.hf:
            return f"{file}, with the file of weights that the model's authors publish"
        return f"hf:{model.hf} --allow-download, or with the authors' file of weights --encoder {file}"
    return quote(f"hf:{last}" if REPOSITORY.fullmatch(last) else f"timm:{last or name}")


def is_outside(name: str) -> bool:
    """Whether a name is an encoder's from elsewhere, and no run's."""
    kind, colon, _ = name.partition(":")
    return kind in KINDS and bool(colon) == (":" in KINDS[kind].form)


def full_settings(typed: Mapping[str, Any], backbone: str, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Pooling, stem, width and depth of the U-Net: as typed, else as a file of probekit has them, else plain ones."""
    plain = PLAIN | (UNET if backbone == "unet" else {})
    spec = checkpoint.spec if checkpoint is not None and checkpoint.spec is not None else {}
    own = spec if spec.get("backbone", "unet") == backbone else {}
    return {name: typed.get(name, own.get(name, value)) for name, value in plain.items()}


def ends_bare(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a pre-activated resnet in a file has no norm after its last block, as timm's has."""
    keys = (key for table in checkpoint.tables.values() for key in table)
    return name.startswith("timm:resnetv2") and any(map(BARE.search, keys))


def has_small_stem(checkpoint: Checkpoint, encoder: Encoder) -> bool:
    """Whether a file's first convolution is 3x3, for a backbone that can have such a one."""
    if not find_stem(getattr(encoder.backbone, "model", None)):
        return False
    first = [
        tensor
        for table in checkpoint.tables.values()
        for key, tensor in table.items()
        if FIRST.search(key) and tensor.ndim == 4 and tensor.shape[1] in (1, 3)
    ]
    return bool(first) and all(tensor.shape[2:] == (3, 3) for tensor in first)
