"""Encoders from elsewhere and from runs, opened for Python; or kept: a run folder for one that was not trained here."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from torch import nn

from probekit.data.gen import dataset_or_default
from probekit.data.split import CPU, to_device
from probekit.device import choose_device, find_device
from probekit.h5 import read_split, verify
from probekit.models.backbones import normalisation
from probekit.models.encoder import Encoder, save_encoder
from probekit.models.layers.read import layers_of
from probekit.models.outside import draw_anew
from probekit.models.tensor_files import read_tensors
from probekit.restore.around import around
from probekit.restore.build import make_plain
from probekit.restore.kinds import is_outside, kind_of
from probekit.restore.opened import Opened, open_encoder
from probekit.restore.outside import MAX_SIZE, Made, Outside, make_encoder
from probekit.restore.pooled import layered, pooling
from probekit.run import IMPORTED, Run, create_run, free_name, git_commit, open_run, same_named, to_json, versions
from probekit.weights import Weights

T = TypeVar("T")

TRIAL = 2  # images that are passed once, to see what comes out
NO_DATA = {"path": "no dataset file", "hash": "", "name": "exam"}  # what an encoder has that was examined alone


def adopt(
    asked: Outside,
    check: Callable[..., object],
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

    Returns the run's name; its state is "imported". A ValueError if the encoder cannot be made, the weights do not fit,
    or it cannot be probed as asked for. No folder has been made then.

    Args:
        check: Given a dataset file and `named`, the encoder as it was typed: refuses a file that lacks what is to be
            measured, before a folder is made.
        run: A run that was named beside it, which is refused.
        data: The dataset file that it is to be probed on; None is the newest.
        measured: What is to be probed, "last" under some pooling: there are no others.
        runs: The folder of run folders; nothing in it is overwritten.
    """
    if run is not None:
        raise ValueError(f"expected a run or --encoder, found both, {run} and {asked.encoder}; leave one out")
    if measured.checkpoint != "last":
        raise ValueError(f"expected --checkpoint of a run, found {measured.checkpoint} with --encoder; leave it out")
    find_device(device)
    info = verify(dataset_or_default(data, data_folder, runs, console))
    check(info, named=shlex.join(asked.words))
    few = read_split(info.path, info.first.name, stop=min(TRIAL, info.first.n))
    images = to_device(few.images, CPU, max_size=MAX_SIZE)
    made = _made(asked, images.float() / 255, measured, console)
    dataset = {"path": str(info.path), "hash": info.content_hash, "name": info.name}
    return _keep(asked, made, dataset, (info.first.height, info.first.width), info.classes, runs, console).name


def adopt_alone(asked: Outside, *, size: int, measured: Weights, device: str, runs: Path, console: Console) -> str:
    """As `adopt`, of an encoder that is to read drawings of a size, in colour or grey, and no dataset file."""
    find_device(device)
    drawings = torch.rand(TRIAL, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        made = colour_or_grey(lambda channels: _made(asked, drawings[:, :channels], measured, console))
    except ValueError as error:  # drawings are not imported: their size is typed
        raise ValueError(str(error).replace("probekit import SOURCE ", "")) from error
    return _keep(asked, made, NO_DATA, (size, size), (), runs, console).name


def colour_or_grey(make: Callable[[int], T]) -> T:
    """What takes drawings in three channels, or else in one; a ValueError of the former if it takes neither."""
    try:
        return make(3)
    except ValueError:
        try:
            return make(1)
        except ValueError:
            pass
        raise


def _made(asked: Outside, images: torch.Tensor, measured: Weights, console: Console) -> Made:
    made = make_encoder(asked, images)
    if measured.of_layers:
        layered(made.encoder, measured, layers_of(made.encoder, (images.shape[2], images.shape[3])))
    elif measured.pool is not None:
        pooling(measured.pool, made.encoder)
    for line in made.lines:
        console.print(line)
    return made


def _keep(
    asked: Outside,
    made: Made,
    dataset: dict[str, str],
    size: tuple[int, int],
    classes: Sequence[str],
    runs: Path,
    console: Console,
) -> Run:
    stem = called(asked.encoder)
    weights = "" if asked.weights is None else str(asked.weights)
    model = {**made.encoder.spec, "weights": weights}
    content = imported(made.method, model, dataset, seed=asked.seed)
    content["weights"] = None if made.match is None else {**made.match.as_dict(), "revision": made.revision}
    for run in same_named(f"{stem}-{dataset['name']}", runs):
        if _is_of(run, content, made.encoder, size):
            console.print(f"run: {run.path}, an imported run of the same encoder")
            return run
    run = create_run(runs / free_name(f"{stem}-{dataset['name']}", runs), content, overwrite=False)
    header = {
        "method": made.method,
        "epoch": 0,
        "image_size": list(size),
        "max_size": MAX_SIZE,
        "dataset_hash": dataset["hash"],
        "classes": list(classes),
    }
    save_encoder(run.encoder, made.encoder, header)
    console.print(f"made {run.path}, an imported run")
    return run


def called(name: str) -> str:
    """The first part of the name of a run of an encoder that was not trained here; of "hf:." the folder's own name."""
    last = name.rpartition(":")[2]
    placed = is_outside(name) and kind_of(name).place is not None
    return (Path(os.path.abspath(Path(last).expanduser())).name if placed else "") or last.replace("/", "-")


def _is_of(run: Run, content: Mapping[str, Any], encoder: Encoder, size: tuple[int, int]) -> bool:
    """Whether a run folder holds this very encoder, imported in the same words for the same dataset and image size."""
    asked = ("state", "config", "dataset", "weights")
    try:
        found = run.read()
        header, tensors = read_tensors(run.encoder)
    except (ValueError, OSError):
        return False
    if to_json({key: found.get(key) for key in asked}) != to_json({key: content[key] for key in asked}):
        return False
    if header.get("image_size") != list(size):  # layers are told by images of that size
        return False
    state = encoder.state_dict()
    return state.keys() == tensors.keys() and all(torch.equal(state[name].cpu(), tensors[name]) for name in state)


def imported(method: str, model: Mapping[str, Any], dataset: Mapping[str, str], *, seed: int) -> dict[str, Any]:
    """What run.json says of an encoder that was not trained here."""
    return {
        "state": IMPORTED,
        "config": {"method": method, "seed": seed, "model": model, "train": {"epochs": 0, "eval_every": 0}},
        "dataset": dataset,
        "weights": None,
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": git_commit(),
    }


class OpenedModule(Opened):
    """An encoder around a module of the user's own, of which random weights are a copy whose layers are drawn anew."""

    def _untrained(self, seed: int) -> Encoder:
        module = deepcopy(self.encoder.backbone.module).cpu()  # where every random network is drawn
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            draw_anew(module)
        make_plain(module)
        return Encoder(**self.header["spec"], module=module)


def load(
    source: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    checkpoint: str = "last",
    pool: str | None = None,
    layer: str | int | None = None,
    normalise: str = "auto",
    allow_missing: bool = False,
    allow_download: bool = False,
    settings: Sequence[str] = (),
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    device: str = "auto",
    runs: str | Path = "runs",
) -> Opened:
    """Opens an encoder.

    Args:
        source: A run by name or path; "timm:NAME", "py:MODULE:FUNCTION", "hf:FOLDER", "unet"; or a module (copied) that
            gives a map `[B, D, h, w]`, an embedding `[B, D]` or `probekit.models.Features` of images `[B, C, H, W]` in
            [0, 1].
        weights: A checkpoint of any project, for "timm:" and "unet"; None is random weights.
        checkpoint: Which of a run's: "last", "best_val", "best_test" or "epoch-NNNN".
        pool: A pooling in place of its own.
        layer: The name or number of a layer that is read in place of its own embedding.
        normalise: What is taken off and divided by before a module, or one of timm, sees an image.
        allow_download: Whether what "hf:ORG/NAME" names may be fetched where it is not here.
        settings: More of the model, "model.NAME=VALUE" each.
        channels: Channels of the images, for encoders that are no runs.
        size: Pixels a side of the images that it is tried with, likewise.
        seed: Seed of random weights, likewise.
    """
    place, which = choose_device(device), Weights.parse(checkpoint, pool, None if layer is None else str(layer))
    named = "a module" if isinstance(source, nn.Module) else str(source)
    is_run = not isinstance(source, nn.Module) and not is_outside(named)
    if (isinstance(source, nn.Module) or is_run) and (weights is not None or allow_missing):
        raise ValueError(f"expected weights and allow_missing for timm:NAME or unet, found them with {named}")
    if (isinstance(source, nn.Module) or is_run) and settings:
        raise ValueError(f"expected settings for an encoder by name, found them with {named}; leave them out")
    if is_run:
        if normalise != "auto":
            raise ValueError(f"expected normalise for an encoder from elsewhere, found it with the run {named}")
        return open_encoder(open_run(named, Path(runs)), which, place)
    if which.checkpoint != "last":
        raise ValueError(f"expected a checkpoint of a run, found {which.checkpoint} with {named}; leave it out")
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    header: dict[str, Any] = {"epoch": 0, "image_size": [size, size], "max_size": MAX_SIZE, "classes": []}
    if isinstance(source, nn.Module):
        name = type(source).__name__
        encoder = around(deepcopy(source).cpu(), name, images, normalisation(normalise, name, channels))
        return OpenedModule(name, encoder, header | {"spec": encoder.spec, "method": name}, place, weights=which)
    asked = Outside(named, Path(weights) if weights else None, normalise, seed, allow_missing, settings, allow_download)
    made = make_encoder(asked, images)
    header |= {"spec": made.encoder.spec, "method": made.method}
    return Opened(named, made.encoder, header, place, weights=which, sha256=made.match.sha256 if made.match else "")
