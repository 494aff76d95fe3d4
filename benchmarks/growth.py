"""How cost grows: views with image size and batch, the generator with n, the probe with samples, features and classes.

    python -m benchmarks.growth [--device cpu] [--threads 1] [--rounds 5] [--out FILE]

The slope is that of log(seconds) over log(size), least squares: 1 is proportional, 2 quadratic. Work that is constant
pulls it down at the small end.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.probe import features, ours
from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import synchronised
from generators import GENERATORS
from probekit.views import VIEWS, make_views

CALL = 1024  # samples in a call of a generator


def views_job(batch: int, channels: int, size: int, device: torch.device) -> Callable[[], None]:
    """Two views of each image of a batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=generator).to(device)
    draws = torch.Generator(device).manual_seed(0)
    return synchronised(lambda: make_views("simclr", images, draws), device)


def generator_job(name: str, n: int) -> Callable[[], None]:
    """Factors, images, masks and labels of n samples, in calls of `CALL`."""
    generator = GENERATORS[name]()

    def run() -> None:
        for start in range(0, n, CALL):
            factors = generator.sample(0, "train", np.arange(start, min(start + CALL, n)))
            generator.render(factors)
            generator.labels(factors)

    return run


def probe_job(n: int, dim: int, classes: int, device: torch.device) -> Callable[[], Any]:
    """One probe at C = 1, features as they are."""
    return ours(*features(n, dim, classes), device=str(device))


def grow(what: str, jobs: dict[int, Callable[[], Any]], *, items: Callable[[int], int], rounds: int) -> dict[str, Any]:
    """Times each size; `items` is what is counted in each call."""
    times = interleaved({str(size): job for size, job in jobs.items()}, rounds=rounds)
    seconds = {int(size): spread(found) for size, found in times.items()}
    sizes, medians = list(seconds), [found["median"] for found in seconds.values()]
    slope = float(np.polyfit(np.log(sizes), np.log(medians), 1)[0])
    speeds = ", ".join(f"{size}: {items(size) / seconds[size]['median']:.0f}/s" for size in sizes)
    print(f"{what}: slope {slope:.2f} ({speeds})", flush=True)
    return {"what": what, "slope": slope, "seconds": seconds}


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    device, rounds = torch.device(arguments.device), arguments.rounds
    torch.set_num_threads(arguments.threads)
    rows = []
    with threadpool_limits(arguments.threads):
        for channels in (1, 3):
            jobs = {size: views_job(32, channels, size, device) for size in (32, 64, 128, 256)}
            what = f"views/s of {channels} channels, batch 32, against the side in px"
            rows.append(grow(what, jobs, items=lambda size: 32 * VIEWS, rounds=rounds))
            jobs = {batch: views_job(batch, channels, 128, device) for batch in (8, 32, 128, 512)}
            what = f"views/s of {channels} channels, 128 px, against the batch"
            rows.append(grow(what, jobs, items=lambda batch: batch * VIEWS, rounds=rounds))
        for name in GENERATORS:
            jobs = {n: generator_job(name, n) for n in (256, 1024, 4096, 16384)}
            rows.append(grow(f"images/s of {name} against n", jobs, items=lambda n: n, rounds=rounds))
        probes = {n: probe_job(n, 256, 10, device) for n in (1000, 4000, 16000)}
        rows.append(grow("samples/s of the probe, 256 x 10, against n", probes, items=lambda n: n, rounds=rounds))
        probes = {dim: probe_job(4000, dim, 10, device) for dim in (64, 256, 1024)}
        rows.append(
            grow("samples/s of the probe, 4000 x D x 10, against D", probes, items=lambda d: 4000, rounds=rounds)
        )
        probes = {k: probe_job(4000, 256, k, device) for k in (5, 20, 80)}
        rows.append(
            grow("samples/s of the probe, 4000 x 256 x K, against K", probes, items=lambda k: 4000, rounds=rounds)
        )
    out = arguments.out or RESULTS / f"growth-{device.type}.json"
    write(out, {"device": str(device), "threads": arguments.threads, "rows": rows})


if __name__ == "__main__":
    main()
