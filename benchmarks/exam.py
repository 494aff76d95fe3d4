"""Reading every layer of an encoder for an exam, against a plain PyTorch loop over the same layers.

    python -m benchmarks.exam [--networks lite0,resnet18,unet,unet-paper,vit] [--n 64] [--size 128]
                              [--rounds 5] [--threads 1] [--device cpu] [--out FILE]

Weights are random but those of lite0 (tests/exams/lite0.py). Drawings are noise: what they show changes no speed.

- ours: `probekit.exams.layers.Reader`, all layers by all pools, one pass a batch.
- peer: the encoder as it is, in eval mode without gradients, images in PyTorch's own order (channels first), as many
  at a time; a hook a layer keeps the same pools of the same output, by PyTorch's own functions. One pass a batch, too.
- forward: the network that ours reads, its embedding alone; what ours takes above it is hooks and pools.

Times on a CPU are of the process, so that other processes count little. How far both differ is in the result.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import torch_defaults
from probekit.device import choose_device
from probekit.exams.layers import Reader
from probekit.models.encoder import build_encoder
from probekit.models.extract import BATCH_SIZE, images_at_a_time
from probekit.models.layers.network import run
from probekit.restore.load import load
from probekit.restore.opened import Opened

UNET = {"channels": 1, "depth": 4, "pooling": "attention"}  # conrec's
NETWORKS: dict[str, Callable[[int, str], Opened]] = {
    "lite0": lambda size, device: load("py:tests.exams.lite0:encoder", size=size, device=device),
    "resnet18": lambda size, device: load("timm:resnet18", size=size, device=device),
    "unet": lambda size, device: _unet(16, size, device),
    "unet-paper": lambda size, device: _unet(64, size, device),
    "vit": lambda size, device: load("timm:vit_tiny_patch16_224", size=size, device=device),
}


def _unet(width: int, size: int, device: str) -> Opened:
    encoder = build_encoder({**UNET, "width": width})
    header = {"spec": encoder.spec, "method": "conrec", "image_size": [size, size], "max_size": size}
    return Opened("unet", encoder, header, choose_device(device))


@torch_defaults()
@torch.no_grad()
def peer(reader: Reader, opened: Opened, images: NDArray[np.uint8], batch: int) -> dict[tuple[str, str], Tensor]:
    """The same features as a researcher would write it: hooks on the layers, averages and maxima of what they give."""
    encoder, found = opened.encoder, dict[tuple[str, str], list[Tensor]]()

    def pooled(name: str, module: nn.Module, taken: Any, output: Tensor) -> None:
        form = reader.layers[name].form
        x = output
        if form.kind == "tokens":
            assert form.cells is not None
            x = output[:, form.prefix :].transpose(1, 2).reshape(len(output), form.dim, *form.cells)
        elif form.kind == "NHWC":
            x = output.permute(0, 3, 1, 2)
        known: Mapping[str, Callable[[], Tensor]] = {
            "gap": lambda: x.mean((2, 3)),
            "max": lambda: x.amax((2, 3)),
            "grid4": lambda: F.adaptive_avg_pool2d(x, min(4, x.shape[2])).flatten(1),
            "cls": lambda: output[:, 0],
        }
        for pool in reader.layers[name].pools:
            found.setdefault((name, pool), []).append(known[pool]())

    paths = {name: layer.path.removeprefix("encoder.") for name, layer in reader.layers.items() if layer.path}
    hooks = [encoder.get_submodule(path).register_forward_hook(partial(pooled, name)) for name, path in paths.items()]
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch])[:, None].to(opened.device).float() / 255
        features = encoder(x.repeat(1, reader.channels, 1, 1))
        found.setdefault(("embedding", "own"), []).append(features.pooled)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(values).cpu() for name, values in found.items()}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One network's row."""
    opened = NETWORKS[name](options.size, options.device)
    reader = Reader(opened, size=options.size)
    images = np.random.default_rng(0).integers(0, 256, (options.n, options.size, options.size), dtype=np.uint8)
    batch = images_at_a_time(opened.device, images.shape[1:], BATCH_SIZE)
    ours, theirs = reader.read(images), peer(reader, opened, images, batch)
    assert ours.keys() == theirs.keys()
    differences = [np.abs(ours[key] - theirs[key].numpy()).max() / np.abs(ours[key]).max() for key in ours]
    inputs = torch.rand(batch, reader.channels, options.size, options.size, device=opened.device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    passes = math.ceil(options.n / batch)
    jobs: dict[str, Callable[[], Any]] = {
        "ours": lambda: reader.read(images),
        "peer": lambda: peer(reader, opened, images, batch),
        "forward": lambda: [run(reader.network, inputs)["embedding"].cpu() for _ in range(passes)],
    }
    clock = time.process_time if opened.device.type == "cpu" else time.perf_counter
    seconds = interleaved(jobs, rounds=options.rounds, clock=clock)
    done = {"ours": options.n, "peer": options.n, "forward": passes * batch}
    per_image = {job: [s / done[job] for s in times] for job, times in seconds.items()}
    both = list(zip(per_image["ours"], per_image["peer"], per_image["forward"], strict=True))
    return {
        "batch": batch,
        "layers": len(reader.layers),
        "outputs": len(reader.names),
        "is_fused": reader.is_fused,
        "largest_difference": float(max(differences)),
        "images_per_second": {job: spread([1 / s for s in times]) for job, times in per_image.items()},
        "ratio_to_peer": spread([theirs / ours for ours, theirs, _ in both]),
        "share_above_forward": spread([1 - forward / ours for ours, _, forward in both]),
    }


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def main() -> None:
    """Measures in turns and writes the result."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = {}
    for name in options.networks.split(","):
        rows[name] = row = measure(name, options)
        speeds = {job: f"{found['median']:.1f}" for job, found in row["images_per_second"].items()}
        ratio, above = row["ratio_to_peer"], row["share_above_forward"]
        print(f"{name}, {row['outputs']} outputs of {row['layers']} layers, images/s: {speeds}")
        print(f"  ratio to peer {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})", end="; ")
        print(f"above the forward pass {above['median']:.0%}; largest difference {row['largest_difference']:.1e}")
    asked = {key: getattr(options, key) for key in ("n", "size", "threads", "device")}
    result = {"what": "every layer read, against plain hooks", **asked, "rows": rows}
    write(options.out or RESULTS / f"exam-{options.device}.json", result)


if __name__ == "__main__":
    main()
