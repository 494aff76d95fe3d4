"""A run before it begins: what was typed, resolved against the data and the device, and what is said of it first."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.filesize import decimal

from probekit import ranks
from probekit.branches.base import active_branches, needs_masks
from probekit.config import Config, fitted, resolve
from probekit.data.foreground import foreground
from probekit.data.split import DeviceSplit, Photographs, check_depth, check_divisible, open_split, shrunk
from probekit.device import (
    batch_that_fits,
    choose_device,
    compute_deterministically,
    default_preset,
    describe_device,
    has_bf16,
    told,
    with_precision,
)
from probekit.h5 import DatasetInfo, verify
from probekit.methods.base import Method
from probekit.models.encoder import check_takes
from probekit.registry import BRANCHES, METHODS, get
from probekit.restore.build import build_method, check_labels, on_device, size_notes, start_from_weights, with_normalise
from probekit.settings import Asked, overridden, typed
from probekit.train.logged import chosen
from probekit.train.optim import scaled_rate
from probekit.train.step import TrainingStep


@dataclass(frozen=True)
class Planned:
    """A run as it would begin: all that was typed is resolved and checked, and nothing is written.

    `train`: its training split, where the settings place it. `method`: on the device, with the weights that it starts
    from. `weights`: how these matched, as run.json keeps it; None for random ones. `given`: the names of the settings
    that were typed.
    """

    asked: Asked
    config: Config
    info: DatasetInfo
    train: DeviceSplit
    method: Method
    weights: dict[str, Any] | None
    given: frozenset[str]
    notes: list[str]

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self.train.images.device


def plan(asked: Asked, data: Path, console: Console) -> Planned:
    """Reads and checks all that a run begins with; a ValueError for settings, data or a device that do not fit.

    `data`: a dataset file, labelled or not; `console`: where it is said how weights matched.
    """
    chosen(asked.log)  # what is not installed is said before anything is read
    place = choose_device(asked.device)
    kind = get(METHODS, "method", asked.method)
    config = resolve(
        asked.method,
        kind,
        preset=asked.preset or default_preset(place),
        seed=asked.seed,
        config_file=asked.config_file,
        overrides=asked.overrides,
        options=asked.options,
        branches=asked.branches,
    )
    config = with_normalise(with_precision(config, place))
    if config.train.deterministic:
        compute_deterministically(place)
    info = ranks.from_first(lambda: verify(data))
    train = open_placed(info, "train", config, place)
    if kind.needs_labels:
        check_labels(train, info, asked.method)
    given = typed(asked.config_file, asked.overrides, asked.options)
    config, notes = fitted(config, typed=given, images=len(train))
    notes += overridden(asked.overrides, asked.options) + size_notes(config, train.images, given)
    model = prepare(config, train, info, place)
    match = start_from_weights(model, config, console)
    if match is not None:  # before a folder is made
        check_takes(model.encoder, shrunk(train.images, config.data.max_size))
    return Planned(asked, config, info, train, model, match, frozenset(given), notes)


def open_placed(info: DatasetInfo, name: str, config: Config, device: torch.device) -> DeviceSplit:
    """A split as the settings place it."""
    data = config.data
    remedy = "free some of it, or start the run with: --set data.placement=host"
    with told(f"the images of split {name}", device, remedy):
        train = name == "train"  # of the others test crops alone are seen, wherever they have room
        placement = data.placement if train or info.splits[name].crop is None else "auto"
        cut = train and not masked(config)
        return open_split(info.path, name, device, max_size=data.max_size, placement=placement, cut=cut)


def masked(config: Config) -> bool:
    """Whether training needs the masks of the file, which those of photographs are of the test crop alone."""
    kinds = {name: get(BRANCHES, "branch", name) for name in config.branches}
    return any(needs_masks(kind) and kind.takes_part(config.branches[name]) for name, kind in kinds.items())


def prepare(config: Config, train: DeviceSplit, info: DatasetInfo, device: torch.device) -> Method:
    """The method on the device, if the images suit it."""
    sizes = [shrunk(train.images, most) for most in (config.data.max_size, config.views.max_size)]
    for size in sizes:
        check_depth(config.model.depth, size)
    method = build_method(config, channels=train.images.shape[1], classes=len(info.classes))
    for size in sizes:
        check_divisible(size, method.encoder.stride)
        if "backbone" in method.encoder.spec:
            check_takes(method.encoder, size)
    for branch in active_branches(method):
        branch.check_size((train.images.shape[-2], train.images.shape[-1]))
        if needs_masks(type(branch)):
            branch.take_masks(partial(training_masks, info, n=len(train), max_size=config.data.max_size))
    if len(train) < config.train.batch_size:
        raise ValueError(
            f"expected at least {config.train.batch_size} training images (one batch), found {len(train)}"
            + (f"; type: --batch-size {fits}" if 1 < (fits := shareable(len(train))) <= len(train) else "")
        )
    if ranks.size() > 1:
        unite(method, config.train.batch_size)
    with told("the weights", device, smaller_model(config)):
        return on_device(method, device)


def training_masks(info: DatasetInfo, mask: str, *, n: int, max_size: int) -> torch.Tensor:
    """What `foreground` gives of train; a ValueError if no image has any, so that a branch would do nothing."""
    found = foreground(info, "train", mask, n=n, max_size=max_size)
    if not found.any():
        called = f"mask {mask!r}" if mask else "masks"
        raise ValueError(
            f"expected a foreground in some images of train, found the {called} of {info.path} empty in all of them; "
            "choose another mask or file, or leave the branch out"
        )
    return found


def unite(method: Method, batch_size: int) -> None:
    """Lets several processes train one method, each with its share of a batch."""
    if batch_size % ranks.size():
        raise ValueError(
            f"expected a batch that {ranks.size()} processes can share, found {batch_size} images; "
            f"type: --batch-size {shareable(batch_size)}, or to go on with a run --gpus {ranks.fewer(batch_size)}"
        )
    method.unite(batch_size)


def shareable(batch_size: int) -> int:
    """The largest batch, of at most so many images, that all processes can share; an image for each at least."""
    return max(1, batch_size // ranks.size()) * ranks.size()


def smaller_batch(step: TrainingStep) -> str:
    """What to type after a batch did not fit."""
    config, batch = step.config, step.config.train.batch_size
    if ranks.size() > 1:  # another batch would be tried by all, and where one has no room the others wait for it
        less = shareable(batch // 2)
        advice = f"type: --batch-size {less}" if less < batch else smaller_model(config)
        return f"a batch of {batch} images does not fit into the memory of {ranks.size()} processes; {advice}"
    fits = batch_that_fits(step.rehearse, batch)
    advice = f"{fits} does: type --batch-size {fits}" if fits else f"nor a smaller one; {smaller_model(config)}"
    return f"a batch of {batch} images does not fit into the memory of {describe_device(step.images.device)}; {advice}"


def smaller_model(config: Config) -> str:
    """What to type after the model did not fit."""
    width = config.model.width
    return f"try {f'--set model.width={width // 2}' if width else 'a smaller model.backbone'}"


def announce(planned: Planned, console: Console) -> None:
    """What is trained on what and how, what was fitted to the images, and what the device cannot do well."""
    config, device = planned.config, planned.device
    chosen = "" if planned.asked.preset else f" (the default on a {'GPU' if device.type == 'cuda' else 'CPU'})"
    precision = config.train.precision
    settings = f"preset {config.preset}{chosen}, {precision}, {computing(device)}"
    console.print(f"pretraining {' + '.join((config.method, *config.branches))} on {planned.info.path}, {settings}")
    optimizer, batch = config.optimizer, config.train.batch_size
    if optimizer.scaling != "none":
        peak = scaled_rate(optimizer.lr, scaling=optimizer.scaling, batch_size=batch)
        rule = {"linear": f"* {batch} / 256", "sqrt": f"* sqrt({batch})"}[optimizer.scaling]
        console.print(f"learning rate {optimizer.lr:g} {rule} = {peak:g}, for batches of {batch} images")
    if precision == "bf16" and not has_bf16(device):
        console.print("warning: this device has no bfloat16 units and emulates them, slowly; type --precision fp32")
    if "train.precision" not in planned.given:
        announce_precision(config, device, console)
    for note in planned.notes:
        console.print(note)
    for branch in active_branches(planned.method):
        if line := branch.note(planned.info):
            console.print(line)
    if planned.info.splits["train"].crop is not None and masked(config):
        console.print("views are cut out of the test crop of each photograph, which the masks of the file are of")
    announce_streaming(planned.train, console)


def computing(device: torch.device) -> str:
    """What a run's numbers depend on in their last bits, for the reader: how many processes, and on what."""
    described = describe_device(device)
    return f"{ranks.size()} processes, each on {described}" if ranks.size() > 1 else described


def announce_precision(config: Config, device: torch.device, console: Console) -> None:
    """That bf16 would be faster, on a GPU that has it, where fp32 is the preset's choice."""
    if device.type == "cuda" and config.train.precision == "fp32" and has_bf16(device):
        console.print("fp32; type --precision bf16: several times faster here, where the GPU is the limit")


def announce_streaming(train: DeviceSplit, console: Console) -> None:
    """Where the images are, if they are not on the device."""
    where = {"host": "in the host's memory", "file": "encoded in the file and are decoded as they are needed"}
    if isinstance(train.images, Photographs):
        console.print("the photographs stay encoded in the file, and crops are cut of them as they are needed")
    elif train.placement in where:
        pixels = decimal(math.prod(train.images.shape))
        console.print(f"the images stay {where[train.placement]}, {pixels} of pixels")
