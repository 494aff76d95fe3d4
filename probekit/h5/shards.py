"""Which files a dataset is in: one, all in a folder, or those that a pattern means; shards that belong together.

A folder of shards is named as a file is, `data/photos.h5/`, and holds `03-of-64.h5`: other files in it are left alone,
hidden ones too. A shard is a dataset file with the attribute `shard` (`probekit.h5.schema.Shard`), and none is taken
for a dataset: all must be there, once, of the same settings.
"""

import json
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from shlex import join, quote
from sys import intern
from typing import Any

from generators import drawn_by
from probekit.h5.check import HOW
from probekit.h5.contents import Contents, content_hash
from probekit.h5.file import State, file_info, state_of
from probekit.h5.schema import SPLITS, SUFFIX, DatasetInfo, Header, Shard, SplitInfo

KEPT = 8  # datasets
SHOWN = 3  # shards in a line
FOUND_LATE = "duplicates"  # the parameter that only the last shard of an import knows

_FOUND: OrderedDict[Path, tuple[Sequence[State], "Held"]] = OrderedDict()


@dataclass(frozen=True)
class Held:
    """A dataset and where its rows are: by split, for each file with some its place in `info.files` and its rows."""

    info: DatasetInfo
    places: Mapping[str, Sequence[tuple[int, range]]]

    def of(self, split: str, rows: slice) -> Iterator[tuple[Path, slice]]:
        """The files that some rows are in, in order, and which rows of theirs."""
        for file, own in self.places[split]:
            begin, end = max(rows.start, own.start), min(rows.stop, own.stop)
            if begin < end:
                yield self.info.files[file], slice(begin - own.start, end - own.start)


def find(path: Path) -> Held:
    """The dataset at a path, checked, once while nobody changes it.

    A ValueError if there is none, a file is malformed, or a shard is missing, there twice or of another dataset.
    """
    files = files_of(path)
    try:
        about = [state_of(os.stat(file)) for file in files]
    except OSError:
        about = []  # the file itself will be found lacking
    states = [state for state, _ in about]
    if path in _FOUND and states and _FOUND[path][0] == states:
        _FOUND.move_to_end(path)
        return _FOUND[path][1]
    infos: list[DatasetInfo] = []
    for file in files:
        info = file_info(file)
        infos.append(_like(info, infos[0]) if infos else info)
    if len(infos) == 1 and infos[0].shard is None:
        held = Held(replace(infos[0], path=path), {name: [(0, range(s.n))] for name, s in infos[0].splits.items()})
    else:
        held = _joined(path, _in_order(path, infos))
    if about and all(settled for _, settled in about):
        _FOUND[path] = states, held
        if len(_FOUND) > KEPT:
            _FOUND.popitem(last=False)
    return held


def _like(info: DatasetInfo, first: DatasetInfo) -> DatasetInfo:
    """The same, of which what it has in common with the first shard is one object: in memory once, however many."""
    names = ("parameters", "classes", "factors", "mask_names", "certificate")
    return replace(
        info, **{name: getattr(first, name) for name in names if getattr(info, name) == getattr(first, name)}
    )


def files_of(path: Path) -> list[Path]:
    """The file or files that a path means, by name. A ValueError if there are none."""
    if path.is_dir():
        found = shards_in(path)
        if not found:
            raise ValueError(
                f"expected a dataset file, found a folder without any at {path}; "
                f"type: probekit import {quote(str(path))}"
            )
        return found
    if path.exists() or path.is_symlink() or not has_magic(str(path)):
        return [path]
    found = sorted(map(Path, glob(str(path))))
    if folders := [each for each in found if each.is_dir()]:
        raise ValueError(f"expected files at {path}, found the folder {folders[0]}; name that alone")
    if not found:
        raise ValueError(f"expected dataset files, found nothing at {path}; {HOW}")
    return found


def shards_in(folder: Path) -> list[Path]:
    """The files in a folder that may be shards, by name. A ValueError if it cannot be read."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIX) and not name.startswith(".")]
    except OSError as error:
        raise ValueError(f"cannot read the folder {folder}: {error.strerror}; make it readable") from error
    return [path for path in (folder / name for name in sorted(names)) if not path.is_dir()]


def stands_in(out: Path, path: Path) -> bool:
    """Whether a new dataset at `out` would stand in the place of what `path` means, or be one more file of it."""
    new, old = out.resolve(), path.resolve()
    return new == old or (path.is_dir() and new.is_relative_to(old)) or (not path.exists() and new.match(str(old)))


def beside(path: Path, name: str) -> Path:
    """Where a new file of a name lies beside a dataset; a pattern might mean it, too, so it is beside its folder."""
    return path.with_name(name) if path.exists() else Path(os.path.normpath(path.parent / ".." / name))


def is_dataset(path: Path) -> bool:
    """Whether a path means a file, or a folder with some that may be shards, or a pattern does."""
    return path.is_file() or (
        bool(shards_in(path)) if path.is_dir() else has_magic(str(path)) and bool(glob(str(path)))
    )


def _in_order(path: Path, infos: Sequence[DatasetInfo]) -> list[DatasetInfo]:
    """All shards of a dataset; a ValueError if they are not that."""
    whole = [info for info in infos if info.shard is None]
    if whole:
        raise ValueError(
            f"expected the shards of one dataset at {path}, found {whole[0].path.name}, which is a whole one; "
            f"name {whole[0].path} alone, or move it away"
        )
    told = [intern(json.dumps(settings_of(info, info.shard, info.version))) for info in infos if info.shard is not None]
    usual = Counter(told).most_common(1)[0][0]
    for info, own in zip(infos, told, strict=True):
        if own != usual:
            raise ValueError(_foreign(path, info, json.loads(own), json.loads(usual)))
    found: dict[int, DatasetInfo] = {}
    for info in infos:
        assert info.shard is not None
        if (other := found.setdefault(info.shard.index, info)) is not info:
            raise ValueError(
                f"expected each shard once at {path}, found {info.shard} in {other.path.name} and in {info.path.name}; "
                "move one away"
            )
    shard = infos[0].shard
    assert shard is not None
    missing = [index for index in range(1, shard.count + 1) if index not in found]
    if missing:
        raise ValueError(_missing(path, infos[0], missing))
    return [found[index] for index in sorted(found)]


def settings_of(about: DatasetInfo | Header, shard: Shard, version: str) -> dict[str, Any]:
    """What all shards of a dataset have in common, by a name in words, as JSON has it."""
    settings = {
        "number of shards": shard.count,
        "n": shard.planned,
        "generator": about.generator,
        "seed": about.seed,
        "parameters": {name: value for name, value in about.parameters.items() if name != FOUND_LATE},
        "version": version,
        "classes": list(about.classes),
        "factors": [dict(factor) for factor in about.factors],
        "masks": list(about.mask_names),
        "certificate": about.certificate,
    }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def _foreign(path: Path, info: DatasetInfo, own: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The line about a shard that is of another dataset than most."""
    name = next(name for name in own if own[name] != usual[name])
    found, expected = own[name], usual[name]
    if isinstance(found, dict) and isinstance(expected, dict):
        inner = next((key for key in (*expected, *found) if expected.get(key) != found.get(key)), "")
        name, found, expected = f"{name} {inner}".strip(), found.get(inner), expected.get(inner)
    told = [text if len(text) <= 40 else f"{text[:40]}..." for text in (str(expected), str(found))]
    return (
        f"expected the shards of one dataset at {path}, found {info.path.name} of another: {name} {told[1]}, "
        f"elsewhere {told[0]}; move it away"
    )


def _missing(path: Path, info: DatasetInfo, missing: Sequence[int]) -> str:
    """The line about shards that are not there, and what makes the first."""
    assert info.shard is not None
    count = info.shard.count
    names = ", ".join(f"{index}/{count}" for index in missing[:SHOWN]) + ", ..." * (len(missing) > SHOWN)
    folder = info.path.parent
    how = f"import {info.parameters.get('source', 'them')} again with --shard {missing[0]}/{count}"
    if not path.is_dir() and (folder / replace(info.shard, index=missing[0]).file).exists():
        how = f"name the folder {folder}, which has them"
    elif drawn_by(info.generator) and info.path.name == info.shard.file:
        how = f"type: {remake(info, missing[0])}"
    verb = "is" if len(missing) == 1 else f"are {len(missing):,}:"
    return f"expected all {count} shards at {path}, missing {verb} {names}; {how}"


def remake(info: DatasetInfo, index: int) -> str:
    """What is typed to draw another shard of a generator's dataset, beside one of them."""
    assert info.shard is not None
    planned = info.shard.planned
    words = ["probekit", "gen", info.generator, "--n", str(planned.get("train", 0))]
    words += ["--n-test", str(planned.get("test", 0)), "--seed", str(info.seed)]
    arrays = next(iter(info.contents.values())).arrays
    size = int(arrays["images"].rpartition(",")[2])
    words += ["--size", str(size)]
    kind = drawn_by(info.generator)
    assert kind is not None
    usual = kind(size=size).values
    for name, value in info.parameters.items():
        words += ["--set", f"{name}={json.dumps(value)}"] if usual.get(name) != value else []
    words += ["--pairs"] if any(factor["name"] == "pair_id" for factor in info.factors) else []
    words += ["--no-masks"] if not info.mask_names else []
    return join([*words, "--shard", f"{index}/{info.shard.count}", "--out", str(info.path.parent)])


def _joined(path: Path, infos: Sequence[DatasetInfo]) -> Held:
    """What all shards hold together; `infos`: in order."""
    last = infos[-1]
    splits: dict[str, SplitInfo] = {}
    contents: dict[str, Contents] = {}
    places: dict[str, list[tuple[int, range]]] = {}
    for name in SPLITS:
        for file, info in enumerate(infos):
            if name not in info.splits:
                continue
            own, held = info.splits[name], info.contents[name]
            other = next(iter(splits.values()), own)
            if own.shape != other.shape or contents.get(name, held).arrays != held.arrays:
                raise ValueError(
                    f"expected images of shape {list(other.shape)}, and all else alike, at {path}, found others in "
                    f"{info.path.name}; move it away"
                )
            before = splits[name].n if name in splits else 0
            splits[name] = replace(own, n=before + own.n)
            contents[name] = contents[name].then(held) if name in contents else held
            places.setdefault(name, []).append((file, range(before, before + own.n)))
    if not splits:
        raise ValueError(f"expected a split {', '.join(SPLITS)} at {path}, found none; {HOW}")
    info = replace(
        last,
        path=path,
        content_hash=content_hash(last.classes, last.mask_names, contents),
        splits=splits,
        contents=contents,
        shard=None,
        files=tuple(info.path for info in infos),
    )
    return Held(info, places)
