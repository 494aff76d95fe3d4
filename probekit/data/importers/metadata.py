"""Tables that Hugging Face's image folders have beside the images: metadata.csv or metadata.jsonl, by `file_name`."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from typing import Any

from probekit.data.importers.base import read_text, readable
from probekit.data.importers.labels import NONE, USUAL, choose
from probekit.data.importers.layout import Found
from probekit.data.importers.tree import Folder

NAMES = ("metadata.csv", "metadata.jsonl")
FILE = "file_name"  # the column that names the images, relative to the table

Rows = dict[str, dict[str, Any]]  # by the key of an image


def read_metadata(top: Folder) -> tuple[Rows, list[Path]]:
    """What all tables of a tree say of its images, and where they lie; nothing where there is none.

    A ValueError if a table is damaged, or names an image twice.
    """
    rows: Rows = {}
    paths = []
    for folder in top.all():
        for name in (each for each in folder.others if each in NAMES):
            path = folder.path / name
            found = _jsonl(path) if name.endswith("l") else _csv(path)
            if not found or any(not isinstance(row.get(FILE), str) for row in found):
                continue  # a table of something else: a line names it
            paths.append(path)
            for row in found:
                key = normpath(folder.below(row[FILE].replace("\\", "/")))
                if key in rows:
                    raise ValueError(f"expected one row for {key!r} in {path}, found two")
                rows[key] = row
    return rows, paths


def column_of(rows: Rows, typed: str | None, source: Path) -> str | None:
    """The column of labels: the typed one, or the one called label; None where folders say the classes.

    A ValueError if the typed one is not there.
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row if name != FILE))
    if typed is None:
        return USUAL if USUAL in columns else None
    return typed if typed == NONE else choose("labels", typed, (), columns, str(source))


def label_by_metadata(
    roots: Mapping[str, Folder], rows: Rows, column: str, paths: Sequence[Path], notes: list[str]
) -> dict[str, Found]:
    """All images of the splits with their classes, sorted by class and name; with "none" all have none.

    A ValueError if an image has no row, or no class in it.
    """
    found: dict[str, Found] = {}
    for split, root in roots.items():
        files = [(folder.below(name), folder.path / name) for folder in root.all() for name in folder.images]
        if column == NONE:
            found[split] = sorted((None, key, file) for key, file in files)
        else:
            values = values_of(rows, column, [key for key, _ in files], paths)
            found[split] = sorted((value, *file) for value, file in zip(values, files, strict=True))
    if column != NONE:
        classes = {label for files in found.values() for label, _, _ in files}
        tables = ", ".join(readable(str(path)) for path in paths)
        if len(classes) == sum(map(len, found.values())) > 1:
            raise ValueError(
                f"expected classes in column {column!r} of {tables}, found another value for every image; "
                "type --labels none, or another column"
            )
        notes.append(f"{len(classes):,} class{'es' * (len(classes) != 1)} from column {column!r} of {tables}")
    return found


def values_of(rows: Rows, column: str, keys: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """The text in a column for some images; a ValueError if one has none."""
    missing = [key for key in keys if rows.get(key, {}).get(column) in (None, "")]
    if missing:
        raise ValueError(
            f"expected a row with {column!r} for every image in {readable(str(paths[0]))}, found none for "
            f"{len(missing):,}, the first {missing[0]!r}"
        )
    return [str(rows[key][column]) for key in keys]


def without_image(rows: Rows, top: Folder, paths: Sequence[Path]) -> list[str]:
    """A line if some rows name no image of a tree."""
    there = {folder.below(name) for folder in top.all() for name in folder.images}
    lost = [key for key in rows if key not in there]
    tables = ", ".join(readable(str(path)) for path in paths)
    return [f"{len(lost):,} rows of {tables} name no image here, the first {lost[0]!r}"] if lost else []


def _csv(path: Path) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
        columns = reader.fieldnames or []
        if len(set(columns)) < len(columns):
            raise ValueError(f"expected columns of different names in {path}, found {', '.join(columns)}")
        return [dict(row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"expected a table with a line of column names in {path}, found something else") from error


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):  # other line breaks may stand in JSON as they are
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"expected JSON in line {number} of {path}, found something else") from error
            if not isinstance(row, dict):
                raise ValueError(f"expected an object in line {number} of {path}, found something else")
            rows.append(row)
    return rows
