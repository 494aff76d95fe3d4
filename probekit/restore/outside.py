"""Encoders that were trained elsewhere, as they are asked for, and as they are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from torch import Tensor

from probekit.checked import checked
from probekit.config import Count, ModelConfig, NormaliseName
from probekit.models.backbones import described, untagged
from probekit.models.checkpoint import Checkpoint, read_checkpoint
from probekit.models.encoder import Encoder, check_takes
from probekit.models.weights import Match, load_weights
from probekit.registry import nearest
from probekit.restore.kinds import UNET, input_of_timm, kind_of
from probekit.settings import parse_overrides
from probekit.weights import RANDOM

MAX_SIZE = 1024  # px; larger images are averaged down, as with preset paper

# Settings that are options of `probe` of their own.
OPTIONS = {
    "model.backbone": "--encoder NAME",
    "model.weights": "--weights FILE",
    "model.allow_missing": "--allow-missing",
}
OWN: dict[str, Any] = {"input": Literal["auto", "none", "timm"]}  # what encoders that are pretrained here have not


@dataclass(frozen=True)
class Outside:
    """An encoder from elsewhere, as it is asked for.

    `encoder`: of one of the forms of `probekit.restore.kinds`. `weights`: a checkpoint of any project, FILE or
    FILE:KEY; None is random weights, or those a module comes with. `normalise`: one of `probekit.config.NormaliseName`.
    `settings`: more of the model, "model.NAME=VALUE" each. `allow_download`: whether what is not here may be fetched.
    """

    encoder: str
    weights: Path | None = None
    normalise: str = "auto"
    seed: int = 0
    allow_missing: bool = False
    settings: Sequence[str] = ()
    allow_download: bool = False

    @property
    def words(self) -> list[str]:
        """What to type for it."""
        typed = ["--encoder", self.encoder, *(["--weights", str(self.weights)] if self.weights else [])]
        typed += ["--allow-missing"] * self.allow_missing + ["--allow-download"] * self.allow_download
        typed += [] if self.normalise == "auto" else ["--normalise", self.normalise]
        return typed + [word for setting in self.settings for word in ("--set", setting)]

    @property
    def is_random(self) -> bool:
        """Whether it has random weights: some kinds come with their own."""
        return self.weights is None and not kind_of(self.encoder).own


@dataclass(frozen=True)
class Made:
    """An encoder that was made, and what is to be said of it.

    `encoder`: in the mode that it was made in, on the CPU. `match`: how a file's weights fit; None without a file.
    `method`: what it is called: its name, and what of it is random. `revision`: the commit of the repository that its
    weights are of; "" for others.
    """

    encoder: Encoder
    match: Match | None
    method: str
    lines: Sequence[str]
    revision: str = ""


def make_encoder(asked: Outside, images: Tensor) -> Made:
    """Makes an encoder that takes images of this shape.

    `images`: some, `[B, C, H, W]` in [0, 1], at the size that it is to take. A ValueError if it cannot be made, does
    not take them, or the weights do not fit.
    """
    _check(asked)
    kind = kind_of(asked.encoder)
    typed = typed_settings(asked.settings, asked.encoder)
    if asked.normalise != "auto" and "normalise" in typed:
        raise ValueError("expected --normalise or --set model.normalise, found both; leave one out")
    place = None if kind.place is None else kind.place(asked.encoder, allow_download=asked.allow_download)
    name = asked.encoder if place is None else f"hf:{place.folder}"
    weights = read_checkpoint(asked.weights) if asked.weights else kind.weights(name) if kind.weights else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        encoder = kind.make(name, {"normalise": asked.normalise, **typed}, weights, images)
    lines = [f"repository: {asked.encoder}, revision {place.revision}"] if place and place.revision else []
    if encoder.spec.get("stem") == "small" and "stem" not in typed:
        lines.append(f"model.stem=small, as the first convolution of {asked.weights} is 3x3: no stride, no max-pooling")
    if encoder.spec.get("arguments", {}).get("without"):
        lines.append(f"the norm after the last block of {asked.encoder} is left out, as {asked.weights} has none")
    if encoder.spec.get("thrice"):
        lines.append(f"{asked.encoder} takes three channels, and is given the one of grey images in each")
    match = None
    if weights is not None:
        check_pooling(weights, encoder)
        match = load_weights(encoder, weights, allow_missing=asked.allow_missing)
        check_takes(encoder, (images.shape[2], images.shape[3]))
    if match:
        lines += match.lines()
    elif kind.own:
        lines.append(f"weights: those that {asked.encoder} comes with")
    else:
        lines.append(f"weights: random, of seed {asked.seed}; --weights FILE reads others (nothing is downloaded)")
    normalised = described(encoder.spec.get("normalise"))
    lines += _said_of_images(encoder, has_weights=match is not None)
    lines.append(f"normalisation: {normalised}; {encoder.dim} features, {encoder.stride} px a cell")
    mark = RANDOM if asked.is_random else match.mark if match else ""
    return Made(
        encoder, match, f"{asked.encoder} ({mark})" if mark else asked.encoder, lines, place.revision if place else ""
    )


def _said_of_images(encoder: Encoder, *, has_weights: bool) -> list[str]:
    """What is done to images before the network, and what timm would do to them."""
    if encoder.input is not None:
        return [f"images: {encoder.input}; --set model.input=none takes them as they are"]
    kind, _, name = encoder.spec.get("backbone", "").partition(":")
    if kind != "timm" or not has_weights or "arguments" in encoder.spec:
        return []
    return [f"images: as they are; --set model.input=timm has them {input_of_timm(name)}, as timm's weights expect"]


def _check(asked: Outside) -> None:
    """Refuses what no file and no images could satisfy."""
    checked(asked.normalise, NormaliseName, "", "--normalise")
    if asked.weights is None and (plain := untagged(asked.encoder)) != asked.encoder:
        raise ValueError(
            f"expected --weights with {asked.encoder}, whose tag names pretrained weights (nothing is downloaded), "
            f"found none; type: --encoder {plain} for random ones"
        )
    if asked.weights is None and asked.allow_missing and not kind_of(asked.encoder).weights:
        raise ValueError("expected --weights with --allow-missing, found none; type: --weights FILE, or leave it out")
    if asked.weights is not None and kind_of(asked.encoder).weights:
        raise ValueError(f"expected no --weights with {asked.encoder}, which has its own, found one; leave it out")


def typed_settings(overrides: Sequence[str], backbone: str) -> dict[str, Any]:
    """Settings by their name in `ModelConfig`, from "model.NAME=VALUE" each.

    A ValueError for a setting that there is not, that is an option, or that the backbone does not have, and for a value
    of another type or out of range.
    """
    types = get_type_hints(ModelConfig, include_extras=True) | dict.fromkeys(UNET, Count) | OWN
    known = [key for key in (f"model.{name}" for name in types) if key not in OPTIONS]
    found = {}
    for key, value in parse_overrides(overrides).items():
        name = key.removeprefix("model.")
        if key in OPTIONS:
            raise ValueError(f"expected {OPTIONS[key]} in place of {key}, found --set {key}; leave it out")
        if key not in known:
            raise ValueError(nearest("setting of an encoder", key, known))
        if name not in kind_of(backbone).settings:
            raise ValueError(f"expected no {key} with {backbone}, which has none, found {value}; leave it out")
        found[name] = checked(value, types[name], "", key)
    return found


def check_pooling(checkpoint: Checkpoint, encoder: Encoder) -> None:
    """Refuses weights of a backbone alone for an encoder whose pooling has weights, too.

    A ValueError if the file has none of them.
    """
    wanted = {f"pooling.{key}" for key in encoder.pooling.state_dict()}
    if wanted and not any(key.endswith(tuple(wanted)) for table in checkpoint.tables.values() for key in table):
        raise ValueError(
            f"expected the weights of attention pooling in {checkpoint.path}, found none; type: --set model.pooling=gap"
        )
