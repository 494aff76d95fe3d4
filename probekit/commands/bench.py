"""`probekit bench step`: what a training step costs at least, what it should take, and what it takes here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from rich.console import Console

from probekit.config import Config, resolve
from probekit.data.split import check_depth, check_divisible, shrunk_size
from probekit.device import choose_device, default_preset, with_precision
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.train.cost import MODEL, OURS, StepCost, step_cost
from probekit.train.predict import BYTES, KNOWN, Rates
from probekit.train.timing import measured_rates, step_times
from probekit.views.recipes import RECIPES, size_of


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
    """Prints floor and prediction of a step, on this machine and on known ones, and unless `explain` measures it.

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
        The same as plain data: "parts" is what each part of a step asks for, "floors" has a row a machine, with its
        floor, its prediction and that of each part; "measured_ms" and "images_per_second" only without `explain`.

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
    image = shrunk_size(size, size, config.data.max_size)
    view = shrunk_size(*image, config.views.max_size)
    check_depth(config.model.depth, view)
    with torch.device("meta"):
        stride = build_method(config, channels=channels).encoder.stride
    check_divisible(image, stride)
    check_divisible(view, stride)
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
            f"floor here, {1e3 * seconds / result['floors'][0]['predicted_ms']:.1f} times the prediction, "
            f"{result['images_per_second']:,.0f} images/s (median of {len(times)})"
        )
    return result


def _predicted(
    config: Config, cost: StepCost, view: tuple[int, int, int], stride: int, machines: Sequence[Rates]
) -> dict[str, Any]:
    precision, recipe = config.train.precision, RECIPES[config.views.recipe]
    small = [(kind.n, size_of(kind, view[1:], stride)) for kind in recipe.crops if kind.side < 1]
    floors = [_row(rates, cost, precision) for rates in machines]
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


def _row(rates: Rates, cost: StepCost, precision: str) -> dict[str, Any]:
    """One machine, in milliseconds: the floor, and the prediction by parts."""
    arithmetic, memory = (1e3 * seconds for seconds in rates.floor(cost, precision))
    parts = {name: 1e3 * seconds for name, seconds in rates.predicted(cost.parts).items()}
    return {
        "machine": rates.name,
        "flops": rates.flops[precision],
        "bytes": rates.bytes,
        "arithmetic_ms": arithmetic,
        "memory_ms": memory,
        "ms": max(arithmetic, memory),
        "predicted_ms": sum(parts.values()),
        "model_ms": sum(parts[name] for name in MODEL),
        "ours_ms": sum(parts[name] for name in OURS),
        "parts_ms": parts,
    }


def _print_prediction(result: dict[str, Any], console: Console) -> None:
    kinds = [f"{kind['views']} views of {_shape(kind['view'])}" for kind in (result, *result["small"])]
    console.print(
        f"{result['method']}, preset {result['preset']}, {result['precision']}: {' and '.join(kinds)} a step "
        f"({result['batch_size']} images), {result['parameters']:,} parameters"
    )
    console.print(
        f"forward and backward: {result['flops'] / 1e9:,.1f} GFLOP, at least {result['bytes'] / 1e9:,.2f} GB of memory "
        "traffic, all else fused into the products"
    )
    for owner, names in (("the model", MODEL), ("ours", OURS)):
        parts = [result["parts"][name] for name in names]
        launches, moved = (sum(part[key] for part in parts) for key in ("launches", "bytes"))
        console.print(
            f"{owner}, one operator at a time: {launches:,} launches, {moved / 1e9:,.2f} GB ("
            + ", ".join(f"{n} {p['launches']:,}, {p['bytes'] / 1e9:,.2f} GB" for n, p in zip(names, parts, strict=True))
            + ")"
        )
    for row in result["floors"]:
        console.print(
            f"{row['machine']}: {row['flops'] / 1e12:,.2f} TFLOP/s take {row['arithmetic_ms']:,.2f} ms, "
            f"{row['bytes'] / 1e9:,.0f} GB/s take {row['memory_ms']:,.2f} ms; floor {row['ms']:,.2f} ms"
        )
        console.print(
            f"  predicted {row['predicted_ms']:,.2f} ms: the model {_times(row, 'model_ms', MODEL)}, "
            f"ours {_times(row, 'ours_ms', OURS)}"
        )


def _times(row: dict[str, Any], total: str, names: Sequence[str]) -> str:
    return f"{row[total]:,.2f} (" + ", ".join(f"{name} {row['parts_ms'][name]:,.2f}" for name in names) + ")"


def _shape(view: Sequence[int]) -> str:
    channels, height, width = view
    return f"{height}x{width}x{channels}"
