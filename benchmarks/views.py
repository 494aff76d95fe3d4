"""Two augmented views of each image: ours against what a user would pick instead, with the same policy.

    python -m benchmarks.views [--device cpu] [--cores 1] [--channels 1,3] [--batches 32,256] [--rounds 7] [--out FILE]

Policy: that of recipe "simclr" (`probekit.views.recipes`), read from its constants. Each path turns a batch of images
in memory, uint8 tensors or Pillow images, into float32 views [2 B, C, H, W] in [0, 1] on the device.

One core: every path in this process with one thread. More: batched paths with as many threads, per-image ones by a
DataLoader with as many workers of one thread each. Paths take turns; the ratio is theirs over ours in the same round.

What cannot be matched: our boxes follow TensorFlow's law (uniform in the height, not in the area) with the same bounds;
our grid is bicubic with a = -0.5, lightly's is bilinear, kornia's a = -0.75; contrast pulls to the mean of each channel
here and to that of the luma there; saturation acts in HSV here and pulls to the luma there; kornia draws one order of
the colour operations for the whole batch; lightly blurs with Pillow's box approximation; paths on uint8 round after
each step.
"""

import argparse
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import synchronised, torch_defaults
from probekit.device import choose_device
from probekit.models.backbones import import_module
from probekit.views import crops, jitter
from probekit.views.jitter import PAPER
from probekit.views.recipes import P_FLIP, VIEWS, make_views

SIZE = 128
FACTOR, HUE = (max(1 - PAPER.brightness, 0.0), 1 + PAPER.brightness), (-PAPER.hue, PAPER.hue)
STRENGTH = FACTOR[1] - 1  # of brightness, contrast and saturation
SCALE = (crops.COVERED, crops.AREA[1])
Job = Callable[[], Tensor]
PEERS = ("torchvision", "kornia", "lightly", "pillow")


def kernel_size() -> int:
    """Taps of our blur."""
    return 2 * (SIZE // 10 // 2) + 1


def torchvision_view(channels: int, size: int = SIZE) -> Callable[[Any], Tensor]:
    """One view of `size` pixels by torchvision's second API, of a uint8 tensor or a Pillow image."""
    import_module("torchvision")
    from torchvision.transforms import v2  # isort: skip

    colour: list[Any]
    if channels == 1:
        colour = [v2.ColorJitter(contrast=STRENGTH), v2.ColorJitter(brightness=STRENGTH)]
    else:
        jitters = v2.ColorJitter(STRENGTH, STRENGTH, STRENGTH, HUE[1])
        colour = [
            v2.RandomApply([jitters], PAPER.p_jitter),
            v2.RandomGrayscale(PAPER.p_gray),
            v2.RandomApply([v2.GaussianBlur(kernel_size(), jitter.SIGMA)], PAPER.p_blur),
        ]
    crop = v2.RandomResizedCrop(size, SCALE, crops.ASPECT, interpolation=v2.InterpolationMode.BICUBIC)
    steps = [crop, v2.RandomHorizontalFlip(P_FLIP), *colour, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    view: Callable[[Any], Tensor] = v2.Compose(steps)
    return view


def lightly_views(channels: int, size: int = SIZE) -> Callable[[Any], list[Tensor]]:
    """SimCLRTransform of lightly: two views of `size` pixels of a Pillow image."""
    import_module("torchvision")
    from lightly.transforms.simclr_transform import SimCLRTransform  # isort: skip

    colour = channels == 3
    transform: Any = SimCLRTransform(
        input_size=size,
        cj_prob=PAPER.p_jitter if colour else 1.0,
        cj_bright=STRENGTH,
        cj_contrast=STRENGTH,
        cj_sat=STRENGTH if colour else 0.0,
        cj_hue=HUE[1] if colour else 0.0,
        min_scale=SCALE[0],
        random_gray_scale=PAPER.p_gray if colour else 0.0,
        gaussian_blur=PAPER.p_blur if colour else 0.0,
        sigmas=jitter.SIGMA,
        hf_prob=P_FLIP,
        normalize=None,
    )
    views: Callable[[Any], list[Tensor]] = transform
    return views


def kornia_views(channels: int) -> Callable[[Tensor], Tensor]:
    """Batched views by kornia: float [N, C, H, W] -> [N, C, H, W]."""
    import kornia.augmentation as K

    colour: list[Any]
    if channels == 1:
        colour = [
            K.ColorJitter(contrast=FACTOR, order=(1,)),
            K.ColorJitter(brightness=FACTOR, order=(0,)),
        ]
    else:
        kernel = (kernel_size(),) * 2
        colour = [
            K.ColorJitter(FACTOR, FACTOR, FACTOR, HUE, p=PAPER.p_jitter),
            K.RandomGrayscale(p=PAPER.p_gray),
            K.RandomGaussianBlur(kernel, jitter.SIGMA, border_type="constant", p=PAPER.p_blur),
        ]
    crop = K.RandomResizedCrop((SIZE, SIZE), SCALE, crops.ASPECT, resample="bicubic", cropping_mode="resample")
    views: Callable[[Tensor], Tensor] = torch.nn.Sequential(crop, K.RandomHorizontalFlip(p=P_FLIP), *colour)
    return views


class PerImage(Dataset[Tensor]):
    """Two views [2, C, H, W] of each source, one source at a time."""

    def __init__(self, sources: Sequence[Any], two_views: Callable[[Any], Sequence[Tensor]]) -> None:
        self.sources = sources
        self.two_views = two_views

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Tensor:
        return torch.stack(tuple(self.two_views(self.sources[index])))


def per_image_paths(images: Tensor) -> dict[str, PerImage]:
    """Name -> the images as that path's data set."""
    from PIL import Image

    channels = images.shape[1]
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    pillow = [Image.fromarray(np.squeeze(a)) for a in arrays]
    view, lightly = torchvision_view(channels), lightly_views(channels)

    def twice(source: Any) -> list[Tensor]:
        return [view(source) for _ in range(VIEWS)]

    return {
        "torchvision v2, tensors": PerImage(list(images), twice),
        "torchvision v2, Pillow": PerImage(pillow, twice),
        "lightly, Pillow": PerImage(pillow, lightly),
    }


def in_process(data: PerImage, device: torch.device) -> Job:
    """A batch, image by image."""
    return lambda: torch.stack([data[i] for i in range(len(data))], dim=1).flatten(0, 1).to(device)


def by_workers(data: PerImage, batch: int, workers: int, device: torch.device) -> Job:
    """Several batches through a DataLoader whose workers are kept from round to round."""
    loader = DataLoader(data, batch_size=batch, num_workers=workers, persistent_workers=True)

    def run() -> Tensor:
        last = torch.empty(0)
        for views in loader:
            last = views.to(device)
        return last.transpose(0, 1).flatten(0, 1)

    return run


def measure(channels: int, batch: int, *, device: torch.device, cores: int, rounds: int) -> dict[str, Any]:
    """Views per second of each path, and its time over ours."""
    torch.set_num_threads(cores)
    generator = torch.Generator().manual_seed(0)
    shape = (batch, channels, SIZE, SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    on_device = images.to(device)
    draws = torch.Generator(device).manual_seed(0)
    batched: dict[str, Job] = {"ours": lambda: make_views("simclr", on_device, draws).inputs.flatten(0, 1)}
    try:
        kornia = kornia_views(channels).to(device)  # type: ignore[attr-defined]
        batched["kornia"] = torch_defaults()(lambda: kornia((on_device.float() / 255).repeat(VIEWS, 1, 1, 1)))
    except ImportError as error:
        print(f"left out: {error}")
    batches = 2 * cores if cores > 1 else 1  # enough for workers to be kept busy
    jobs = {name: repeated(job, batches) for name, job in batched.items()}
    try:
        for name, data in per_image_paths(images.repeat(batches, 1, 1, 1)).items():
            jobs[name] = in_process(data, device) if cores == 1 else by_workers(data, batch, cores, device)
    except ImportError as error:
        print(f"left out: {error}")
    moments = {name: check(job(), batch, channels) for name, job in jobs.items()}
    times = interleaved({name: synchronised(job, device) for name, job in jobs.items()}, rounds=rounds)
    views = VIEWS * batch * batches
    ours = times["ours"]
    ratios = {n: spread([p / o for p, o in zip(t, ours, strict=True)]) for n, t in times.items() if t is not ours}
    best = min(ratios, key=lambda name: ratios[name]["median"])
    row = {
        "channels": channels,
        "batch": batch,
        "cores": cores,
        "views_per_second": {name: spread([views / t for t in ts]) for name, ts in times.items()},
        "ratio": ratios,
        "best_peer": best,
        "mean_and_sd_of_views": moments,
    }
    speeds = ", ".join(f"{name} {s['median']:.0f}" for name, s in row["views_per_second"].items())  # type: ignore[attr-defined]
    low, high = ratios[best]["min"], ratios[best]["max"]
    print(f"{channels} ch, batch {batch}, {cores} cores: {speeds} views/s")
    print(f"  best peer {best}: takes {ratios[best]['median']:.2f} ({low:.2f} to {high:.2f}) times as long as ours")
    return row


def repeated(job: Job, times: int) -> Job:
    """The job several times over, one result at a time."""

    def run() -> Tensor:
        for _ in range(times - 1):
            job()
        return job()

    return run


def check(views: Tensor, batch: int, channels: int) -> tuple[float, float]:
    """Mean and standard deviation of a batch of views; shape and range are what every path must give."""
    assert views.shape == (VIEWS * batch, channels, SIZE, SIZE)
    assert views.dtype == torch.float32
    return views.mean().item(), views.std().item()


def peer_versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {name: found[name] for name in PEERS if name in found}


def numbers(text: str) -> list[int]:
    """`1,3` -> [1, 3]."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", type=numbers, default=[1])
    parser.add_argument("--channels", type=numbers, default=[1, 3])
    parser.add_argument("--batches", type=numbers, default=[32, 256])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    rows = [
        measure(channels, batch, device=device, cores=cores, rounds=arguments.rounds)
        for cores in arguments.cores
        for channels in arguments.channels
        for batch in arguments.batches
    ]
    out = arguments.out or RESULTS / f"views-{device.type}-{arguments.cores[-1]}.json"
    write(out, {"device": str(device), "size": SIZE, "peers": peer_versions(), "rows": rows})


if __name__ == "__main__":
    main()
