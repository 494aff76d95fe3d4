"""Starts, resumes and extends pretraining runs: from names and files to a finished run folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console

from probekit.config import Config, resolve
from probekit.data.split import CPU, DeviceSplit, check_depth, check_divisible, open_split, shrunk
from probekit.device import (
    choose_device,
    compute_deterministically,
    default_preset,
    describe_device,
    with_precision,
)
from probekit.fitting import fitted
from probekit.h5 import DatasetInfo, verify
from probekit.methods.base import Method
from probekit.models.encoder import check_takes
from probekit.registry import BRANCHES, METHODS, get
from probekit.restore.build import build_method, check_labels, on_device, size_notes, start_from_weights, with_normalise
from probekit.restore.checkpoint import load_checkpoint
from probekit.run import Run, create_run, free_name, git_commit, versions
from probekit.settings import overridden, typed
from probekit.train.announce import announce, announce_precision, announce_streaming
from probekit.train.evaluate import Monitor
from probekit.train.health import NUMBERS
from probekit.train.live import Display, clock
from probekit.train.loop import Trainer
from probekit.train.memory import batch_that_fits, peak, ran_out_of_memory, reset_peak, told
from probekit.train.regions import check_cells


def pretrain(
    method: str,
    *,
    data: Path,
    runs: Path,
    name: str | None,
    preset: str | None,
    seed: int,
    config_file: Path | None,
    overrides: Sequence[str],
    options: Mapping[str, Any],
    branches: Sequence[str],
    device: str,
    overwrite: bool,
    fail_on_collapse: bool,
    console: Console,
) -> tuple[Run, bool]:
    """Pretrains a method on a dataset file.

    Args:
        method: A name in `METHODS`.
        data: A dataset file, labelled or not.
        runs: The folder of run folders.
        name: Of the run folder; without one it is made of the method's and the dataset's.
        preset: A preset's name, or None for the device's default.
        seed: Of initialisation, order, views and dropout.
        config_file: More settings, TOML.
        overrides: More settings, "a.b=value".
        options: More settings, typed.
        branches: Names in `BRANCHES`, attached in this order.
        device: "auto", "cpu" or "cuda[:i]".
        overwrite: Replace a run of the same name.
        fail_on_collapse: Stop when the embeddings of all images are alike.
        console: Where progress goes.

    Returns:
        The run, and whether it was trained to its end (False: a signal stopped it, and it can be resumed).

    Raises:
        ValueError: For settings, data or a device that do not fit.
        NonFiniteLossError: If training diverges.
        CollapseError: If it collapses, and `fail_on_collapse` is set.
    """
    if len(set(branches)) < len(branches):
        raise ValueError(f"expected each --branch once, found {', '.join(branches)}")
    place = choose_device(device)
    kind = get(METHODS, "method", method)
    config = resolve(
        method,
        kind,
        preset=preset or default_preset(place),
        seed=seed,
        config_file=config_file,
        overrides=overrides,
        options=options,
        branches={name: get(BRANCHES, "branch", name) for name in branches},
    )
    config = with_normalise(with_precision(config, place))
    if config.train.deterministic:
        compute_deterministically(place)
    info = verify(data)
    train = _open(info, "train", config, place)
    if kind.needs_labels:
        check_labels(train, info, method)
    given = typed(config_file, overrides, options)
    config, notes = fitted(config, typed=given, images=len(train))
    notes += overridden(overrides, options) + size_notes(config, train.images, given)
    model = _prepare(config, train, info, place)
    match = start_from_weights(model, config, console)
    if match is not None:  # before a folder is made
        check_takes(model.encoder, shrunk(train.images, config.data.max_size))
    folder = runs / (name or free_name("-".join((method, *branches, data.stem)), runs))
    run = create_run(folder, _record(config, info, place) | {"weights": match}, overwrite=overwrite)
    chosen = "" if preset else f" (the default on a {'GPU' if place.type == 'cuda' else 'CPU'})"
    announce(config, chosen, data, place, console)
    if "train.precision" not in given:
        announce_precision(config, train, place, console)
    for note in notes:
        console.print(note)
    announce_streaming(train, console)
    with run.locked("train"), _failing(run):
        trainer = _build_trainer(config, model, run, info, train, console)
        trainer.fail_on_collapse = fail_on_collapse
        return run, _fit(trainer, console)


def resume(
    run: Run,
    *,
    data: Path | None = None,
    epochs: int | None,
    device: str,
    fail_on_collapse: bool = False,
    console: Console,
) -> tuple[Run, bool]:
    """Goes on with a run where its last checkpoint left it, or extends a finished one.

    Everything that training reads is as it was, bit for bit. So is what follows, on a CPU, and on a GPU with
    `train.deterministic`; on a GPU without it, it is equal up to rounding (docs/protocols.md).

    Args:
        run: The run folder.
        data: Where its dataset file lies now, if it was moved; the run remembers it. None is where it lay.
        epochs: The new number of epochs, or None to keep the run's own.
        device: As for `pretrain`.
        fail_on_collapse: As for `pretrain`.
        console: Where progress goes.

    Raises:
        ValueError: If the run has no checkpoint, its data changed, it has as many epochs already, or another process
            trains it.
    """
    with run.locked("train"):
        return _resume(run, data, epochs, device, fail_on_collapse, console)


def _resume(
    run: Run, data: Path | None, epochs: int | None, device: str, fail_on_collapse: bool, console: Console
) -> tuple[Run, bool]:
    content = run.read()
    config = Config.from_dict(content["config"])
    if epochs is not None:
        config = replace(config, train=replace(config.train, epochs=epochs))
    place = choose_device(device)
    if config.train.deterministic:
        compute_deterministically(place)
    data = data or run.data()
    info = verify(data)
    if info.content_hash != content["dataset"]["hash"]:
        raise ValueError(
            f"expected {data} as it was when {run.name} started "
            f"(hash {content['dataset']['hash'][:12]}), found hash {info.content_hash[:12]}; "
            "restore the file, name it where it lies now with --data PATH, or start a new run"
        )
    train = _open(info, "train", config, place)
    saved = load_checkpoint(run.checkpoints / "last.pt", CPU)  # a GPU then holds weights and moments once
    done = saved["progress"]["epoch"]
    # A kill between the last save and the end leaves every epoch done, but not the state: then the rest is made up.
    killed_at_the_end = content["state"] != "finished" and epochs is None
    if done >= config.train.epochs and not killed_at_the_end:
        raise ValueError(
            f"{run.name} has done its {done} epochs; to extend it type: probekit pretrain --resume "
            f"--name {quote(run.argument)} --epochs {2 * done}"
        )
    trainer = _build_trainer(config, _prepare(config, train, info, place), run, info, train, console)
    trainer.fail_on_collapse = fail_on_collapse
    trainer.restore(saved)
    del saved  # else it lives until training ends
    run.update(state="running", config=config.to_dict(), dataset=content["dataset"] | {"path": str(data)})
    console.print(f"resuming {run.path} after epoch {done} of {config.train.epochs}")
    announce_streaming(train, console)
    with _failing(run):
        return run, _fit(trainer, console)


def _record(config: Config, info: DatasetInfo, device: torch.device) -> dict[str, Any]:
    """What run.json says of a run that begins."""
    return {
        "state": "running",
        "config": config.to_dict(),
        "dataset": {"path": str(info.path), "hash": info.content_hash, "name": info.path.stem},
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": git_commit(),
    }


def _open(info: DatasetInfo, name: str, config: Config, device: torch.device) -> DeviceSplit:
    """A split as the settings place it."""
    data = config.data
    remedy = "free some of it, or start the run with: --set data.placement=host"
    with told(f"the images of split {name}", device, remedy):
        return open_split(info.path, name, device, max_size=data.max_size, placement=data.placement)


def _prepare(config: Config, train: DeviceSplit, info: DatasetInfo, device: torch.device) -> Method:
    sizes = [shrunk(train.images, most) for most in (config.data.max_size, config.views.max_size)]
    for size in sizes:
        check_depth(config.model.depth, size)
    method = build_method(config, channels=train.images.shape[1], classes=len(info.classes))
    for size in sizes:
        check_divisible(size, method.encoder.stride)
        if "backbone" in method.encoder.spec:
            check_takes(method.encoder, size)
    if config.crop.policy == "contrastive":
        check_cells(train.images, method.encoder.stride)
    if len(train) < config.train.batch_size:
        raise ValueError(
            f"expected at least {config.train.batch_size} training images (one batch), found {len(train)}"
            + (f"; type: --batch-size {len(train)}" if len(train) > 1 else "")
        )
    with told("the weights", device, _smaller_model(config)):
        return on_device(method, device)


def _build_trainer(
    config: Config, method: Method, run: Run, info: DatasetInfo, train: DeviceSplit, console: Console
) -> Trainer:
    def split(name: str) -> DeviceSplit | None:
        return _open(info, name, config, train.images.device) if name in info.splits else None

    height, width = train.images.shape[-2:]
    header = {
        "method": config.method,
        "image_size": [height, width],
        "max_size": config.data.max_size,
        "dataset_hash": info.content_hash,
        "classes": list(info.classes),
    }
    monitor = Monitor(train, split("val"), split("test"), seed=config.seed)
    with told("the optimizer and what it keeps of the weights", train.images.device, _smaller_model(config)):
        return Trainer(
            config=config, method=method, run=run, train=train, monitor=monitor, header=header, say=console.print
        )


def _fit(trainer: Trainer, console: Console) -> bool:
    run, device = trainer.run, trainer.device
    finished, full = False, False
    reset_peak(device)
    try:
        with Display(
            console,
            epochs=trainer.config.train.epochs,
            done=trainer.step_count / trainer.batches,
            events=run.path / "tensorboard",
            step=trainer.step_count,
            silent=NUMBERS,
        ) as display:
            finished = trainer.fit(display)
            console.print(f"{'trained for' if finished else 'stopped after'} {clock(display.elapsed)}{peak(device)}")
    except Exception as error:
        if "does not have a deterministic implementation" in str(error):
            raise ValueError(
                f"expected operators that --deterministic allows, found: {str(error).split(',')[0]}; leave it out"
            ) from error
        full = ran_out_of_memory(error)  # what the step held is freed only when this block is left
        if not full:
            raise
    if full:
        raise ValueError(_smaller_batch(trainer))
    run.update(state="finished" if finished else "interrupted")
    return finished


@contextmanager
def _failing(run: Run) -> Iterator[None]:
    """Notes in run.json that an error ended it."""
    try:
        yield
    except Exception:
        with suppress(OSError):  # on a full disk it stays "running", which is read as "interrupted"
            run.update(state="failed")
        raise


def _smaller_batch(trainer: Trainer) -> str:
    """What to type after a batch did not fit."""
    batch, config = trainer.config.train.batch_size, trainer.config
    fits = batch_that_fits(trainer.eager_step.rehearse, batch)
    advice = f"{fits} does: type --batch-size {fits}" if fits else f"nor a smaller one; {_smaller_model(config)}"
    return f"a batch of {batch} images does not fit into the memory of {describe_device(trainer.device)}; {advice}"


def _smaller_model(config: Config) -> str:
    """What to type after the model did not fit."""
    width = config.model.width
    return f"try {f'--set model.width={width // 2}' if width else 'a smaller model.backbone'}"
