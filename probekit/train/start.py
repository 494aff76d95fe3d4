"""`probekit pretrain`: starts or resumes a run and says how to go on if it was stopped, or says what it would cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from probekit.data.gen import dataset_or_default
from probekit.data.locate import newest_dataset
from probekit.registry import BRANCHES, METHODS, VARIANTS, branch_named, nearest
from probekit.run import IMPORTED, Run, check_name, open_run
from probekit.settings import Asked
from probekit.train.launch import joined, once, typed_again


class StoppedError(ValueError):
    """A signal stopped the run; everything is saved."""


def run_pretrain(
    asked: Asked,
    *,
    data: Path | None,
    runs: Path,
    name: str | None,
    overwrite: bool,
    fail_on_collapse: bool = False,
    data_folder: Path,
    console: Console,
) -> Run:
    """Pretrains; see `probekit.train.pretrain.pretrain` for the arguments.

    A StoppedError if a signal stopped the run.
    """
    with joined(asked.device):
        _check(asked, runs, name, overwrite)
        chosen = once(lambda: dataset_or_default(data, data_folder, runs, console))
        from probekit.train.pretrain import pretrain

        run, finished = pretrain(
            asked,
            data=chosen,
            runs=runs,
            name=name,
            overwrite=overwrite,
            fail_on_collapse=fail_on_collapse,
            console=console,
        )
        _report(run, finished, console)
    return run


def run_dry(
    asked: Asked,
    *,
    data: Path | None,
    runs: Path,
    name: str | None,
    overwrite: bool,
    data_folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Says what `run_pretrain` would train and what that costs (`probekit.train.dry_run`); nothing is written.

    Returns what `dry_run` there does. A ValueError if the run would be refused, or no dataset file is named
    and there is none.
    """
    _check(asked, runs, name, overwrite)
    if data is None and newest_dataset(data_folder) is None:
        raise ValueError(f"expected a dataset file in {data_folder}, found none; type: probekit gen rect-tri")
    chosen = dataset_or_default(data, data_folder, runs, console)
    from probekit.train.dry_run import dry_run

    return dry_run(asked, chosen, console)


def _check(asked: Asked, runs: Path, name: str | None, overwrite: bool) -> None:
    """Refuses names that there are not, before anything is loaded."""
    for branch in asked.branches:
        branch_named(branch)
    if asked.method in (*BRANCHES, *VARIANTS):
        again = f"probekit pretrain moco-v2 --branch {asked.method}"
        raise ValueError(f"{asked.method} is no method but a branch, which attaches to one; type: {again}")
    if asked.method not in METHODS:
        raise ValueError(nearest("method", asked.method, METHODS))
    if overwrite and name is None:
        raise ValueError("expected --name with --overwrite: without one every run gets a folder of its own")
    if name is not None:
        check_name(name, runs)


def run_resume(
    name: str | None,
    *,
    method: str | None,
    data: Path | None = None,
    epochs: int | None,
    device: str,
    refused: Sequence[str],
    fail_on_collapse: bool = False,
    log: Sequence[str] | None = None,
    runs: Path,
    console: Console,
) -> Run:
    """Resumes the named run, or the newest.

    A StoppedError if a signal stopped the run again; a ValueError if settings were given, or there is nothing to
    resume, or it trains another method. `method`: what the run must train, or None for whatever it does; `data`: as for
    `probekit.train.pretrain.resume`; `epochs`: more epochs than before extend a finished run; `refused`: settings given
    beside --resume, which goes on with the run's own; `log`: loggers in place of the run's own.
    """
    with joined(device):
        if refused:
            told = ", ".join(refused)
            raise ValueError(f"--resume goes on with the run's own settings, found {told}; leave them out")
        opened = once(lambda: open_run(name, runs))
        _refuse_other(opened, method)
        from probekit.train.pretrain import resume

        run, finished = resume(
            opened, data=data, epochs=epochs, device=device, fail_on_collapse=fail_on_collapse, log=log, console=console
        )
        _report(run, finished, console)
    return run


def _refuse_other(opened: Run, method: str | None) -> None:
    """Refuses a run that was not trained here, or trains another method."""
    content = opened.read()
    trains = content["config"]["method"]
    if content["state"] == IMPORTED:
        raise ValueError(
            f"expected a run that was pretrained here, found {opened.name}, an imported encoder; type: --name NAME"
        )
    if method not in (None, trains):
        raise ValueError(f"expected a run of {method}, found {opened.name} of {trains}; type: --resume --name NAME")


def _report(run: Run, finished: bool, console: Console) -> None:
    if not finished:
        raise StoppedError(f"stopped, all saved; to go on type: {typed_again(run)}")
    console.print(f"wrote {run.path}: encoder.safetensors, checkpoints/, metrics.jsonl")
