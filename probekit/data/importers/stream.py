"""From a source to the writer: images are decoded, resized and packed in threads, and written in order."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.config import SIDE
from probekit.data.ahead import in_order
from probekit.data.duplicates import Signed, Signs, signs_of
from probekit.data.importers.base import Broken, Item, Skipped, Source, Told
from probekit.data.importers.form import Fetched, Form
from probekit.h5 import (
    Block,
    DatasetWriter,
    EncodedBlock,
    Objects,
    Split,
    as_columns,
    chunk_rows,
    decode,
    pack,
    pack_objects,
)
from probekit.h5.file import file_info, file_rows

Pixels = NDArray[np.uint8]


FILES = 64  # in a block of files: as many as a chunk of pixels holds
FILE_BYTES = 16 << 20  # or fewer, where they are large: bounds memory
AHEAD = 256  # images decoded ahead at least, so that no thread waits while the others pack and write
AHEAD_BYTES = 128 << 20  # but no more than fit, or one a thread: bounds memory


@dataclass(frozen=True)
class Done:
    """Consecutive items that were dealt with.

    `broken`: the ones that could not be read; `block`: the others, ready for the file; None if there are none; `signs`:
    theirs, if near-duplicates are looked for.
    """

    items: Sequence[Item]
    broken: list[Skipped]
    block: Block | EncodedBlock | None
    signs: Signs | None = None


@dataclass
class _Run:
    """Consecutive items, collected until their images fill a block."""

    items: list[Item] = field(default_factory=list)
    broken: list[Skipped] = field(default_factory=list)
    kept: list[Item] = field(default_factory=list)
    images: list[Pixels | bytes] = field(default_factory=list)
    masks: list[NDArray[Any]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    signs: list[Signs] = field(default_factory=list)
    objects: list[Objects] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the images fill a block."""
        last = self.images[-1]
        if not isinstance(last, bytes):
            return len(self.images) == chunk_rows(*(*last.shape, 1)[:3])
        return len(self.images) == FILES or sum(map(len, self.images)) >= FILE_BYTES


@dataclass
class Written:
    """What became of the items of a source so far.

    `skipped`: broken images that were left out; by split of the others `n`, and where signs are made `names` and
    `signs`.
    """

    skipped: list[Skipped] = field(default_factory=list)
    n: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    signs: dict[str, list[Signs]] = field(default_factory=dict)

    def add(self, split: str, items: Sequence[Item], broken: Sequence[Skipped], signs: Signs | None) -> None:
        """Takes in the next items of a split; `signs`: of those that are not broken, None without any."""
        self.skipped += broken
        self.n[split] = self.n.get(split, 0) + len(items) - len(broken)
        if signs is not None:
            gone = {item.path for item in broken}
            self.names.setdefault(split, []).extend(item.key for item in items if item.key not in gone)
            self.signs.setdefault(split, []).append(signs)

    def extend(self, behind: "Written") -> None:
        """Takes in what became of the items behind these."""
        self.skipped += behind.skipped
        for split, n in behind.n.items():
            self.n[split] = self.n.get(split, 0) + n
        for split, signs in behind.signs.items():
            self.names.setdefault(split, []).extend(behind.names[split])
            self.signs.setdefault(split, []).extend(signs)

    @property
    def signed(self) -> dict[str, Signed]:
        """The signs of each split."""
        return {split: Signed(self.names[split], np.concatenate(signs)) for split, signs in self.signs.items()}


class Stream:
    """Writes a source to one file, or to shards one after the other: what came before tells what is expected."""

    def __init__(self, source: Source, form: Form, told: Told) -> None:
        self.source, self.form, self.told = source, form, told
        self.blocks = _Blocks(source, form)
        self.done, self.total = 0, sum(map(len, source.splits.values()))

    def items(self, ranges: Mapping[str, range]) -> Iterator[Item]:
        """Some items of each split."""
        for split, own in ranges.items():
            yield from self.source.splits[split][own.start : own.stop]

    def write(self, writer: DatasetWriter, ranges: Mapping[str, range]) -> Written:
        """Writes some items of each split, those that are not broken.

        A NeedsColour if the form has 1 channel and an image has colour; a NeedsRange if an image is of another type
        than the form knows; a ValueError if the images have several sizes.
        """
        written = Written()
        # Packing has threads of its own: behind images yet to be decoded it would come late, and the file with it.
        with ThreadPoolExecutor(os.cpu_count()) as pool, ThreadPoolExecutor(os.cpu_count()) as packers:
            for split, own in ranges.items():
                items, begun = self.source.splits[split][own.start : own.stop], False
                for part in self.blocks.of(pool, packers, items):
                    if part.block is not None:
                        if not begun:
                            writer.begin(split, len(items))
                        begun = True
                        writer.append(part.block)
                    written.add(split, part.items, part.broken, part.signs)
                    self.done += len(part.items)
                    self.told.progress(self.done, self.total)
        return written

    def kept(self, path: Path, ranges: Mapping[str, range], broken: Sequence[Skipped]) -> Written:
        """Takes in a finished shard, whose broken images are known."""
        written, info = Written(), file_info(path)
        for split, own in ranges.items():
            items = self.source.splits[split][own.start : own.stop]
            keys = {item.key for item in items}
            gone = [item for item in broken if item.path in keys]
            signs = None
            if found := info.splits.get(split):
                self.blocks.expect_shape(items[0].key, found.shape)
                if self.form.signed:
                    rows = (slice(begin, min(begin + FILES, found.n)) for begin in range(0, found.n, FILES))
                    signs = np.concatenate([signs_of(list(file_rows(path, split, each).images)) for each in rows])
            written.add(split, items, gone, signs)
            self.done += len(items)
        return written


class _Blocks:
    """From items to blocks: each has as many images as a chunk, and the last of a split what is left."""

    def __init__(self, source: Source, form: Form) -> None:
        self.source, self.form = source, form
        self.first: tuple[str, tuple[int, ...]] | None = None  # the first image and its shape

    def of(self, pool: ThreadPoolExecutor, packers: ThreadPoolExecutor, items: Sequence[Item]) -> Iterator[Done]:
        """The blocks of items in order; decodes and packs ahead, in threads."""
        runs = self._runs(_ahead(pool, self.form, items, _window(self.source, self.form)))
        for run, (block, signs) in in_order(packers, self._packed, runs, 1 + (os.cpu_count() or 1)):
            yield Done(run.items, run.broken, block, signs)

    def _runs(self, fetched: Iterable[tuple[Item, Fetched]]) -> Iterator[_Run]:
        run = _Run()
        for item, found in fetched:
            image = found.image
            run.items.append(item)
            if isinstance(image, Broken):
                run.broken.append(Skipped(item.key, str(image)))
                continue
            run.kept.append(item)
            run.images.append(image)
            run.masks += [] if found.masks is None else [found.masks]
            run.sizes += [] if found.size is None else [found.size]
            run.signs += [] if found.signs is None else [found.signs]
            run.objects += [] if found.objects is None else [found.objects]
            if not isinstance(image, bytes):
                self.expect_shape(item.key, image.shape)
            if run.full:
                yield run
                run = _Run()
        if run.items:
            yield run

    def expect_shape(self, key: str, shape: tuple[int, ...]) -> None:
        """Refuses an image of another shape than the first."""
        if self.first is None:
            self.first = (key, shape)
        first, wanted = self.first
        if shape != wanted:
            raise ValueError(
                f"expected images of one size, found {wanted[1]}x{wanted[0]} in {first!r} and {shape[1]}x{shape[0]} "
                f"in {key!r}; type --size {max(SIDE, min(wanted[:2]) // SIDE * SIDE)}, or --store short:512"
            )

    def _packed(self, run: _Run) -> tuple[Block | EncodedBlock | None, Signs | None]:
        signs = np.concatenate(run.signs) if run.signs else None
        if self.form.signed and run.images and signs is None:
            shape = self._shape_of_encoded()
            signs = signs_of([decode(image, shape) if isinstance(image, bytes) else image for image in run.images])
        return self._pack(run), signs

    def _shape_of_encoded(self) -> tuple[int, ...]:
        side = self.form.photographs.crop.side if self.form.photographs else self.form.size or 0
        return (side, side) + ((3,) if self.form.channels == 3 else ())

    def _pack(self, run: _Run) -> Block | EncodedBlock | None:
        if not run.images:
            return None
        labels, factors = self.source.columns(run.kept)
        masks = np.stack(run.masks) if run.masks else None
        objects = pack_objects(run.objects) if run.objects else None
        if self.form.encoded or self.form.photographs:
            shape, sizes = self._shape_of_encoded(), np.array(run.sizes, np.int32) if run.sizes else None
            files = [image for image in run.images if isinstance(image, bytes)]
            crop = self.form.photographs.crop if self.form.photographs else None
            return EncodedBlock(shape, files, as_columns(labels, factors), masks, sizes, crop, objects)
        images = [image for image in run.images if not isinstance(image, bytes)]
        joined = np.stack(images) if self.form.size is None else _joined(images)
        return pack(Split(joined, labels, factors, masks, objects), self.form.compression)


def _joined(images: Sequence[Pixels]) -> Pixels:
    """Images of `Form.of_all` as one array: the one that they already make up, or else a copy (after a broken one)."""
    whole = images[0].base
    if isinstance(whole, np.ndarray) and len(whole) == len(images) and all(image.base is whole for image in images):
        return whole
    return np.stack(images)


def _window(source: Source, form: Form) -> int:
    """Images decoded ahead; where they keep their size, all have that of the first."""
    least = os.cpu_count() or 1
    if form.size is not None:
        most = max(AHEAD, 2 * least * form.task)  # two whole tasks a thread
        return max(least, min(most, AHEAD_BYTES // (form.size**2 * form.channels)))
    try:
        first: NDArray[Any] = next(item for items in source.splits.values() for item in items).decode()
    except Broken:
        return least
    return max(least, min(AHEAD, AHEAD_BYTES // first.nbytes))


def _ahead(pool: ThreadPoolExecutor, form: Form, items: Sequence[Item], window: int) -> Iterator[tuple[Item, Fetched]]:
    """Items with their images, in order; so many are being decoded while one is used."""
    step = max(1, min(form.task, window // (2 * (os.cpu_count() or 1))))  # two tasks a thread, or more
    parts = (items[begin : begin + step] for begin in range(0, len(items), step))
    for part, images in in_order(pool, form.of_all, parts, window // step + 1):
        yield from zip(part, images, strict=True)
