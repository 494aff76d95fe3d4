"""The run folder: where things lie in it, and how they are written so that a kill never leaves half a file.

runs/NAME/  run.json  metrics.jsonl  checkpoints/{last,best_val,best_test}.pt  checkpoints/epoch-NNNN.safetensors
encoder.safetensors  results/*.json  figures/*.png. The standard library alone, so that reports load without torch.
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from glob import glob
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

from probekit import __version__
from probekit.checked import shorten
from probekit.files import (
    read_json,
    read_text,
    refuse_links_out,
    sync_folder,
    told_if_full,
    unfinished,
    write_text,
)
from probekit.installed import OPENCV
from probekit.locks import holder, in_use, locked
from probekit.registry import nearest

SCHEMA = "probekit-run/1"
IMPORTED = "imported"  # the state of a run whose encoder was not trained here
DONE = ("finished", IMPORTED)  # states of runs that nothing is missing of
LARGEST = 1e15  # of a number of metrics.jsonl: whole ones stay exact as floats, and charts have room
LONGEST = 150  # bytes of a name: file systems take 255, and commands add to it
FORBIDDEN = '<>:"/\\|?*'  # in names, somewhere
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no names of folders on Windows
PARTS = ("state", "config.method", "dataset.path", "dataset.hash")  # texts that every reader of run.json relies on
TABLES = ("config.branches", "config.method_options")  # that may be left out
WORK = ("train", "probe", "heatmap", "exam", "detect")  # what one process at a time does in a run folder
NUMBERS = re.compile(r"\[\n[-+.\d\sEe,]*\]")  # in indented JSON: a list of numbers


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def argument(self) -> str:
        """What names it on a command line: a name alone is one in runs/."""
        return self.name if self.path.parent == Path("runs") else str(self.path)

    @property
    def json(self) -> Path:
        """Config, versions, device, commit, dataset, state."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of `last.pt`, `best_val.pt`, `best_test.pt`."""
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        """The last encoder alone."""
        return self.path / "encoder.safetensors"

    def kept(self, epoch: int) -> Path:
        """The encoder after an epoch, kept for good."""
        return self.checkpoints / f"epoch-{epoch:04d}.safetensors"

    @property
    def results(self) -> Path:
        """Folder of `<command>.json`."""
        return self.path / "results"

    @property
    def figures(self) -> Path:
        """Folder of PNG files."""
        return self.path / "figures"

    def data(self) -> Path:
        """The dataset file that it was trained on; a ValueError if nothing is there."""
        path = Path(self.read()["dataset"]["path"])
        if not path.exists() and not glob(str(path)):  # which may be a pattern
            raise ValueError(
                f"expected the data of {self.name} at {path}, found nothing; if they were moved add --data PATH"
            )
        return path

    def lock(self, work: str) -> Path:
        """The lock file for one of `WORK`."""
        return self.path / f".{work}.lock"

    def locked(self, work: str) -> AbstractContextManager[None]:
        """Holds the run for one of `WORK`, against any other process.

        A ValueError if another process is at it, which the line names, or a link leads out of the folder.
        """
        refuse_links_out(self.path)  # before the lock is written
        return locked(self.lock(work), f"{self.path}")

    def refuse_work(self) -> None:
        """Refuses a run that a process is at."""
        for work in WORK:
            if (who := holder(self.lock(work))) is not None:
                raise ValueError(in_use(str(self.path), who))

    def remove(self) -> None:
        """Removes the folder; a ValueError if a process trains or reads it."""
        self.refuse_work()
        shutil.rmtree(self.path)

    def read(self) -> dict[str, Any]:
        """The contents of run.json.

        Every command reads it first, so nothing else of the folder is read where this is refused. A ValueError if there
        is none, it is not a run of this schema, or a link leads out of the folder.
        """
        refuse_links_out(self.path)
        try:
            content = read_json(self.json)
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(
                f"expected a run folder in {self.path}, found no run.json; type: probekit pretrain conrec"
            ) from None
        if content.get("schema") != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA} in {self.json}")
        for name in PARTS:
            if not isinstance(_part(content, name), str):
                raise ValueError(f"expected the text {name} in {self.json}, found none")
        for name in TABLES:
            if not isinstance(_part(content, name, {}), dict):
                raise ValueError(f"expected the table {name} in {self.json}, found {shorten(_part(content, name))}")
        if not isinstance(found := _part(content, "dataset.name", ""), str):
            raise ValueError(f"expected the text dataset.name in {self.json}, found {shorten(found)}")
        if content["state"] == "running" and holder(self.lock("train")) is None:  # a kill or a full disk ended it
            content["state"] = "interrupted"
        return content

    def update(self, **changes: Any) -> None:
        """Changes entries of run.json."""
        write_json(self.json, self.read() | changes)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Adds one line to metrics.jsonl."""
        with told_if_full(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a power cut must not keep the checkpoint and lose its line

    def read_metrics(self) -> list[dict[str, Any]]:
        """The numbers of every line of metrics.jsonl that has an epoch; what else damage left there is left out."""
        return [{key: value for key, value in line.items() if _is_number(value)} for line in self._lines()]

    def _lines(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl that has an epoch, up to one that a kill cut short."""
        lines: list[dict[str, Any]] = []
        for text in read_text(self.metrics).splitlines() if self.metrics.exists() else []:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if isinstance(line, dict) and isinstance(epoch := line.get("epoch"), int) and _is_number(epoch):
                lines.append(line)
        return lines

    def keep_metrics(self, epochs: int) -> None:
        """Drops the lines of epochs after `epochs`: a resumed run writes them again."""
        kept = [line for line in self._lines() if line["epoch"] <= epochs]
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _part(content: Any, name: str, default: Any = None) -> Any:
    """What stands under a name with dots."""
    for key in name.split("."):
        content = content.get(key, default) if isinstance(content, dict) else default
    return content


def create_run(path: Path, content: Mapping[str, Any], *, overwrite: bool) -> Run:
    """Makes a run folder with its run.json.

    A ValueError if the folder exists and `overwrite` is false, or it is something other than a run.
    """
    run = Run(path)
    if path.exists():
        if not overwrite:
            raise ValueError(
                f"{path} exists; type --resume to go on with it, --overwrite to replace it, or --name NAME for another"
            )
        if not run.json.exists() and any(path.iterdir()):
            raise ValueError(f"expected a run folder in {path}, found something else; not touched")
        run.remove()
    # Made under another name, then renamed: a kill leaves no folder without its run.json.
    new = Run(unfinished(path, "new"))
    for folder in (new.checkpoints, new.results, new.figures):
        folder.mkdir(parents=True)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(new.json, {"schema": SCHEMA, "created": stamp, **content})
    new.path.rename(path)
    sync_folder(path.parent)
    return run


def how_far(content: Mapping[str, Any], epoch: int) -> str:
    """Says "epoch 45", or "epoch 3 of 45, interrupted" where the encoder is not that of the end; "imported" of others.

    `content`: the contents of run.json; config and state are read; `epoch`: after which the encoder was written.
    """
    if content["state"] == IMPORTED:
        return IMPORTED
    train = content["config"].get("train")
    epochs = train.get("epochs") if isinstance(train, Mapping) else None
    told = f"epoch {epoch}" if epochs in (None, epoch) else f"epoch {epoch} of {epochs}"
    return told if content["state"] in DONE else f"{told}, {content['state']}"


def find_runs(folder: Path) -> list[Run]:
    """Every run in a folder, the newest last."""
    found = [Run(f.parent) for f in folder.glob("[!.]*/run.json")]
    return sorted(found, key=lambda run: (run.json.stat().st_mtime_ns, run.name))


def open_run(name: str | None, folder: Path) -> Run:
    """The run called `name` (a name in `folder`, or a path), or the newest one; a ValueError if there is none."""
    runs = find_runs(folder)
    if name is not None:
        run = Run(folder / name) if (folder / name).exists() else Run(Path(name))
        if runs and not run.path.exists():
            raise ValueError(nearest("run", name, [found.name for found in runs[::-1]]))
        run.read()
        return run
    if not runs:
        raise ValueError(f"expected a run in {folder}, found none; type: probekit pretrain conrec")
    runs[-1].read()
    return runs[-1]


def check_name(name: str, folder: Path) -> None:
    """Refuses a run's name that no other command would find, or that some file system does not take.

    A ValueError for one that is elsewhere than directly in `folder`, hidden, too long, or of other characters.
    """
    if name != _safe(name):
        raise ValueError(
            f"expected --name of a folder in {folder}: at most {LONGEST} bytes, no control character, "
            f"none of {FORBIDDEN}, no '.' or '-' in front; found {name[:80]!r}; "
            f"type: --name {shlex.quote(_safe(name[:80]))}"
        )


def free_name(stem: str, folder: Path) -> str:
    """`stem`, or `stem-2`, `stem-3`, ... : the first that no run in `folder` has; without what `check_name` refuses."""
    return next(name for name in numbered(_safe(stem)) if not (folder / name).exists())


def same_named(stem: str, folder: Path) -> Iterator[Run]:
    """The runs `stem`, `stem-2`, `stem-3`, ... that there are, up to the first name that is free."""
    return takewhile(lambda run: run.path.exists(), (Run(folder / name) for name in numbered(_safe(stem))))


def _safe(name: str) -> str:
    """The name as every file system and every command takes it: itself, where nothing is wrong with it."""
    plain = "".join(c if c.isprintable() and c not in FORBIDDEN else "-" for c in name).lstrip(".- ")
    if DEVICES.fullmatch(plain) or not plain:
        plain = f"run{plain}"
    return plain.encode()[:LONGEST].decode(errors="ignore").rstrip(". ")


@cache
def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    from importlib import metadata  # which takes longer to load than all else here

    found = {"probekit": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scikit-learn", *OPENCV, "h5py"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@cache
def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, with "+" if it has changes; None outside one.

    As it was when this process first asked: later changes are no part of what it has imported.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    ask = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        changes = subprocess.run([*ask, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = head.stdout.strip()
    return f"{commit}{'+' if changes.stdout.strip() else ''}" if commit else None


def to_json(content: Mapping[str, Any]) -> str:
    """Strict JSON (no NaN), indented, but a list of numbers on one line."""
    # A line break inside a string is escaped, so what this matches never lies in one.
    return NUMBERS.sub(lambda found: " ".join(found[0].split()), json.dumps(content, indent=2, allow_nan=False))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `to_json`, whole or not at all."""
    write_text(path, to_json(content) + "\n")


def numbered(stem: str) -> Iterator[str]:
    """`stem`, `stem-2`, `stem-3`, ..."""
    return chain((stem,), (f"{stem}-{number}" for number in count(2)))
