"""GradCAM of a batch against pytorch-grad-cam on the same encoder, images and target; and cam, gradcam and attention.

    python -m benchmarks.heatmaps [--n 256] [--batch 32] [--rounds 5] [--device cpu] [--out FILE]

All use the encoder of preset quick with random weights, images of 128 px, and the margin of a random linear
classifier.

- ours: `probekit heatmap`'s path: the batch is encoded without a graph, and only the pooling runs again; upsampled.
- peer: `pytorch_grad_cam.GradCAM` called as its documentation shows it; it scales and upsamples its maps itself.
- peer, frozen: the same with frozen parameters, whose gradients it does not need.
- all: cam, gradcam and attention together, which share one encoding.
- forward: `encoder(images)` alone, the floor.

That the raw maps agree is tested (tests/heatmaps/test_maps.py); the peer rectifies before it upsamples.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import torch_defaults
from probekit.device import choose_device
from probekit.heatmaps.base import Context, Target, encode, make_map
from probekit.heatmaps.score import upsample
from probekit.models.backbones import import_module
from probekit.models.encoder import Encoder, build_encoder

SIZE = 128  # px: the paper's images
QUICK = {"channels": 1, "width": 16, "depth": 4, "pooling": "attention"}  # preset quick


class Scores(nn.Module):
    """What pytorch-grad-cam asks for: images to one score a sample."""

    def __init__(self, encoder: Encoder, direction: Tensor) -> None:
        super().__init__()
        self.encoder, self.direction = encoder, direction

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 1]`."""
        score: Tensor = (self.encoder(x).pooled * self.direction).sum(dim=1, keepdim=True)
        return score


def ours(encoder: Encoder, images: Tensor, direction: Tensor, names: list[str], batch: int) -> NDArray[np.float32]:
    """Maps of the last name at the images' size, `[N, H, W]`."""
    known = [make_map(name, Context()) for name in names]
    maps = []
    for part, towards in zip(torch.split(images, batch), torch.split(direction, batch), strict=True):
        seen = encode(encoder, part, torch.arange(len(part)))
        asked = replace(seen, target=Target(towards, torch.zeros(len(part), device=part.device)))
        maps += [upsample(each(encoder, asked).cpu().numpy(), (SIZE, SIZE)) for each in known][-1:]
    return np.concatenate(maps)


@torch_defaults()
def peer(encoder: Encoder, images: Tensor, direction: Tensor, batch: int) -> NDArray[np.float32]:
    """Scaled maps of pytorch-grad-cam, `[N, H, W]`; channels last as ours."""
    import_module("torchvision")
    from pytorch_grad_cam import GradCAM

    maps = []
    for part, towards in zip(torch.split(images, batch), torch.split(direction, batch), strict=True):
        inputs = (part.float() / 255).contiguous(memory_format=torch.channels_last)
        inputs.requires_grad_(not next(encoder.parameters()).requires_grad)  # a frozen encoder needs it
        with GradCAM(model=Scores(encoder, towards), target_layers=[encoder.backbone.levels[-1]]) as gradcam:
            maps.append(gradcam(input_tensor=inputs, targets=[lambda score: score[0]] * len(part)))
    return np.concatenate(maps)


def peer_frozen(encoder: Encoder, images: Tensor, direction: Tensor, batch: int) -> NDArray[np.float32]:
    """The same when the user freezes the parameters first."""
    encoder.requires_grad_(False)
    try:
        return peer(encoder, images, direction, batch)
    finally:
        encoder.requires_grad_(True)


def forward(encoder: Encoder, images: Tensor, batch: int) -> None:
    """The encoder alone."""
    for part in torch.split(images, batch):
        encode(encoder, part, torch.arange(len(part)))


def main() -> None:
    """Measures in turns and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = choose_device(options.device)
    torch.manual_seed(0)
    encoder = build_encoder(QUICK).eval().to(device)
    images = torch.randint(0, 256, (options.n, 1, SIZE, SIZE), dtype=torch.uint8, device=device)
    direction = torch.randn(options.n, encoder.dim, device=device)
    jobs: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(encoder, images, direction, ["gradcam"], options.batch),
        "peer": lambda: peer(encoder, images, direction, options.batch),
        "peer, frozen": lambda: peer_frozen(encoder, images, direction, options.batch),
        "all": lambda: ours(encoder, images, direction, ["cam", "gradcam", "attention"], options.batch),
        "forward": lambda: forward(encoder, images, options.batch),
    }
    seconds = interleaved(jobs, rounds=options.rounds)
    result: dict[str, Any] = {
        "what": "GradCAM against pytorch-grad-cam",
        "device": str(device),
        "n": options.n,
        "batch": options.batch,
        "images_per_second": {name: spread([options.n / s for s in times]) for name, times in seconds.items()},
        "ratio_to_peer": spread([p / o for p, o in zip(seconds["peer"], seconds["ours"], strict=True)]),
        "ratio_to_frozen_peer": spread([p / o for p, o in zip(seconds["peer, frozen"], seconds["ours"], strict=True)]),
        "ratio_to_forward": spread([o / f for o, f in zip(seconds["ours"], seconds["forward"], strict=True)]),
    }
    for name, speed in result["images_per_second"].items():
        print(f"{name}: {speed['median']:.0f} images/s ({speed['min']:.0f} to {speed['max']:.0f})")
    for name in ("ratio_to_peer", "ratio_to_frozen_peer", "ratio_to_forward"):
        print(f"{name}: {result[name]['median']:.2f} ({result[name]['min']:.2f} to {result[name]['max']:.2f})")
    write(options.out or RESULTS / f"heatmaps-{device.type}.json", result)


if __name__ == "__main__":
    main()
