"""From a generator's name to a dataset file: workers render, compress and checksum blocks, one thread writes them.

Workers are threads: much of the work is done outside the interpreter lock, and a killed process leaves no orphans.
They render one at a time: NumPy takes and gives the interpreter lock at every call, and two threads that do so at once
spend their time on that (measured on 2 cores, rect-tri at 128 px: 18 thousand images/s, in turn 27 thousand).
"""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from generators import GENERATORS, Generator, Scenes
from generators.certificates import Certificate, shipped
from probekit.data.ahead import in_order
from probekit.data.scenes import drawn_scenes, scenes_header
from probekit.h5 import Block, DatasetInfo, DatasetWriter, Header, Split, chunk_rows, pack, read_info
from probekit.h5.file import file_info
from probekit.h5.planned import check_shard, planned_shard
from probekit.registry import nearest

BLOCK_BYTES = 16 << 20  # of images, and as much of masks; measured: 8 MiB is 12 % slower
BLOCK_IMAGES = 1024  # that is 16 MiB at 128 px; more of smaller ones are no faster, and their factors take memory too
MAX_WORKERS = 8  # more only wait for the one that renders; bounds memory on machines with many cores
AHEAD = 1  # blocks under way beyond the workers: these never wait for the writer
MAX_N = 10**9  # own choice: half a terabyte of shapes at 128 px
MAX_SEED = 2**63 - 1  # what the file's int64 holds

PAIR_ID = {"name": "pair_id", "kind": "key", "about": "the base image, also of its counterfactuals"}
PAIR_ROLE = {"name": "pair_role", "kind": "role", "about": "base, or the class factor that differs from the base"}


def generate(
    name: str,
    *,
    out: Path,
    n: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    size: int = 128,
    parameters: Mapping[str, float] | None = None,
    pairs: bool = False,
    masks: bool = True,
    certificate: Certificate | None = None,
    compression: str = "gzip",
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DatasetInfo:
    """Renders a train and a test split to a dataset file, or one shard of it, in constant memory.

    The file's bytes depend on neither `workers` nor timing. With `pairs`, the rows of base image i are the base and
    then its counterfactual for each class factor; the columns `pair_id` (i) and `pair_role` ("base", or the name of the
    factor) say so. A ValueError for an unknown generator, parameter or compression, or a number out of range; an
    OSError if the file exists or cannot be written.

    Args:
        name: A key of `GENERATORS`, or "scenes", which has no counterfactuals.
        n: Base images in train, at most 10**9; 0 leaves the split out, None is the generator's default.
        n_test: Base images in test, likewise.
        size: Pixels a side.
        parameters: Values of the generator's parameters; those not named keep their defaults.
        pairs: Add every image's counterfactuals.
        masks: Keep the masks of objects and evidence; without, images are drawn in a third of the time.
        certificate: What is proved of these settings; None is what ships with the generator, if these are its defaults.
        compression: "gzip", "lzf" or "none".
        workers: Threads; None is one a core, up to 8.
        shard: Which one, and of how many, to write alone, in the folder `out`, unless it is there.
        progress: Called with the images done and in all, from this thread.
    """
    about: dict[str, Any] = {"n": n, "n_test": n_test, "seed": seed, "size": size, "pairs": pairs, "masks": masks}
    plan = _planned(name, parameters=parameters or {}, certificate=certificate, **about)
    workers = min(os.cpu_count() or 1, MAX_WORKERS) if workers is None else workers
    if workers < 1:
        raise ValueError(f"expected at least 1 worker, found {workers}; type --workers 1")
    part = None if shard is None else planned_shard(*shard, plan.counts)
    there = None if part is None else check_shard(out, plan.header, part, compression=compression)
    if there is not None and not overwrite:
        return there
    path, turn = out if part is None else out / part.file, threading.Lock()

    def render(split: str, index: NDArray[np.int64]) -> Block:
        with turn:
            rows = plan.draw(split, index)
        return pack(rows, compression)

    ranges = {split: range(n) for split, n in plan.counts.items()} if part is None else part.ranges
    how: dict[str, Any] = {"size": size, "rows": len(plan.roles or ("base",)), "workers": workers}
    writing = DatasetWriter(path, header=plan.header, compression=compression, overwrite=overwrite, shard=part)
    # Products of generators are small: more threads than one take longer, and the time of those who compress.
    with threadpool_limits(1, user_api="blas"), writing as writer:
        _write(writer, render, ranges, **how, progress=progress)
    return read_info(out) if part is None else file_info(path)


@dataclass(frozen=True)
class _Plan:
    draw: Callable[[str, NDArray[np.int64]], Split]  # rows for some base images of a split
    header: Header
    counts: dict[str, int]  # base images by split
    roles: tuple[str, ...] | None  # of the rows of each


def _planned(
    name: str,
    *,
    n: int | None,
    n_test: int | None,
    seed: int,
    size: int,
    parameters: Mapping[str, float],
    pairs: bool,
    masks: bool,
    certificate: Certificate | None,
) -> _Plan:
    if name not in (*GENERATORS, Scenes.name):
        raise ValueError(nearest("generator", name, (*GENERATORS, Scenes.name)))
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"expected a seed from 0 to {MAX_SEED}, found {seed}; type --seed 0")
    if name == Scenes.name:
        scenes = Scenes(size=size, parameters=parameters)
        if pairs:
            raise ValueError(f"expected no --pairs with {name}, which have no counterfactuals, found it; leave it out")
        header = scenes_header(scenes, seed, masks)
        return _Plan(partial(drawn_scenes, scenes, seed, masks=masks), header, counts(scenes, n, n_test), None)
    generator = GENERATORS[name](size=size, parameters=parameters)
    wanted = counts(generator, n, n_test)
    certificate = shipped(generator) if certificate is None else certificate
    roles = ("base", *generator.class_factors) if pairs else None
    header = _header(generator, seed, pairs, masks, certificate)
    return _Plan(partial(rendered, generator, seed, roles=roles, masks=masks), header, wanted, roles)


def missing_shards(
    name: str, count: int, *, out: Path, compression: str, workers: int | None = None, **about: Any
) -> list[int]:
    """The shards of so many that are not in the folder `out`; a ValueError or an OSError as `generate` of each.

    `about`: what `generate` takes of the images.
    """
    plan = _planned(name, **about)
    shards = (planned_shard(index, count, plan.counts) for index in range(1, count + 1))
    return [each.index for each in shards if check_shard(out, plan.header, each, compression=compression) is None]


def generate_shards(
    name: str, count: int, *, out: Path, progress: Callable[[int, int], None] = lambda done, total: None, **options: Any
) -> DatasetInfo:
    """Renders so many shards to the folder `out`, one after the other; those that are there are kept as they are.

    A ValueError or an OSError as `generate`, of which `options` are.
    """
    for index in range(1, count + 1):

        def of_all(done: int, own: int, before: int = index - 1) -> None:
            progress(before * own + done, count * own)  # shards are as large as one another, up to an image

        generate(name, out=out, progress=of_all, **options | {"shard": (index, count)})
    return read_info(out)


def _write(
    writer: DatasetWriter,
    render: Callable[[str, NDArray[np.int64]], Block],
    ranges: Mapping[str, range],
    *,
    size: int,
    rows: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> None:
    """Writes some base images of each split, each with so many rows, block by block."""
    done, total, step = 0, rows * sum(map(len, ranges.values())), _block_images(size, rows)
    with ThreadPoolExecutor(workers) as pool:
        for split, own in ranges.items():
            writer.begin(split, rows * len(own))
            indices = (np.arange(start, min(start + step, own.stop)) for start in range(own.start, own.stop, step))
            for _, block in in_order(pool, partial(render, split), indices, workers + AHEAD):
                writer.append(block)
                done += block.shape[0]
                progress(done, total)


def counts(generator: Generator | Scenes, n: int | None, n_test: int | None) -> dict[str, int]:
    """Base images of each split that has some; a ValueError for a number out of range, or none in both."""
    n = generator.default_n if n is None else n
    n_test = generator.default_n_test if n_test is None else n_test
    if n < 0:
        raise ValueError(f"expected 0 or more training images, found {n}; type --n 1000")
    if max(n, n_test) > MAX_N:
        raise ValueError(
            f"expected at most {MAX_N} images in a split, found {max(n, n_test)}; type --n {MAX_N} or less"
        )
    if n_test < 0:
        raise ValueError(f"expected 0 or more test images, found {n_test}; type --n-test 500")
    if not n + n_test:
        raise ValueError("expected an image in train or in test, found none in both; type --n 1000")
    return {split: count for split, count in (("train", n), ("test", n_test)) if count}


def _block_images(size: int, roles: int) -> int:
    """Base images in a block, each with `roles` rows: whole chunks of rows, near the limits above."""
    chunk = chunk_rows(size, size, 1)
    rows = min(BLOCK_IMAGES, BLOCK_BYTES // size**2)
    return max(1, rows // (roles * chunk)) * chunk


def _header(generator: Generator, seed: int, pairs: bool, masks: bool, certificate: Certificate | None) -> Header:
    about = (generator.name, generator.size)
    assert certificate is None or (certificate["generator"], certificate["size"]) == about, "another's certificate"
    factors: list[dict[str, Any]] = [asdict(factor) for factor in generator.factors]
    return Header(
        generator=generator.name,
        parameters=generator.values,
        seed=seed,
        classes=generator.classes,
        factors=factors + ([PAIR_ID, PAIR_ROLE] if pairs else []),
        mask_names=generator.mask_names if masks else (),
        certificate=certificate,
    )


def rendered(
    generator: Generator,
    seed: int,
    split: str,
    index: NDArray[np.int64],
    roles: tuple[str, ...] | None = None,
    masks: bool = True,
) -> Split:
    """Rows for base images `index`; with `roles`, each base is followed by its counterfactuals."""
    factors = generator.sample(seed, split, index)
    extra: dict[str, NDArray[Any]] = {}
    if roles is not None:
        versions = [factors] + [generator.counterfactual(factors, role) for role in roles[1:]]
        factors = np.stack(versions, axis=1).reshape(-1)
        extra["pair_id"] = np.repeat(index, len(roles))
        extra["pair_role"] = np.tile(np.array(roles, "S"), len(index))
    columns = {factor.name: factors[factor.name] for factor in generator.factors}
    labels, columns = generator.labels(factors), columns | extra
    if not masks:
        return Split(generator.render_images(factors), labels, columns, None)
    drawn = generator.render(factors)
    return Split(drawn.images, labels, columns, drawn.masks)
