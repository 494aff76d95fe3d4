"""What the cost model predicts of a step on the GPUs that it knows: a table to hold measured times against.

    python -m benchmarks.predictions [--precision bf16] [--batches 16,64,256]

Needs no GPU. `probekit pretrain METHOD --dry-run --json` has the same numbers, beside what it measures.
"""

import argparse

from benchmarks.views import numbers
from probekit.config import resolve
from probekit.registry import METHODS, get
from probekit.train.cost import MODEL, OURS, step_cost
from probekit.train.dry_run import KNOWN

STEPS = (("conrec", 1, 128), ("simclr", 1, 128), ("moco-v2", 3, 224))  # method, channels, pixels a side; preset paper


def rows(method: str, channels: int, size: int, *, batch: int, precision: str) -> list[str]:
    """A line of the table for each machine: milliseconds of the whole step and of its parts."""
    options = {"train.batch_size": batch, "train.precision": precision}
    config = resolve(method, get(METHODS, "method", method), preset="paper", seed=0, options=options)
    cost = step_cost(config, channels=channels, size=(size, size))
    launches = sum(part.launches for part in cost.parts.values())
    lines = []
    for rates in KNOWN:
        floor = max(rates.floor(cost, precision))
        parts = rates.predicted(cost.parts)
        cells = [floor, sum(parts.values()), *(parts[name] for name in (*MODEL, *OURS))]
        step = f"{method}, {channels} x {size} px | {batch} | {rates.name.split(',')[0]} | {launches:,}"
        lines.append(f"| {step} | " + " | ".join(f"{1e3 * seconds:.2f}" for seconds in cells) + " |")
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--batches", type=numbers, default=[16, 64, 256])
    arguments = parser.parse_args()
    head = ("step", "batch", "GPU", "launches", "floor, ms", "predicted, ms", *MODEL, *OURS)
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for method, channels, size in STEPS:
        for batch in arguments.batches:
            for line in rows(method, channels, size, batch=batch, precision=arguments.precision):
                print(line, flush=True)


if __name__ == "__main__":
    main()
