"""`probekit bench step`: what a training step costs at least, and what it takes here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from rich.console import Console

from probekit.config import Config, resolve
from probekit.data import check_divisible, shrunk
from probekit.device import choose_device, default_preset, with_precision
from probekit.registry import METHODS, get
from probekit.train.build import build_method
from probekit.train.cost import BYTES, KNOWN, Rates, StepCost, measured_rates, step_cost, step_times
from probekit.views import RECIPES, size_of

LAUNCH_US = 10  # an operator from Python to a GPU, about; the usual order of magnitude


def run_bench_step(
    method: str,
    *,
    preset: str | None,
    options: Mapping[str, Any],
    overrides: Sequence[str],
    size: int,
    channels: int,
    device: str,
    explain: bool,
    console: Console,
) -> dict[str, Any]:
    """Prints the floor of a step on this machine and on known ones, and unless `explain` measures the step.

    Args:
        method: A name in `METHODS`.
        preset: A preset's name, or None for the device's default.
        options: Settings, typed.
        overrides: Settings, "a.b=value".
        size: Pixels a side of the images.
        channels: Of the images, 1 or 3.
        device: "auto", "cpu" or "cuda[:i]".
        explain: Predict only.
        console: Where the lines go.

    Returns:
        The same as plain data; "measured_ms" and "images_per_second" only without `explain`.

    Raises:
        ValueError: If a setting, the size or the channels do not fit, or the machine has no such device.
    """
    if channels not in (1, 3):
        raise ValueError(f"expected --channels 1 or 3, found {channels}")
    place = choose_device(device)
    config = resolve(
        method,
        get(METHODS, "method", method),
        preset=preset or default_preset(place),
        seed=0,
        overrides=overrides,
        options=options,
    )
    config = with_precision(config, place)
    with torch.device("meta"):
        images = torch.empty(0, channels, size, size)
        stride = build_method(config, channels=channels).encoder.stride
    for most in (config.data.max_size, config.views.max_size):
        images = torch.empty(0, channels, *shrunk(images, most), device="meta")
        check_divisible((images.shape[2], images.shape[3]), stride)
    view = (images.shape[2], images.shape[3])
    cost = step_cost(config, channels=channels, size=view)
    result = _predicted(
        config, cost, (channels, *view), stride, [measured_rates(place, config.train.precision), *KNOWN]
    )
    _print_prediction(result, console)
    if not explain:
        times = step_times(config, channels=channels, size=size, device=place, say=console.print)
        seconds = median(times)
        result |= {"measured_ms": 1e3 * seconds, "images_per_second": config.train.batch_size / seconds}
        console.print(
            f"measured: {1e3 * seconds:,.2f} ms a step, {1e3 * seconds / result['floors'][0]['ms']:.1f} times the "
            f"floor here, {result['images_per_second']:,.0f} images/s (median of {len(times)} steps)"
        )
    return result


def _predicted(
    config: Config, cost: StepCost, view: tuple[int, int, int], stride: int, machines: Sequence[Rates]
) -> dict[str, Any]:
    precision, recipe = config.train.precision, RECIPES[config.views.recipe]
    small = [(kind.n, size_of(kind, view[1:], stride)) for kind in recipe.crops if kind.side < 1]
    floors = []
    for rates in machines:
        arithmetic, memory = rates.floor(cost, precision)
        parts = {"arithmetic_ms": 1e3 * arithmetic, "memory_ms": 1e3 * memory, "ms": 1e3 * max(arithmetic, memory)}
        floors.append({"machine": rates.name, "flops": rates.flops[precision], "bytes": rates.bytes, **parts})
    return {
        "method": config.method,
        "preset": config.preset,
        "precision": precision,
        "batch_size": config.train.batch_size,
        "views": recipe.views * config.train.batch_size,
        "view": list(view),
        "small": [{"views": n * config.train.batch_size, "view": [view[0], *size]} for n, size in small],
        **asdict(cost),
        "bytes": BYTES[precision] * cost.elements,
        "floors": floors,
    }


def _print_prediction(result: dict[str, Any], console: Console) -> None:
    kinds = [f"{kind['views']} views of {_shape(kind['view'])}" for kind in (result, *result["small"])]
    console.print(
        f"{result['method']}, preset {result['preset']}, {result['precision']}: {' and '.join(kinds)} a step "
        f"({result['batch_size']} images), {result['parameters']:,} parameters"
    )
    console.print(
        f"forward and backward: {result['flops'] / 1e9:,.1f} GFLOP, at least {result['bytes'] / 1e9:,.2f} GB of memory "
        f"traffic, {result['operators']} operators (about {1e-3 * LAUNCH_US * result['operators']:.1f} ms if a GPU "
        "gets them one by one)"
    )
    for floor in result["floors"]:
        console.print(
            f"{floor['machine']}: {floor['flops'] / 1e12:,.2f} TFLOP/s take {floor['arithmetic_ms']:,.2f} ms, "
            f"{floor['bytes'] / 1e9:,.0f} GB/s take {floor['memory_ms']:,.2f} ms; floor {floor['ms']:,.2f} ms"
        )


def _shape(view: Sequence[int]) -> str:
    channels, height, width = view
    return f"{height}x{width}x{channels}"
