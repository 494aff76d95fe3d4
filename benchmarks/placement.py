"""What it costs to leave images off the device: the same steps from the device, from the host's memory, from the file.

    python -m benchmarks.placement [--method simclr] [--preset quick] [--size 224] [--batch-size 64] [--device cpu]
    python -m benchmarks.placement --photographs                    # two random crops of each photograph, no step

Colour images of the size, kept as JPEG; every placement runs the same steps in turns. "waited" is the share of the time
that the steps waited for images: near 0, decoding keeps up; the rest of a ratio below 1 is cores that both want.

`--photographs` compares the crops of moco-v2 with those of a plain PyTorch DataLoader: the same JPEG files in a
folder, opened by Pillow, two of torchvision's RandomResizedCrop each, as many workers as there are threads here, kept
from epoch to epoch. Both end with batches of bytes in the process that trains.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.report import RESULTS, interleaved, spread, write
from probekit.config import resolve
from probekit.data.split import CPU, Photographs, StreamedImages, feed, open_split
from probekit.device import choose_device, with_precision
from probekit.h5 import CentreCrop, DatasetWriter, EncodedBlock, Header, encode
from probekit.registry import METHODS, get
from probekit.restore.build import build_method, on_device
from probekit.train.step import build_step, fastest_step
from probekit.views.cut import Cutter
from probekit.views.recipes import RECIPES, ViewMaker

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


def photograph_files(folder: Path, *, n: int) -> Path:
    """A dataset file of n photographs of usual sizes, and the same JPEG files beside it."""
    rng, sizes = np.random.default_rng(0), [(375, 500), (512, 683), (500, 333), (640, 480)]
    header = Header(generator="", parameters={}, seed=0, classes=(), factors=(), mask_names=())
    path, crop = folder / "photographs.h5", CentreCrop(256, 224)
    with DatasetWriter(path, header=header, compression="none", overwrite=True) as writer:
        writer.begin("train", n)
        for number in range(n):
            height, width = sizes[number % len(sizes)]
            coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            smooth = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
            noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
            data = encode(noisy)
            (folder / f"{number:05}.jpg").write_bytes(data)
            size = np.array([[height, width]], np.int32)
            writer.append(EncodedBlock((crop.side, crop.side, 3), [data], {}, None, size, crop))
    return path


def torchvision_transforms() -> Any:
    """Its transforms; where its compiled operators are of another torch, they are declared, and never called."""
    try:
        from torchvision import transforms
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import transforms

        transforms.library = library
    return transforms


class Folder(torch.utils.data.Dataset[Tensor]):
    """What the papers' code reads: each item two crops `[2, 3, 224, 224]`, in bytes."""

    def __init__(self, folder: Path) -> None:
        transforms = torchvision_transforms()
        self.files = sorted(folder.glob("*.jpg"))
        self.crop = transforms.Compose([transforms.RandomResizedCrop(224, (0.2, 1.0)), transforms.PILToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as opened:
            image = opened.convert("RGB")
        return torch.stack([self.crop(image), self.crop(image)])


def loaders(folder: Path, *, n: int, batch_size: int) -> dict[str, Callable[[], None]]:
    """An epoch of crops, ours and PyTorch's."""
    images = open_split(photograph_files(folder, n=n), "train", CPU, max_size=224, cut=True).images
    assert isinstance(images, Photographs)
    cutter = Cutter(images, ViewMaker(RECIPES["moco-v2"], images.shape[1:], cut=True))
    batches = torch.split(torch.randperm(n, generator=torch.Generator().manual_seed(0)), batch_size)
    workers = os.cpu_count() or 1
    loader = torch.utils.data.DataLoader(
        Folder(folder), batch_size, shuffle=True, num_workers=workers, persistent_workers=True
    )

    def ours() -> None:
        for _, crops in cutter.feed([(index, seed) for seed, index in enumerate(batches)]):
            assert crops.shape[1] == 2 * 3 * 224 * 224

    def theirs() -> None:
        for crops in loader:
            assert crops.shape[1:] == (2, 3, 224, 224)

    return {"ours": ours, "DataLoader": theirs}


def compare_loaders(arguments: argparse.Namespace) -> None:
    """Measures, prints a line, writes the JSON."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = loaders(Path(folder), n=arguments.n, batch_size=arguments.batch_size)
        jobs["ours"]()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(3):
            jobs["ours"]()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
        times = interleaved(jobs, rounds=arguments.rounds)
    ratio = spread([b / a for a, b in zip(times["ours"], times["DataLoader"], strict=True)])
    rates = {name: arguments.n / spread(seconds)["median"] for name, seconds in times.items()}
    print(", ".join(f"{name} {rate:,.0f} images/s" for name, rate in rates.items()))
    print(f"ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}); {grown:.0f} MB more after 3 epochs")
    settings = {k: getattr(arguments, k) for k in ("n", "batch_size", "rounds")}
    out = arguments.out or RESULTS / "photographs-cpu.json"
    versions = {"torchvision": metadata.version("torchvision"), "torch": torch.__version__}
    write(out, {**settings, **versions, "images_per_second": rates, "ratio": ratio, "grown_mb": grown})


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
    parser.add_argument("--photographs", action="store_true")
    arguments = parser.parse_args()
    if arguments.photographs:
        compare_loaders(arguments)
        return
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
