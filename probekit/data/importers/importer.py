"""From a source to a dataset: one file, or shards of which finished ones are kept."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from probekit.data.duplicates import report, sentences
from probekit.data.importers.base import Broken, BrokenImages, Options, Skipped, Source, Told, readable
from probekit.data.importers.form import Form, NeedsColour
from probekit.data.importers.images import has_colour
from probekit.data.importers.official import Choices, open_official
from probekit.data.importers.pixels import AS_IT_IS, NeedsRange, Rule, look, notes_of, rule_of, to_8_bits
from probekit.data.importers.sources import open_source
from probekit.data.importers.stream import Stream, Written
from probekit.data.importers.unfinished import Unfinished, digest, is_unfinished
from probekit.files import told_if_full
from probekit.h5 import DatasetInfo, DatasetWriter, Header, Shard, check_target, read_info
from probekit.h5.encoded import QUALITY
from probekit.h5.file import file_info
from probekit.h5.planned import check_folder, check_shard, planned_shard
from probekit.h5.shards import FOUND_LATE

IN_A_SHARD = 20_000  # images; own choice: what an interrupted import repeats at most


@dataclass(frozen=True)
class Import:
    """Turns images into a dataset, in constant memory; more than `IN_A_SHARD` into shards, in a folder.

    Finished shards are kept where it is interrupted. `skip_broken`: leave unreadable images out instead of refusing;
    `compression`: "gzip", "lzf" or "none"; `shard`: write that one alone, and how many there are.
    """

    options: Options
    out: Path
    skip_broken: bool
    overwrite: bool
    compression: str
    told: Told
    shard: tuple[int, int] | None = None

    def of(self, source: Path) -> tuple[DatasetInfo, list[Skipped]]:
        """Imports an npz file with x_train, y_train, x_test and y_test, or a folder of images.

        A folder has class folders, with or without train, test and val above, or images without labels. Returns what
        the file holds, and what was left out: broken images, files that are no images, folders of masks. A ValueError
        if the source holds no images, or what they mean is not clear, or one is broken; an OSError if the source cannot
        be read, or the file exists or cannot be written.
        """
        kept = self.options.kept
        if self.options.size is None and kept is None and (self.options.resize or self.options.max_gb is not None):
            raise ValueError("expected a size with --resize and --max-gb, found none; type --size 224")
        return self.write(open_source(source, self.options))

    def of_official(self, name: str, root: Path | None, choices: Choices) -> tuple[DatasetInfo, list[Skipped]]:
        """Imports the unpacked files of a dataset in `OFFICIAL`, likewise; `root` is None for one that needs none."""
        return self.write(open_official(name, root, choices, self.options))

    def write(self, source: Source) -> tuple[DatasetInfo, list[Skipped]]:
        """Writes all; pixels become bytes by what all of them hold, and grey images stay grey only if all are."""
        if self.shard is None and self._count(source) == 1:  # first of all: a refusal leaves all as it is
            check_target(self.out, compression=self.compression, overwrite=self.overwrite)
        elif self.shard is None:
            check_folder(self.out, compression=self.compression, overwrite=self.overwrite)
        if twice := [name for name, n in Counter(source.classes).items() if n > 1]:
            raise ValueError(f"expected classes of different names in {source.name}, found {twice[0]!r} twice")
        for line in (*source.notes, *source.divided(self.out)):
            self.told.note(line)
        try:
            return self._write_as(source, self._rule(source, whole=False))
        except NeedsRange as error:  # bytes so far, so nothing was known until the first image with more
            if self.shard is not None:
                raise ValueError(
                    f"expected images of 8 bits with --shard, found others in {source.name}, whose black and white "
                    "are those of all images; leave --shard out"
                ) from error
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
        return is_unfinished(self.out, self._identity(source, self._form(source, channels, rule)))

    def _write_as(self, source: Source, rule: Rule) -> tuple[DatasetInfo, list[Skipped]]:
        if self.shard is not None:  # whose images alone do not tell
            channels = source.channels or (3 if _any_colour(source, rule) else 1)
            return self._write(source, self._form(source, channels, rule))
        goes_on = self._is_begun(source, 3, rule)
        if source.channels is None and not (goes_on and _any_colour(source, rule)):
            with suppress(NeedsColour):  # grey so far, so nothing was known until the first image with colour
                return self._write(source, self._form(source, 1, rule))
        return self._write(source, self._form(source, source.channels or 3, rule))

    def _write(self, source: Source, form: Form) -> tuple[DatasetInfo, list[Skipped]]:
        planned = {split: len(items) for split, items in source.splits.items()}
        stream, header, count = Stream(source, form, self.told), self._header(source, form), self._count(source)
        path = self.out
        with told_if_full(self.out):
            if self.shard is not None:
                shard = planned_shard(*self.shard, planned)
                path = self.out / shard.file
                check_shard(self.out, header, shard, compression=self.compression)
                with self._writer(path, header, shard, overwrite=self.overwrite) as writer:
                    written = stream.write(writer, shard.ranges)
                    self._refuse_broken(written)
            elif count == 1:
                with self._writer(path, header, None, overwrite=self.overwrite) as writer:
                    written = stream.write(writer, {split: range(n) for split, n in planned.items()})
                    self._conclude(writer, stream, written)
            else:
                written = self._write_shards(stream, header, [Shard(k + 1, count, planned) for k in range(count)])
        info = read_info(path) if self.shard is None else file_info(path)
        return info, [*source.ignored, *written.skipped]

    def _write_shards(self, stream: Stream, header: Header, shards: Sequence[Shard]) -> Written:
        """Writes shard by shard, but for those that an interrupted import had finished."""
        total, going_on = Written(), False
        with Unfinished(self.out, self._identity(stream.source, stream.form)) as unfinished:
            if unfinished.dropped:
                self.told.note("an unfinished import of other settings or images was dropped: this one begins anew")
            for shard in shards:
                last = shard is shards[-1]  # which says what is known of all images
                items = digest(
                    chain.from_iterable(stream.source.splits.values()) if last else stream.items(shard.ranges)
                )
                path, broken = unfinished.folder / shard.file, unfinished.broken_of(shard.file, items)
                if broken is not None and (self.skip_broken or not broken):
                    total.extend(stream.kept(path, shard.ranges, broken))
                    continue
                if stream.done and not going_on:
                    self.told.note(f"going on after {shard.index - 1} of {shard.count} shards of an unfinished import")
                going_on = True
                try:
                    with self._writer(path, header, shard, overwrite=True) as writer:
                        part = stream.write(writer, shard.ranges)
                        total.extend(part)
                        self._refuse_broken(part)
                        if last:
                            self._conclude(writer, stream, total)
                except BrokenImages:  # how many there are is said of all
                    continue
                unfinished.add(shard.file, items, part.skipped)
            self._refuse_broken(total)
            unfinished.finish()
        return total

    def _writer(self, path: Path, header: Header, shard: Shard | None, *, overwrite: bool) -> DatasetWriter:
        return DatasetWriter(path, header=header, compression=self.compression, overwrite=overwrite, shard=shard)

    def _refuse_broken(self, written: Written) -> None:
        if written.skipped and not self.skip_broken:
            n, first = len(written.skipped), written.skipped[0]
            raise BrokenImages(
                f"{n} broken image{'s' * (n > 1)}, the first {first.path!r}: {first.reason}; "
                "repair or remove it, or type --skip-broken"
            )

    def _conclude(self, writer: DatasetWriter, stream: Stream, written: Written) -> None:
        """Refuses what lacks images, and looks for near-duplicates, all of them being written."""
        self._refuse_broken(written)
        for split, items in stream.source.splits.items():
            if not written.n.get(split):
                but = " but broken ones" if items else ""
                raise ValueError(f"expected at least one image in split {split}, found none{but}")
        if stream.form.signed:
            found = report(written.signed)
            for line in sentences(found, self.out):
                self.told.note(line)
            writer.header = replace(writer.header, parameters=dict(writer.header.parameters) | {FOUND_LATE: found})

    def _count(self, source: Source) -> int:
        """Shards, if none was asked for."""
        return max(1, -(-sum(map(len, source.splits.values())) // IN_A_SHARD))

    def _identity(self, source: Source, form: Form) -> dict[str, Any]:
        """All that the shards depend on, but for the images."""
        images = {split: len(items) for split, items in source.splits.items()}
        about = {"header": asdict(self._header(source, form)), "images": images, "in a shard": IN_A_SHARD}
        return form.identity() | about

    def _form(self, source: Source, channels: int, rule: Rule) -> Form:
        kept, most = self.options.kept, self.options.max_gb
        size = self.options.size if kept is None else None
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
            photographs=kept,
            compression=self.compression,
            pixels=rule,
            signed=self.options.duplicates and len(source.splits) > 1 and self.shard is None,
            masks=len(source.mask_names),
            boxed=source.boxed,
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
        if form.photographs:
            crop = form.photographs.crop
            parameters |= {"size": crop.side, "store": str(form.photographs), "test_crop": str(crop)}
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
