"""Shards that are to be written: which one was asked for, and whether it fits what is in the folder already."""

import re
from collections.abc import Mapping
from pathlib import Path

from probekit import __version__
from probekit.h5.file import file_info
from probekit.h5.schema import DatasetInfo, Header, Shard, check_compression
from probekit.h5.shards import settings_of, shards_in


def parse_shard(text: str) -> tuple[int, int]:
    """The numbers of "3/64", the third of 64; a ValueError if it is nothing like it."""
    found = re.fullmatch(r"0*([1-9]\d{0,8})/([1-9]\d{0,8})", text)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(
            f"expected a shard and how many there are, 1/64 to 64/64 say, found {text!r}; type --shard 1/64"
        )
    return int(found[1]), int(found[2])


def planned_shard(index: int, count: int, planned: Mapping[str, int]) -> Shard:
    """One of so many parts of what is planned; a ValueError if some would have nothing."""
    if count > (most := sum(planned.values())):
        raise ValueError(f"expected at most as many shards as images, {most:,}, found {count:,}; choose fewer")
    return Shard(index, count, dict(planned))


def check_shard(out: Path, header: Header, shard: Shard, *, compression: str) -> DatasetInfo | None:
    """Refuses a shard that is of another dataset than those in the folder `out`; the finished one, if it is there.

    A ValueError, or an OSError if there is something else than a folder, or it cannot be read.
    """
    check_compression(compression)
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"expected a folder of shards or nothing at {out}, found a file; choose another --out")
    path = out / shard.file
    found = shards_in(out) if out.is_dir() else []
    wanted = settings_of(header, shard, __version__)
    beside = [path] if path in found else found[:1]  # of many one is enough: whoever reads them compares all
    for info in map(file_info, beside):
        if info.shard is None or settings_of(info, info.shard, info.version) != wanted:
            raise FileExistsError(
                f"expected shards of these settings in {out}, found {info.path.name} of others; "
                "choose another --out, or remove them"
            )
        if info.path == path:
            return info
    return None


def check_folder(out: Path, *, compression: str, overwrite: bool) -> None:
    """Refuses a place for a new folder of shards.

    An OSError if a dataset stands there that may not be replaced, or anything else.
    """
    check_compression(compression)
    if not out.exists():
        return
    if out.is_dir() and (other := [each.name for each in out.iterdir() if each not in shards_in(out)]):
        raise FileExistsError(f"expected a dataset or nothing at {out}, found {other[0]!r} in it; choose another --out")
    if not (out.is_dir() or out.is_file()):
        raise OSError(f"expected a dataset or nothing at {out}, found something else; choose another --out")
    if not overwrite:
        raise FileExistsError(f"{out} exists; type --overwrite to replace it, or choose another --out")
