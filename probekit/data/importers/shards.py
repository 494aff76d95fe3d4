"""Files that are parts of one set: which split each belongs to, by its name and its folder; none may be missing."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from probekit.data.importers.base import Skipped, readable
from probekit.data.importers.images import SUFFIXES
from probekit.data.importers.tree import SPLIT_WORDS, is_hidden
from probekit.h5 import SPLITS

NUMBERED = re.compile(r"^(.*?)[-_.]?(\d{1,8})-of-(\d{1,8})(?:-[0-9a-f]{6,})?$")  # train-00000-of-00002, with a hash
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 1_000_000  # shards of a pattern


def below(source: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files below a folder with one of these endings, sorted; what is hidden is left out.

    An OSError if a folder cannot be read.
    """
    return sorted(path for path in _walk(source) if path.name.lower().endswith(tuple(suffixes)) and path.is_file())


def _walk(source: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden; links to folders are followed, but no folder is read twice."""
    met = {os.path.realpath(folder) for folder in (source, *source.resolve().parents)}

    def is_new(folder: str) -> bool:
        real = os.path.realpath(folder)
        if real in met:
            return False
        met.add(real)
        return True

    for folder, folders, names in os.walk(source, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name) and is_new(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in names if not is_hidden(name))


def _refuse(error: OSError) -> None:
    raise error


def has_images(source: Path) -> bool:
    """Whether image files lie below a folder: then it is one of images, and what else is there lies beside them."""
    return any(path.suffix.lower() in SUFFIXES for path in _walk(source))


def expanded(source: Path) -> list[Path]:
    """The files of a pattern like shards-{000..012}.tar, or the file itself.

    A ValueError if one of them is missing.
    """
    names = [str(source)]
    while match := next(filter(None, map(BRACES.search, names)), None):
        low, high, width = int(match[1]), int(match[2]), len(match[1])
        if not 0 <= high - low < MOST:
            raise ValueError(f"expected numbers that rise in {match[0]}, found {match[1]} to {match[2]}")
        names = [name.replace(match[0], f"{number:0{width}}", 1) for name in names for number in range(low, high + 1)]
    paths = list(map(Path, names))
    if len(paths) > 1 and (missing := [path for path in paths if not path.is_file()]):
        raise ValueError(f"expected {len(paths):,} files {source}, found no {missing[0]}")
    return paths


def by_split(source: Path, files: Sequence[Path], ignored: list[Skipped]) -> dict[str, list[Path]]:
    """Files in order under the split that their names, or their folders' names, say; without any all are train.

    A ValueError if there are splits but no train, a split is in two folders, or one of the numbered files of a split is
    missing. `ignored`: files that say no split beside those that do, and all other files, are added to it.
    """
    root = source if source.is_dir() else source.parent
    if source.is_dir():
        others = sorted(set(_walk(source)) - set(files))
        ignored += [
            Skipped(readable(path.relative_to(root).as_posix()), f"no {files[0].suffix} file") for path in others
        ]
    said = {path: _split_of(path.relative_to(root)) for path in files}
    if len(files) == 1 or not any(said.values()):
        found = {"train": list(files)}
    else:
        ignored += [
            Skipped(readable(path.relative_to(root).as_posix()), "no split by its name, beside files of splits")
            for path in files
            if said[path] is None
        ]
        found = {split: [path for path in files if said[path] == split] for split in SPLITS}
        found = {split: paths for split, paths in found.items() if paths}
    if "train" not in found:
        raise ValueError(f"expected files of train in {source}, found {', '.join(found)} only; name a file of them")
    for split, paths in found.items():
        folders = sorted({readable(str(path.parent)) for path in paths})
        if len(folders) > 1:
            raise ValueError(
                f"expected the files of {split} in one folder, found them in {folders[0]} and {folders[1]}; "
                "name the folder of one configuration"
            )
        if source.is_dir():
            _check_numbers(paths, split)
    return found


def _split_of(path: Path) -> str | None:
    """By the first word of a split in the file's name, or else in its folders', the inner ones first."""
    for part in (path.stem, *reversed(path.parent.parts)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _check_numbers(paths: Sequence[Path], split: str) -> None:
    groups: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        if match := NUMBERED.match(path.stem):
            groups.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (name, n), numbers in groups.items():
        missing = sorted(set(range(n)) - numbers)
        if n <= MOST and missing:
            raise ValueError(
                f"expected {n:,} files of {split}, {name}-...-of-{n:05}, found {len(numbers):,}: number {missing[0]} "
                "is missing; fetch it, or name one file to import it alone"
            )
