"""What a run says of itself before its first step."""

import math

import torch
from rich.console import Console
from rich.filesize import decimal

from probekit.config import Config
from probekit.data.split import DeviceSplit, shrunk
from probekit.device import describe_device, has_bf16
from probekit.train.optim import scaled_rate
from probekit.train.plan import Planned
from probekit.train.predict import bf16_hint


def announce(planned: Planned, console: Console) -> None:
    """What is trained on what and how, what was fitted to the images, and what the device cannot do well."""
    config, device = planned.config, planned.device
    chosen = "" if planned.asked.preset else f" (the default on a {'GPU' if device.type == 'cuda' else 'CPU'})"
    precision = config.train.precision
    settings = f"preset {config.preset}{chosen}, {precision}, {describe_device(device)}"
    console.print(f"pretraining {' + '.join((config.method, *config.branches))} on {planned.info.path}, {settings}")
    optimizer, batch = config.optimizer, config.train.batch_size
    if optimizer.scaling != "none":
        peak = scaled_rate(optimizer.lr, scaling=optimizer.scaling, batch_size=batch)
        rule = {"linear": f"* {batch} / 256", "sqrt": f"* sqrt({batch})"}[optimizer.scaling]
        console.print(f"learning rate {optimizer.lr:g} {rule} = {peak:g}, for batches of {batch} images")
    if precision == "bf16" and not has_bf16(device):
        console.print("warning: this device has no bfloat16 units and emulates them, slowly; type --precision fp32")
    if "train.precision" not in planned.given:
        announce_precision(config, planned.train, device, console)
    for note in planned.notes:
        console.print(note)
    announce_streaming(planned.train, console)


def announce_precision(config: Config, train: DeviceSplit, device: torch.device, console: Console) -> None:
    """What bf16 would bring, on a GPU that has it, where fp32 is the preset's choice."""
    if device.type == "cuda" and config.train.precision == "fp32" and has_bf16(device):
        size = shrunk(train.images, config.views.max_size)
        hint = bf16_hint(config, torch.cuda.get_device_name(device), channels=train.images.shape[1], size=size)
        if hint:
            console.print(hint)


def announce_streaming(train: DeviceSplit, console: Console) -> None:
    """Where the images are, if they are not on the device."""
    where = {"host": "in the host's memory", "file": "encoded in the file and are decoded as they are needed"}
    if train.placement in where:
        pixels = decimal(math.prod(train.images.shape))
        console.print(f"the images stay {where[train.placement]}, {pixels} of pixels")
