"""The shards of an import that goes on where it was interrupted: beside the dataset until the last one is done.

They lie in the folder `.NAME.h5.shards`, with a list of which are finished, and of what images: a shard is used only
while the same images stand in its place, and become the same.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from probekit.data.importers.base import BrokenImages, Item, Skipped
from probekit.files import read_json, sha256, sync_folder, write_text
from probekit.locks import locked

LIST = "import.json"


class Unfinished:
    """`with Unfinished(...) as unfinished:` for each shard ask `broken_of`, or write it to `folder` and `add` it."""

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        """Begins, or goes on. `out`: the dataset; `identity`: JSON values, what every image becomes.

        What was to become something else is dropped. A ValueError if another process is at it.
        """
        self.out, self.folder = out, folder_of(out)
        self.dropped = is_unfinished(out) and not is_unfinished(out, identity)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = out.with_name(f".{out.name}.lock")
        self._lock = locked(self._path, str(out))
        self._list: dict[str, Any] = {"identity": _plain(identity), "done": {}}

    def __enter__(self) -> Self:
        self._lock.__enter__()
        for path in self.folder.iterdir() if self.dropped else ():
            path.unlink()
        if not self.dropped and (self.folder / LIST).exists():
            self._list = _read(self.folder)
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        may_go_on = not isinstance(error, Exception) or isinstance(error, OSError | BrokenImages)
        if self.folder.exists() and not (may_go_on and self._list["done"]):  # mistakes leave nothing
            shutil.rmtree(self.folder)
        self._path.unlink()
        self._lock.__exit__(kind, error, trace)

    def broken_of(self, file: str, items: str) -> list[Skipped] | None:
        """What was left out of a finished shard of these items (`digest`); None if there is no such shard."""
        done, path = self._list["done"].get(file), self.folder / file
        if done is None or not path.is_file() or done["seal"] != _seal(path, items, done["broken"]):
            return None
        return [Skipped(*each) for each in done["broken"]]

    def add(self, file: str, items: str, broken: Iterable[Skipped]) -> None:
        """Notes a finished shard."""
        left_out = [[each.path, each.reason] for each in broken]
        self._list["done"][file] = {"broken": left_out, "seal": _seal(self.folder / file, items, left_out)}
        self._write()

    def finish(self) -> None:
        """Puts the shards in their place, that of an older dataset, too."""
        old = self.out.with_name(f".{self.out.name}.old")
        if self.out.exists():
            _remove(old)  # a kill may have left some of it
            self.out.replace(old)
        self.folder.replace(self.out)
        sync_folder(self.out.parent)
        (self.out / LIST).unlink()
        _remove(old)

    def _write(self) -> None:
        write_text(self.folder / LIST, json.dumps(self._list))


def folder_of(out: Path) -> Path:
    """Where the shards of an import are until all are done."""
    return out.with_name(f".{out.name}.shards")


def is_unfinished(out: Path, identity: Mapping[str, Any] | None = None) -> bool:
    """Whether an interrupted import (of images that become the same) left finished shards."""
    found = _read(folder_of(out))
    return bool(found["done"]) and (identity is None or found["identity"] == _plain(identity))


def digest(items: Iterable[Item]) -> str:
    """Which images these are, and that their files have not changed."""
    total = hashlib.sha256()
    for item in items:
        total.update(f"{item.key}\t{item.label!r}\t{item.stamp()}\n".encode())
    return total.hexdigest()


def _seal(path: Path, items: str, broken: Any) -> str:
    """What a finished shard is known by: its bytes, what it was made from, and what was left out."""
    return hashlib.sha256(json.dumps([sha256(path), items, broken]).encode()).hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    """The list in a folder, or an empty one where there is none that can be read."""
    with suppress(ValueError, OSError, KeyError, TypeError, AttributeError):
        found = read_json(folder / LIST)
        done = {file: {"broken": each["broken"], "seal": each["seal"]} for file, each in found["done"].items()}
        return {"identity": found["identity"], "done": done}
    return {"identity": None, "done": {}}


def _remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _plain(identity: Mapping[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(identity))
