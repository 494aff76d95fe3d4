"""A SimCLR step of a backbone of timm on photographs, ours against plain PyTorch: images a second.

    python -m benchmarks.step_timm [--backbone resnet50] [--size 224] [--batch 64] [--precision bf16] [--workers 8]

The peer: the same model, head, loss and optimizer in a plain loop, autocast to the same precision, TF32 where torch
allows it by default, channels last; a DataLoader whose workers make lightly's SimCLR views of decoded images
(torchvision on Pillow). Its model is timm's as it comes, with a mean over the map. Ours: the trainer's step on the same
images, on the device as uint8. Both see the images decoded: reading files is another question
(benchmarks/placement.py). A round is `--steps` steps; rounds take turns.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import synchronised, torch_defaults
from benchmarks.step_peer import endless
from benchmarks.views import PerImage, lightly_views, peer_versions
from probekit.config import Config, resolve
from probekit.device import choose_device, with_precision
from probekit.methods.conrec import ConRec
from probekit.methods.losses import nt_xent
from probekit.models.backbones import import_timm
from probekit.registry import METHODS, get
from probekit.restore.build import build_method, on_device
from probekit.train.optim import build_optimizer
from probekit.train.step import build_step, fastest_step

METHOD = "simclr"
CHANNELS = 3


def our_pass(config: Config, images: Tensor, device: torch.device, steps: int) -> Callable[[], None]:
    """`steps` steps of the trainer on images uint8 [N, 3, H, W]."""
    method = on_device(build_method(config, channels=CHANNELS), device).train()
    placed = images.to(device)
    step = fastest_step(build_step(config, method, placed), print)
    batches = torch.arange(len(images), device=device).view(-1, config.train.batch_size)

    def run() -> None:
        for index in itertools.islice(itertools.cycle(batches), steps):
            step(index, placed[index])

    return run


class Plain(nn.Module):
    """A model of timm, the mean over its map, and the projection head of SimCLR."""

    def __init__(self, name: str, head: nn.Module) -> None:
        super().__init__()
        self.model = import_timm().create_model(name, num_classes=0, global_pool="avg")
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Projections."""
        projected: Tensor = self.head(self.model(x))
        return projected


def peer_pass(config: Config, images: Tensor, device: torch.device, steps: int, workers: int) -> Callable[[], None]:
    """`steps` steps of a plain loop."""
    from PIL import Image

    ours = build_method(config, channels=CHANNELS)
    assert isinstance(ours, ConRec)
    assert ours.head is not None
    model = Plain(config.model.backbone.removeprefix("timm:"), ours.head).to(device).train()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = config.optimizer
    optimizer = build_optimizer(
        model, name=settings.name, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    sources = [Image.fromarray(a) for a in np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())]
    batches = endless(PerImage(sources, lightly_views(CHANNELS, images.shape[2])), config.train.batch_size, workers)
    reduced = config.train.precision == "bf16"

    @torch_defaults()
    def run() -> None:
        for views in itertools.islice(batches, steps):
            x = views.to(device, non_blocking=True).transpose(0, 1).flatten(0, 1)
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                loss = nt_xent(model(x.contiguous(memory_format=torch.channels_last)), temperature=0.5)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return run


def measure(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Images a second of both, and the ratio."""
    batch, size, steps = arguments.batch, arguments.size, arguments.steps
    options = {
        "model.backbone": f"timm:{arguments.backbone}",
        "train.batch_size": batch,
        "train.precision": arguments.precision,
    }
    config = resolve(METHOD, get(METHODS, "method", METHOD), preset="paper", seed=0, options=options)
    config = with_precision(config, device)
    shape = (batch * steps, CHANNELS, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    jobs = {
        "ours": our_pass(config, images, device, steps),
        "peer": peer_pass(config, images, device, steps, arguments.workers),
    }
    times = interleaved({name: synchronised(job, device) for name, job in jobs.items()}, rounds=arguments.rounds)
    rates = {name: spread([batch * steps / t for t in ts]) for name, ts in times.items()}
    ratio = spread([p / o for p, o in zip(times["peer"], times["ours"], strict=True)])
    print(
        f"{METHOD}, {arguments.backbone}, {config.train.precision}, {size} px, batch {batch}: ours "
        f"{rates['ours']['median']:,.0f} images/s, peer {rates['peer']['median']:,.0f}; "
        f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) times as fast"
    )
    settings = {**vars(arguments), "out": None, "precision": config.train.precision, "device": str(device)}
    return {"settings": settings, "images_per_second": rates, "ratio": ratio}


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args(given)


def main() -> None:
    """Measures, prints, writes the JSON."""
    arguments = parse()
    device = choose_device(arguments.device)
    found = measure(arguments, device)
    out = arguments.out or RESULTS / f"step-timm-{arguments.backbone}-{device.type}.json"
    write(out, {"device": str(device), "peers": peer_versions(), **found})


if __name__ == "__main__":
    main()
