"""What methods and branches cost: time of a step, and on a GPU peak memory, side by side in the same run.

    python -m benchmarks.branches [--methods simclr,moco-v2] [--preset quick] [--batch-size 16] [--device cpu]

Every method stands beside SimCLR, every branch beside its method. XCorr also stands beside its method times what its
further views cost by their number: a whole view with a gradient counts 1, one without 1/3 (no backward pass), a small
crop its share of the pixels. Goals: LCR at most 1.2 times its method, XCorr at most 1.2 times that product.
"""

import argparse
import gc
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import first_views, trainer_for, whole_step
from probekit.branches.base import branches_of
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
    for branch in branches_of(trainer.method):
        if isinstance(branch, XCorr):
            noise = torch.randn(len(trainer.train), branch.classifier.out_features, device=trainer.device)
            branch.begin_epoch(lambda noise=noise: noise, None)  # type: ignore[misc]
    step = whole_step(trainer)

    def job() -> None:
        for _ in range(STEPS):
            step()
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)

    return job


def peak_memory(build: Callable[[], Trainer], device: torch.device) -> int | None:
    """Bytes on the GPU at most, of a trainer that is there for this alone; None on a CPU."""
    if device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    others = torch.cuda.memory_allocated(device)  # trainers that are still to be timed
    torch.cuda.reset_peak_memory_stats(device)
    job_of(build())()
    return torch.cuda.max_memory_allocated(device) - others


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
    names = [n for n in args.methods.split(",") if n in METHODS]
    jobs: dict[str, Callable[[], None]] = {}
    factors: dict[str, float] = {}
    memory: dict[str, int | None] = {}
    for name in dict.fromkeys(["simclr", *names]):
        for branch in BRANCHES if name in ON else ("",):
            label = f"{name} + {branch}" if branch else name
            options = {"train.batch_size": args.batch_size}
            build = partial(
                trainer_for,
                name,
                preset=args.preset,
                precision=args.precision,
                device=device,
                folder=folder,
                options=options,
                branches=(branch,) if branch else (),
            )
            memory[label] = peak_memory(build, device)
            trainer = build()
            jobs[label], factors[label] = job_of(trainer), expected(trainer)
    times = interleaved(jobs, rounds=args.rounds)
    rows = {}
    for label, seconds in times.items():
        base = times[label.split(" + ")[0]]
        rows[label] = {
            "milliseconds": spread([1e3 * s / STEPS for s in seconds]),
            "of_simclr": spread([s / b for s, b in zip(seconds, times["simclr"], strict=True)]),
            "of_method": spread([s / b for s, b in zip(seconds, base, strict=True)]),
            "of_method_and_forwards": spread([s / b / factors[label] for s, b in zip(seconds, base, strict=True)]),
            "peak_bytes": memory[label],
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
        print(
            f"{label:<24}{row['milliseconds']['median']:8.1f} ms, {row['of_simclr']['median']:.2f} of simclr, "
            f"{row['of_method']['median']:.2f} ({row['of_method']['min']:.2f} to {row['of_method']['max']:.2f}) of the "
            f"method, {row['of_method_and_forwards']['median']:.2f} of it with its forwards{memory}"
        )
    write(args.out or RESULTS / f"branches-{device.type}.json", result)


if __name__ == "__main__":
    main()
