"""A table beside the images: their classes or groups by its rows, whose column of file names is seen from the files."""

import csv
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from posixpath import basename, splitext

from probekit.data.importers.base import read_text, readable
from probekit.data.importers.images import SUFFIXES
from probekit.data.importers.labels import SHOWN, shown
from probekit.data.importers.layout import Found
from probekit.data.importers.tree import Folder
from probekit.h5 import ABSENT, PRESENT

HEAD = 1 << 16  # bytes in which the line of column names ends
DELIMITERS = "\t;|,"
FORMS: tuple[tuple[Callable[[str], str], tuple[Callable[[str], str], ...]], ...] = (  # of a cell, and of an image
    (str, (str, lambda key: splitext(key)[0], basename, lambda key: PurePosixPath(key).stem)),
    (basename, (basename,)),
    (lambda cell: _bare(cell), (lambda key: PurePosixPath(key).stem,)),
)  # most exact first


def label_by_table(roots: Mapping[str, Folder], path: Path, column: str, notes: list[str]) -> dict[str, Found]:
    """All images of the splits with their classes as a table has them, sorted by class and name.

    A ValueError if it is no such file, has no such column, or has not just one class for every image. `path`: a CSV
    file in UTF-8 with a line of column names; commas, semicolons, tabs or bars between; `column`: of classes, or
    several with commas, each a class that an image shows or does not; then labels are bytes. `notes`: which column
    names the files, and rows without an image, are added to it.
    """
    columns, rows = _read(path)
    several = _several(column, columns, path)
    if several:
        values = _flags(columns, rows, several, path)
    else:
        place = _place(columns, column, path, "--column")
        values = [row[place].strip() for row in rows]
    files = {
        split: [(f.below(name), f.path / name) for f in root.all() for name in f.images]
        for split, root in roots.items()
    }
    keys = [key for found in files.values() for key, _ in found]
    named, of_cell, cells = _match(keys, columns, rows, column)
    labels = _labels(keys, cells, of_cell, values, path, "class")
    _check_all(files, labels, path, named)
    classes = sorted(set(labels.values()))
    if len(classes) == len(keys) > 1 and not several:
        raise ValueError(
            f"expected classes in column {column!r} of {path}, found another value for every image; "
            f"its columns are {shown(columns)}"
        )
    told = f"{len(classes):,} classes from column {column!r}"
    if several:
        told = f"{len(several)} classes, any number of them an image, from as many columns"
    notes.append(f"{told} of {path}; its column {named!r} names the files")
    unused = sorted(set(of_cell) - set(cells.values()))
    if unused:
        notes.append(f"{len(unused):,} rows of {path} name no image here, the first {unused[0]!r}")
    if several:
        kinds = {"0": ABSENT, "1": PRESENT}
        flags = {key: bytes(kinds[each] for each in label) for key, label in labels.items()}
        return {split: [(flags[key], key, file) for key, file in sorted(found)] for split, found in files.items()}
    return {split: sorted((labels[key], key, file) for key, file in found) for split, found in files.items()}


def several_of(column: str | None, path: Path) -> tuple[str, ...]:
    """The columns of a table that are a class each; () where classes stand in one column, or in none."""
    return () if column is None else _several(column, _read(path)[0], path)


def _several(typed: str, columns: Sequence[str], path: Path) -> tuple[str, ...]:
    """The columns that --column names with commas, in that order; () where it is the name of one.

    A ValueError if the table has no such column, or one is named twice.
    """
    names = tuple(name.strip() for name in typed.split(","))
    if len(names) == 1 or typed in columns:
        return ()
    for name in names:
        _place(columns, name, path, "--column")
        if names.count(name) > 1:
            raise ValueError(f"expected each column once in --column, found {name!r} twice")
    return names


def _flags(columns: Sequence[str], rows: Sequence[Sequence[str]], several: Sequence[str], path: Path) -> list[str]:
    """For each row a 0 or 1 a column, as text; a ValueError for others than 0 or -1, and 1."""
    places = [columns.index(name) for name in several]
    found = {row[place].strip() for row in rows for place in places}
    for pair in (("0", "1"), ("-1", "1")):
        if found <= set(pair):
            return ["".join(str(int(row[place].strip() == "1")) for place in places) for row in rows]
    odd = ", ".join(map(repr, sorted(found)[:SHOWN]))
    raise ValueError(
        f"expected 0 and 1, or -1 and 1, in the columns {shown(several)} of {path}, found {odd}; what is hidden or "
        "uncertain has no label here: leave such columns or rows out"
    )


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


def groups_of_table(keys: Sequence[str], path: Path, group: str, column: str) -> dict[str, str]:
    """The group of every image, by its key, as a column of the table has it."""
    columns, rows = _read(path)
    place = _place(columns, group, path, "--group")
    _, of_cell, cells = _match(keys, columns, rows, column)
    return _labels(keys, cells, of_cell, [row[place].strip() for row in rows], path, "group")


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
        found = f" (columns {shown(columns)})" if columns else ""
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
        raise ValueError(f"expected one of the columns {shown(columns)} in {path}, found {option} {column!r}")
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
