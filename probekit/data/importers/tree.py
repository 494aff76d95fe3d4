"""A folder and all below it, read once: images, other files, tables. Nothing in it is passed over without a word."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from probekit.data.importers.base import Skipped, readable
from probekit.data.importers.images import SUFFIXES
from probekit.data.importers.names import (
    is_hidden,
    is_neutral,
    is_split,
    masks_among,
    mentions_masks,
    speaks_of,
    splits_among,
)

MAX_LEVELS = 100  # own choice: deeper is a mistake, and neither Python's stack nor paths go on for ever
TABLES = (".csv", ".tsv")


@dataclass
class Folder:
    """What a folder holds, at any depth.

    Attributes:
        key: Its path within the source, as text; "" for the source itself.
        folders: The folders in it that are not hidden.
        images: Names of the files that are images by their names.
    """

    path: Path
    key: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Images in it, at any depth."""
        return len(self.images) + sum(folder.n for folder in self.folders.values())

    def below(self, name: str) -> str:
        """The key of something in it."""
        return f"{self.key}/{readable(name)}" if self.key else readable(name)

    def all(self) -> Iterator["Folder"]:
        """It and every folder in it."""
        yield self
        for folder in self.folders.values():
            yield from folder.all()


def read_tree(source: Path, ignored: list[Skipped]) -> Folder:
    """A folder with all below it, sorted by name; links to folders are followed.

    Args:
        ignored: What is hidden is added to it.

    Raises:
        ValueError: If a folder cannot be read, or a link leads nowhere, to a folder above, or to one met before.
    """
    return _read(source, "", ignored, {}, 0)


def _read(path: Path, key: str, ignored: list[Skipped], met: dict[tuple[int, int], str], level: int) -> Folder:
    folder = Folder(path, key)
    if level > MAX_LEVELS:
        raise ValueError(f"expected at most {MAX_LEVELS} folders in one another, found more in {key!r}")
    try:
        found = os.stat(path)
        before = met.setdefault((found.st_dev, found.st_ino), key or ".")
        if before != (key or "."):
            raise ValueError(f"expected every folder once, found {before!r} again as {key!r}; remove the link")
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"cannot read the folder {path}: {error.strerror}; make it readable or move it away"
        ) from error
    for entry in entries:
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
        is_folder = _is_folder(entry, folder)
        if is_hidden(entry.name):
            if is_folder or is_image:
                ignored.append(Skipped(folder.below(entry.name), "hidden"))
        elif is_folder:
            folder.folders[entry.name] = _read(path / entry.name, folder.below(entry.name), ignored, met, level + 1)
        else:
            (folder.images if is_image else folder.others).append(entry.name)
    return folder


def _is_folder(entry: os.DirEntry[str], folder: Folder) -> bool:
    """Whether an entry is a folder, or a link to one; a link to nothing may have been one."""
    if not entry.is_symlink():
        return entry.is_dir()
    path = Path(entry.path)
    if not os.path.exists(path) and not is_hidden(entry.name) and path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"expected links to files and folders, found {folder.below(entry.name)!r}, which leads nowhere"
        )
    return os.path.isdir(path)


def prune(folder: Folder, ignored: list[Skipped], depth: int | None, *, classes: bool = True) -> None:
    """Takes out the folders of masks, and those without images; each is added to `ignored`.

    Args:
        folder: What is taken out of.
        ignored: Added to.
        depth: As typed; with it, what may be masks or a class is a class.
        classes: Whether the folders in it may be the classes.

    Raises:
        ValueError: If there is no depth, and a folder may be masks or a class.
    """
    masks = masks_among(folder.folders)
    inside = {name: inner for name, inner in folder.folders.items() if inner.n and name not in masks}
    if classes and (unclear := _unclear(folder, masks, inside)):
        if depth is None:
            beside = [name for name in inside if name not in unclear]
            raise ValueError(
                f"expected classes, or images and their masks, in {folder.path}, found {_quoted(unclear)} beside "
                f"{_quoted(beside)}; type --depth 1 if all are classes, or move the masks away"
            )
        masks -= set(unclear)
    around = splits_among(inside) if classes else {}  # folders that are no classes themselves
    for name, inner in list(folder.folders.items()):
        if name in masks and inner.n:
            reason = f"{inner.n:,} images of masks or annotations, by its name; rename it if they are not"
        elif not inner.n and not is_split(name):  # an empty split is refused, later
            reason = "no images in it"
        else:
            prune(inner, ignored, depth, classes=classes and (name in around or list(inside) == [name]))
            continue
        ignored.append(Skipped(inner.key, reason))
        del folder.folders[name]


def _unclear(folder: Folder, masks: set[str], inside: dict[str, Folder]) -> list[str]:
    """Folders of masks by their names that may be classes: without them one class is left, or another has the word.

    So may all whose names have such a word, beside a folder whose name only says that there are images.
    """
    named = [name for name, inner in inside.items() if inner.images and not is_neutral(name) and not is_split(name)]
    alone = named == list(inside) and len(named) == 1 and not folder.images
    plain = any(map(is_neutral, inside))
    return [
        name
        for name, inner in folder.folders.items()
        if (name in masks and inner.n and (alone or any(speaks_of(other, name) for other in inside)))
        or (name in inside and plain and mentions_masks(name))
    ]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(readable(name)) for name in names)
