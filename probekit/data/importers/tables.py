"""Datasets of Hugging Face on disk: parquet files, and the folders of arrow files that `save_to_disk` writes.

A column of images has the bytes of image files, alone or as {bytes, path}; the schema says which it is, and what the
classes are called. pyarrow reads both (`pip install 'pyarrow>=17'`), run by run.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from probekit.data.importers.base import (
    Options,
    Skipped,
    Source,
    choose_splits,
    file_stamp,
    read_bytes,
    read_text,
    readable,
    set_apart,
)
from probekit.data.importers.labels import NONE, USUAL, choose, to_labels
from probekit.data.importers.rows import Cell, Runs, group_of, steps
from probekit.data.importers.shards import below, by_split, has_images
from probekit.data.importers.tree import SPLIT_WORDS
from probekit.visible import one_line

STREAMED = 1 << 20  # bytes of a column chunk that are in memory at a time


@dataclass
class Table:
    """A file of rows."""

    path: Path

    def parquet(self) -> Any:
        """A reader of a parquet file; it keeps the file open."""
        from pyarrow.parquet import ParquetFile

        return ParquetFile(self.path, buffer_size=STREAMED, pre_buffer=False, memory_map=False)

    @cached_property
    def batches(self) -> list[Any]:
        """The batches of an arrow file, which lie in the file: they are mapped, not read."""
        import pyarrow as pa

        mapped = pa.memory_map(str(self.path))
        try:
            return list(pa.ipc.open_stream(mapped))
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(mapped)
            return [reader.get_batch(k) for k in range(reader.num_record_batches)]

    @property
    def is_arrow(self) -> bool:
        """Whether it is an arrow file."""
        return self.path.suffix == ".arrow"

    @cached_property
    def schema(self) -> Any:
        """The names and types of its columns."""
        return self.batches[0].schema if self.is_arrow else self.parquet().schema_arrow

    @cached_property
    def groups(self) -> list[int]:
        """Rows of each batch or row group."""
        if self.is_arrow:
            return [batch.num_rows for batch in self.batches]
        about = self.parquet().metadata
        return [about.row_group(k).num_rows for k in range(about.num_row_groups)]

    def column(self, name: str) -> list[Any]:
        """All values of a column."""
        if self.is_arrow:
            return [value for batch in self.batches for value in batch.column(name).to_pylist()]
        values: list[Any] = self.parquet().read([name], use_threads=False).column(name).to_pylist()
        return values

    def runs(self, name: str, group: int, skip: int) -> Iterator[list[Any]]:
        """The runs of a batch or row group, but for the first ones."""
        ends = steps(self.groups[group])
        if self.is_arrow:
            for begin, end in list(pairwise(ends))[skip:]:
                yield self.batches[group].column(name).slice(begin, end - begin).to_pylist()
            return
        step = ends[1] if len(ends) > 1 else 1
        rows = self.parquet().iter_batches(step, row_groups=[group], columns=[name], use_threads=False)
        for number, batch in enumerate(rows):
            if number >= skip:
                yield batch.column(0).to_pylist()


def open_tables(source: Path, options: Options) -> Source | None:
    """The splits of parquet files, or of a folder that `save_to_disk` wrote; None if it is something else.

    A ValueError if pyarrow is missing, a file is damaged or missing, or it is not clear which column is meant.
    """
    ignored: list[Skipped] = []
    files = _files(source, ignored)
    if files is None:
        return None
    options.leave_out("tables", "images", "labels", "group")
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ValueError(f"expected pyarrow to read {source}, found none; type: pip install 'pyarrow>=17'") from error
    tables = {split: list(map(Table, paths)) for split, paths in choose_splits(files, options).items()}
    every = [table for found in tables.values() for table in found]
    for table in every:
        try:
            table.schema, table.groups  # noqa: B018  read here, so that damage is one line
        except (pa.ArrowException, OSError, IndexError) as error:
            raise ValueError(f"cannot read {table.path}: {_reason(error)}; fetch it again") from error
        if not table.schema.equals(every[0].schema):
            raise ValueError(f"expected the columns of {every[0].path} in {table.path}, found others")
    return _opened(source, options, tables, ignored)


def _opened(source: Path, options: Options, tables: dict[str, list[Table]], ignored: list[Skipped]) -> Source:
    name, features = readable(source.resolve().name), _features(source, tables["train"][0])
    schema = tables["train"][0].schema
    if twice := sorted({column for column in schema.names if schema.names.count(column) > 1}):
        raise ValueError(f"expected columns of different names in {name}, found several called {twice[0]!r}")
    images = _images(schema, features, options, name)
    others = [column for column in schema.names if column != images]
    labels, names = _labels(schema, features, others, options, name)
    notes = [f"images from column {images!r}" + (f", classes from {labels!r}" if labels else "; no labels")]
    every = [table for found in tables.values() for table in found]
    runs = _runs(every, images)
    groups = None
    if options.group is not None:
        column = choose("group", options.group, (), others, name)
        groups = group_of(column, [value for table in every for value in _column(table, column)])
    values = {
        split: _array([value for table in found for value in _column(table, labels)]) if labels else None
        for split, found in tables.items()
    }
    if labels:
        classes, numbers = to_labels({k: v for k, v in values.items() if v is not None}, names, labels, name)
    else:
        classes, numbers = (), {}
    splits: dict[str, list[Any]] = {}
    place = 0
    for split, found in tables.items():
        cells, own = [], 0
        for table in found:
            stamp, stem = file_stamp(table.path), readable(table.path.stem)
            for row in range(sum(table.groups)):
                label = numbers[split][own] if labels else None
                cells.append(Cell(f"{split}/{stem}/{row}", label, place, runs, stamp))
                own, place = own + 1, place + 1
        if not cells:
            raise ValueError(f"expected images of {split} in {source}, found no rows")
        splits[split] = cells
    parameters = {"images": images} | ({"labels": labels} if labels else {})
    parameters |= {"group": options.group} if options.group else {}
    apart = set_apart(splits, options, classes, groups)
    return Source(name, classes, apart, ignored, parameters=parameters, notes=notes, others=groups)


def _files(source: Path, ignored: list[Skipped]) -> dict[str, list[Path]] | None:
    """The files of each split, or None if these are no tables."""
    if source.is_file():
        return {"train": [source]} if source.suffix in (".parquet", ".arrow") else None
    if not source.is_dir():
        return None
    if (source / "dataset_dict.json").is_file():
        return _saved_dict(source, ignored)
    says = any((source / name).is_file() for name in ("state.json", "dataset_info.json"))
    if says and (saved := _saved(source)):
        return {"train": saved}
    files = below(source, (".parquet",))
    return by_split(source, files, ignored) if files and not has_images(source) else None


def _saved_dict(source: Path, ignored: list[Skipped]) -> dict[str, list[Path]]:
    try:
        names = list(map(str, json.loads(read_text(source / "dataset_dict.json"))["splits"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected a list of splits in {source / 'dataset_dict.json'}, found something else"
        ) from error
    found: dict[str, list[Path]] = {}
    for name in names:
        split = SPLIT_WORDS.get(name.lower())
        if split is None or split in found:
            why = f"a second {split} split" if split else "no train, val or test split by its name"
            ignored.append(Skipped(readable(name), why))
            continue
        saved = _saved(source / name)
        if saved is None:
            raise ValueError(f"expected the split {name} in {source / name}, found no state.json there; copy all of it")
        found[split] = saved
    if "train" not in found:
        shown = ", ".join(map(readable, names)) or "no splits"
        alone = f"; type: probekit import {quote(str(source / names[0]))}" if names else ""
        raise ValueError(f"expected a train split in {source}, found {shown}{alone}")
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _saved(folder: Path) -> list[Path] | None:
    """The arrow files that state.json names, all of them; None if there is none."""
    if not (folder / "state.json").is_file():
        return sorted(folder.glob("*.arrow")) or None
    try:
        state = json.loads(read_text(folder / "state.json"))
        paths = [folder / Path(str(file["filename"])).name for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected a list of arrow files in {folder / 'state.json'}, found something else") from error
    if missing := [path for path in paths if not path.is_file()]:
        raise ValueError(f"expected {missing[0]}, which state.json names, found nothing; copy all of the folder")
    return paths


def _features(source: Path, table: Table) -> dict[str, Any]:
    """What the schema, or dataset_info.json beside it, says of each column, as Hugging Face writes it; or nothing."""
    texts = []
    if (held := (table.schema.metadata or {}).get(b"huggingface")) is not None:
        texts.append(held.decode("utf-8", "replace"))
    for folder in (table.path.parent, source):
        if (folder / "dataset_info.json").is_file():
            texts.append('{"info": ' + read_text(folder / "dataset_info.json") + "}")
    for text in texts:
        try:
            features = json.loads(text)["info"]["features"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(features, dict):
            return {name: about for name, about in features.items() if isinstance(about, dict)}
    return {}


def _images(schema: Any, features: dict[str, Any], options: Options, name: str) -> str:
    import pyarrow as pa

    def holds_files(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(field.name == "bytes" and holds_files(field.type) for field in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    said = [column for column in schema.names if features.get(column, {}).get("_type") == "Image"]
    able = [column for column in schema.names if holds_files(schema.field(column).type)]
    return choose("images", options.images, [c for c in said if c in able] or able, able, name)


def _labels(
    schema: Any, features: dict[str, Any], others: Sequence[str], options: Options, name: str
) -> tuple[str | None, list[str] | None]:
    """The column of labels and the class names; None for images without, and for classes without names."""
    import pyarrow as pa

    def holds_classes(kind: Any) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        test = pa.types
        return any(is_a(kind) for is_a in (test.is_integer, test.is_string, test.is_large_string, test.is_boolean))

    able = [column for column in others if holds_classes(schema.field(column).type)]
    if options.labels == NONE:
        return None, None
    if USUAL in others and USUAL not in able and options.labels is None:
        wanted = quote(readable(able[0])) if able else NONE
        raise ValueError(
            f"expected whole numbers or text in column {USUAL!r} of {name}, found {schema.field(USUAL).type}; "
            f"type: --labels {wanted}"
        )
    if not (able or options.labels):
        return None, None
    said = [column for column in able if features.get(column, {}).get("_type") == "ClassLabel"]
    column = choose("labels", options.labels, said or [c for c in able if c == USUAL], able, name)
    names = features.get(column, {}).get("names")
    is_class = features.get(column, {}).get("_type") == "ClassLabel" and isinstance(names, list)
    return column, [str(each) for each in names] if is_class and names else None


def _runs(tables: Sequence[Table], column: str) -> Runs:
    """All rows of some files; each row is the bytes of an image file, or None, or why there is none."""
    starts, places = [0], []
    for table in tables:
        for group, n in enumerate(table.groups):
            ends = steps(n)
            for number, (begin, end) in enumerate(pairwise(ends)):
                places.append((table, group, number))
                starts.append(starts[-1] + end - begin)

    def read(first: int) -> Iterator[list[Any]]:
        number = first
        while number < len(places):
            table, group, skip = places[number]
            before = number
            try:
                for run in table.runs(column, group, skip):
                    if len(run) != starts[number + 1] - starts[number]:
                        raise ValueError("a row group has other numbers of rows than it says")
                    yield [_bytes(cell, table.path.parent) for cell in run]
                    number += 1
                if number == before:
                    raise ValueError("a row group has fewer rows than it says")
            except Exception as error:  # pyarrow's own and the system's
                raise ValueError(f"cannot read {table.path}: {_reason(error)}; fetch it again") from error

    return Runs(starts, read, lambda run: sum(len(cell or b"") for cell in run))


def _bytes(cell: Any, folder: Path) -> bytes | str | None:
    """The image file in a cell; text says why there is none."""
    if not isinstance(cell, dict):
        return cell if isinstance(cell, bytes) else None
    if isinstance(cell.get("bytes"), bytes):
        return bytes(cell["bytes"])
    path = cell.get("path")
    if not isinstance(path, str):
        return None
    try:
        return read_bytes(folder / path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"its row names the file {readable(os.path.basename(path))!r}, which cannot be read: {reason}"


def _column(table: Table, name: str) -> list[Any]:
    import pyarrow as pa

    try:
        return table.column(name)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {table.path}: {_reason(error)}; fetch it again") from error


def _array(values: list[Any]) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _reason(error: Exception) -> str:
    return one_line(error).rstrip(".")
