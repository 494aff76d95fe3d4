"""Encoders that were trained elsewhere: from timm, from a module of the user's own, or a plain U-Net."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from probekit.checked import checked
from probekit.config import Count, ModelConfig, NormaliseName
from probekit.data.split import check_depth
from probekit.models.backbones import described, find_stem, normalisation, untagged
from probekit.models.checkpoint import Checkpoint, read_checkpoint
from probekit.models.encoder import Encoder, Features, check_takes
from probekit.models.outside import code_of, make_outside
from probekit.models.weights import Match, default_normalise, load_weights
from probekit.registry import nearest
from probekit.restore.build import make_plain
from probekit.settings import parse_overrides
from probekit.visible import first_line
from probekit.weights import RANDOM

MAX_SIZE = 1024  # px; larger images are averaged down, as with preset paper
CLOSE = 1e-4  # relative; how near an embedding is to the mean of its map if it is that mean

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


@dataclass(frozen=True)
class Outside:
    """An encoder from elsewhere, as it is asked for.

    `encoder`: "timm:NAME", "py:MODULE:FUNCTION" or "unet". `weights`: a checkpoint of any project, FILE or FILE:KEY;
    None is random weights, or those a module comes with. `normalise`: one of `probekit.config.NormaliseName`.
    `settings`: more of the model, "model.NAME=VALUE" each.
    """

    encoder: str
    weights: Path | None = None
    normalise: str = "auto"
    seed: int = 0
    allow_missing: bool = False
    settings: Sequence[str] = ()

    @property
    def words(self) -> list[str]:
        """What to type for it."""
        typed = ["--encoder", self.encoder, *(["--weights", str(self.weights)] if self.weights else [])]
        typed += ["--allow-missing"] * self.allow_missing
        typed += [] if self.normalise == "auto" else ["--normalise", self.normalise]
        return typed + [word for setting in self.settings for word in ("--set", setting)]

    @property
    def is_random(self) -> bool:
        """Whether it has random weights: those of a user's own module are what it comes with."""
        return self.weights is None and not self.encoder.startswith("py:")


@dataclass(frozen=True)
class Made:
    """An encoder that was made, and what is to be said of it.

    `encoder`: in the mode that it was made in, on the CPU. `match`: how a file's weights fit; None without a file.
    `method`: what it is called: its name, and what of it is random.
    """

    encoder: Encoder
    match: Match | None
    method: str
    lines: Sequence[str]


def make_encoder(asked: Outside, images: Tensor) -> Made:
    """Makes an encoder that takes images of this shape.

    `images`: some, `[B, C, H, W]` in [0, 1], at the size that it is to take. A ValueError if it cannot be made, does
    not take them, or the weights do not fit.
    """
    _check(asked)
    typed = typed_settings(asked.settings, asked.encoder)
    if asked.normalise != "auto" and "normalise" in typed:
        raise ValueError("expected --normalise or --set model.normalise, found both; leave one out")
    weights = None if asked.weights is None else read_checkpoint(asked.weights)
    encoder = _build(asked, typed, weights, images)
    lines = []
    if encoder.spec.get("stem") == "small" and "stem" not in typed:
        lines.append(f"model.stem=small, as the first convolution of {asked.weights} is 3x3: no stride, no max-pooling")
    match = None
    if weights is not None:
        check_pooling(weights, encoder)
        match = load_weights(encoder, weights, allow_missing=asked.allow_missing)
        check_takes(encoder, (images.shape[2], images.shape[3]))
    if match:
        lines += match.lines()
    elif asked.encoder.startswith("py:"):
        lines.append(f"weights: those that {asked.encoder} comes with")
    else:
        lines.append(f"weights: random, of seed {asked.seed}; --weights FILE reads others (nothing is downloaded)")
    normalised = described(encoder.spec.get("normalise"))
    lines.append(f"normalisation: {normalised}; {encoder.dim} features, {encoder.stride} px a cell")
    mark = RANDOM if asked.is_random else match.mark if match else ""
    return Made(encoder, match, f"{asked.encoder} ({mark})" if mark else asked.encoder, lines)


def _check(asked: Outside) -> None:
    """Refuses what no file and no images could satisfy."""
    checked(asked.normalise, NormaliseName, "", "--normalise")
    if asked.weights is None and (plain := untagged(asked.encoder)) != asked.encoder:
        raise ValueError(
            f"expected --weights with {asked.encoder}, whose tag names pretrained weights (nothing is downloaded), "
            f"found none; type: --encoder {plain} for random ones"
        )
    if asked.weights is None and asked.allow_missing:
        raise ValueError("expected --weights with --allow-missing, found none; type: --weights FILE, or leave it out")


def _build(asked: Outside, typed: Mapping[str, Any], checkpoint: Checkpoint | None, images: Tensor) -> Encoder:
    backbone, name = asked.encoder, typed.get("normalise", asked.normalise)
    channels, size = images.shape[1], (images.shape[2], images.shape[3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        if backbone.startswith("py:"):
            return around(make_outside(backbone), backbone, images, normalisation(name, backbone, channels))
        if backbone != "unet" and not backbone.startswith("timm:"):
            raise ValueError(
                f"expected --encoder timm:NAME, py:MODULE:FUNCTION or unet, found {backbone!r}; "
                f"type: --encoder timm:{quote(backbone)}"
            )
        if name == "auto":
            name = default_normalise(checkpoint, backbone)
        model = full_settings(typed, backbone, checkpoint)
        check_depth(model.get("depth", 0), size)
        normalise = normalisation(name, backbone, channels)
        spec: dict[str, Any] = {"channels": channels, "backbone": backbone, **model, "normalise": normalise}
        encoder = Encoder(**spec)
        if checkpoint is not None and "stem" not in typed and has_small_stem(checkpoint, encoder):
            encoder = Encoder(**{**spec, "stem": "small"})
        make_plain(encoder)  # so that what a file lacks, or all, is as random as any baseline
        if backbone != "unet":
            check_takes(encoder, size)
        return encoder


def around(module: nn.Module, name: str, images: Tensor, normalise: dict[str, list[float]] | None) -> Encoder:
    """An encoder around a user's own module, with the weights that it has.

    A ValueError if the module fails on the images, or gives something else than it should. `module`: gives `Features`,
    a map `[B, D, h, w]` or an embedding `[B, D]`; `name`: what it is called, "py:MODULE:FUNCTION" where it can be made
    again; `images`: some, `[B, C, H, W]` in [0, 1], to see what the module makes of them; `normalise`: see `Encoder`.
    """
    module.eval()
    try:
        with torch.no_grad():
            out, again = module(images), module(images)
    except (Exception, SystemExit) as error:
        found = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{name} fails on images {list(images.shape)} in [0, 1]: {found}") from error
    pooling, dim, cells = _shape(name, out, len(images))
    first, second = (found.pooled if isinstance(found, Features) else found for found in (out, again))
    same = first.shape == second.shape
    if not same or not torch.allclose(first.float(), second.float(), rtol=CLOSE, atol=CLOSE, equal_nan=True):
        raise ValueError(
            f"expected the same features of the same images from {name}, found others when it was asked again; "
            "is something random left on in eval mode?"
        )
    if not second.isfinite().all():
        raise ValueError(f"expected finite features from {name}, found nan or inf for images {list(images.shape)}")
    stride = math.ceil(images.shape[2] / cells) if cells else 1
    return Encoder(
        channels=images.shape[1],
        pooling=pooling,
        backbone=name,
        normalise=normalise,
        shape=(dim, stride),
        code=code_of(name) if name.startswith("py:") else "",
        module=module,
    )


def _shape(name: str, out: Any, n: int) -> tuple[str, int, int]:
    """How a module's output is pooled, its features, and the rows of cells of its map, 0 without one."""
    whole = isinstance(out, Features) and all(isinstance(part, Tensor) for part in (out.map, out.pooled))
    for part in (out.map, out.pooled) if whole else (out,) if isinstance(out, Tensor) else ():
        if part.is_complex() or part.is_meta or part.layout != torch.strided:
            found = f"{part.dtype} on {part.device}, {part.layout}"
            raise ValueError(f"expected real numbers of features from {name}, found {found}")
        if not part.numel():
            raise ValueError(f"expected features of one dimension or more from {name}, found {list(part.shape)}")
    if whole and out.map.ndim == 4 and out.pooled.ndim == 2 and len(out.pooled) == n:
        mean = out.map.float().mean((2, 3))
        plain = mean.shape == out.pooled.shape and torch.allclose(mean, out.pooled.float(), rtol=CLOSE, atol=CLOSE)
        return "gap" if plain else "own", out.pooled.shape[1], out.map.shape[2]
    if isinstance(out, Tensor) and out.ndim in (2, 4) and len(out) == n:
        return ("gap", out.shape[1], out.shape[2]) if out.ndim == 4 else ("own", out.shape[1], 0)
    found = f"a tensor {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise ValueError(f"expected Features, a map [B, D, h, w] or an embedding [B, D] from {name}, found {found}")


def typed_settings(overrides: Sequence[str], backbone: str) -> dict[str, Any]:
    """Settings by their name in `ModelConfig`, from "model.NAME=VALUE" each.

    A ValueError for a setting that there is not, that is an option, or that the backbone does not have, and for a value
    of another type or out of range.
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

    A ValueError if the file has none of them.
    """
    wanted = {f"pooling.{key}" for key in encoder.pooling.state_dict()}
    if wanted and not any(key.endswith(tuple(wanted)) for table in checkpoint.tables.values() for key in table):
        raise ValueError(
            f"expected the weights of attention pooling in {checkpoint.path}, found none; type: --set model.pooling=gap"
        )
