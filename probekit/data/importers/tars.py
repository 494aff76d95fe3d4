"""Webdataset shards: tar files in which the files of a sample follow one another and share a name up to its first dot.

Each image stays where it lies and is read from there, so that images are decoded in threads and an interrupted import
goes on: webdataset itself only streams. Python's tarfile, which webdataset reads with too, finds the places.
"""

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import (
    MAX_BYTES,
    Broken,
    Label,
    Options,
    Skipped,
    Source,
    choose_splits,
    file_stamp,
    readable,
    set_apart,
)
from probekit.data.importers.images import SUFFIXES, decode_bytes
from probekit.data.importers.labels import NONE, USUAL, choose, to_labels
from probekit.data.importers.rows import group_of
from probekit.data.importers.shards import BRACES, below, by_split, expanded, has_images
from probekit.visible import one_line

NAMED = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # what webdataset takes for the sample's name, and the rest
CLASS = "cls"  # the ending of a file that holds a class, a number
JSON = "json"
TEXTS = (CLASS, "txt", "text", "label")  # endings of small files whose text may be a class
SMALL = 1 << 20  # bytes of a label file
END = 512  # zeros after the last member, at least
NOWHERE = 0, 0  # the place of an image that is not in the shard; members begin after their headers
TAR, PACKED = (".tar",), (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True)
class Member:
    """An image file within a tar file; `index`: its place among all images of the source."""

    key: str
    label: Label
    index: int
    path: str
    start: int
    size: int
    of_file: str

    def stamp(self) -> str:
        """Changes when the tar file does."""
        return self.of_file

    def decode(self) -> NDArray[Any]:
        """Finite numbers `[H, W]` or BGR `[H, W, 3]`."""
        return decode_bytes(self.data())

    def data(self) -> bytes:
        """The bytes of the image file."""
        if not self.start:
            raise Broken("its sample has no image, or only a link to one")
        if self.size > MAX_BYTES:
            raise Broken(f"expected at most {MAX_BYTES >> 30} GiB, found {self.size / (1 << 30):,.1f}")
        try:
            with open(self.path, "rb") as file:
                file.seek(self.start)
                return file.read(self.size)
        except OSError as error:
            raise Broken(error.strerror or str(error)) from error


@dataclass(frozen=True)
class Sample:
    """The files of one name in a shard: under each ending where it lies, and the values of small ones."""

    key: str
    path: Path
    files: dict[str, tuple[int, int]]
    values: dict[str, Any]


def open_tars(source: Path, options: Options) -> Source | None:
    """The splits of webdataset shards: a tar file, a folder of them, or a pattern; None if it is something else.

    A ValueError if one is damaged or packed, or it is not clear what are the images and labels.
    """
    ignored: list[Skipped] = []
    files = _files(source, ignored)
    if files is None:
        return None
    options.leave_out("shards", "images", "labels", "group")
    chosen = choose_splits(files, options)
    samples = {split: [each for path in paths for each in _samples(path)] for split, paths in chosen.items()}
    for split, found in samples.items():
        if not found:
            raise ValueError(f"expected samples of {split} in {source}, found none; do their names have endings?")
    every = [sample for found in samples.values() for sample in found]
    name = readable(source.name)
    endings = list(dict.fromkeys(ending for sample in every for ending in sample.files))
    pictures = [ending for ending in endings if f".{ending.rpartition('.')[2]}" in SUFFIXES]
    first = [ending for ending in pictures if "." not in ending] or pictures
    images = _images(samples, options, first, pictures, name)
    column = _label_column(every, options, name)
    groups = None
    if options.group is not None:
        keys = list(dict.fromkeys(key for sample in every for key in sample.values))
        groups = group_of(choose("group", options.group, (), keys, name), [s.values.get(options.group) for s in every])
    classes: tuple[str, ...] = ()
    labels: dict[str, list[int]] = {}
    if column is not None:
        classes, labels = to_labels({k: _values(found, column) for k, found in samples.items()}, None, column, name)
    splits = _members(samples, images, labels)
    ignored += _left_out(every, images)
    notes = [f"images from {', '.join(images)}" + (f", classes from {column!r}" if column else "; no labels")]
    parameters: dict[str, Any] = {"labels": column} if column else {}
    parameters |= {"group": options.group} if options.group else {}
    apart = set_apart(splits, options, classes, groups)
    return Source(name, classes, apart, ignored, parameters=parameters, notes=notes, others=groups)


def _files(source: Path, ignored: list[Skipped]) -> dict[str, list[Path]] | None:
    if source.is_dir():
        files, packed = below(source, TAR), below(source, PACKED)
        if not (files or packed) or has_images(source):
            return None
        if packed:
            raise ValueError(
                f"expected tar files that are not packed, found {packed[0]}; unpack it with gunzip or the like"
            )
        return by_split(source, files, ignored)
    if source.name.lower().endswith(PACKED):
        raise ValueError(f"expected a tar file that is not packed, found {source}; unpack it with gunzip or the like")
    if not source.name.lower().endswith(TAR):
        return None
    files = expanded(source) if BRACES.search(str(source)) else [source]
    return {"train": files} if files[0].is_file() else None


def _samples(path: Path) -> Iterator[Sample]:
    """The samples of a shard in order; a ValueError if it is damaged or ends too early."""
    current: Sample | None = None
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                match = NAMED.match(member.name)
                is_link = member.issym() or member.islnk()
                if not (member.isreg() or is_link) or match is None or os.path.basename(member.name).startswith("."):
                    continue
                key, ending = match[1], match[2].lower()
                if current is None or current.key != key:
                    if current is not None:
                        yield current
                    current = Sample(key, path, {}, {})
                if ending in current.files:
                    raise ValueError(f"{readable(member.name)!r} is there twice")
                current.files[ending] = NOWHERE if is_link else (member.offset_data, member.size)
                if not is_link and (ending == JSON or ending in TEXTS) and member.size <= SMALL:
                    held = shard.extractfile(member)
                    assert held is not None
                    _note(current, ending, held.read())
            end = shard.offset
        _check_end(path, end)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}; fetch it again") from error
    if current is not None:
        yield current


def _check_end(path: Path, end: int) -> None:
    """A ValueError unless zeros follow the last member: tarfile takes a torn header for the end of a shard."""
    with path.open("rb") as file:
        file.seek(end)
        rest = file.read(END)
        if len(rest) < END:
            raise ValueError("it ends too early")
        while rest:
            if any(rest):
                raise ValueError(f"what follows {end:,} bytes is no member of it")
            rest = file.read(SMALL)


def _note(sample: Sample, ending: str, data: bytes) -> None:
    """Keeps what a small file says: its text, a number where it is one, or the entries of JSON."""
    if ending == JSON:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"expected JSON in {readable(sample.key)}.json, found something else") from error
        if isinstance(content, dict):
            plain = {key: value for key, value in content.items() if isinstance(value, int | str)}
            sample.values.update({key: value for key, value in plain.items() if key not in sample.values})
        return
    text = data.decode("utf-8", "backslashreplace").strip()
    sample.values[ending] = int(text) if re.fullmatch(r"-?\d{1,18}", text) else text


def _images(
    samples: dict[str, list[Sample]], options: Options, usual: Sequence[str], able: Sequence[str], name: str
) -> list[str]:
    """The endings of images; png and jpg may take turns, but a sample has one of them."""
    every = [sample for found in samples.values() for sample in found]
    if options.images is not None:
        return [choose("images", options.images, (), able, name)]
    if any(sum(ending in sample.files for ending in usual) > 1 for sample in every) or not usual:
        return [choose("images", None, usual, able, name)]
    return list(usual)


def _label_column(every: Sequence[Sample], options: Options, name: str) -> str | None:
    """The ending or entry of JSON that has the class; None for images without labels."""
    keys = list(dict.fromkeys(key for sample in every for key in sample.values))
    if options.labels == NONE or not (keys or options.labels):
        return None
    usual = [key for key in (CLASS, USUAL) if key in keys][:1]
    return choose("labels", options.labels, usual, keys, name)


def _values(samples: Sequence[Sample], column: str) -> NDArray[Any]:
    values = np.empty(len(samples), object)
    values[:] = [sample.values.get(column) for sample in samples]
    return values


def _members(
    samples: dict[str, list[Sample]], images: Sequence[str], labels: dict[str, list[int]]
) -> dict[str, list[Any]]:
    splits: dict[str, list[Any]] = {}
    place = 0
    keys = _keys(samples)
    for split, found in samples.items():
        stamps = {path: file_stamp(path) for path in {sample.path for sample in found}}
        splits[split] = []
        for row, sample in enumerate(found):
            ending = next((each for each in images if each in sample.files), None)
            start, size = sample.files[ending] if ending else NOWHERE  # a broken image
            label = labels[split][row] if labels else None
            own = keys[split][row]
            splits[split].append(Member(own, label, place, str(sample.path), start, size, stamps[sample.path]))
            place += 1
    return splits


def _keys(samples: dict[str, list[Sample]]) -> dict[str, list[str]]:
    """The names of shard and sample, behind that of the split where several splits have the same.

    A ValueError if two samples of a split have the same.
    """
    keys = {split: [readable(f"{each.path.stem}/{each.key}") for each in found] for split, found in samples.items()}
    for own in keys.values():
        if twice := [key for key, n in Counter(own).items() if n > 1]:
            raise ValueError(
                f"expected every sample once, found {min(twice)!r} again; its files must follow one another"
            )
    if len({key for own in keys.values() for key in own}) < sum(map(len, keys.values())):
        return {split: [f"{split}/{key}" for key in own] for split, own in keys.items()}
    return keys


def _left_out(every: Sequence[Sample], images: Sequence[str]) -> list[Skipped]:
    """A line for each ending that is not read."""
    counts: dict[str, int] = {}
    for sample in every:
        for ending in sample.files:
            if ending not in images and ending != JSON and ending not in TEXTS:
                counts[ending] = counts.get(ending, 0) + 1
    return [Skipped(f"*.{readable(ending)}", f"{n:,} files that are not read") for ending, n in counts.items()]
