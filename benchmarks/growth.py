"""How cost grows: views and step with image size and batch, generator and probe with n, the probe with D and K.

    python -m benchmarks.growth [--device cpu] [--threads 1] [--rounds 5] [--only TEXT] [--out FILE]

The slope is that of log(seconds) over log(size), least squares: 1 is proportional, 2 quadratic. Work that is constant
pulls it down at the small end.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.noise import step_on_noise
from benchmarks.probe import features, ours
from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import synchronised
from generators import GENERATORS
from probekit.config import resolve
from probekit.device import choose_device, with_precision
from probekit.registry import METHODS, get
from probekit.views.recipes import VIEWS, make_views

CALL = 1024  # samples in a call of a generator
Job = Callable[[], Any]


def views_job(batch: int, channels: int, size: int, device: torch.device) -> Callable[[], None]:
    """Two views of each image of a batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=generator).to(device)
    draws = torch.Generator(device).manual_seed(0)
    return synchronised(lambda: make_views("simclr", images, draws), device)


def step_job(size: int, batch: int, n: int, device: torch.device) -> Callable[[], None]:
    """SimCLR's step at preset quick, its views as large as the images."""
    options = {"train.batch_size": batch, "views.max_size": size}
    config = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, options=options)
    config = with_precision(config, device)
    return synchronised(step_on_noise(config, channels=1, size=size, n=n, device=device, say=print), device)


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


def curves(device: torch.device) -> Iterator[tuple[str, dict[int, Job], Callable[[int], int]]]:
    """What is measured: a name, a job for each size, and how many items the job of a size does."""
    for channels in (1, 3):
        what = f"views/s of {channels} channels"
        sides = {size: views_job(32, channels, size, device) for size in (32, 64, 128, 256)}
        yield f"{what}, batch 32, against the side in px", sides, lambda size: 32 * VIEWS
        batches = {batch: views_job(batch, channels, 128, device) for batch in (8, 32, 128, 512)}
        yield f"{what}, 128 px, against the batch", batches, lambda batch: batch * VIEWS
    what = "images/s of the step"
    steps = {size: step_job(size, 16, 16, device) for size in (32, 64, 128)}
    yield f"{what}, batch 16, against the side in px", steps, lambda size: 16
    steps = {batch: step_job(64, batch, batch, device) for batch in (4, 16, 64)}
    yield f"{what}, 64 px, against the batch", steps, lambda batch: batch
    steps = {n: step_job(64, 16, n, device) for n in (16, 1600, 160_000)}
    yield f"{what}, batch 16 of 64 px, against the images on the device", steps, lambda n: 16
    for name in GENERATORS:
        yield f"images/s of {name} against n", {n: generator_job(name, n) for n in (256, 1024, 4096, 16384)}, int
    what = "samples/s of the probe"
    yield f"{what}, 256 x 10, against n", {n: probe_job(n, 256, 10, device) for n in (1000, 4000, 16000)}, int
    probes = {dim: probe_job(4000, dim, 10, device) for dim in (64, 256, 1024)}
    yield f"{what}, 4000 x D x 10, against D", probes, lambda dim: 4000
    probes = {k: probe_job(4000, 256, k, device) for k in (5, 20, 80)}
    yield f"{what}, 4000 x 256 x K, against K", probes, lambda k: 4000


def grow(what: str, jobs: dict[int, Job], *, items: Callable[[int], int], rounds: int) -> dict[str, Any]:
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
    parser.add_argument("--only", default="", help="curves whose name holds this text")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        rows = [
            grow(what, jobs, items=items, rounds=arguments.rounds)
            for what, jobs, items in curves(device)
            if arguments.only in what
        ]
    out = arguments.out or RESULTS / f"growth-{device.type}.json"
    write(out, {"device": str(device), "threads": arguments.threads, "rows": rows})


if __name__ == "__main__":
    main()
