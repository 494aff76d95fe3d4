"""`probekit export` and `probekit push`: a run's encoder as a folder for others, and that folder on a hub."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from probekit.data.locate import run_or_newest
from probekit.data.split import CPU
from probekit.files import read_text, sync_folder, write_text
from probekit.registry import EXPORTS, check_named, get
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.run import Run
from probekit.share import hub
from probekit.share.base import Format, Written
from probekit.share.card import FILE, MARK, card
from probekit.weights import LAST, Weights


def run_export_model(
    name: str | None,
    *,
    formats: Sequence[str],
    out: Path | None,
    checkpoint: str,
    runs: Path,
    overwrite: bool,
    console: Console,
) -> dict[str, Any]:
    """Writes a folder with the encoder in each of some formats, and its card.

    Returns {"path", "files", "run", "checkpoint", "after"}. A ValueError if there is no such run, checkpoint or format,
    or the folder holds something else. `out`: the folder; None is export-CHECKPOINT in the run folder.
    """
    check_formats(formats)
    run = run_or_newest(name, runs, console)
    opened = _opened(run, checkpoint)
    folder = out or run.path / f"export-{opened.weights}"
    _check_out(folder, overwrite)
    there = {
        name: each.file for name, each in _known().items() if name not in formats and (folder / each.file).exists()
    }
    if there:  # of weights that may be others: the card speaks of one encoder
        console.print(f"{' and '.join(there.values())} in {folder} too: written anew with it")
    written = write(opened, [*formats, *there], folder)
    for each in written:
        console.print(f"wrote {folder / each.name}: {each.about}")
    console.print(f"wrote {folder / FILE}, its card: the licence is yours to choose")
    named = list(dict.fromkeys(formats))
    more = "" if named == [next(iter(EXPORTS))] else f" --to {','.join(named)}"
    more += "" if opened.weights == LAST else f" --checkpoint {quote(str(opened.weights))}"
    console.print(f"next: probekit push {quote(run.argument)} USER/NAME{more}")
    return {"path": str(folder), **_about(opened, written)}


def run_push(
    name: str | None,
    repo: str,
    *,
    formats: Sequence[str],
    checkpoint: str,
    private: bool,
    runs: Path,
    console: Console,
) -> dict[str, Any]:
    """Makes the same folder anew and sends it to a repository of a hub, which is made if there is none.

    Returns {"url", "files", "run", "checkpoint", "after"}. A ValueError as above, and whatever the hub refuses.
    """
    check_formats(formats)
    hub.check(repo)
    run = run_or_newest(name, runs, console)
    opened = _opened(run, checkpoint)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        written = write(opened, formats, folder)
        url = hub.push(folder, repo, message=f"{run.name}, {opened.after}", private=private)
    console.print(f"pushed {', '.join(each.name for each in written)} and {FILE} of {run.name} to {url}")
    return {"url": url, **_about(opened, written)}


def check_formats(formats: Sequence[str]) -> None:
    """Refuses a format that there is not, and none at all."""
    for name in formats:
        check_named("format", name, EXPORTS)
    if not formats:
        raise ValueError(f"expected --to FORMAT, found none; type: --to {next(iter(EXPORTS))}")


def write(opened: OpenedRun, formats: Sequence[str], folder: Path) -> list[Written]:
    """The files of an export and their card, in a folder that is made; all of them or, if one is refused, none."""
    folder.mkdir(parents=True, exist_ok=True)
    known = _known()
    with TemporaryDirectory(dir=folder) as temporary:
        place = Path(temporary)
        written = [known[name].write(opened, place) for name in dict.fromkeys(formats)]
        write_text(place / FILE, card(opened, written))
        for each in known.values():  # of an export before, which may be of other weights
            (folder / each.file).unlink(missing_ok=True)
        for path in place.iterdir():
            path.replace(folder / path.name)
        sync_folder(folder)
    return written


def _known() -> dict[str, Format]:
    return {name: get(EXPORTS, "format", name) for name in EXPORTS}


def _opened(run: Run, checkpoint: str) -> OpenedRun:
    weights = Weights.parse(checkpoint)
    if weights.pool is not None:
        raise ValueError(f"expected --checkpoint without a pooling, found {checkpoint}; type: --checkpoint last")
    return open_encoder(run, weights, CPU)


def _check_out(folder: Path, overwrite: bool) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (folder.is_dir() and (folder / FILE).is_file() and MARK in read_text(folder / FILE)):
        raise ValueError(f"expected an export or nothing at {folder}, found something else; choose another --out")
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder} exists; type --overwrite to replace it, or another --out")


def _about(opened: OpenedRun, written: Sequence[Written]) -> dict[str, Any]:
    return {
        "files": [*(each.name for each in written), FILE],
        "run": opened.run.name,
        "checkpoint": str(opened.weights),
        "after": opened.after,
    }
