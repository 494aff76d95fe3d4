"""What this machine does: its rates, and the time of a training step on it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probekit.config import Config
from probekit.data.split import shrink
from probekit.device import describe_device
from probekit.restore.build import build_method, on_device
from probekit.train.predict import LAUNCH, Rates
from probekit.train.step import WARM_UP, build_step, fastest_step

ROUNDS = 5  # of a measured rate, the fastest of which counts; of steps on a GPU
STEPS = 20  # of a measured step
SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is timed
COPIED = {"cpu": 2**26, "cuda": 2**30}  # bytes, more than the caches hold
OPERATOR = 5e-6  # seconds of an operator's way from Python to a CPU's kernel; the usual order of magnitude


def measured_rates(device: torch.device, precision: str) -> Rates:
    """The rates of the machine at hand: square matrix products in "fp32" and the precision, and a copy."""
    side, size = SIDES[device.type], COPIED[device.type]
    flops = {}
    for name in dict.fromkeys((precision, "fp32")):
        a = torch.rand(side, side, device=device).to(torch.bfloat16 if name == "bf16" else torch.float32)
        flops[name] = 2 * side**3 / _fastest(lambda a=a: a @ a, device)  # type: ignore[misc]
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    traffic = 2 * size / _fastest(lambda: target.copy_(source), device)
    launch = LAUNCH if device.type == "cuda" else OPERATOR
    return Rates(f"here, {describe_device(device)}", flops, traffic, launch)


def step_on_noise(
    config: Config, *, channels: int, size: int, n: int, device: torch.device, say: Callable[[str], None]
) -> Callable[[], Tensor]:
    """A job that makes a whole step, as the trainer makes it, on random images out of n.

    Args:
        config: The settings, the precision resolved.
        channels: Of the images, 1 or 3.
        size: Pixels a side of the images.
        n: Images on the device, at least a batch.
        device: Where.
        say: Takes a line for the user.
    """
    noise = torch.randint(256, (n, channels, size, size), dtype=torch.uint8)
    images = shrink(noise, config.data.max_size).to(device)
    method = on_device(build_method(config, channels=channels), device)
    step = fastest_step(build_step(config, method.train(), images, np.zeros(n, np.int64)), say)
    index = torch.randperm(n, device=device)[: config.train.batch_size]
    return lambda: step(index, images[index])


def step_times(
    config: Config, *, channels: int, size: int, device: torch.device, say: Callable[[str], None]
) -> list[float]:
    """Seconds of a whole step, several times over; arguments as `step_on_noise`.

    On a CPU each of `STEPS` steps is timed; on a GPU `ROUNDS` times `STEPS` steps in one go, as a run makes them.
    """
    n = config.train.batch_size
    job = step_on_noise(config, channels=channels, size=size, n=n, device=device, say=say)
    if device.type == "cuda":
        return _times(job, device, warm_up=WARM_UP + 2, rounds=ROUNDS, calls=STEPS)
    return _times(job, device, warm_up=WARM_UP + 2, rounds=STEPS)


def _times(job: Callable[[], Any], device: torch.device, *, warm_up: int, rounds: int, calls: int = 1) -> list[float]:
    """Seconds of a call in each round; on a GPU by its own clock, which waits for nobody between the calls."""
    for _ in range(warm_up):
        job()
    return [_on_gpu(job, device, calls) if device.type == "cuda" else _on_cpu(job, calls) for _ in range(rounds)]


def _on_gpu(job: Callable[[], Any], device: torch.device, calls: int) -> float:
    with torch.cuda.device(device):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        started.record()
        for _ in range(calls):
            job()
        ended.record()
        ended.synchronize()
    return float(1e-3 * started.elapsed_time(ended) / calls)


def _on_cpu(job: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        job()
    return (time.perf_counter() - started) / calls


def _fastest(job: Callable[[], Any], device: torch.device) -> float:
    """Seconds, the best of some."""
    return min(_times(job, device, warm_up=1, rounds=ROUNDS))
