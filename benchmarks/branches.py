"""What methods and branches cost: time of a step, and on a GPU peak memory, one after another in the same run.

    python -m benchmarks.branches [--methods simclr,moco-v2] [--preset quick] [--batch-size 16] [--device cpu]

Every method is timed right after SimCLR, every branch right after its method, which is built and timed anew for it: a
trainer whose step is recorded holds the memory of a whole step, so there is never more than one. XCorr also stands
beside its method times what its further views cost by their number: a whole view with a gradient counts 1, one without
1/3 (no backward pass), a small crop its share of the pixels. Goals: LCR at most 1.2 times its method, XCorr at most 1.2
times that product.
"""

import argparse
import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import first_views, trainer_for, whole_step
from probekit.branches.base import begin_on_noise, branches_of
from probekit.branches.xcorr import XCorr
from probekit.device import choose_device
from probekit.methods.momentum import MomentumMethod
from probekit.registry import METHODS
from probekit.train.loop import Trainer

BRANCHES = ("", "lcr", "xcorr")
ON = ("simclr", "moco-v2", "byol", "simsiam", "swav")  # the methods that stand with branches
ROUNDS, STEPS = 5, 4
FORWARD = 1 / 3  # of a step on a view: backward costs twice the forward pass


def job_of(trainer: Trainer) -> Callable[[], None]:
    """A few whole steps, as in the middle of an epoch: XCorr has its clusters."""
    trainer.method.train()
    height, width = trainer.train.images.shape[-2:]
    begin_on_noise(trainer.method, 1, images=len(trainer.train), size=(height, width), device=trainer.device)
    step = whole_step(trainer)

    def job() -> None:
        for _ in range(STEPS):
            step()
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)

    return job


@dataclass(frozen=True)
class Timed:
    """A trainer that is gone again: seconds of each round's steps, its `expected` factor, peak bytes on a GPU."""

    seconds: list[float]
    factor: float
    peak: int | None


def timed(build: Callable[[], Trainer], device: torch.device, rounds: int) -> Timed:
    """Builds a trainer, times it, and lets go of it."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    trainer = build()
    seconds = interleaved({"": job_of(trainer)}, rounds=rounds)[""]
    found = Timed(seconds, expected(trainer), torch.cuda.max_memory_allocated(device) if on_gpu else None)
    del trainer
    gc.collect()  # a trainer is part of cycles
    torch._dynamo.reset()  # it keeps so many compiled views in a process, and refuses the next
    if on_gpu:
        torch.cuda.empty_cache()
    return found


def passes(trainer: Trainer) -> float:
    """How many passes of whole views with a gradient the method's own step is worth."""
    views = first_views(trainer)
    whole = len(views.inputs)
    if trainer.config.method == "moco-v2":
        return 1 + FORWARD  # a query, and a key without a gradient
    targets = whole * FORWARD if isinstance(trainer.method, MomentumMethod) else 0
    small = 0 if views.local is None else views.local.inputs[:, 0].numel() / views.inputs[0, 0].numel()
    return whole + targets + small


def expected(trainer: Trainer) -> float:
    """What the branches' further views cost, as a factor of the method's step."""
    extra = sum(b.positives for b in branches_of(trainer.method) if isinstance(b, XCorr))
    own = passes(trainer)
    return (own + extra) / own


def measure(args: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """Every method alone, and those of `ON` with every branch."""

    def of(name: str, branch: str) -> Timed:
        build = partial(
            trainer_for,
            name,
            preset=args.preset,
            precision=args.precision,
            device=device,
            folder=folder,
            options={"train.batch_size": args.batch_size},
            branches=(branch,) if branch else (),
        )
        return timed(build, device, args.rounds)

    names = [n for n in args.methods.split(",") if n in METHODS]
    rows = {}
    for name in dict.fromkeys(["simclr", *names]):
        for branch in BRANCHES if name in ON else ("",):
            base, found = of(name if branch else "simclr", ""), of(name, branch)
            ratios = [s / b for s, b in zip(found.seconds, base.seconds, strict=True)]
            rows[f"{name} + {branch}" if branch else name] = {
                "milliseconds": spread([1e3 * s / STEPS for s in found.seconds]),
                "beside": name if branch else "simclr",
                "ratio": spread(ratios),
                "ratio_of_forwards": spread([ratio / found.factor for ratio in ratios]),
                "peak_bytes": found.peak,
            }
    return {"preset": args.preset, "batch_size": args.batch_size, "steps": STEPS, "rows": rows}


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(n for n in METHODS if n != "supervised"))  # it knows the labels
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    device = choose_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, device, Path(folder))
    for label, row in result["rows"].items():
        memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 2**20:,.0f} MiB"
        ratio, forwards = row["ratio"], row["ratio_of_forwards"]["median"]
        print(
            f"{label:<24}{row['milliseconds']['median']:8.1f} ms, {ratio['median']:.2f} ({ratio['min']:.2f} to "
            f"{ratio['max']:.2f}) of {row['beside']}, {forwards:.2f} of it with its forwards{memory}"
        )
    write(args.out or RESULTS / f"branches-{device.type}.json", result)


if __name__ == "__main__":
    main()
