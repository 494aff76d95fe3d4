"""What shards cost: images/s streamed from 16 and 256 shards against one file; and what grows with data, and how.

    python -m benchmarks.shards [--n 1024] [--size 224] [--rounds 5]

Streaming is what training waits for: shuffled batches of 64, read, decoded and put together, from one dataset in one
file and in shards, in turns. Growth is measured of drawn images at several sizes, without masks: bytes, and seconds of
a core to draw, to open and to verify, which other work on the machine changes little; memory that opening takes, in a
process of its own, of the same rows in 1 to 1,000 shards.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.placement import encoded_file
from benchmarks.report import RESULTS, interleaved, spread, write
from probekit.data.generate import generate, generate_shards
from probekit.data.reshard import reshard
from probekit.data.split import CPU, feed, open_split
from probekit.h5 import read_info, verify

SHARDS = (16, 256)
GROWN = (1000, 4000, 16000)  # images of 128 px
OPENED = (1, 10, 100, 1000)  # shards of the same 16,000 images of 16 px
OPENS = """
import json, os, sys, time
from pathlib import Path
import probekit.data.split
from probekit.h5 import read_info, read_split

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

read_info(Path(sys.argv[2]))  # what is loaded late
before, started = memory(), time.process_time()
read_info(Path(sys.argv[1]))
opened = time.process_time() - started
read_split(Path(sys.argv[1]), "train", images=False)
print(json.dumps([opened, memory() - before]))
"""


def pass_over(path: Path, n: int, cores: list[float]) -> Callable[[], None]:
    """One shuffled pass over a dataset, images decoded from files; appends the seconds of a core it took."""
    images = open_split(path, "train", CPU, max_size=1024, placement="file").images
    batches = torch.split(torch.randperm(n, generator=torch.Generator().manual_seed(0)), 64)

    def run() -> None:
        started = time.process_time()
        for _ in feed(images, batches):
            pass
        cores.append(time.process_time() - started)

    return run


def streamed(folder: Path, *, n: int, size: int, rounds: int) -> list[dict[str, Any]]:
    """Images/s from one file and from shards."""
    whole = encoded_file(folder / "whole.h5", n=n, size=size)
    paths = {1: whole}
    for count in SHARDS:
        paths[count] = reshard(whole, folder / f"{count}.h5", count, overwrite=False, progress=lambda a, b: None).path
    cores: dict[int, list[float]] = {count: [] for count in paths}
    jobs = {str(count): pass_over(path, n, cores[count]) for count, path in paths.items()}
    times = interleaved(jobs, rounds=rounds)
    rows = []
    for count in paths:
        seconds = times[str(count)]
        ratio = spread([one / own for own, one in zip(seconds, times["1"], strict=True)])
        work = spread([one / own for own, one in zip(cores[count], cores[1], strict=True)])
        rate = n / spread(seconds)["median"]
        rows.append({"shards": count, "images_per_second": rate, "ratio": ratio, "ratio_of_a_core": work})
        told = f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f}) of one file's"
        print(f"{count:>5} files: {rate:,.0f} images/s, {told}; a second of a core: {work['median']:.3f}")
    return rows


def grown(folder: Path) -> list[dict[str, Any]]:
    """Bytes and seconds of drawn images at several sizes of a file."""
    rows = []
    for n in GROWN:
        started = time.process_time()
        info = generate("rect-tri", out=folder / f"g{n}.h5", n=n, n_test=0, masks=False, workers=1)
        drawn = time.process_time() - started
        started = time.process_time()
        verify(info.path)
        verified = time.process_time() - started
        rows.append({"n": n, "bytes": info.size, "seconds_to_draw": drawn, "seconds_to_verify": verified})
        each = f"{drawn / n * 1e6:.0f} us to draw, {verified / n * 1e6:.0f} us to verify"
        print(f"{n:,} images: {info.size / n:.0f} bytes, {each}")
    return rows


def opened(folder: Path) -> list[dict[str, Any]]:
    """Seconds and memory that opening takes, by the number of shards of the same rows."""
    rows = []
    for count in OPENED:
        out = folder / f"o{count}.h5"
        started = time.process_time()
        generate_shards("rect-tri", count, out=out, n=16000, n_test=0, size=16, masks=False, workers=1)
        drawn = time.process_time() - started
        done = subprocess.run(
            [sys.executable, "-c", OPENS, str(out), str(folder / "g1000.h5")],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, memory = json.loads(done.stdout)
        found = {"seconds_to_draw": drawn, "seconds_to_open": seconds, "memory": memory}
        rows.append({"shards": count, **found, "bytes": read_info(out).size})
        opening = f"opened in {seconds * 1e3:.0f} ms, {memory / 1e6:.1f} MB"
        print(f"{count:>5} shards: drawn in {drawn:.1f} s, {opening}, {rows[-1]['bytes'] / 1e6:.1f} MB on the disk")
    return rows


def main() -> None:
    """Measures, prints a line each, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "shards.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = streamed(Path(folder), n=arguments.n, size=arguments.size, rounds=arguments.rounds)
        content = {"streamed": rows, "grown": grown(Path(folder)), "opened": opened(Path(folder))}
    write(arguments.out, {"n": arguments.n, "size": arguments.size, **content})


if __name__ == "__main__":
    main()
