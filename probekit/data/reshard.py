"""`probekit reshard`: the rows of a dataset in another number of files, in constant memory, with the same hash."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count
from pathlib import Path
from shlex import quote
from typing import Any

from generators import GENERATORS
from probekit.data.ahead import in_order
from probekit.h5 import (
    Block,
    DatasetInfo,
    DatasetWriter,
    EncodedBlock,
    Shard,
    as_columns,
    chunk_rows,
    compression_of,
    open_encoded,
    pack,
    read_info,
    read_split,
)
from probekit.h5.planned import check_shard, planned_shard
from probekit.h5.shards import beside, stands_in

CHUNKS = 4  # in a block
AHEAD = 1 + (cpu_count() or 1)  # blocks under way
FILES = 64  # images kept as files likewise, as an import writes them
PAIRS = "pair_id"


def reshard(path: Path, out: Path, count: int, *, overwrite: bool, progress: Callable[[int, int], None]) -> DatasetInfo:
    """Writes the rows of a dataset to so many shards in the folder `out`, or for 1 to the file `out`.

    The file is, byte for byte, the one that would have been written at once; finished shards that are there are kept.
    `path`: a file, a folder of shards or a pattern; `progress`: called with the images copied and in all. A ValueError
    if it is unsound, or there would be shards without images; an OSError if `out` exists or cannot be written.
    """
    info = read_info(path)
    if stands_in(out, path):
        raise ValueError(
            f"expected another place than {path}, found {out}; type --out {quote(str(default_out(info, count)))}"
        )
    copy = _Copy(info, out, progress)
    try:
        if count == 1:
            copy.write(None, overwrite=overwrite)
        for index in range(1, count + 1) if count > 1 else ():
            copy.write(planned_shard(index, count, copy.planned), overwrite=overwrite)
    finally:
        copy.close()
    made = read_info(out)
    if made.content_hash != info.content_hash:
        raise ValueError(
            f"expected the contents of {path}, hash {info.content_hash[:12]}, in {out}, found "
            f"{made.content_hash[:12]}, of shards that were there; remove them, or choose another --out"
        )
    return made


class _Copy:
    """Rows of one dataset on their way to another."""

    def __init__(self, info: DatasetInfo, out: Path, progress: Callable[[int, int], None]) -> None:
        self.info, self.out, self.progress = info, out, progress
        self.header, self.compression = info.header, compression_of(info.path)
        self.together = _drawn_together(info)
        self.planned = {name: split.n // self.together for name, split in info.splits.items()}
        self.done, self.total = 0, sum(split.n for split in info.splits.values())
        self.opened = {name: open_encoded(info.path, name) for name in info.splits} if info.first.encoded else {}
        self.pool = ThreadPoolExecutor(cpu_count())

    def close(self) -> None:
        """Ends the threads, and closes the files."""
        self.pool.shutdown(cancel_futures=True)
        for each in self.opened.values():
            each.close()

    def write(self, shard: Shard | None, *, overwrite: bool) -> None:
        """Writes a shard that is not there yet, or for None one file."""
        ranges = {name: range(n) for name, n in self.planned.items()} if shard is None else shard.ranges
        rows = {name: range(own.start * self.together, own.stop * self.together) for name, own in ranges.items()}
        path = self.out if shard is None else self.out / shard.file
        if shard is not None:
            finished = check_shard(self.out, self.header, shard, compression=self.compression)
            if finished is not None and not overwrite:
                self.done += sum(map(len, rows.values()))
                return
        how: dict[str, Any] = {"compression": self.compression, "overwrite": overwrite, "shard": shard}
        with DatasetWriter(path, header=self.header, **how) as writer:
            for name, own in rows.items():
                writer.begin(name, len(own))
                for part, block in in_order(self.pool, partial(self._block, name), self._parts(name, own), AHEAD):
                    writer.append(block)
                    self.done += len(part)
                    self.progress(self.done, self.total)

    def _parts(self, name: str, rows: range) -> Iterator[range]:
        split = self.info.splits[name]
        step = FILES if split.encoded else CHUNKS * chunk_rows(split.height, split.width, split.channels)
        return (range(begin, min(begin + step, rows.stop)) for begin in range(rows.start, rows.stop, step))

    def _block(self, name: str, part: range) -> Block | EncodedBlock:
        encoded = self.opened.get(name)
        how: dict[str, Any] = {"start": part.start, "stop": part.stop, "images": encoded is None}
        rows = read_split(self.info.path, name, masks=True, objects=True, **how)
        if encoded is None:
            return pack(rows, self.compression)
        columns, sizes = as_columns(rows.labels, rows.factors), encoded.sizes(part)
        return EncodedBlock(
            encoded.shape[1:], encoded.read(part), columns, rows.masks, sizes, encoded.crop, rows.objects
        )


def default_out(info: DatasetInfo, count: int) -> Path:
    """Where the new files are written if nothing is typed."""
    return beside(info.path, f"{info.name}-{'whole' if count == 1 else count}.h5")


def _drawn_together(info: DatasetInfo) -> int:
    """Rows that a generator draws together: an image and its counterfactuals."""
    if info.generator in GENERATORS and PAIRS in info.first.factors:
        return 1 + len(GENERATORS[info.generator](size=info.first.height, parameters=info.parameters).class_factors)
    return 1
