"""Importing photographs against a bare loop that reads and resizes them with as many threads.

    python -m benchmarks.importers [--n 2000] [--rounds 3] [--out FILE]

Both take the same JPEG files of 500 x 375 (drawn here, about 70 kB each), crop the centre square and resize it to
224 x 224 by area. They are read from the page cache, and the dataset file is written into it.

- bare: `cv2.imread`, crop, `cv2.resize` in a pool of one thread a core; nothing is kept.
- bare, kept: the same, and the pixels are written to a plain file: what no import of pixels can be faster than.
- bare, linear: the same with OpenCV's default interpolation, which is faster and leaves aliases.
- ours: `Import(...).of_official("imagenet", ...)`, all of it: list the files, decode, turn them upright, resize, hash,
  journal, write the dataset file; with each compression, and as JPEG.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from benchmarks.report import RESULTS, interleaved, spread, write
from probekit.data.importers import Choices, Import, Options, Told
from probekit.h5 import read_split

WIDTH, HEIGHT, SIZE = 500, 375, 224
DISTINCT = 200  # photographs drawn; the others are copies
WNIDS = ("n01440764", "n01443537")


def draw(root: Path, n: int) -> list[Path]:
    """ImageNet's folders with n training images in two classes; the training files."""
    rng = np.random.default_rng(0)
    files: list[Path] = []
    for index in range(n):
        path = root / "train" / WNIDS[index % 2] / f"{index:05}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < DISTINCT:
            coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            noisy = smooth + rng.normal(0, 8, smooth.shape)  # grain, so that a file is as large as a photograph's
            assert cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8), (cv2.IMWRITE_JPEG_QUALITY, 90))
        else:
            shutil.copyfile(files[index % DISTINCT], path)
        files.append(path)
    for wnid in WNIDS:
        (root / "val" / wnid).mkdir(parents=True)
        shutil.copyfile(files[0], root / "val" / wnid / "0.JPEG")
    return files


def bare(files: list[Path], threads: int, interpolation: int, out: Path | None = None) -> None:
    """Reads, crops and resizes; keeps the pixels in a plain file, if there is one."""
    left = (WIDTH - HEIGHT) // 2

    def one(path: Path) -> MatLike | None:
        image = cv2.imread(str(path))
        assert image is not None
        small = cv2.resize(image[:, left : left + HEIGHT], (SIZE, SIZE), interpolation=interpolation)
        return None if out is None else small

    with ThreadPoolExecutor(threads) as pool, open(out or os.devnull, "wb") as file:
        for image in pool.map(one, files):
            if image is not None:
                file.write(image.data)


def ours(root: Path, out: Path, compression: str, max_gb: float) -> None:
    """The whole import."""
    Import(
        Options(size=SIZE, val_fraction=0.0, test_fraction=0.0, seed=0, max_gb=max_gb),
        out=out,
        skip_broken=False,
        overwrite=True,
        compression=compression,
        told=Told(lambda done, total: None),
    ).of_official("imagenet", root, Choices(subset=True))


def timed(job: Callable[[], Any], into: list[float]) -> Callable[[], None]:
    """The job, which notes the processor time that all its threads took: it hardly depends on what else runs."""

    def run() -> None:
        started = time.process_time()
        job()
        into.append(time.process_time() - started)

    return run


def shares(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Speed as a share of the bare loop's in the same round."""
    return {name: spread([b / t for t, b in zip(ts, times["bare"], strict=True)]) for name, ts in times.items()}


def measure(n: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Images per second of each, and its share of the bare loop's speed."""
    threads = os.cpu_count() or 1
    files = draw(folder / "set", n)
    forms = {"pixels": ("none", 1e9), "pixels, gzip": ("gzip", 1e9), "JPEG": ("none", 0.0)}
    outs = {form: folder / f"{form}.h5" for form in forms}
    jobs: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare(files, threads, cv2.INTER_AREA),
        "bare, kept": lambda: bare(files, threads, cv2.INTER_AREA, folder / "plain"),
        "bare, linear": lambda: bare(files, threads, cv2.INTER_LINEAR),
    }
    for form, (compression, most) in forms.items():
        jobs[form] = lambda form=form, compression=compression, most=most: ours(  # type: ignore[misc]
            folder / "set", outs[form], compression, most
        )
    work: dict[str, list[float]] = {name: [] for name in jobs}
    written = [folder / "plain", *outs.values()]

    def remove() -> None:  # a new file is what a user writes; to remove an old one takes a tenth of the time
        for path in written:
            path.unlink(missing_ok=True)

    times = interleaved({name: timed(job, work[name]) for name, job in jobs.items()}, rounds=rounds, before=remove)
    for form in forms:
        jobs[form]()
    kept = {form: read_split(path, "train", stop=8).images.astype(np.int16) for form, path in outs.items()}
    result: dict[str, Any] = {
        "n": n,
        "threads": threads,
        "bytes_per_file": float(np.mean([path.stat().st_size for path in files])),
        "bytes_per_image": {form: path.stat().st_size / n for form, path in outs.items()},
        "jpeg_mean_error": float(np.abs(kept["JPEG"] - kept["pixels"]).mean()),
        "images_per_second": {name: spread([n / t for t in ts]) for name, ts in times.items()},
        "share_of_bare": shares(times),
        "share_of_bare_processor_time": shares({name: ts[1:] for name, ts in work.items()}),  # without the warm-up
    }
    for name, speed in result["images_per_second"].items():
        share, alone = (result[key][name] for key in ("share_of_bare", "share_of_bare_processor_time"))
        print(
            f"{name}: {speed['median']:.0f} images/s, {share['median']:.2f} ({share['min']:.2f} to {share['max']:.2f}) "
            f"of bare; by processor time {alone['median']:.2f} ({alone['min']:.2f} to {alone['max']:.2f})"
        )
    print(f"mean error of JPEG: {result['jpeg_mean_error']:.2f} of 255")
    return result


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "importers-cpu.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(arguments.out, measure(arguments.n, arguments.rounds, Path(folder)))


if __name__ == "__main__":
    main()
