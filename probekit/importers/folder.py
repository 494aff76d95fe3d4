"""Folders of images: class folders, class folders under train, test and val, or images without labels."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from probekit.h5 import SPLITS
from probekit.importers.base import Options, Skipped, Source, file_stamp, set_apart
from probekit.importers.images import SUFFIXES, decode_file

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class File:
    """An image file."""

    key: str
    label: int | None
    path: Path

    def stamp(self) -> str:
        """Changes when the file does."""
        return file_stamp(self.path)

    def decode(self) -> NDArray[np.uint8]:
        """uint8 `[H, W]` or BGR `[H, W, 3]`."""
        return decode_file(self.path)


def open_folder(source: Path, options: Options) -> Source | None:
    """The splits of a folder, or None if it is something else.

    Raises:
        ValueError: If it holds no images, or images beside class folders.
    """
    if not source.is_dir():
        return None
    ignored: list[Skipped] = []
    roots = _split_folders(source, ignored)
    found = {split: _labelled(source, root, ignored) for split, root in roots.items()}
    if not found["train"]:
        raise ValueError(
            f"expected images or class folders of images in {source / roots['train']}, found none; "
            f"known kinds: {' '.join(sorted(SUFFIXES))}"
        )
    classes = tuple(sorted({name for files in found.values() for name, _ in files if name is not None}))
    for split, files in found.items():
        if {name is None for name, _ in files} - {not classes}:
            raise ValueError(f"expected images in class folders everywhere or nowhere, found both in {source}")
        if not files:
            raise ValueError(f"expected images in {source / roots[split]}, found none; remove the folder")
    for split, files in found.items():
        new = {name for name, _ in files} - {name for name, _ in found["train"]}
        if new:
            raise ValueError(f"expected the classes of train in {split}, found also {', '.join(map(repr, new))}")
    names = _readable(classes)
    index = {name: k for k, name in enumerate(classes)}
    splits = {
        split: [File(_key(path, source), None if name is None else index[name], path) for name, path in files]
        for split, files in found.items()
    }
    resolved = source.resolve().name
    return Source(_readable((resolved,))[0], names, set_apart(splits, options, names), ignored)


def _split_folders(source: Path, ignored: list[Skipped]) -> dict[str, str]:
    """Which folder holds which split; without a folder "train" all is one."""
    entries = _entries(source)
    found: dict[str, str] = {}
    for name in entries:
        split = SPLIT_NAMES.get(name.lower())
        if split is not None and (source / name).is_dir():
            if split in found:
                raise ValueError(f"expected one folder for {split}, found {found[split]!r} and {name!r} in {source}")
            found[split] = name
    if "train" not in found:
        if found and not any((source / name).is_dir() for name in entries if name not in found.values()):
            raise ValueError(f"expected a folder train beside {' and '.join(found.values())} in {source}, found none")
        return {"train": "."}
    ignored += [Skipped(_key(source / name, source), "beside train") for name in entries if name not in found.values()]
    return {split: found[split] for split in SPLITS if split in found}


def _labelled(source: Path, root: str, ignored: list[Skipped]) -> list[tuple[str | None, Path]]:
    """(class or None, file) of all images under a split's folder, sorted by their names."""
    folder = source / root
    found: list[tuple[str | None, Path]] = []
    for name in _entries(folder):
        if (folder / name).is_dir():
            files = (Path(where) / file for where, names in _walk(folder / name) for file in names)
            found += [(name, file) for file in sorted(files, key=lambda path: _key(path, source))]
        else:
            found.append((None, folder / name))
    kept = []
    for label, path in found:
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in SUFFIXES and path.is_file():
            kept.append((label, path))
        else:
            ignored.append(Skipped(_key(path, source), "not an image file by its name"))
    return kept


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder at any depth with its files; hidden ones hold copies and thumbnails, not images of the class."""
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield where, files


def _entries(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _key(path: Path, source: Path) -> str:
    """The path within the source, the same on every system."""
    return _readable((PurePath(os.path.relpath(path, source)).as_posix(),))[0]


def _readable(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names as text: bytes that are no UTF-8 become question marks.

    Raises:
        ValueError: If two become the same.
    """
    clean = tuple(os.fsencode(name).decode("utf-8", "replace") for name in names)
    if len(set(clean)) < len(clean):
        raise ValueError("expected class folders with distinct readable names, found two that look the same")
    return clean
