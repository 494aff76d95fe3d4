"""Other people's data, turned into the dataset file: a source each for kinds of files, and for official datasets."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.data.importers.base import Broken, Options, Skipped, Told, option
from probekit.data.importers.importer import Import
from probekit.data.importers.official import MAX_GB, OFFICIAL, Choices, Official, medmnist
from probekit.data.importers.pixels import parse_range
from probekit.data.importers.shards import BRACES
from probekit.data.importers.unfinished import is_unfinished
from probekit.data.locate import check_h5
from probekit.h5 import DatasetInfo
from probekit.output.hints import after_data, after_shard
from probekit.output.terminal import progress_bar
from probekit.registry import nearest

SHOWN = 5  # files of one folder that were left out for the same reason


def run_import(
    source: str,
    root: Path | None,
    choices: Choices,
    options: Options,
    *,
    out: Path,
    skip_broken: bool,
    compression: str | None,
    shard: tuple[int, int] | None = None,
    overwrite: bool,
    console: Console,
) -> tuple[DatasetInfo, list[Skipped]]:
    """Imports, lists what was skipped, and says what was written and what to type next.

    Returns what the file holds, and what was left out. A ValueError if the source holds no images, or they do not fit
    together, or one is broken, or `out` does not end with .h5; an OSError if the file exists or cannot be written.
    `source`: a name in `OFFICIAL`, or else an npz file or a folder; ./NAME is always a folder. `options`: what becomes
    of the images; what is None is the dataset's own default. `compression`: "gzip", "lzf" or "none"; None is the kind
    of source's default.
    """
    check_h5(out)
    how: dict[str, Any] = {"out": out, "skip_broken": skip_broken, "overwrite": overwrite, "shard": shard}
    with progress_bar(f"importing {Path(source).name}", console) as advance:
        how["told"] = Told(advance, console.print)
        try:
            if source in OFFICIAL:
                options = for_official(OFFICIAL[source], options)
                how["compression"] = compression or compression_for(options)
                info, skipped = Import(options, **how).of_official(source, root, choices)
            else:
                _check_plain(source, root, choices)
                info, skipped = Import(options, compression=compression or "gzip", **how).of(Path(source))
        except (KeyboardInterrupt, SystemExit):
            if is_unfinished(out):
                console.print("interrupted; the same command goes on from here")
            raise
    for line in lines_on(skipped):
        console.print(line)
    parts = ", ".join(f"{split.n:,} {name}" for name, split in info.splits.items())
    classes = f"{len(info.classes) or 'no'} class{'es' * (len(info.classes) != 1)}"
    console.print(f"wrote {info.path}: {parts}; {classes}; hash {info.content_hash}")
    if (kept := options.kept) is not None:
        console.print(f"kept as {kept.sentence}; trained on crops of the whole; {kept.crop.sentence}")
    elif options.max_gb is not None:
        console.print(_kept(info, options.max_gb))
    console.print(after_data(info) if info.shard is None else after_shard(out, info.shard))
    return info, skipped


def default_name(source: str) -> str:
    """What the dataset file of a source is called, without its ending, if nothing is typed."""
    return BRACES.sub("", Path(source).resolve().stem).strip("-_.") or "shards"


def compression_for(options: Options) -> str:
    """How official datasets are compressed if nothing is typed."""
    # Photographs shrink by 14 % (probekit.h5.blocks), which would take as long as decoding them. Of those that are kept
    # whole only the masks are compressed, which nearly vanish.
    return "none" if options.kept is None else "gzip"


def for_official(official: Official, options: Options) -> Options:
    """What was asked for, with the dataset's own defaults where nothing was."""
    fraction = official.test_fraction if options.test_fraction is None else options.test_fraction
    options = replace(options, store=options.store or official.store, test_fraction=fraction)
    if options.kept is not None:
        return options
    return replace(
        options,
        size=options.size or official.size,
        resize=options.resize or official.resize,
        max_gb=MAX_GB if options.max_gb is None else options.max_gb,
    )


def _check_plain(source: str, root: Path | None, choices: Choices) -> None:
    if root is not None and source.lower() == "medmnist":
        raise ValueError(
            f"expected a set of MedMNIST, {', '.join(medmnist.SETS)}, found {source!r}; "
            f"type: probekit import pathmnist {quote(str(root))}"
        )
    if root is not None:
        raise ValueError(nearest("official dataset", source, OFFICIAL))
    typed = [name for name, value in asdict(choices).items() if value and name not in ("seed", "labels")]
    if typed:
        raise ValueError(
            f"expected {option(typed[0])} with an official dataset (probekit list), found {source}; leave it out"
        )


def lines_on(skipped: Iterable[Skipped]) -> Iterator[str]:
    """A line for what was left out, each, and of many of one kind in one folder for the first few."""
    groups: dict[tuple[str, str], list[Skipped]] = {}
    for item in skipped:
        groups.setdefault((item.path.rpartition("/")[0], item.reason), []).append(item)
    for (folder, reason), items in groups.items():
        for item in items[:SHOWN]:
            yield f"skipped {item.path}: {item.reason}"
        if len(items) > SHOWN:
            yield f"skipped {len(items) - SHOWN:,} more in {folder or 'the folder itself'}: {reason}"


def _kept(info: DatasetInfo, max_gb: float) -> str:
    """Whether pixels were kept, and why."""
    pixels = sum(split.n * split.height * split.width * split.channels for split in info.splits.values()) / 1e9
    if info.first.encoded:
        size = info.size / 1e9
        return (
            f"kept as JPEG of quality 95, which loses a little: {size:.2f} GB in place of {pixels:.2f} GB of pixels, "
            f"more than --max-gb {max_gb:g}"
        )
    return f"kept as pixels, {pixels:.2f} GB, nothing lost (up to --max-gb {max_gb:g})"
