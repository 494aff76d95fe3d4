"""What it costs to leave images off the device: the same steps from the device, from the host's memory, from the file.

    python -m benchmarks.placement [--method simclr] [--preset quick] [--size 224] [--batch-size 64] [--device cpu]

Colour images of the size, kept as JPEG; every placement runs the same steps in turns. "waited" is the share of the time
that the steps waited for images: near 0, decoding keeps up; the rest of a ratio below 1 is cores that both want.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.report import RESULTS, interleaved, spread, write
from probekit.config import resolve
from probekit.data.split import StreamedImages, feed, open_split
from probekit.device import choose_device, with_precision
from probekit.h5 import DatasetWriter, EncodedBlock, Header, encode
from probekit.registry import METHODS, get
from probekit.restore.build import build_method, on_device
from probekit.train.step import build_step, fastest_step

PLACEMENTS = ("device", "host", "file")


def encoded_file(path: Path, *, n: int, size: int) -> Path:
    """A dataset file of n smooth colour images, about as large in JPEG as photographs."""
    rng = np.random.default_rng(0)
    header = Header(generator="", parameters={}, seed=0, classes=(), factors=(), mask_names=())
    with DatasetWriter(path, header=header, compression="none", overwrite=True) as writer:
        writer.begin("train", n)
        for _ in range(n):
            coarse = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
            image = np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
            writer.append(EncodedBlock(image.shape, [encode(image)], {}))
    return path


def job_for(
    placement: str, path: Path, arguments: argparse.Namespace, device: torch.device, waits: list[float]
) -> Callable[[], None]:
    """One pass over the images from a placement; appends the share of its time that it waited."""
    options: dict[str, Any] = {"train.batch_size": arguments.batch_size, "data.placement": placement}
    method = arguments.method
    config = resolve(method, get(METHODS, "method", method), preset=arguments.preset, seed=0, options=options)
    config = with_precision(config, device)
    images = open_split(path, "train", device, max_size=config.data.max_size, placement=placement).images
    model = on_device(build_method(config, channels=3), device).train()
    step = fastest_step(build_step(config, model, images), print)
    batches = torch.split(torch.randperm(len(images), generator=torch.Generator().manual_seed(0)), arguments.batch_size)

    def run() -> None:
        started = time.perf_counter()
        before = images.waited if isinstance(images, StreamedImages) else 0.0
        for index, batch in feed(images, batches):
            step(index, batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        waited = images.waited - before if isinstance(images, StreamedImages) else 0.0
        waits.append(waited / (time.perf_counter() - started))

    return run


def main() -> None:
    """Measures, prints a line a placement, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        path = encoded_file(Path(folder) / "images.h5", n=arguments.n, size=arguments.size)
        kilobytes = path.stat().st_size / arguments.n / 1e3
        waits: dict[str, list[float]] = {placement: [] for placement in PLACEMENTS}
        jobs = {p: job_for(p, path, arguments, device, waits[p]) for p in PLACEMENTS}
        times = interleaved(jobs, rounds=arguments.rounds)
    rows = []
    for placement, seconds in times.items():
        ratio = spread([b / a for a, b in zip(seconds, times["device"], strict=True)])
        rate, waited = arguments.n / spread(seconds)["median"], spread(waits[placement][1:])
        rows.append({"placement": placement, "images_per_second": rate, "ratio": ratio, "waited": waited})
        spans = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) of the device's"
        print(f"{placement}: {rate:,.0f} images/s, {spans}, {waited['median']:.1%} of the time waiting for images")
    settings = {k: getattr(arguments, k) for k in ("method", "preset", "size", "n", "batch_size")}
    out = arguments.out or RESULTS / f"placement-{device.type}.json"
    write(out, {**settings, "kilobytes_per_image": kilobytes, "device": str(device), "rows": rows})


if __name__ == "__main__":
    main()
