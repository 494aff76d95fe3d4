"""Starts, resumes and extends pretraining runs: from names and files to a finished run folder."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from shutil import rmtree
from typing import Any

import torch
from rich.console import Console

from probekit.config import Config
from probekit.data.split import CPU, DeviceSplit
from probekit.device import (
    choose_device,
    compute_deterministically,
    peak,
    ran_out_of_memory,
    reset_peak,
    told,
)
from probekit.h5 import DatasetInfo, verify
from probekit.methods.base import Method
from probekit.probes import SIGNED
from probekit.ranks import from_first, is_first
from probekit.restore.build import load_checkpoint
from probekit.run import Run, create_run, free_name, git_commit, versions
from probekit.settings import Asked
from probekit.train.evaluate import Monitor
from probekit.train.health import NUMBERS
from probekit.train.live import Display, clock
from probekit.train.logged import BeginError, Logged, begin, chosen, draw_epoch
from probekit.train.loggers.base import Ending
from probekit.train.loop import Trainer
from probekit.train.plan import (
    announce,
    announce_streaming,
    computing,
    open_placed,
    plan,
    prepare,
    smaller_batch,
    smaller_model,
)
from probekit.train.watch import trains


def pretrain(
    asked: Asked,
    *,
    data: Path,
    runs: Path,
    name: str | None,
    overwrite: bool = False,
    fail_on_collapse: bool = False,
    console: Console,
) -> tuple[Run, bool]:
    """Pretrains a method on a dataset file.

    Returns the run, and whether it was trained to its end (False: a signal stopped it, and it can be resumed). A
    ValueError as `plan`; a NonFiniteLossError if training diverges; a CollapseError if it collapses, and
    `fail_on_collapse` is set. `data`: a dataset file, labelled or not. `name`: the name of the run folder; without one
    it is made of the method's and the dataset's. `fail_on_collapse`: stop when the embeddings of all images are alike.
    """
    planned = plan(asked, data, console)
    config, info, train, place = planned.config, planned.info, planned.train, planned.device
    record = _record(config, info, place) | {"weights": planned.weights}

    def created() -> Run:
        folder = runs / (name or free_name("-".join((asked.method, *asked.branches, info.name)), runs))
        return create_run(folder, record, overwrite=overwrite)

    run = from_first(created)
    announce(planned, console)
    try:
        with held(run), _failing(run):
            trainer = _build_trainer(config, planned.method, run, info, train, console)
            trainer.fail_on_collapse = fail_on_collapse
            return run, _fit(trainer, console, log=asked.log, after=0)
    except BeginError:  # of which nobody wants a run
        rmtree(run.path)
        raise


def resume(
    run: Run,
    *,
    data: Path | None = None,
    epochs: int | None,
    device: str,
    fail_on_collapse: bool = False,
    log: Sequence[str] | None = None,
    console: Console,
) -> tuple[Run, bool]:
    """Goes on with a run where its last checkpoint left it, or extends a finished one.

    Everything that training reads is as it was, bit for bit. So is what follows, on a CPU, and on a GPU with
    `train.deterministic`; on a GPU without it, it is equal up to rounding (docs/protocols.md). A ValueError if the run
    has no checkpoint, its data changed, it has as many epochs already, or another process trains it.

    Args:
        data: Where its dataset file lies now, if it was moved; the run remembers it. None is where it lay.
        epochs: The new number of epochs, or None to keep the run's own.
        log: Names of loggers in place of the run's own; None keeps these.
    """
    with held(run):
        return _resume(run, data, epochs, device, fail_on_collapse, log, console)


def _resume(
    run: Run,
    data: Path | None,
    epochs: int | None,
    device: str,
    fail_on_collapse: bool,
    log: Sequence[str] | None,
    console: Console,
) -> tuple[Run, bool]:
    content = from_first(run.read)
    log = content.get("log", {}).get("to", []) if log is None else log
    chosen(log)
    config = Config.from_dict(content["config"])
    if epochs is not None:
        config = replace(config, train=replace(config.train, epochs=epochs))
    place = choose_device(device)
    if config.train.deterministic:
        compute_deterministically(place)
    data = data or run.data()
    info = from_first(lambda: verify(data))
    if info.content_hash != content["dataset"]["hash"]:
        raise ValueError(
            f"expected {data} as it was when {run.name} started "
            f"(hash {content['dataset']['hash'][:12]}), found hash {info.content_hash[:12]}; "
            "restore the file, name it where it lies now with --data PATH, or start a new run"
        )
    train = open_placed(info, "train", config, place)
    saved = load_checkpoint(run.checkpoints / "last.pt", CPU)  # a GPU then holds weights and moments once
    done = saved["progress"]["epoch"]
    # A kill between the last save and the end leaves every epoch done, but not the state: then the rest is made up.
    killed_at_the_end = content["state"] != "finished" and epochs is None
    if done >= config.train.epochs and not killed_at_the_end:
        raise ValueError(
            f"{run.name} has done its {done} epochs; to extend it type: probekit pretrain --resume "
            f"--name {quote(run.argument)} --epochs {2 * done}"
        )
    trainer = _build_trainer(config, prepare(config, train, info, place), run, info, train, console)
    trainer.fail_on_collapse = fail_on_collapse
    # Of epochs that are trained again, too.
    after = max((line.get("step", 0) for line in run.read_metrics()), default=0)
    trainer.restore(saved)
    del saved  # else it lives until training ends
    resumed, computes = content.get("resumed", []), computing(place)
    before = resumed[-1]["device"] if resumed else content["device"]
    if before != computes:
        console.print(
            f"note: {run.name} began on {before} and goes on on {computes}: equal up to rounding, not bit for bit"
        )
        resumed = [*resumed, {"epoch": done, "device": computes}]
    dataset = content["dataset"] | {"path": str(data)}
    changes = {"state": "running", "config": config.to_dict(), "dataset": dataset, "resumed": resumed}
    from_first(lambda: run.update(**changes))
    tenths = 10 * trainer.step_count // trainer.batches  # a signal stops within an epoch
    console.print(f"resuming {run.path} after epoch {tenths / 10:g} of {config.train.epochs}")
    announce_streaming(train, console)
    with _failing(run):
        return run, _fit(trainer, console, log=log, after=after)


def _record(config: Config, info: DatasetInfo, device: torch.device) -> dict[str, Any]:
    """What run.json says of a run that begins."""
    return {
        "state": "running",
        "config": config.to_dict(),
        "dataset": {"path": str(info.path), "hash": info.content_hash, "name": info.name},
        "device": computing(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": git_commit(),
    }


def _build_trainer(
    config: Config, method: Method, run: Run, info: DatasetInfo, train: DeviceSplit, console: Console
) -> Trainer:
    def split(name: str) -> DeviceSplit | None:
        return open_placed(info, name, config, train.images.device) if name in info.splits else None

    height, width = train.images.shape[-2:]
    header = {
        "method": config.method,
        "image_size": [height, width],
        "max_size": config.data.max_size,
        "dataset_hash": info.content_hash,
        "classes": list(info.classes),
    }
    monitor = Monitor(train, split("val"), split("test"), seed=config.seed, kind=config.train.monitor)
    with told("the optimizer and what it keeps of the weights", train.images.device, smaller_model(config)):
        return Trainer(
            config=config, method=method, run=run, train=train, monitor=monitor, header=header, say=console.print
        )


def _fit(trainer: Trainer, console: Console, *, log: Sequence[str], after: int) -> bool:
    run, device = trainer.run, trainer.device
    finished, full = False, False
    draw = partial(draw_epoch, trainer.method, trainer.train.images, trainer.config)
    logged = Logged({}, console.print)
    if is_first():
        logged = begin(run, chosen(log), console.print, after=after, draw=draw)
    ending: Ending = "failed"
    reset_peak(device)
    try:
        with Display(
            console,
            epochs=trainer.config.train.epochs,
            done=trainer.step_count / trainer.batches,
            log=logged,
            silent=NUMBERS,
            percents=trainer.config.train.monitor not in SIGNED,
        ) as display:
            finished = trainer.fit(display)
            console.print(f"{'trained for' if finished else 'stopped after'} {clock(display.elapsed)}{peak(device)}")
        ending = "finished" if finished else "interrupted"
    except Exception as error:
        if "does not have a deterministic implementation" in str(error):
            raise ValueError(
                f"expected operators that --deterministic allows, found: {str(error).split(',')[0]}; leave it out"
            ) from error
        full = ran_out_of_memory(error)  # what the step held is freed only when this block is left
        if not full:
            raise
    finally:
        logged.close(ending)
    if full:
        raise ValueError(smaller_batch(trainer.eager_step))
    from_first(lambda: run.update(state=ending))
    return finished


def held(run: Run) -> AbstractContextManager[None]:
    """The run, against other trainers; of several processes that train it together the first holds it."""
    trains(run)
    return run.locked("train") if is_first() else nullcontext()


@contextmanager
def _failing(run: Run) -> Iterator[None]:
    """Notes in run.json that an error ended it."""
    try:
        yield
    except Exception:
        if is_first():
            with suppress(OSError):  # on a full disk it stays "running", which is read as "interrupted"
                run.update(state="failed")
        raise
