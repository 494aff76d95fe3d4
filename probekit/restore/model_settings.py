"""What `pretrain` can set of a model, for an encoder from elsewhere: `probe --encoder NAME --set model.stem=small`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from probekit.checked import checked
from probekit.config import Count, ModelConfig
from probekit.models.backbones import find_stem
from probekit.models.checkpoint import Checkpoint
from probekit.models.encoder import Encoder
from probekit.registry import nearest
from probekit.settings import parse_overrides

# Settings that are options of `probe` of their own.
OPTIONS = {
    "model.backbone": "--encoder NAME",
    "model.weights": "--weights FILE",
    "model.allow_missing": "--allow-missing",
}
PLAIN: dict[str, Any] = {"pooling": "gap", "stem": "imagenet"}
UNET: dict[str, Any] = {"width": 64, "depth": 4}  # the paper's
# What resnets, densenets and resnets cut into a sequence call the convolution that takes images; in deep stems, which
# begin with 3x3 anyway, it is conv1.0.
FIRST = re.compile(r"(^|\.)(?<!conv1\.)(?<!0\.)(conv1|conv0|0)\.weight$")


def typed_settings(overrides: Sequence[str], backbone: str) -> dict[str, Any]:
    """Settings by their name in `ModelConfig`, from "model.NAME=VALUE" each.

    Raises:
        ValueError: For a setting that there is not, that is an option, or that the backbone does not have, and for a
            value of another type or out of range.
    """
    types = get_type_hints(ModelConfig, include_extras=True) | dict.fromkeys(UNET, Count)
    known = [key for key in (f"model.{name}" for name in types) if key not in OPTIONS]
    found = {}
    for key, value in parse_overrides(overrides).items():
        name = key.removeprefix("model.")
        if key in OPTIONS:
            raise ValueError(f"expected {OPTIONS[key]} in place of {key}, found --set {key}; leave it out")
        if key not in known:
            raise ValueError(nearest("setting of an encoder", key, known))
        if (name in UNET and backbone != "unet") or (backbone.startswith("py:") and name != "normalise"):
            raise ValueError(f"expected no {key} with {backbone}, which has none, found {value}; leave it out")
        found[name] = checked(value, types[name], "", key)
    return found


def full_settings(typed: Mapping[str, Any], backbone: str, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Pooling, stem, width and depth of the U-Net: as typed, else as a file of probekit has them, else plain ones."""
    plain = PLAIN | (UNET if backbone == "unet" else {})
    spec = checkpoint.spec if checkpoint is not None and checkpoint.spec is not None else {}
    own = spec if spec.get("backbone", "unet") == backbone else {}
    return {name: typed.get(name, own.get(name, value)) for name, value in plain.items()}


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


def check_pooling(checkpoint: Checkpoint, encoder: Encoder) -> None:
    """Refuses weights of a backbone alone for an encoder whose pooling has weights, too.

    Raises:
        ValueError: If the file has none of them.
    """
    wanted = {f"pooling.{key}" for key in encoder.pooling.state_dict()}
    if wanted and not any(key.endswith(tuple(wanted)) for table in checkpoint.tables.values() for key in table):
        raise ValueError(
            f"expected the weights of attention pooling in {checkpoint.path}, found none; type: --set model.pooling=gap"
        )
