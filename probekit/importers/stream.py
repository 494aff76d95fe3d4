"""From a source to the writer: images are decoded, squared and packed in threads, and written in order."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from probekit.config import SIDE
from probekit.h5 import DatasetWriter, Split, chunk_rows, pack
from probekit.importers.base import Broken, Item, Skipped, Source
from probekit.importers.images import has_colour, to_channels, to_square

Fetched = NDArray[np.uint8] | Broken
Row = tuple[NDArray[np.uint8], int | None]  # image, label

BATCH = 64  # images decoded at a time: as many as a chunk holds
BATCH_BYTES = 64 << 20  # or as many as fit, where photographs are kept whole: bounds memory


class NeedsColour(Exception):  # noqa: N818 - not an error: the pass starts again
    """An image with colour came while all were taken for grey."""


def write_source(
    writer: DatasetWriter,
    source: Source,
    *,
    channels: int,
    size: int | None,
    skip_broken: bool,
    compression: str,
    progress: Callable[[int, int], None],
) -> list[Skipped]:
    """Writes all splits of a source; returns the broken images that were left out.

    Args:
        writer: The open file.
        source: Splits of items.
        channels: 1 stops at the first image with colour, 3 takes all.
        size: Pixels a side, or None.
        skip_broken: Leave unreadable images out.
        compression: As the writer's.
        progress: Called with the images done and in all.

    Raises:
        NeedsColour: If `channels` is 1 and an image has colour.
        ValueError: If an image is broken, or the images have several sizes.
    """
    total = sum(map(len, source.splits.values()))
    done = 0
    skipped: list[Skipped] = []
    expected: list[tuple[str, tuple[int, ...]]] = []  # the first image and its shape

    def fetch(item: Item) -> Fetched:
        try:
            image = item.decode()
        except Broken as broken:
            return broken
        if channels == 1 and has_colour(image):
            raise NeedsColour
        image = to_channels(image, channels)
        return image if size is None else to_square(image, size)

    step = BATCH if size is not None else _batch_size(source)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, items in source.splits.items():
            writer.begin(split, len(items))
            rows: list[Row] = []
            for batch, images in _ahead(pool, fetch, items, step):
                for item, image in zip(batch, images, strict=True):
                    if isinstance(image, Broken):
                        skipped.append(Skipped(item.key, str(image)))
                    else:
                        _expect_shape(expected, item.key, image.shape)
                        rows.append((image, item.label))
                done += len(batch)
                progress(done, total)
                if skipped and not skip_broken:
                    rows.clear()  # nothing will come of the file: the rest is only counted
                rows = _write(writer, rows, source, compression)
            _write(writer, rows, source, compression, last=True)
    if skipped and not skip_broken:
        first = skipped[0]
        raise ValueError(
            f"{len(skipped)} broken image{'s' * (len(skipped) > 1)}, the first {first.path!r}: {first.reason}; "
            "repair or remove it, or type --skip-broken"
        )
    return skipped


def _batch_size(source: Source) -> int:
    """Images decoded at a time when they keep their size; all have that of the first."""
    try:
        first: NDArray[np.uint8] = next(item for items in source.splits.values() for item in items).decode()
    except Broken:
        return 1
    return max(1, min(BATCH, BATCH_BYTES // first.nbytes))


def _ahead(
    pool: ThreadPoolExecutor, fetch: Callable[[Item], Fetched], items: Sequence[Item], step: int
) -> Iterator[tuple[Sequence[Item], Iterator[Fetched]]]:
    """Batches with their images; while one is used, the next is being decoded."""
    batches = [items[begin : begin + step] for begin in range(0, len(items), step)]
    following = pool.map(fetch, batches[0])
    for position, batch in enumerate(batches):
        current = following
        if position + 1 < len(batches):
            following = pool.map(fetch, batches[position + 1])
        yield batch, current


def _expect_shape(expected: list[tuple[str, tuple[int, ...]]], key: str, shape: tuple[int, ...]) -> None:
    if not expected:
        expected.append((key, shape))
    first, wanted = expected[0]
    if shape != wanted:
        raise ValueError(
            f"expected images of one size, found {wanted[1]}x{wanted[0]} in {first!r} and {shape[1]}x{shape[0]} in "
            f"{key!r}; type --size {max(SIDE, min(wanted[:2]) // SIDE * SIDE)}"
        )


def _write(
    writer: DatasetWriter, rows: list[Row], source: Source, compression: str, *, last: bool = False
) -> list[Row]:
    """Writes whole chunks, and the remainder too if it is the last; returns what is left."""
    if not rows:
        return rows
    height, width, channels = (*rows[0][0].shape, 1)[:3]
    step = chunk_rows(height, width, channels)
    count = len(rows) if last else len(rows) // step * step
    if count:
        known = [label for _, label in rows[:count] if label is not None]
        labels = np.array(known, np.int64) if known else None
        factors = {factor.name: np.array(values, np.uint8)[labels] for factor, values in source.factors}
        images = np.stack([image for image, _ in rows[:count]])
        writer.append(pack(Split(images, labels, factors, None), compression))
    return rows[count:]
