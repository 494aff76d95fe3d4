"""Small dataset files for tests, written with plain h5py-free code paths: the project's own writer; and edited ones."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import xxhash

from probekit.data.generate import generate
from probekit.h5 import DatasetInfo
from probekit.h5.checksums import checksum, write_seal

# The rest of an encoder file's header, where a test writes one by itself.
ABOUT = {"method": "simclr", "epoch": 3, "image_size": [32, 32], "max_size": 1024, "classes": []}

# What every reader of a run.json relies on.
RUN: dict[str, Any] = {
    "state": "finished",
    "config": {"method": "simclr"},
    "dataset": {"path": "shapes.h5", "hash": "0"},
}

# What h5py raises.
UNREADABLE = (ValueError, KeyError, AttributeError, RuntimeError, TypeError, OSError, MemoryError, IndexError)


def small_shapes(
    path: Path,
    *,
    n: int = 32,
    n_test: int = 16,
    size: int = 32,
    generator: str = "rect-tri",
    pairs: bool = False,
    parameters: Mapping[str, float] = {},
) -> DatasetInfo:
    """A rendered dataset file, small enough for a training run of a second; one that was asked for before is copied."""
    info, content = _rendered(generator, n, n_test, size, tuple(parameters.items()), pairs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
    return replace(info, path=path)


@cache
def _rendered(
    generator: str, n: int, n_test: int, size: int, parameters: tuple[tuple[str, float], ...], pairs: bool
) -> tuple[DatasetInfo, bytes]:
    with TemporaryDirectory() as folder:
        info = generate(
            generator,
            out=Path(folder, "shapes.h5"),
            n=n,
            n_test=n_test,
            size=size,
            parameters=dict(parameters),
            pairs=pairs,
            compression="none",
            workers=1,
        )
        return info, info.path.read_bytes()


def noise_npz(path: Path, *, n: int = 24, size: int = 32, channels: int = 1) -> Path:
    """An npz file like the paper's, of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    return path


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """A file whose contents are changed, and which then vouches for the changed ones, if they can be sealed at all."""
    with h5py.File(path, "r+") as file:
        yield file
        with suppress(*UNREADABLE):
            digests = {name: naive_digest(file[name]) for name in ("train", "val", "test") if name in file}
            file.attrs["digests"] = json.dumps(digests)
        with suppress(*UNREADABLE):
            if isinstance(file.attrs.get("content_hash"), str):
                file.attrs["content_hash"] = naive_hash(file)
        with suppress(*UNREADABLE):
            sums: dict[str, list[int]] = {}
            for held in (f"{split}/{name}" for split in file for name in ("encoded", "objects") if name in file[split]):
                sums[held] = [checksum(each) for each in files_of(file[held])]
            write_seal(file, sums)


def files_of(group: h5py.Group) -> list[bytes]:
    """What a group of bytes and offsets holds, one image after the other."""
    held, offsets = group["bytes"][:], group["offsets"][:]
    return [held[begin:end].tobytes() for begin, end in itertools.pairwise(offsets)]


def naive_digest(group: h5py.Group) -> str:
    """The definition in probekit.h5.contents, over what plain h5py reads."""
    columns = [name for name in ("labels",) if name in group]
    columns += [f"factors/{name}" for name in sorted(group.get("factors", []))]
    images = files_of(group["encoded"]) if "encoded" in group else [image.tobytes() for image in group["images"][:]]
    objects = files_of(group["objects"]) if "objects" in group else []
    total = 0
    for row, image in enumerate(images):
        digest = xxhash.xxh3_64(image).intdigest()
        if "masks" in group:
            digest = xxhash.xxh3_64(group["masks"][row].tobytes(), seed=digest).intdigest()
        if columns:
            joined = b"".join(
                np.asarray(group[name][row]).tobytes().ljust(group[name].dtype.itemsize, b"\0") for name in columns
            )
            digest = xxhash.xxh3_64(joined, seed=digest).intdigest()
        if objects:
            digest = xxhash.xxh3_64(objects[row], seed=digest).intdigest()
        total += digest * pow(int(hashlib.sha256(b"probekit").hexdigest(), 16), len(images) - 1 - row, 2**127 - 1)
    return f"{total % (2**127 - 1):032x}"


def naive_hash(file: h5py.File) -> str:
    """The same."""
    held: dict[str, Any] = {}
    for split in [name for name in ("train", "val", "test") if name in file]:
        group, arrays = file[split], {}
        for name in (
            "images",
            "encoded",
            "masks",
            "labels",
            *(f"factors/{n}" for n in sorted(group.get("factors", []))),
        ):
            if name == "encoded" in group:
                about = group["encoded"].attrs
                n = len(group["encoded/offsets"]) - 1
                if about["format"] == "photographs":
                    arrays[name] = f"photographs {about['resize']}:{about['height']} {about['channels']}"
                else:
                    arrays[name] = f"jpeg {about['height']},{about['width']},{about['channels']}"
            elif name in group:
                n, *shape = group[name].shape
                arrays[name] = f"{group[name].dtype.str} {','.join(map(str, shape))}"
        if "objects" in group:
            arrays["objects"] = "boxes masks" if group["objects"].attrs["masks"] == 1 else "boxes"
        held[split] = {"n": n, "arrays": arrays, "rows": naive_digest(group)}
    names = [json.loads(file.attrs["classes"]), json.loads(file.attrs["mask_names"])]
    text = json.dumps([*names, held], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
