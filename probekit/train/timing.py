"""What this machine does: its rates, and the time of a training step on it."""

import time
from collections.abc import Callable
from typing import Any

import torch

from probekit.device import describe_device
from probekit.train.predict import LAUNCH, Rates
from probekit.train.step import WARM_UP

ROUNDS = 5  # of a measured rate, the fastest of which counts; of steps on a GPU
STEPS = 20  # of a measured step
PATIENCE = 10.0  # seconds after which no further round begins
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


def step_times(job: Callable[[], Any], device: torch.device) -> list[float]:
    """Seconds of a whole step, several times over, until some seconds have gone.

    On a CPU each of `STEPS` steps is timed; on a GPU `ROUNDS` times `STEPS` steps in one go, as a run makes them.

    Args:
        job: Makes a step.
        device: Where.
    """
    if device.type == "cuda":
        return _times(job, device, warm_up=WARM_UP + 2, rounds=ROUNDS, calls=STEPS)
    return _times(job, device, warm_up=1, rounds=STEPS)


def _times(job: Callable[[], Any], device: torch.device, *, warm_up: int, rounds: int, calls: int = 1) -> list[float]:
    """Seconds of a call in each round; on a GPU by its own clock, which waits for nobody between the calls."""
    for _ in range(warm_up):
        job()
    times: list[float] = []
    until = time.monotonic() + PATIENCE
    while len(times) < rounds and (not times or time.monotonic() < until):
        times.append(_on_gpu(job, device, calls) if device.type == "cuda" else _on_cpu(job, calls))
    return times


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
