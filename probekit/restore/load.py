"""`probekit.load`: an encoder for who works in Python, a run's or one from elsewhere."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probekit.device import choose_device
from probekit.models.encoder import Encoder
from probekit.models.normalise import normalisation
from probekit.models.outside import draw_anew
from probekit.models.untrained import make_plain
from probekit.restore.opened import Opened, open_encoder
from probekit.restore.outside import MAX_SIZE, Outside, around, make_encoder
from probekit.run import open_run
from probekit.weights import Weights


class OpenedModule(Opened):
    """An encoder around a module of the user's own, of which random weights are a copy whose layers are drawn anew."""

    def _untrained(self, seed: int) -> Encoder:
        module = deepcopy(self.encoder.backbone.module).cpu()  # where every random network is drawn
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            draw_anew(module)
        make_plain(module)
        return Encoder(**self.header["spec"], module=module)


def load(
    source: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    checkpoint: str = "last",
    pool: str | None = None,
    normalise: str = "auto",
    allow_missing: bool = False,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    device: str = "auto",
    runs: str | Path = "runs",
) -> Opened:
    """Opens an encoder.

    Args:
        source: A run by name or path; "timm:NAME", "py:MODULE:FUNCTION", "unet"; or a module (copied) that gives a map
            `[B, D, h, w]`, an embedding `[B, D]` or `probekit.models.Features` of images `[B, C, H, W]` in [0, 1].
        weights: A checkpoint of any project, for "timm:" and "unet"; None is random weights.
        checkpoint: Which of a run's: "last", "best_val", "best_test" or "epoch-NNNN".
        pool: A pooling in place of its own.
        normalise: What is taken off and divided by before a module, or one of timm, sees an image.
        allow_missing: Whether what the file of weights lacks may stay random.
        channels: Channels of the images, for encoders that are no runs.
        size: Pixels a side of the images that it is tried with, likewise.
        seed: Seed of random weights, likewise.
        device: "auto", "cpu" or "cuda[:i]".
        runs: The folder in which runs are looked for.
    """
    place, which = choose_device(device), Weights.parse(checkpoint, pool)
    named = "a module" if isinstance(source, nn.Module) else str(source)
    is_run = not isinstance(source, nn.Module) and not named.startswith(("timm:", "py:")) and named != "unet"
    if (isinstance(source, nn.Module) or is_run) and (weights is not None or allow_missing):
        raise ValueError(f"expected weights and allow_missing for timm:NAME or unet, found them with {named}")
    if is_run:
        if normalise != "auto":
            raise ValueError(f"expected normalise for an encoder from elsewhere, found it with the run {named}")
        return open_encoder(open_run(named, Path(runs)), which, place)
    if which.checkpoint != "last":
        raise ValueError(f"expected a checkpoint of a run, found {which.checkpoint} with {named}; leave it out")
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    header: dict[str, Any] = {"epoch": 0, "image_size": [size, size], "max_size": MAX_SIZE, "classes": []}
    if isinstance(source, nn.Module):
        name = type(source).__name__
        encoder = around(deepcopy(source).cpu(), name, images, normalisation(normalise, name, channels))
        return OpenedModule(name, encoder, header | {"spec": encoder.spec, "method": name}, place, weights=which)
    made = make_encoder(Outside(named, Path(weights) if weights else None, normalise, seed, allow_missing), images)
    header |= {"spec": made.encoder.spec, "method": made.method}
    return Opened(named, made.encoder, header, place, weights=which, sha256=made.match.sha256 if made.match else "")
