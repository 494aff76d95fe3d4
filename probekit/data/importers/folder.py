"""A folder of images: labels from its folders, from what describes them, or from a table beside them."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probekit.data.importers.base import (
    Columns,
    Options,
    Skipped,
    Source,
    choose_splits,
    readable,
    set_apart,
)
from probekit.data.importers.beside import groups_of_table, label_by_table, notes_on_tables, several_of
from probekit.data.importers.images import SUFFIXES, File
from probekit.data.importers.layout import Found, find_classes, find_splits
from probekit.data.importers.metadata import (
    NAMES,
    Rows,
    column_of,
    label_by_metadata,
    read_metadata,
    values_of,
    without_image,
)
from probekit.data.importers.rows import group_of
from probekit.data.importers.segmented import Segmented, notes_on, numbered, with_segments
from probekit.data.importers.tree import TABLES, Folder, prune, read_tree


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
    rows, read = ({}, [options.labels_csv]) if options.labels_csv is not None else read_metadata(top)
    notes += without_image(rows, top, read)
    kept = ("labels", "group") if rows else ("group",) if read else ()
    options.leave_out("a folder of images", "depth", "labels_csv", "masks", *kept)
    column = column_of(rows, options.labels, source) if rows else options.column
    prune(top, ignored, options.depth, classes=column is None)
    if not top.n:
        instead = f" but {ignored[0].path!r} ({ignored[0].reason})" if ignored else ""
        raise ValueError(f"expected images in {source}, found none{instead}; kinds: {' '.join(sorted(SUFFIXES))}")
    roots = choose_splits(find_splits(top, options.depth, ignored, notes), options)
    for split, root in roots.items():
        if not root.n:
            raise ValueError(f"expected images in {root.path}, found none; remove the folder{_or_skip(split)}")
    if column is None:
        found: dict[str, Found] = find_classes(roots, options.depth, notes)
    elif rows:
        found = label_by_metadata(roots, rows, column, read, notes)
    else:
        found = label_by_table(roots, read[0], column, notes)
    notes += notes_on_tables([table for table in tables if not any(table.samefile(other) for other in read)])
    if rows and column is None:
        notes.append(f"{readable(str(read[0]))} is not read; to take classes from it, type --labels COLUMN")
    several = () if rows or not read else several_of(column, read[0])
    if not several:
        _check_classes(found)
    ignored += _others(roots)
    groups = None if options.group is None else _groups(found, rows, read, options)
    if "val" in found and "test" not in found and options.test_fraction is None:
        notes.append("there is no test split; to take val as test, type --val-as-test")
    return _source(
        source, options, found, ignored, notes, groups, several, {"labels": column} if rows and column else {}
    )


def _source(
    source: Path,
    options: Options,
    found: Mapping[str, Found],
    ignored: list[Skipped],
    notes: list[str],
    groups: Columns | None,
    several: Sequence[str],
    parameters: dict[str, Any],
) -> Source:
    names = sorted({label for files in found.values() for label, _, _ in files if isinstance(label, str)})
    index = {name: k for k, name in enumerate(names)}
    classes = _distinct(several or names, "class names")
    splits = {
        split: [File(key, index[label] if isinstance(label, str) else label, str(path)) for label, key, path in files]
        for split, files in found.items()
    }
    if options.masks is not None:
        splits = _masked(splits, source, options.masks, options.mask_names, notes)
        parameters |= {"masks": readable(options.masks.resolve().name)}
    _distinct([file.key for files in splits.values() for file in files], "names of images")
    name = readable(source.resolve().name)
    parameters |= {"group": options.group} if options.group else {}
    apart = set_apart(splits, options, classes, groups)
    masks = () if options.masks is None else options.mask_names
    return Source(name, classes, apart, ignored, parameters=parameters, notes=notes, others=groups, mask_names=masks)


def _masked(
    splits: Mapping[str, Sequence[File]], source: Path, folder: Path, names: tuple[str, ...], notes: list[str]
) -> dict[str, list[File]]:
    """The images with the pictures of their masks; adds a line on those without; a ValueError if none has one."""
    segments = numbered(names)
    masked: dict[str, list[File]] = {}
    for split, files in splits.items():
        places = [folder / Path(file.path).relative_to(source).with_suffix(".png") for file in files]
        masked[split] = [with_segments(file, place, segments) for file, place in zip(files, places, strict=True)]
    if not any(
        Path(file.picture).exists() for files in masked.values() for file in files if isinstance(file, Segmented)
    ):
        wanted = next(file.picture for files in masked.values() for file in files if isinstance(file, Segmented))
        raise ValueError(f"expected a PNG for each image in {folder}, found none, not even {wanted}; leave --masks out")
    notes += notes_on(masked, folder, segments)
    return masked


def _groups(found: Mapping[str, Found], rows: Rows, read: Sequence[Path], options: Options) -> Columns:
    """The group of every image, by its key, from the table that has the labels."""
    keys = [key for files in found.values() for _, key, _ in files]
    assert options.group is not None
    if rows:
        values = dict(zip(keys, values_of(rows, options.group, keys, read), strict=True))
    else:
        assert options.column is not None
        values = groups_of_table(keys, read[0], options.group, options.column)
    order = {key: k for k, key in enumerate(keys)}
    return group_of(options.group, [values[key] for key in keys], lambda item: order[item.key])


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
        new = sorted(label for label in own - known if isinstance(label, str))
        if new:
            raise ValueError(
                f"expected the classes of train in {split}, found also {', '.join(map(repr, map(readable, new)))}; "
                f"move them away, or type --skip-split {split}"
            )


def _others(roots: dict[str, Folder]) -> list[Skipped]:
    return [
        Skipped(folder.below(name), "not an image file by its name")
        for root in roots.values()
        for folder in root.all()
        for name in folder.others
        if not name.lower().endswith(TABLES) and name not in NAMES  # a line says how to read it
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
