"""Folders of images: class folders, class folders under train, test and val, or images without labels."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probekit.data.importers.base import Options, Skipped, Source, choose_splits, file_stamp, readable, set_apart
from probekit.data.importers.images import SUFFIXES, decode_file
from probekit.data.importers.layout import Found, find_classes, find_splits
from probekit.data.importers.table import label_by_table, notes_on_tables
from probekit.data.importers.tree import TABLES, Folder, prune, read_tree


@dataclass(frozen=True, slots=True)
class File:
    """An image file."""

    key: str
    label: int | None
    path: Path

    def stamp(self) -> str:
        """Changes when the file does."""
        return file_stamp(self.path)

    def decode(self) -> NDArray[Any]:
        """Finite numbers `[H, W]` or BGR `[H, W, 3]`."""
        return decode_file(self.path)


def open_folder(source: Path, options: Options) -> Source | None:
    """The splits of a folder, or None if it is something else.

    A ValueError if it holds no images, or what its folders mean is not clear.
    """
    if not source.is_dir():
        return None
    ignored: list[Skipped] = []
    notes: list[str] = []
    top = read_tree(source, ignored)
    tables = [folder.path / name for folder in top.all() for name in folder.others if name.lower().endswith(TABLES)]
    prune(top, ignored, options.depth, classes=options.labels_csv is None)
    if not top.n:
        raise ValueError(
            f"expected images in {source}, found none{_instead(ignored)}; kinds: {' '.join(sorted(SUFFIXES))}"
        )
    roots = choose_splits(find_splits(top, options.depth, ignored, notes), options)
    for split, root in roots.items():
        if not root.n:
            raise ValueError(f"expected images in {root.path}, found none; remove the folder{_or_skip(split)}")
    if options.labels_csv is not None:
        assert options.column is not None
        found: dict[str, Found] = label_by_table(roots, options.labels_csv, options.column, notes)
    else:
        found = find_classes(roots, options.depth, notes)
    notes += notes_on_tables([table for table in tables if not _is_same(table, options.labels_csv)])
    _check_classes(found)
    ignored += _others(roots)
    names = sorted({label for files in found.values() for label, _, _ in files if label is not None})
    index = {name: k for k, name in enumerate(names)}
    classes = _distinct(names, "class names")
    splits = {
        split: [File(key, None if label is None else index[label], path) for label, key, path in files]
        for split, files in found.items()
    }
    _distinct([file.key for files in splits.values() for file in files], "names of images")
    if "val" in splits and "test" not in splits and options.test_fraction is None:
        notes.append("there is no test split; to take val as test, type --val-as-test")
    name = readable(source.resolve().name)
    apart = set_apart(splits, options, classes)
    return Source(name, classes, apart, ignored, notes=notes)


def _is_same(table: Path, typed: Path | None) -> bool:
    return typed is not None and typed.exists() and table.samefile(typed)


def _instead(ignored: Sequence[Skipped]) -> str:
    """The first of what was passed over, where nothing else is there."""
    return f" but {ignored[0].path!r} ({ignored[0].reason})" if ignored else ""


def _or_skip(split: str) -> str:
    return "" if split == "train" else f", or type --skip-split {split}"


def _check_classes(found: dict[str, Found]) -> None:
    """Every split has the classes of train, or none."""
    known = {label for label, _, _ in found["train"]}
    for split, files in found.items():
        own = {label for label, _, _ in files}
        if (None in own) != (None in known):
            has, wanted = ("no classes", "class folders") if None in own else ("class folders", "no classes")
            raise ValueError(
                f"expected {wanted} in {split} as in train, found {has}{_or_skip(split).replace(',', ';')}"
            )
        new = sorted(label for label in own - known if label is not None)
        if new:
            raise ValueError(
                f"expected the classes of train in {split}, found also {', '.join(map(repr, map(readable, new)))}; "
                f"move them away, or type --skip-split {split}"
            )


def _others(roots: dict[str, Folder]) -> list[Skipped]:
    """The files beside the images that are no images."""
    return [
        Skipped(folder.below(name), "not an image file by its name")
        for root in roots.values()
        for folder in root.all()
        for name in folder.others
        if not name.lower().endswith(TABLES)  # a line says how to read it
    ]


def _distinct(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names as text; a ValueError if two become the same."""
    clean = tuple(map(readable, names))
    seen: dict[str, str] = {}
    for name in clean:
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other is not name:
            raise ValueError(f"expected distinct {what}, found two that look the same, {other!a} and {name!a}")
    return clean
