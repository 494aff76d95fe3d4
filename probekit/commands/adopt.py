"""`probekit probe --encoder`: makes a run folder for an encoder that was not trained here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from probekit.commands.locate import dataset_or_default
from probekit.commands.model_settings import check_pooling, full_settings, has_small_stem, typed_settings
from probekit.commands.probe_options import ProbeOptions
from probekit.commands.protocols import sections_for
from probekit.commands.sources import read_labels
from probekit.config import CHOICES
from probekit.data.split import check_depth, shrunk_size, to_device
from probekit.device import find_device
from probekit.h5 import DatasetInfo, read_split, verify
from probekit.models.backbones import untagged
from probekit.models.checkpoint import Checkpoint, read_checkpoint
from probekit.models.encoder import Encoder, Features, check_takes, save_encoder
from probekit.models.normalise import described, normalisation
from probekit.models.outside import code_of, make_outside
from probekit.models.untrained import make_plain
from probekit.models.weights import Match, default_normalise, load_weights
from probekit.restore.opened import RANDOM
from probekit.restore.pooled import pooling
from probekit.run import IMPORTED, Run, create_run, free_name, git_commit, versions
from probekit.visible import first_line
from probekit.weights import Weights

MAX_SIZE = 1024  # px; larger images are averaged down, as with preset paper
TRIAL = 2  # images that are passed once, to see what comes out
CLOSE = 1e-4  # relative; how near an embedding is to the mean of its map if it is that mean


@dataclass(frozen=True)
class Outside:
    """What the command line asks for; see `probekit probe --help`."""

    encoder: str | None
    weights: Path | None = None
    normalise: str = "auto"
    seed: int = 0
    allow_missing: bool = False
    settings: Sequence[str] = ()


def is_random(asked: Outside) -> bool:
    """Whether the encoder has random weights: those of a user's own module are what it comes with."""
    return asked.weights is None and not str(asked.encoder).startswith("py:")


def adopt(
    asked: Outside,
    options: ProbeOptions,
    *,
    run: str | None,
    data: Path | None,
    measured: Weights,
    device: str,
    runs: Path,
    data_folder: Path,
    console: Console,
) -> str:
    """Makes the run folder of an encoder from elsewhere, which then is probed, looked into and reported as any other.

    Args:
        asked: "timm:NAME", "py:MODULE:FUNCTION" or "unet", its settings, its weights, and the seed of random ones.
        options: What is to be measured: what the data lack for it is refused before a folder is made.
        run: A run that was named beside it, which is refused.
        data: The dataset file that it is to be probed on; None is the newest.
        measured: What is to be probed, "last" under some pooling: there are no others.
        device: Where it is to be probed.
        runs: The folder of run folders; nothing in it is overwritten.
        data_folder: Where the newest dataset file is looked for.
        console: Where messages go.

    Returns:
        The run's name; its state is "imported".

    Raises:
        ValueError: If the encoder cannot be made, the weights do not fit, or it cannot be probed as asked for. No
            folder has been made then.
    """
    if asked.encoder is None:
        raise ValueError(
            "expected --encoder with --weights, --normalise and --set; type: --encoder timm:resnet50, or py:..."
        )
    if run is not None:
        raise ValueError(f"expected a run or --encoder, found both, {run} and {asked.encoder}; leave one out")
    if measured.checkpoint != "last":
        raise ValueError(f"expected --checkpoint of a run, found {measured.checkpoint} with --encoder; leave it out")
    if options.every:
        raise ValueError("expected --every for a run of pretrain, found it with --encoder; leave it out")
    find_device(device)
    info = verify(dataset_or_default(data, data_folder, runs, console))
    sections_for(f"--encoder {quote(asked.encoder)}", read_labels(info), options)
    if asked.normalise not in CHOICES["model.normalise"]:
        known = ", ".join(CHOICES["model.normalise"])
        raise ValueError(f"expected --normalise one of {known}, found {asked.normalise!r}")
    if asked.weights is None and (plain := untagged(asked.encoder)) != asked.encoder:
        raise ValueError(
            f"expected --weights with {asked.encoder}, whose tag names pretrained weights (nothing is downloaded), "
            f"found none; type: --encoder {plain} for random ones"
        )
    if asked.weights is None and asked.allow_missing:
        raise ValueError("expected --weights with --allow-missing, found none; type: --weights FILE, or leave it out")
    typed = typed_settings(asked.settings, asked.encoder)
    if asked.normalise != "auto" and "normalise" in typed:
        raise ValueError("expected --normalise or --set model.normalise, found both; leave one out")
    weights = None if asked.weights is None else read_checkpoint(asked.weights)
    encoder = _build(asked, typed, weights, info)
    if measured.pool is not None:
        pooling(measured.pool, encoder, ())
    if encoder.spec.get("stem") == "small" and "stem" not in typed:
        console.print(
            f"model.stem=small, as the first convolution of {asked.weights} is 3x3: no stride, no max-pooling"
        )
    if weights is not None:
        check_pooling(weights, encoder)
    match = None if weights is None else load_weights(encoder, weights, allow_missing=asked.allow_missing)
    if weights is not None:
        check_takes(encoder, shrunk_size(info.first.height, info.first.width, MAX_SIZE))
    for line in match.lines() if match else [_no_file(asked.encoder, asked.seed)]:
        console.print(line)
    console.print(
        f"normalisation: {described(encoder.spec.get('normalise'))}; {encoder.dim} features, {encoder.stride} px a cell"
    )
    return _keep(asked, encoder, match, info, runs, console).name


def _build(asked: Outside, typed: Mapping[str, Any], checkpoint: Checkpoint | None, info: DatasetInfo) -> Encoder:
    backbone, name = str(asked.encoder), typed.get("normalise", asked.normalise)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        if backbone.startswith("py:"):
            images = to_device(
                read_split(info.path, info.first.name, stop=TRIAL).images, torch.device("cpu"), max_size=MAX_SIZE
            )
            return build_outside(backbone, images.float() / 255, normalisation(name, backbone, info.first.channels))
        if backbone != "unet" and not backbone.startswith("timm:"):
            raise ValueError(f"expected --encoder timm:NAME, py:MODULE:FUNCTION or unet, found {backbone!r}")
        if name == "auto":
            name = default_normalise(checkpoint, backbone)
        model = full_settings(typed, backbone, checkpoint)
        size = shrunk_size(info.first.height, info.first.width, MAX_SIZE)
        check_depth(model.get("depth", 0), size)
        normalise = normalisation(name, backbone, info.first.channels)
        spec: dict[str, Any] = {"channels": info.first.channels, "backbone": backbone, **model, "normalise": normalise}
        encoder = Encoder(**spec)
        if checkpoint is not None and "stem" not in typed and has_small_stem(checkpoint, encoder):
            encoder = Encoder(**{**spec, "stem": "small"})
        if is_random(asked):
            make_plain(encoder)
        if backbone != "unet":
            check_takes(encoder, size)
        return encoder


def build_outside(name: str, images: Tensor, normalise: dict[str, list[float]] | None) -> Encoder:
    """An encoder around a user's own module, with the weights that it came with.

    Args:
        name: "py:MODULE:FUNCTION".
        images: Some, `[B, C, H, W]` in [0, 1], to see what the module makes of them.
        normalise: See `Encoder`.

    Raises:
        ValueError: If the module cannot be made, fails on the images, or gives something else than it should.
    """
    module = make_outside(name).eval()
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
    encoder = Encoder(
        channels=images.shape[1],
        pooling=pooling,
        backbone=name,
        normalise=normalise,
        shape=(dim, stride),
        code=code_of(name),
    )
    outside: nn.Module = encoder.backbone.module
    outside.load_state_dict(module.state_dict())
    return encoder


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
    if isinstance(out, Tensor) and len(out) == n and out.ndim in (2, 4):
        return ("gap", out.shape[1], out.shape[2]) if out.ndim == 4 else ("own", out.shape[1], 0)
    found = f"a tensor {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise ValueError(f"expected Features, a map [B, D, h, w] or an embedding [B, D] from {name}, found {found}")


def _no_file(name: str, seed: int) -> str:
    if name.startswith("py:"):
        return f"weights: those that {name} comes with"
    return f"weights: random, of seed {seed}; --weights FILE reads others (nothing is downloaded)"


def _keep(
    asked: Outside, encoder: Encoder, match: Match | None, info: DatasetInfo, runs: Path, console: Console
) -> Run:
    assert asked.encoder is not None
    stem = asked.encoder.rpartition(":")[2].replace("/", "-")
    weights = "" if asked.weights is None else str(asked.weights)
    mark = RANDOM if is_random(asked) else match.mark if match else ""
    method = f"{asked.encoder} ({mark})" if mark else asked.encoder
    run = create_run(
        runs / free_name(f"{stem}-{info.path.stem}", runs),
        {
            "state": IMPORTED,
            "config": {
                "method": method,
                "seed": asked.seed,
                "model": {**encoder.spec, "weights": weights},
                "train": {"epochs": 0, "eval_every": 0},
            },
            "dataset": {"path": str(info.path), "hash": info.content_hash, "name": info.path.stem},
            "weights": None if match is None else match.as_dict(),
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "commit": git_commit(),
        },
        overwrite=False,
    )
    header = {
        "method": method,
        "epoch": 0,
        "image_size": [info.first.height, info.first.width],
        "max_size": MAX_SIZE,
        "dataset_hash": info.content_hash,
        "classes": list(info.classes),
    }
    save_encoder(run.encoder, encoder, header)
    console.print(f"made {run.path}, an imported run")
    return run
