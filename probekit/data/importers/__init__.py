"""Other people's data, turned into the dataset file: a source each for kinds of files, and for official datasets."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.data.duplicates import report, sentences
from probekit.data.importers.arrays import open_arrays
from probekit.data.importers.base import Broken, Options, Skipped, Source, Told, readable
from probekit.data.importers.factored import open_factored
from probekit.data.importers.folder import open_folder
from probekit.data.importers.images import has_colour
from probekit.data.importers.journal import Journal, Unfinished, is_unfinished
from probekit.data.importers.npz import open_npz
from probekit.data.importers.official import MAX_GB, OFFICIAL, Choices, Official, medmnist, open_official
from probekit.data.importers.pixels import AS_IT_IS, NeedsRange, Rule, look, notes_of, parse_range, rule_of, to_8_bits
from probekit.data.importers.shards import BRACES
from probekit.data.importers.stream import Form, NeedsColour, write_source
from probekit.data.importers.tables import open_tables
from probekit.data.importers.tars import open_tars
from probekit.data.locate import check_h5
from probekit.files import told_if_full
from probekit.h5 import DatasetInfo, DatasetWriter, Header, check_target, read_info
from probekit.h5.encoded import QUALITY
from probekit.output.hints import after_data
from probekit.output.terminal import progress_bar
from probekit.registry import nearest

SOURCES: dict[str, Callable[[Path, Options], Source | None]] = {
    "npz": open_npz,  # x_train, y_train, x_test, y_test
    "factors": open_factored,  # dSprites, Shapes3D, Synbols
    "arrays": open_arrays,  # any other npz, and HDF5
    "tables": open_tables,  # parquet files, and folders of save_to_disk
    "shards": open_tars,  # webdataset
    "folder": open_folder,  # class folders with or without train/test(/val) above, or images without labels
}

KINDS = "a folder of images, parquet or tar files, an npz or HDF5 file"
SHOWN = 5  # files of one folder that were left out for the same reason


@dataclass(frozen=True)
class Import:
    """Turns images into a dataset file, in constant memory; goes on where the same was interrupted.

    `skip_broken`: leave unreadable images out instead of refusing; `compression`: "gzip", "lzf" or "none".
    """

    options: Options
    out: Path
    skip_broken: bool
    overwrite: bool
    compression: str
    told: Told

    def of(self, source: Path) -> tuple[DatasetInfo, list[Skipped]]:
        """Imports an npz file with x_train, y_train, x_test and y_test, or a folder of images.

        A folder has class folders, with or without train, test and val above, or images without labels. Returns what
        the file holds, and what was left out: broken images, files that are no images, folders of masks. A ValueError
        if the source holds no images, or what they mean is not clear, or one is broken; an OSError if the source cannot
        be read, or the file exists or cannot be written.
        """
        if self.options.size is None and (self.options.resize is not None or self.options.max_gb is not None):
            raise ValueError("expected a size with --resize and --max-gb, found none; type --size 224")
        return self.write(_open(source, self.options))

    def of_official(self, name: str, root: Path | None, choices: Choices) -> tuple[DatasetInfo, list[Skipped]]:
        """Imports the unpacked files of a dataset in `OFFICIAL`, likewise; `root` is None for one that needs none."""
        return self.write(open_official(name, root, choices, self.options))

    def write(self, source: Source) -> tuple[DatasetInfo, list[Skipped]]:
        """Writes the file; pixels become bytes by what all of them hold, and grey images stay grey only if all are."""
        # First of all: what is refused must not drop an unfinished import of other settings.
        check_target(self.out, compression=self.compression, overwrite=self.overwrite)
        if twice := [name for name, n in Counter(source.classes).items() if n > 1]:
            raise ValueError(f"expected classes of different names in {source.name}, found {twice[0]!r} twice")
        for line in source.notes:
            self.told.note(line)
        with suppress(NeedsRange):  # bytes so far, so nothing was known until the first image with more
            return self._write_as(source, self._rule(source, whole=False))
        return self._write_as(source, self._rule(source, whole=True))

    def _rule(self, source: Source, *, whole: bool) -> Rule:
        """What is black and white: known of an import that goes on, or seen from the images."""
        options = self.options
        typed = options.bits is not None or options.range is not None
        if not (typed or whole) and any(self._is_begun(source, channels, AS_IT_IS) for channels in (1, 3)):
            return AS_IT_IS
        total = sum(map(len, source.splits.values()))
        seen = look(
            chain.from_iterable(source.splits.values()),
            os.cpu_count() or 1,
            whole=whole or typed or is_unfinished(self.out),
            progress=lambda done: self.told.progress(done, total),
        )
        rule = rule_of(seen, options)
        for line in notes_of(seen, rule):
            self.told.note(line)
        return rule

    def _is_begun(self, source: Source, channels: int, rule: Rule) -> bool:
        return is_unfinished(self.out, self._form(source, channels, rule).identity())

    def _write_as(self, source: Source, rule: Rule) -> tuple[DatasetInfo, list[Skipped]]:
        goes_on = self._is_begun(source, 3, rule)
        if source.channels is None and not (goes_on and _any_colour(source, rule)):
            with suppress(NeedsColour):  # grey so far, so nothing was known until the first image with colour
                return self._write(source, self._form(source, 1, rule))
        return self._write(source, self._form(source, source.channels or 3, rule))

    def _write(self, source: Source, form: Form) -> tuple[DatasetInfo, list[Skipped]]:
        header, identity = self._header(source, form), form.identity()
        unfinished = Unfinished(self.out, identity)
        if unfinished.dropped:
            self.told.note("an unfinished import with other settings was dropped: this one begins anew")
        with (
            told_if_full(self.out),
            DatasetWriter(self.out, header=header, compression=self.compression, overwrite=self.overwrite) as writer,
            Journal(writer, unfinished, identity) as journal,
        ):
            skipped, signed = write_source(writer, source, form, journal, skip_broken=self.skip_broken, told=self.told)
            if form.signed:
                found = report(signed)
                for line in sentences(found, self.out):
                    self.told.note(line)
                writer.header = replace(header, parameters=dict(header.parameters) | {"duplicates": found})
        journal.finish()
        return read_info(self.out), [*source.ignored, *skipped]

    def _form(self, source: Source, channels: int, rule: Rule) -> Form:
        size, most = self.options.size, self.options.max_gb
        n = sum(map(len, source.splits.values()))
        gigabytes = 0 if size is None else n * size * size * channels / 1e9
        encoded = most is not None and gigabytes > most
        if encoded and source.mask_names:
            raise ValueError(
                f"expected at most {most:g} GB of pixels, as images with masks are kept, found {gigabytes:.3g} GB; "
                f"type --max-gb {math.ceil(gigabytes)}, or a smaller --size"
            )
        return Form(
            channels=channels,
            size=size,
            resize=self.options.resize or "crop",
            encoded=encoded,
            compression=self.compression,
            pixels=rule,
            signed=self.options.duplicates and len(source.splits) > 1,
            masks=len(source.mask_names),
        )

    def _header(self, source: Source, form: Form) -> Header:
        options = self.options
        parameters: dict[str, Any] = {
            "source": source.name,
            "size": options.size,
            "val_fraction": options.val_fraction,
            "test_fraction": options.test_fraction or 0.0,
        }
        if form.resize != "crop":
            parameters["resize"] = form.resize
        if form.pixels != AS_IT_IS:
            parameters["pixels"] = {
                kind: list(ends) for kind, ends in form.pixels.items() if ends != AS_IT_IS.get(kind)
            }
        if form.encoded:
            parameters["encoded"] = f"JPEG of quality {QUALITY}, lossy"
        typed = {
            "skip_split": options.skip_split,
            "val_as_test": options.val_as_test,
            "depth": options.depth,
            "labels_csv": None if options.labels_csv is None else readable(options.labels_csv.name),
            "column": options.column,
        }
        parameters |= {name: value for name, value in typed.items() if value}
        return Header(
            generator="",
            parameters=parameters | source.parameters,
            seed=options.seed,
            classes=source.classes,
            factors=[
                *(asdict(factor) for factor, _ in source.factors),
                *(source.others.table if source.others else ()),
            ],
            mask_names=source.mask_names,
        )


def _any_colour(source: Source, rule: Rule) -> bool:
    """Whether an image has colour; reads up to the first that has."""
    for item in chain.from_iterable(source.splits.values()):
        with suppress(Broken):
            if has_colour(to_8_bits(item.decode(), rule)):
                return True
    return False


def _open(source: Path, options: Options) -> Source:
    if not (source.exists() or BRACES.search(str(source))):
        raise ValueError(f"expected {KINDS}, found nothing at {source}")
    if (name := medmnist.set_of(source)) is not None and options.images is None:
        raise ValueError(
            f"expected a set of MedMNIST by its name and the folder of its file, found {source}; "
            f"type: probekit import {name} {quote(str(source.parent))}"
        )
    for open_source in SOURCES.values():
        opened = open_source(source, options)
        if opened is not None:
            return opened
    raise ValueError(f"expected {KINDS}, found {source}")


def run_import(
    source: str,
    root: Path | None,
    choices: Choices,
    options: Options,
    *,
    out: Path,
    skip_broken: bool,
    compression: str | None,
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
    how: dict[str, Any] = {"out": out, "skip_broken": skip_broken, "overwrite": overwrite}
    with progress_bar(f"importing {Path(source).name}", console) as advance:
        how["told"] = Told(advance, console.print)
        try:
            if source in OFFICIAL:
                options = _for_official(OFFICIAL[source], options)
                # Photographs shrink by 14 % (probekit.h5.write), which would take as long as decoding them.
                how["compression"] = compression or "none"
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
    console.print(f"wrote {out}: {parts}; {classes}; hash {info.content_hash}")
    if options.max_gb is not None:
        console.print(_kept(info, options.max_gb))
    console.print(after_data(info))
    return info, skipped


def default_name(source: str) -> str:
    """What the dataset file of a source is called, without its ending, if nothing is typed."""
    return BRACES.sub("", Path(source).resolve().stem).strip("-_.") or "shards"


def _for_official(official: Official, options: Options) -> Options:
    return replace(
        options,
        size=options.size or official.size,
        resize=options.resize or official.resize,
        max_gb=MAX_GB if options.max_gb is None else options.max_gb,
        test_fraction=official.test_fraction if options.test_fraction is None else options.test_fraction,
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
        option = f"--{typed[0].replace('_', '-')}"
        raise ValueError(f"expected {option} with an official dataset (probekit list), found {source}; leave it out")


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
        size = info.path.stat().st_size / 1e9
        return (
            f"kept as JPEG of quality 95, which loses a little: {size:.2f} GB in place of {pixels:.2f} GB of pixels, "
            f"more than --max-gb {max_gb:g}"
        )
    return f"kept as pixels, {pixels:.2f} GB, nothing lost (up to --max-gb {max_gb:g})"
