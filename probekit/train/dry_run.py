"""`pretrain --dry-run`: what a run would be, what a step of it costs at least, should take, and takes here."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.filesize import decimal

from probekit.branches.base import begin_on_noise
from probekit.config import Config
from probekit.data.split import shrunk, shrunk_size
from probekit.device import describe_device, ran_out_of_memory, reset_peak
from probekit.files import host_memory
from probekit.settings import Asked, flatten
from probekit.train.cost import Counted, StepCost, step_cost
from probekit.train.live import clock
from probekit.train.plan import Planned, announce, plan, smaller_batch
from probekit.train.step import WARM_UP, TrainingStep, build_step, fastest_step
from probekit.views.recipes import recipe_of, size_of

BYTES = {"fp32": 4, "bf16": 2}

# Of a machine's rates, what a step reaches. Convolutions of 64 channels reach 40 to 60 % of the rate of large bf16
# products, whose tiles they do not fill; in fp32, on the vector units, channels matter less.
REACHED = {"bf16": 0.5, "fp32": 0.7}
# Batch norm reads its operand twice and is counted once; of small stages much stays in the cache.
REACHED_BYTES = 0.9
# Seconds of a tiny kernel within a replayed CUDA graph, the gap to the next one included: 2.0 to 2.5 us, an estimate.
LAUNCH = 2.25e-6

PATIENCE = 60.0  # seconds that one step may be predicted to take, to be measured
ROUNDS = 5  # of a measured rate, the fastest of which counts; of steps on a GPU
STEPS = 20  # of a measured step
ENOUGH = 10.0  # seconds after which no further round begins
SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is timed
COPIED = {"cpu": 2**26, "cuda": 2**30}  # bytes, more than the caches hold
OPERATOR = 5e-6  # seconds of an operator's way from Python to a CPU's kernel; the usual order of magnitude


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second.

    `flops`: how many it does a second in a large matrix product, by precision; `launch`: seconds that an operator takes
    beside its work.
    """

    name: str
    flops: dict[str, float]
    bytes: float
    launch: float = LAUNCH

    def floor(self, cost: StepCost, precision: str) -> tuple[float, float]:
        """Seconds that the arithmetic alone and the traffic alone take; no step is faster than the longer."""
        return cost.flops / self.flops[precision], BYTES[precision] * cost.elements / self.bytes

    def predicted(self, parts: Mapping[str, Counted]) -> dict[str, float]:
        """Seconds that each part takes: the longer of arithmetic and traffic, as far as reached, and its launches."""
        return {name: self._seconds(part) for name, part in parts.items()}

    def _seconds(self, part: Counted) -> float:
        arithmetic = part.flops32 / (REACHED["fp32"] * self.flops["fp32"])
        if reduced := part.flops - part.flops32:
            arithmetic += reduced / (REACHED["bf16"] * self.flops["bf16"])
        return max(arithmetic, part.bytes / (REACHED_BYTES * self.bytes)) + self.launch * part.launches


# bf16 and memory: what large products and copies reach; fp32: the data sheets' vector rate, as the trainer avoids tf32.
KNOWN = (
    Rates("H100, on paper", {"bf16": 798e12, "fp32": 67e12}, 3.0e12),
    Rates("H200, on paper", {"bf16": 790e12, "fp32": 67e12}, 4.3e12),
)


def dry_run(asked: Asked, data: Path, console: Console) -> dict[str, Any]:
    """Resolves a run as `pretrain` does, counts a step of it and makes some here; writes nothing.

    Returns plain data. "config" as in run.json; "parts" of a step as `cost.Counted`; "memory" in bytes; "machines" has
    a row for this one and each known GPU, with the least and the predicted time of a step and of the run; "measured" is
    None where a step does not fit into the memory, or would take more than a minute. A ValueError as `pretrain`, and
    where a GPU has no room for a step.
    """
    planned = plan(asked, data, console)
    announce(planned, console)
    config, device = planned.config, planned.device
    channels, view = planned.train.images.shape[1], shrunk(planned.train.images, config.views.max_size)
    cost = step_cost(config, channels=channels, size=view, classes=len(planned.info.classes))
    steps = config.train.epochs * (len(planned.train) // config.train.batch_size)
    here, precision = measured_rates(device, config.train.precision), config.train.precision
    result = {
        "config": config.to_dict(),
        "dataset": {"path": str(data), "hash": planned.info.content_hash, "images": len(planned.train)},
        "views": _views(planned, (channels, *view)),
        **asdict(cost),
        "bytes": BYTES[precision] * cost.elements,
        "memory": _memory(planned, cost),
        "steps": steps,
        "machines": [
            _row(rates, cost, precision, steps, gpu=rates is not here or device.type == "cuda")
            for rates in (here, *KNOWN)
        ],
        "measured": None,
    }
    _print_settings(result, console)
    _print_cost(result, console)
    held, room = sum(result["memory"].values()), _room(device)
    if held > room:
        console.print(f"not measured: a step takes about {decimal(held)}, and there are {decimal(room)} of memory here")
    elif result["machines"][0]["predicted_ms"] > 1e3 * PATIENCE:
        console.print(f"not measured: a step would take more than {PATIENCE:.0f} s here")
    else:
        result["measured"] = _measured(planned, steps, console)
    return result


def predicted_hours(
    config: Config, *, images: int, channels: int, size: tuple[int, int], classes: int
) -> dict[str, float]:
    """GPU hours that a run's steps should take on each of `KNOWN`, by its name; `images` of (h, w) `size` to train on.

    Precision "auto" is bf16, as on these.
    """
    if config.train.precision == "auto":
        config = replace(config, train=replace(config.train, precision="bf16"))
    view = shrunk_size(*size, config.views.max_size)
    cost = step_cost(config, channels=channels, size=view, classes=max(2, classes))
    steps = config.train.epochs * (images // config.train.batch_size)
    return {rates.name: steps * sum(rates.predicted(cost.parts).values()) / 3600 for rates in KNOWN}


def _views(planned: Planned, view: tuple[int, int, int]) -> list[dict[str, Any]]:
    """How many of which shape, (c, h, w), a step has."""
    recipe, batch = recipe_of(planned.config.views), planned.config.train.batch_size
    stride = planned.method.encoder.stride
    small = [(kind.n, (view[0], *size_of(kind, view[1:], stride))) for kind in recipe.crops if kind.side < 1]
    return [{"n": n * batch, "shape": list(shape)} for n, shape in ((recipe.views, view), *small)]


def _memory(planned: Planned, cost: StepCost) -> dict[str, int]:
    resident = planned.train.placement == "device"
    return cost.memory | {"images": math.prod(planned.train.images.shape) if resident else 0}


def _room(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_memory()


def _row(rates: Rates, cost: StepCost, precision: str, steps: int, *, gpu: bool) -> dict[str, Any]:
    """One machine: the least time of a step, the predicted one by parts, and what the run then takes."""
    arithmetic, memory = (1e3 * seconds for seconds in rates.floor(cost, precision))
    parts = {name: 1e3 * seconds for name, seconds in rates.predicted(cost.parts).items()}
    seconds = steps * sum(parts.values()) / 1e3
    return {
        "machine": rates.name,
        "flops": rates.flops[precision],
        "bytes": rates.bytes,
        "arithmetic_ms": arithmetic,
        "memory_ms": memory,
        "floor_ms": max(arithmetic, memory),
        "predicted_ms": sum(parts.values()),
        "parts_ms": parts,
        **_whole(seconds, gpu=gpu),
    }


def _measured(planned: Planned, steps: int, console: Console) -> dict[str, Any]:
    """Some steps, made as the trainer makes them, and what so many take."""
    config, device = planned.config, planned.device
    step = build_step(config, planned.method.train(), planned.train.images, planned.train.split.labels)
    reset_peak(device)
    full = False
    try:
        seconds = median(step_times(_job(planned, step, console.print), device))
    except Exception as error:
        full = ran_out_of_memory(error)  # what the step held is freed only when this block is left
        if not full:
            raise
    if full:
        raise ValueError(smaller_batch(step))
    rate, whole = config.train.batch_size / seconds, _whole(steps * seconds, gpu=device.type == "cuda")
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    most = "" if peak is None else f", at most {decimal(peak)} of memory"
    console.print(f"measured here: {1e3 * seconds:,.2f} ms a step, {rate:,.0f} images/s{most}; {_run(whole)}")
    return {"ms": 1e3 * seconds, "images_per_second": rate, "peak_bytes": peak, **whole}


def _job(planned: Planned, step: TrainingStep, say: Callable[[str], None]) -> Callable[[], object]:
    """A step on the first images of the split, as often as it is called."""
    config, train = planned.config, planned.train
    batch = config.train.batch_size
    rows = min(len(train), 4 * batch)
    planned.method.plan(batches=len(train) // batch, epochs=config.train.epochs)
    size = (train.images.shape[-2], train.images.shape[-1])
    begin_on_noise(planned.method, config.train.epochs, images=rows, size=size, device=planned.device)
    fastest = fastest_step(step, say)
    [(index, images)] = step.feed([torch.randperm(rows)[:batch]], epoch=0)
    return lambda: fastest(index, images)


def _print_settings(result: dict[str, Any], console: Console) -> None:
    for section, values in result["config"].items():
        if section == "branches":
            for name, settings in values.items():
                console.print(f"branch.{name}: {_settings(settings)}")
        elif isinstance(values, dict):
            console.print(f"{section.removesuffix('_options')}: {_settings(values)}")


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in flatten(values).items()) or "none"


def _print_cost(result: dict[str, Any], console: Console) -> None:
    train = result["config"]["train"]
    kinds = [(kind["n"], *kind["shape"]) for kind in result["views"]]
    views = " and ".join(f"{n} views of {height}x{width}x{channels}" for n, channels, height, width in kinds)
    console.print(
        f"{result['parameters']:,} parameters; a step of {train['batch_size']} images, {views}: "
        f"forward and backward {result['flops'] / 1e9:,.1f} GFLOP, at least {decimal(result['bytes'])} of traffic"
    )
    parts = ", ".join(f"{name} {decimal(size)}" for name, size in result["memory"].items())
    console.print(f"memory of a step, about {decimal(sum(result['memory'].values()))}: {parts}")
    console.print(
        f"the whole run: {result['steps']:,} steps in {train['epochs']} epochs; the monitor, {train['monitor']}, "
        f"comes on top, every {train['eval_every']} epochs"
    )
    for row in result["machines"]:
        console.print(
            f"{row['machine']}: at least {row['floor_ms']:,.2f} ms a step, predicted {row['predicted_ms']:,.2f}; "
            f"{_run(row)}"
        )


def _whole(seconds: float, *, gpu: bool) -> dict[str, float | None]:
    return {"run_seconds": seconds, "gpu_hours": seconds / 3600 if gpu else None}


def _run(row: dict[str, Any]) -> str:
    hours = "" if row["gpu_hours"] is None else f", {row['gpu_hours']:.2g} GPU hours"
    return f"the whole run {clock(row['run_seconds'])}{hours}"


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
    """
    if device.type == "cuda":
        return _times(job, device, warm_up=WARM_UP + 2, rounds=ROUNDS, calls=STEPS)
    return _times(job, device, warm_up=1, rounds=STEPS)


def _times(job: Callable[[], Any], device: torch.device, *, warm_up: int, rounds: int, calls: int = 1) -> list[float]:
    """Seconds of a call in each round; on a GPU by its own clock, which waits for nobody between the calls."""
    for _ in range(warm_up):
        job()
    times: list[float] = []
    until = time.monotonic() + ENOUGH
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
    return min(_times(job, device, warm_up=1, rounds=ROUNDS))
