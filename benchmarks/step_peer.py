"""SimCLR's whole training step, ours against what a user would write with PyTorch, and lightly or torchvision.

    python -m benchmarks.step_peer [--preset quick] [--size 128] [--batches 16] [--workers 2]

Peers have the same encoder and projection head, and a DataLoader with workers on Pillow images. Lightly: its NT-Xent,
LARS and SimCLRTransform; float32 as torch comes (on a GPU with TF32 in convolutions) and its default layout, as its
examples have it. The same as a user would speed it up: autocast to bfloat16 and channels last. And plain PyTorch, sped
up alike: torchvision's transforms, NT-Xent in three lines, torch's SGD. Ours: the trainer's step at the preset, its
optimizer included. A round is a pass over `STEPS` batches of the same images; rounds take turns.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import synchronised, torch_defaults
from benchmarks.views import PerImage, lightly_views, numbers, peer_versions, torchvision_view
from probekit.config import Config, resolve
from probekit.data.split import shrunk
from probekit.device import choose_device, has_bf16, with_precision
from probekit.methods.conrec import ConRec
from probekit.models.backbones import import_module
from probekit.registry import METHODS, get
from probekit.restore.build import build_method, on_device
from probekit.train.step import build_step, fastest_step

METHOD = "simclr"
Loss = Callable[[Tensor, Tensor], Tensor]
STEPS = 10  # a round
PLAIN, TUNED, TORCH = "lightly", "lightly, bf16 and channels last", "torchvision, bf16 and channels last"
PEERS = (PLAIN, TUNED, TORCH)


def our_pass(config: Config, images: Tensor, device: torch.device) -> Callable[[], None]:
    """`STEPS` steps of the trainer on images uint8 [N, C, H, W]."""
    method = on_device(build_method(config, channels=images.shape[1]), device)
    placed = images.to(device)
    step = fastest_step(build_step(config, method.train(), placed, None), print)
    batches = torch.arange(len(images), device=device).view(-1, config.train.batch_size)

    def run() -> None:
        for index in itertools.islice(itertools.cycle(batches), STEPS):
            step(index, placed[index])

    return run


def lightly_parts(config: Config, method: ConRec) -> tuple[Loss, Optimizer]:
    """Its loss and optimizer, with the paper's settings."""
    import_module("torchvision")
    from lightly.loss import NTXentLoss  # isort: skip
    from lightly.utils.lars import LARS  # isort: skip

    optimizer = LARS(method.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)
    return NTXentLoss(temperature=config.method_options["temperature"]), optimizer


def torch_parts(config: Config, method: ConRec) -> tuple[Loss, Optimizer]:
    """NT-Xent as tutorials write it, and torch's SGD."""

    def nt_xent(first: Tensor, second: Tensor) -> Tensor:
        z = F.normalize(torch.cat([first, second]), dim=1)
        similarity = (z @ z.T / config.method_options["temperature"]).fill_diagonal_(-torch.inf)
        return F.cross_entropy(similarity, torch.arange(len(z), device=z.device).roll(len(first)))

    return nt_xent, torch.optim.SGD(method.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)


def peer_pass(config: Config, images: Tensor, device: torch.device, workers: int, *, peer: str) -> Callable[[], None]:
    """`STEPS` steps of a plain loop, as one of `PEERS` has it."""
    from PIL import Image

    tuned = peer != PLAIN
    layout = torch.channels_last if tuned else torch.contiguous_format
    method = build_method(config, channels=images.shape[1]).to(device).train()
    method = method.to(memory_format=layout)  # type: ignore[call-overload]
    assert isinstance(method, ConRec)
    assert isinstance(method.head, nn.Module)
    head = method.head
    criterion, optimizer = (torch_parts if peer == TORCH else lightly_parts)(config, method)
    channels, side = images.shape[1], shrunk(images, config.views.max_size)[0]
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    sources = [Image.fromarray(np.squeeze(a)) for a in arrays]
    if peer == TORCH:
        view = torchvision_view(channels, side)
        data = PerImage(sources, lambda source: [view(source), view(source)])
    else:
        data = PerImage(sources, lightly_views(channels, side))
    batches = endless(data, config.train.batch_size, workers)

    @torch_defaults()
    def run() -> None:
        for views in itertools.islice(batches, STEPS):
            both = (x.contiguous(memory_format=layout) for x in views.to(device, non_blocking=True).unbind(1))
            with torch.autocast(device.type, torch.bfloat16, enabled=tuned):
                loss = criterion(*(head(method.encoder(x).pooled) for x in both))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return run


def endless(data: PerImage, batch: int, workers: int) -> Iterator[Tensor]:
    """Batches [B, 2, C, H, W], pass after pass, by workers that stay."""
    pinned = torch.cuda.is_available()
    loader = DataLoader(
        data,
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=pinned,
    )
    while True:
        yield from loader


def measure(
    preset: str, precision: str | None, size: int, batch: int, *, device: torch.device, workers: int, rounds: int
) -> dict[str, Any]:
    """Milliseconds a step of ours and of each peer, and the ratios; tuned peers only where there is bfloat16."""
    options = {"train.batch_size": batch} | ({} if precision is None else {"train.precision": precision})
    config = resolve(METHOD, get(METHODS, "method", METHOD), preset=preset, seed=0, options=options)
    config = with_precision(config, device)
    shape = (batch * STEPS, 1, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    jobs = {"ours": our_pass(config, images, device)}
    for peer in PEERS:
        if peer != PLAIN and not has_bf16(device):
            print(f"left out: {peer}, which this device would emulate")
        elif peer != TORCH and not find_spec("lightly"):
            print(f"left out: {peer}, which is not installed")
        else:
            jobs[peer] = peer_pass(config, images, device, workers, peer=peer)
    times = interleaved({name: synchronised(job, device) for name, job in jobs.items()}, rounds=rounds)
    took = {name: spread([1e3 * t / STEPS for t in ts]) for name, ts in times.items()}
    ours = times.pop("ours")
    ratios = {name: spread([p / o for p, o in zip(ts, ours, strict=True)]) for name, ts in times.items()}
    row = {
        "preset": preset,
        "precision": config.train.precision,
        "size": size,
        "batch": batch,
        "workers": workers,
        "ms_per_step": took,
        "ratio": ratios,
    }
    what = f"{METHOD} preset {preset} {config.train.precision}, {size} px, batch {batch}"
    print(f"{what}: ours {took['ours']['median']:.1f} ms")
    for name, ratio in ratios.items():
        span = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) times as long"
        print(f"  {name}: {took[name]['median']:.1f} ms, {span}")
    return row


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=None)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batches", type=numbers, default=[16])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    rows = [
        measure(
            arguments.preset,
            arguments.precision,
            arguments.size,
            batch,
            device=device,
            workers=arguments.workers,
            rounds=arguments.rounds,
        )
        for batch in arguments.batches
    ]
    out = arguments.out or RESULTS / f"step-peer-{arguments.preset}-{device.type}.json"
    write(out, {"device": str(device), "peers": peer_versions(), "rows": rows})


if __name__ == "__main__":
    main()
