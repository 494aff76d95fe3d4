"""What a machine's rates make of a step's cost: the floor, and a prediction part by part."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from probekit.config import Config
from probekit.restore.build import build_method
from probekit.train.cost import Counted, StepCost, count, meta_generator
from probekit.views.recipes import RECIPES, make_views

BYTES = {"fp32": 4, "bf16": 2}

# Of a machine's rates, what a step reaches. Convolutions of 64 channels reach 40 to 60 % of the rate of large bf16
# products, whose tiles they do not fill; in fp32, on the vector units, channels matter less.
REACHED = {"bf16": 0.5, "fp32": 0.7}
# Batch norm reads its operand twice and is counted once; of small stages much stays in the cache.
REACHED_BYTES = 0.9
# Seconds of a tiny kernel within a replayed CUDA graph, the gap to the next one included: 2.0 to 2.5 us, an estimate.
LAUNCH = 2.25e-6
HINT_SECONDS = 2.0  # that a run's start may wait for a prediction


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


def known_rates(name: str) -> Rates | None:
    """The rates of a GPU by the name that its driver gives; None where they are not known."""
    return next((rates for rates in KNOWN if rates.name.split(",")[0] in name.replace("-", " ").split()), None)


def bf16_hint(config: Config, gpu: str, *, channels: int, size: tuple[int, int]) -> str:
    """One line that says what bf16 would bring, for a run in fp32 on a GPU that has both; "" if that is not worth it.

    `size`: (h, w) of the views.
    """
    rates = known_rates(gpu)
    factor = None
    if rates is not None:
        factor = bf16_speedup(config, rates, channels=channels, size=size, within=HINT_SECONDS)
    if factor is not None and factor < 1.5:
        return ""
    times = "" if factor is None else f"about {factor:.0f} times "
    return f"fp32; type --precision bf16: {times}faster here"


def bf16_speedup(config: Config, rates: Rates, *, channels: int, size: tuple[int, int], within: float) -> float | None:
    """How many times faster a step in bf16 is, from its views of whole size and its backbone alone.

    `size`: (h, w) of the views; `within`: seconds; None is returned if the counting takes longer.
    """
    batch, recipe = config.train.batch_size, config.views.recipe
    with torch.device("meta"):
        encoder = build_method(config, channels=channels).train().encoder
        images = torch.empty(batch, channels, *size, dtype=torch.uint8)
        x = torch.empty(RECIPES[recipe].views * batch, channels, *size)
    until = time.monotonic() + within  # what torch has loaded for meta tensors so far, the optimizer needs as well

    def still_worth_it(*_: Any) -> None:
        if time.monotonic() > until:
            raise TimeoutError

    try:
        views = count(
            lambda: make_views(recipe, images, meta_generator(), size=size, stride=encoder.stride), still_worth_it
        )
        seconds = []
        for dtype in (torch.float32, torch.bfloat16):
            parts = {"views": views, "products": Counted(), "modules": Counted()}

            def add(_: Any, cost: Counted, parts: dict[str, Counted] = parts) -> None:
                still_worth_it()
                parts["products" if cost.flops else "modules"] += cost

            count(lambda dtype=dtype: _there_and_back(encoder.backbone.to(dtype), x.to(dtype)), add)  # type: ignore[misc]
            seconds.append(sum(rates.predicted(parts).values()))
    except TimeoutError:
        return None
    return seconds[0] / seconds[1]


def _there_and_back(backbone: nn.Module, x: torch.Tensor) -> None:
    stages = backbone(x)
    torch.autograd.backward(stages, [torch.empty_like(stage) for stage in stages])
