"""From a configuration to a method: an encoder, weights to start from or plain random ones; and its checkpoints."""

import hashlib
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from probekit.branches.base import Branch, attach
from probekit.config import SIDE, Config
from probekit.data.split import DeviceSplit, Images, shrunk
from probekit.files import replaced, replaced_file
from probekit.h5 import DatasetInfo
from probekit.methods.base import Method
from probekit.models.backbones import described, normalisation, untagged
from probekit.models.checkpoint import read_checkpoint
from probekit.models.encoder import Encoder, build_encoder, check_header
from probekit.models.layers.network import NORMS, PRODUCTS
from probekit.models.outside import is_module
from probekit.models.tensor_files import read_torch
from probekit.models.weights import default_normalise, load_weights
from probekit.registry import BRANCHES, METHODS, get
from probekit.views.corrupt import chances_of
from probekit.views.recipes import RECIPES, VIEWS, recipe_of

SCALES = ("gamma", "layer_scale", "ls", "scale", "skipinit_gain")  # begin the names of what a branch is multiplied by
FAINT = 0.1  # a scale of at most that hides its branch: papers have 0 to 1e-5, BEiT .1; those of activations are above
SAME = 1e-5  # relative to the largest; embeddings that differ by less are the same
FORMAT = "probekit-checkpoint/1"
PARTS = ("method", "optimizer", "rng", "progress", "encoder_header")


def with_normalise(config: Config) -> Config:
    """The configuration with `model.normalise` "auto" made what the weights that it starts from were trained with.

    A ValueError if the file of weights is no checkpoint, or the backbone's name says which weights but no file does.
    """
    model = config.model
    if not model.weights and (plain := untagged(model.backbone)) != model.backbone:
        raise ValueError(
            f"expected --init-from FILE with {model.backbone}, whose tag names pretrained weights (nothing is "
            f"downloaded), found none; type: --set model.backbone={plain} to begin with random ones"
        )
    if model.normalise != "auto":
        return config
    checkpoint = read_checkpoint(Path(model.weights)) if model.weights else None
    normalise: Any = default_normalise(checkpoint, model.backbone)
    return replace(config, model=replace(model, normalise=normalise))


def fresh_encoder(config: Config, *, channels: int) -> Encoder:
    """The encoder of a configuration, its weights drawn from the generator as it is."""
    model = config.model
    return Encoder(
        channels=channels,
        pooling=model.pooling,
        backbone=model.backbone,
        width=model.width,
        depth=model.depth,
        stem=model.stem,
        normalise=normalisation(model.normalise, model.backbone, channels),
    )


def build_method(config: Config, *, channels: int, classes: int = 2) -> Method:
    """The method with fresh weights, a function of the configuration and its seed alone.

    `channels`: channels of the images, 1 or 3; `classes`: how many the dataset has; for methods that need labels.
    """
    kind = get(METHODS, "method", config.method)
    if config.views.recipe not in RECIPES:
        known = ", ".join(RECIPES)
        raise ValueError(f"expected views.recipe one of {known}, found {config.views.recipe!r}")
    if (recipe := recipe_of(config.views)).corrupt:
        chances_of(channels, recipe.odds)  # refuses odds that leave none
    if "two_views" in kind.provides and RECIPES[config.views.recipe].views != VIEWS:
        raise ValueError(
            f"expected views.recipe with two views of an image for {config.method}, found {config.views.recipe!r}; "
            f"type: --set views.recipe={kind.recipe}"
        )
    if all(crops.area is not None and crops.area[0] >= 1 for crops in RECIPES[config.views.recipe].crops):
        for name in config.branches:
            if get(BRANCHES, "branch", name).placement is not Branch.placement:
                raise ValueError(
                    f"expected views.recipe with crops for branch {name}, which places them, found "
                    f"{config.views.recipe!r}; type: --set views.recipe={kind.recipe}, or leave --branch out"
                )
    if is_module(config.model.backbone):
        raise ValueError(
            "expected model.backbone unet or timm:NAME, found an encoder of your own, which can be probed: "
            f"type: probekit probe --encoder {config.model.backbone} --data FILE"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = fresh_encoder(config, channels=channels)
        labels = [classes] if kind.needs_labels else []
        method: Method = kind(encoder, *labels, **config.method_options)
        for name, settings in config.branches.items():
            # Numbers of their own: with a branch the method begins as without it.
            torch.manual_seed(stream_seed(config.seed, "branch", name))
            attach(method, get(BRANCHES, "branch", name)(encoder, **settings))
    if config.train.monitored == "projection" and method.projection is None:
        raise ValueError(
            f"expected a method with a projection head for train.monitored=projection, found {config.method}; "
            "type: --set train.monitored=embedding"
        )
    return method


def size_notes(config: Config, images: Images, typed: Collection[str]) -> list[str]:
    """A line for each size that the user gave and images or views cannot have exactly."""
    lines = []
    for key, most in (("data.max_size", config.data.max_size), ("views.max_size", config.views.max_size)):
        height, width = shrunk(images, most)
        if key in typed and max(images.shape[-2:]) > most != max(height, width):
            lines.append(f"warning: {key}={most} becomes {height}x{width}: sides are multiples of {SIDE}")
    return lines


def on_device(method: Method, device: torch.device) -> Method:
    """The method on the device, channels last: faster for convolutions on a CPU, and the layout GPUs want."""
    return method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def start_from_weights(method: Method, config: Config, console: Console) -> dict[str, Any] | None:
    """Puts the weights that a run starts from into its encoder; says and returns how they matched."""
    if not config.model.weights:
        return None
    checkpoint = read_checkpoint(Path(config.model.weights))
    match = load_weights(method.encoder, checkpoint, allow_missing=config.model.allow_missing)
    method.synchronise()
    for line in match.lines():
        console.print(line)
    console.print(f"normalisation: {described(method.encoder.spec.get('normalise'))}")
    return match.as_dict()


def check_labels(train: DeviceSplit, info: DatasetInfo, method: str) -> None:
    """Refuses images without labels, for a method that needs them."""
    labels, classes = train.split.labels, len(info.classes)
    if labels is not None and classes > 1 and not info.multilabel:
        return
    found = "none" if labels is None else f"{classes} class{'es' * (classes != 1)}"
    if info.multilabel:
        found = "several an image"
    raise ValueError(
        f"expected one label an image, of two classes or more, for {method}, found {found} in {info.path}; "
        "type: --data LABELLED.h5, or choose a method without labels (probekit list)"
    )


def stream_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream that `names` name, unrelated to that of any other name or seed.

    Torch's streams of one seed are the same numbers, so initialisation, dropout and views must not share theirs.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def untrained_encoder(spec: dict[str, Any], seed: int) -> Encoder:
    """The encoder that `spec` (an encoder's) describes with the plain random weights of a seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(spec)
        make_plain(encoder)
    return encoder.eval()


@torch.no_grad()
def make_plain(network: nn.Module) -> None:
    """Gives a network with fresh weights, in place, a plain initialisation.

    Linear layers and convolutions have no offset, else in a deep one offsets are all that comes through, and weights
    that are not all 0; norms neither scale nor shift; and branches are not scaled down. All else stays as it is.
    """
    for module in network.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, PRODUCTS):
            if not module.weight.any():
                module.reset_parameters()
        elif isinstance(module, NORMS):
            if "weight" in own:
                own["weight"].fill_(1)
        else:
            for name, scale in own.items():
                if name.startswith(SCALES) and bool((scale == scale.flatten()[0]).all()) and scale.abs().max() <= FAINT:
                    scale.fill_(1)
            continue
        if "bias" in own:
            own["bias"].zero_()


@torch.no_grad()
def alike(first: Encoder, second: Encoder, size: tuple[int, int], device: torch.device) -> bool:
    """Whether two encoders in eval mode on a device give the same embeddings of noise of (height, width)."""
    noise = torch.rand(2, first.spec["channels"], *size, generator=torch.Generator().manual_seed(0)).to(device)
    own, other = first(noise).pooled, second(noise).pooled
    return bool((own - other).abs().max() <= SAME * own.abs().max())


def save_checkpoint(paths: Sequence[Path], content: dict[str, Any]) -> None:
    """Writes a checkpoint to each path in turn, whole or not at all: a kill leaves the old one."""
    first, *others = paths
    with replaced_file(first) as file:
        torch.save({"format": FORMAT, **content}, file)
    for path in others:
        with replaced(path) as temporary:
            shutil.copyfile(first, temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint; a ValueError if there is none, it is not of this format, or not as it was written."""
    if not path.exists():
        raise ValueError(
            f"expected a checkpoint {path}, found none; the run was stopped before its first one: "
            "type --overwrite instead of --resume"
        )
    content = read_torch(path, device)
    if content.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT} in {path}; it was written by another version")
    missing = [part for part in PARTS if not isinstance(content.get(part), dict)]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} in {path}, found none")
    if not isinstance(content["progress"].get("epoch"), int):
        raise ValueError(f"expected a number of epochs in {path}, found none")
    check_header(content["encoder_header"], path)
    return content


def rng_state(device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Every random state that training reads: the global ones (dropout) and the views'."""
    state = {"global": torch.get_rng_state(), "views": generator.get_state()}
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: dict[str, Any], device: torch.device, generator: torch.Generator) -> None:
    """Puts back what `rng_state` took; a ValueError if it was taken on the other kind of device."""
    kind = "cuda" if "device" in state else "cpu"
    if kind != device.type:
        raise ValueError(
            f"expected --device {kind}, on which the run started, found {device.type}; type: --device {kind}"
        )
    torch.set_rng_state(state["global"].cpu())
    generator.set_state(state["views"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"].cpu(), device)
