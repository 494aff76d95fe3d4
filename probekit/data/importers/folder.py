"""A folder of images: labels from its folders, or from a table, whose column of file names is seen from the files."""

import csv
import io
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from posixpath import basename, splitext
from typing import Any

from probekit.data.importers.base import (
    Columns,
    Options,
    Skipped,
    Source,
    choose_splits,
    read_text,
    readable,
    set_apart,
)
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
from probekit.data.importers.tree import TABLES, Folder, prune, read_tree

HEAD = 1 << 16  # bytes in which the line of column names ends
SHOWN = 12  # columns in a line
DELIMITERS = "\t;|,"
FORMS: tuple[tuple[Callable[[str], str], tuple[Callable[[str], str], ...]], ...] = (  # of a cell, and of an image
    (str, (str, lambda key: splitext(key)[0], basename, lambda key: PurePosixPath(key).stem)),
    (basename, (basename,)),
    (lambda cell: _bare(cell), (lambda key: PurePosixPath(key).stem,)),
)  # most exact first


def label_by_table(roots: Mapping[str, Folder], path: Path, column: str, notes: list[str]) -> dict[str, Found]:
    """All images of the splits with their classes as a table has them, sorted by class and name.

    A ValueError if it is no such file, has no such column, or has not just one class for every image. `path`: a CSV
    file in UTF-8 with a line of column names; commas, semicolons, tabs or bars between; `notes`: which column names the
    files, and rows without an image, are added to it.
    """
    columns, rows = _read(path)
    place = _place(columns, column, path, "--column")
    files = {
        split: [(f.below(name), f.path / name) for f in root.all() for name in f.images]
        for split, root in roots.items()
    }
    keys = [key for found in files.values() for key, _ in found]
    named, of_cell, cells = _match(keys, columns, rows, column)
    labels = _labels(keys, cells, of_cell, [row[place].strip() for row in rows], path, "class")
    _check_all(files, labels, path, named)
    classes = sorted(set(labels.values()))
    if len(classes) == len(keys) > 1:
        raise ValueError(
            f"expected classes in column {column!r} of {path}, found another value for every image; "
            f"its columns are {_shown(columns)}"
        )
    notes.append(f"{len(classes):,} classes from column {column!r} of {path}; its column {named!r} names the files")
    unused = sorted(set(of_cell) - set(cells.values()))
    if unused:
        notes.append(f"{len(unused):,} rows of {path} name no image here, the first {unused[0]!r}")
    return {split: sorted((labels[key], key, file) for key, file in found) for split, found in files.items()}


def _check_all(
    files: Mapping[str, Sequence[tuple[str, Path]]], labels: Mapping[str, str], path: Path, named: str
) -> None:
    missing = {split: [key for key, _ in found if key not in labels] for split, found in files.items()}
    for split, keys in missing.items():
        if keys:
            alone = split != "train" and not any(found for other, found in missing.items() if other != split)
            raise ValueError(
                f"expected a row of {path} for every image, found none for {len(keys):,} of {split}, the first "
                f"{keys[0]!r} (column {named!r} names the files)" + (f"; type --skip-split {split}" if alone else "")
            )


def notes_on_tables(tables: Sequence[Path]) -> list[str]:
    """A line for each table that lies beside the images and is not read."""
    notes = []
    for path in tables:
        if not path.is_file():  # a pipe, say, would be waited for
            notes.append(f"{readable(str(path))} is no regular file, and is not read")
            continue
        try:
            with path.open("rb") as file:
                line = file.read(HEAD).split(b"\n")[0].decode("utf-8-sig")
            columns = [cell.strip() for cell in next(csv.reader([line], delimiter=_delimiter(line)))]
        except (OSError, UnicodeDecodeError, StopIteration, csv.Error):
            columns = []
        column = next(filter(None, reversed(columns)), "NAME")
        found = f" (columns {_shown(columns)})" if columns else ""
        notes.append(
            f"labels in {readable(str(path))}{found} are not read; to take them, type "
            f"--labels-csv {shlex.quote(readable(str(path)))} --column {shlex.quote(column)}"
        )
    return notes


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows that are not blank."""
    text = read_text(path)
    try:
        columns, *rows = csv.reader(
            io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]), strict=True
        )
    except (ValueError, csv.Error) as error:
        raise ValueError(f"expected a table with a line of column names in {path}, found something else") from error
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(columns):
            raise ValueError(f"expected {len(columns)} columns in {path}, found {len(row)} in row {number}")
    return [cell.strip() for cell in columns], [row for row in rows if row]


def _place(columns: Sequence[str], column: str, path: Path, option: str) -> int:
    if column not in columns:
        raise ValueError(f"expected one of the columns {_shown(columns)} in {path}, found {option} {column!r}")
    if columns.count(column) > 1:
        raise ValueError(f"expected column {column!r} once in {path}, found it again; rename one")
    return columns.index(column)


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count) if any(map(line.count, DELIMITERS)) else ","


def _match(
    keys: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]], column: str
) -> tuple[str, dict[str, list[int]], dict[str, str]]:
    """The column that names most files; rows by what they name; and what names each image that is named."""
    best: tuple[str, dict[str, list[int]], dict[str, str]] = (columns[0], {}, {})
    forms = [(of_cell, [[of_key(key) for key in keys] for of_key in of_keys]) for of_cell, of_keys in FORMS]
    for place, name in enumerate(columns):
        if name == column:
            continue
        values = [row[place].strip().replace("\\", "/").removeprefix("./") for row in rows]
        for of_cell, calls in forms:
            named: dict[str, list[int]] = {}
            for index, value in enumerate(values):
                named.setdefault(of_cell(value), []).append(index)
            for called in calls:
                cells = {key: cell for key, cell in zip(keys, called, strict=True) if cell in named}
                if len(cells) > len(best[2]):
                    best = (name, named, cells)
            if len(best[2]) == len(keys):
                return best
    return best


def _labels(
    keys: Sequence[str],
    cells: Mapping[str, str],
    named: Mapping[str, Sequence[int]],
    classes: Sequence[str],
    path: Path,
    what: str,
) -> dict[str, str]:
    """The class, or a group, of every image that is named; refuses a name of two images, and two classes or none."""
    labels: dict[str, str] = {}
    first: dict[str, str] = {}
    for key in keys:
        if key not in cells:
            continue
        other = first.setdefault(cells[key], key)
        if other != key:
            raise ValueError(f"expected one image for {cells[key]!r} of {path}, found {other!r} and {key!r}")
        found = sorted({classes[index] for index in named[cells[key]]})
        if found == [""] or len(found) > 1:
            has = "none" if found == [""] else ", ".join(map(repr, found))
            raise ValueError(f"expected one {what} for {key!r} in {path}, found {has}")
        labels[key] = found[0]
    return labels


def _bare(cell: str) -> str:
    """A name without folders and without the ending of an image, whichever."""
    path = PurePosixPath(cell)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _shown(columns: Sequence[str]) -> str:
    return ", ".join(columns[:SHOWN]) + (f" and {len(columns) - SHOWN:,} more" if len(columns) > SHOWN else "")


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
    options.leave_out("a folder of images", "depth", "labels_csv", *kept)
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
    _check_classes(found)
    ignored += _others(roots)
    groups = None if options.group is None else _groups(found, rows, read, options)
    if "val" in found and "test" not in found and options.test_fraction is None:
        notes.append("there is no test split; to take val as test, type --val-as-test")
    return _source(source, options, found, ignored, notes, groups, {"labels": column} if rows and column else {})


def _source(
    source: Path,
    options: Options,
    found: Mapping[str, Found],
    ignored: list[Skipped],
    notes: list[str],
    groups: Columns | None,
    parameters: dict[str, Any],
) -> Source:
    names = sorted({label for files in found.values() for label, _, _ in files if label is not None})
    index = {name: k for k, name in enumerate(names)}
    classes = _distinct(names, "class names")
    splits = {
        split: [File(key, None if label is None else index[label], str(path)) for label, key, path in files]
        for split, files in found.items()
    }
    _distinct([file.key for files in splits.values() for file in files], "names of images")
    name = readable(source.resolve().name)
    parameters |= {"group": options.group} if options.group else {}
    apart = set_apart(splits, options, classes, groups)
    return Source(name, classes, apart, ignored, parameters=parameters, notes=notes, others=groups)


def _groups(found: Mapping[str, Found], rows: Rows, read: Sequence[Path], options: Options) -> Columns:
    """The group of every image, by its key, from the table that has the labels."""
    keys = [key for files in found.values() for _, key, _ in files]
    assert options.group is not None
    if rows:
        values = dict(zip(keys, values_of(rows, options.group, keys, read), strict=True))
    else:
        assert options.column is not None
        columns, lines = _read(read[0])
        place = _place(columns, options.group, read[0], "--group")
        _, of_cell, cells = _match(keys, columns, lines, options.column)
        values = _labels(keys, cells, of_cell, [line[place].strip() for line in lines], read[0], "group")
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
        new = sorted(label for label in own - known if label is not None)
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
