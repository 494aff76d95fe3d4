"""`probekit split`: a dataset file divided anew, without its source: rows are copied, in constant memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.apart import pick
from probekit.data.duplicates import Signed, Signs, clusters, report, sentences, signs_of
from probekit.h5 import (
    SPLITS,
    Block,
    DatasetInfo,
    DatasetWriter,
    EncodedBlock,
    Header,
    Split,
    as_columns,
    chunk_rows,
    compression_of,
    join_rows,
    open_encoded,
    pack,
    read_images,
    read_info,
    read_split,
    verify,
)
from probekit.h5.shards import beside, stands_in
from probekit.run import Run, find_runs

DUPLICATES = "duplicates"  # as --group: near-duplicates stay together
KEY = "key"  # the kind of a factor that `probekit import --group` kept
PAIRS = "pair_id"  # an image and its counterfactuals, which stay together
CHUNKS = 4  # of the file that are in memory at a time
FILES = 64  # JPEG files likewise
SHOWN = 5  # runs in a line
Rows = dict[str, dict[str, NDArray[np.int64]]]  # for each new split the rows of each old one, rising


@dataclass(frozen=True, kw_only=True)
class Division:
    """What the user asked for; `join`: divide all splits anew, as one; `group`: a factor, or "duplicates"."""

    val_fraction: float = 0.0
    test_fraction: float = 0.0
    group: str | None = None
    seed: int = 0
    join: bool = False


@dataclass(frozen=True)
class _Pool:
    """The images that are divided: their old splits and rows, labels and groups."""

    places: list[tuple[str, int]]
    labels: list[int]
    groups: list[Any] | None
    classes: Sequence[str]


def divide(
    path: Path,
    out: Path,
    division: Division,
    *,
    runs: Path,
    overwrite: bool,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> DatasetInfo:
    """Writes a dataset file with the images of another, of which some of train are val and test now.

    Shares are of each class; which images go is decided by a hash of the seed and their place. A group goes as a whole.
    What is new, what had been seen and what stands on both sides is told to `say`. `progress`: called with the images
    copied and in all. A ValueError if the file is unsound, has such a split already, or a class or groups are too few;
    an OSError if `out` exists or cannot be written. `runs`: the folder of runs that may have seen new test images.
    """
    if stands_in(out, path):
        raise ValueError(
            f"expected another file than {path}, which stays as it is; type --out {quote(str(default_out(path)))}"
        )
    info = verify(path)
    _check(info, division)
    signed = {} if info.generator else _signed(info)
    pool, group = _pool(info, division, signed, say)
    rows = _divided(info, pool, division)
    for line in _told(info, pool, rows, division, group, runs):
        say(line)
    found = report({name: _chosen(own, signed) for name, own in rows.items()}) if signed else {}
    for line in sentences(found, out) if found else ():
        say(line)
    header = _header(info, division, group, found)
    compression = compression_of(path)
    total, done = sum(len(own) for parts in rows.values() for own in parts.values()), 0
    with DatasetWriter(out, header=header, compression=compression, overwrite=overwrite) as writer:
        for name, parts in rows.items():
            writer.begin(name, sum(map(len, parts.values())))
            for block in _blocks(info, parts, compression):
                writer.append(block)
                done += block.shape[0] if isinstance(block, Block) else len(block.files)
                progress(done, total)
    return read_info(out)


def default_out(path: Path) -> Path:
    """Where the new file is written if nothing is typed."""
    return beside(path, f"{read_info(path).name}-split.h5")


def _check(info: DatasetInfo, division: Division) -> None:
    if not (division.val_fraction or division.test_fraction):
        raise ValueError("expected --val-fraction or --test-fraction, found neither; type --test-fraction 0.2")
    if "train" not in info.splits and not division.join:
        raise ValueError(
            f"expected a train split to divide in {info.path}, found {', '.join(info.splits)}; "
            "type --join to divide all"
        )
    for name, fraction in (("val", division.val_fraction), ("test", division.test_fraction)):
        if fraction and name in info.splits and not division.join:
            raise ValueError(
                f"expected no {name} split beside a new one, found {info.splits[name].n:,} images in that of "
                f"{info.path}; type --join to divide all anew, or leave --{name}-fraction out"
            )
    if division.join and len({split.labelled for split in info.splits.values()}) > 1:
        raise ValueError(f"expected labels in all splits of {info.path} to join them, found some without")
    names = [factor["name"] for factor in info.factors]
    if division.group is not None and division.group not in (*names, DUPLICATES):
        raise ValueError(
            f"expected --group with one of {', '.join((*names, DUPLICATES))}, found {division.group!r}; a column "
            "of the source is kept by: probekit import SOURCE --group COLUMN"
        )
    if division.group == DUPLICATES and DUPLICATES not in names and info.generator:
        raise ValueError(f"expected imported images with --group {DUPLICATES}, found those of {info.generator}")


def _pool(
    info: DatasetInfo, division: Division, signed: Mapping[str, Signs], say: Callable[[str], None]
) -> tuple[_Pool, str | None]:
    names = list(info.splits) if division.join else ["train"]
    columns = {name: read_split(info.path, name, images=False) for name in names}
    factors = info.splits[names[0]].factors
    group = division.group
    kept = next((factor["name"] for factor in info.factors if factor["kind"] == KEY), None)
    if group is None and PAIRS in factors and info.generator:
        group = PAIRS
        say(f"an image and its counterfactuals stay together (--group {PAIRS})")
    elif group is None and kept is not None:  # the import was told never to divide it
        group = kept
        say(f"images of one {kept!r} stay together (--group {quote(kept)})")
    places = [(name, row) for name in names for row in range(info.splits[name].n)]
    single = all(columns[name].class_labels is not None for name in names)
    labels = [int(label) for name in names for label in (columns[name].class_labels if single else ())]  # type: ignore[union-attr]
    groups: list[Any] | None = None
    if group == DUPLICATES and group not in factors:
        groups = clusters(np.concatenate([signed[name] for name in names])).tolist()
        say(f"{len(groups):,} images, {len(set(groups)):,} of them different")
    elif group is not None:
        groups = [value for name in names for value in columns[name].factors[group].tolist()]
        if group == PAIRS:  # whose numbers begin anew in each split
            groups = [f"{name}/{value}" for (name, _), value in zip(places, groups, strict=True)]
    return _Pool(places, labels if single else [0] * len(places), groups, info.classes if single else ()), group


def _divided(info: DatasetInfo, pool: _Pool, division: Division) -> Rows:
    """The rows of each new split: what stays, and what goes from train to val and test."""
    stays = list(range(len(pool.places)))
    chosen: dict[str, list[int]] = {}
    for name, fraction in (("test", division.test_fraction), ("val", division.val_fraction)):
        if fraction:
            keys = [f"{pool.places[k][0]}/{pool.places[k][1]}" for k in stays]
            groups = None if pool.groups is None else [pool.groups[k] for k in stays]
            labels = [pool.labels[k] for k in stays]
            needed = not (division.val_fraction and division.test_fraction)
            goes = pick(keys, labels, groups, name, fraction, division.seed, pool.classes, needed=needed)
            chosen[name] = [k for k, gone in zip(stays, goes, strict=True) if gone]
            stays = [k for k, gone in zip(stays, goes, strict=True) if not gone]
    chosen["train"] = stays
    rows: Rows = {}
    for name in SPLITS:
        if name in chosen:
            places = [pool.places[k] for k in chosen[name]]
            parts = {old: np.array([row for each, row in places if each == old], np.int64) for old in info.splits}
            rows[name] = {old: own for old, own in parts.items() if len(own)}
        elif name in info.splits and not division.join:
            rows[name] = {name: np.arange(info.splits[name].n)}
    return rows


def _told(
    info: DatasetInfo, pool: _Pool, rows: Rows, division: Division, group: str | None, runs: Path
) -> Iterator[str]:
    """What had been seen in training, and which groups stand on both sides."""
    new = [name for name in ("val", "test") if name in rows and "train" in rows[name]]
    if new:
        n = sum(len(rows[name]["train"]) for name in new)
        known = [run.name for run in find_runs(runs) if _is_of(run, info)]
        named = f" ({', '.join(known[:SHOWN])}{', ...' * (len(known) > SHOWN)})" if known else ""
        yield (
            f"{n:,} images of the old train are {' and '.join(new)} now: runs trained on {info.path}{named} have seen "
            "them; measure only runs trained on the new file with it"
        )
    kept = [name for name in info.splits if name != "train" and not division.join]
    if group not in (None, PAIRS) and kept and group in info.first.factors:
        divided = set(pool.groups or ())
        for name in kept:
            own = set(read_split(info.path, name, images=False).factors[group].tolist())
            if both := len(own & divided):
                yield (
                    f"{both:,} values of {group!r} are both in train and in {name}, which stays as it is; "
                    "to divide all anew type --join"
                )


def _is_of(run: Run, info: DatasetInfo) -> bool:
    try:
        return bool(run.read()["dataset"]["hash"] == info.content_hash)
    except (ValueError, KeyError, TypeError, OSError):
        return False


def _signed(info: DatasetInfo) -> dict[str, Signs]:
    """The signs of all images, by which near-duplicates are found."""
    return {name: np.concatenate([signs_of(list(images)) for images in _read(info, name)]) for name in info.splits}


def _read(info: DatasetInfo, name: str) -> Iterator[NDArray[np.uint8]]:
    split = info.splits[name]
    step = FILES if split.encoded else CHUNKS * chunk_rows(split.height, split.width, split.channels)
    for start in range(0, split.n, step):
        yield read_split(info.path, name, start=start, stop=min(start + step, split.n), columns=False).images


def _chosen(parts: Mapping[str, NDArray[np.int64]], signed: Mapping[str, Signs]) -> Signed:
    names = [f"{old}/{row}" for old, own in parts.items() for row in own.tolist()]
    return Signed(names, np.concatenate([signed[old][own] for old, own in parts.items()]))


def _header(info: DatasetInfo, division: Division, group: str | None, found: Mapping[str, Any]) -> Header:
    parameters = dict(info.parameters)
    if not info.generator:  # whose settings are its own alone
        parameters.pop("duplicates", None)
        parameters |= {"split": {"of": info.path.name, "hash": info.content_hash, **asdict(division), "group": group}}
        parameters |= {"duplicates": dict(found)} if found else {}
    return replace(info.header, parameters=parameters)


def _blocks(
    info: DatasetInfo, parts: Mapping[str, NDArray[np.int64]], compression: str
) -> Iterator[Block | EncodedBlock]:
    """The chosen rows in order, in blocks of whole chunks."""
    split = info.first
    if split.encoded:
        for name, own in parts.items():
            yield from _encoded(info, name, own)
        return
    step = chunk_rows(split.height, split.width, split.channels)
    waiting: list[Split] = []
    for rows in _gathered(info, parts):
        waiting.append(rows)
        if sum(len(each.images) for each in waiting) >= step:
            joined = join_rows(waiting)
            whole = len(joined.images) // step * step
            for begin in range(0, whole, step):
                yield pack(joined.take(np.arange(begin, begin + step)), compression)
            waiting = [joined.take(np.arange(whole, len(joined.images)))]
    joined = join_rows(waiting)
    if len(joined.images):
        yield pack(joined, compression)


def _gathered(info: DatasetInfo, parts: Mapping[str, NDArray[np.int64]]) -> Iterator[Split]:
    for name, own in parts.items():
        split = info.splits[name]
        step = CHUNKS * chunk_rows(split.height, split.width, split.channels)
        for start in range(0, split.n, step):
            stop = min(start + step, split.n)
            within = own[np.searchsorted(own, start) : np.searchsorted(own, stop)] - start
            if len(within):
                yield read_split(info.path, name, start=start, stop=stop, masks=True, objects=True).take(within)


def _encoded(info: DatasetInfo, name: str, own: NDArray[np.int64]) -> Iterator[EncodedBlock]:
    """Files as they are."""
    columns = read_split(info.path, name, images=False, objects=True)
    held = open_encoded(info.path, name)
    try:
        for begin in range(0, len(own), FILES):
            rows = own[begin : begin + FILES]
            own_columns = columns.take(rows)
            files, sizes = held.read(rows.tolist()), held.sizes(rows.tolist())
            masks = read_images(info.path, name, rows.tolist(), images=False).masks
            yield EncodedBlock(
                *(held.shape[1:], files, as_columns(own_columns.labels, own_columns.factors), masks, sizes, held.crop),
                objects=own_columns.objects,
            )
    finally:
        held.close()
