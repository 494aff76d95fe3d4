"""What every benchmark shares: the machine's description, robust times, and the JSON file."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from probekit.run import git_commit, versions

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, versions and commit."""
    return {"processor": _processor(), "cores": os.cpu_count(), "versions": versions(), "commit": git_commit()}


def interleaved(
    jobs: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    before: Callable[[], Any] = lambda: None,
) -> dict[str, list[float]]:
    """Times every job once a round, in turns, so that a noisy minute hits them all; seconds of the clock.

    `before` is called before each, and not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()  # warm-up
    for _ in range(rounds):
        for name, job in jobs.items():
            before()
            started = clock()
            job()
            times[name].append(clock() - started)
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum, maximum and count."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the result beside a description of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **content}, indent=2) + "\n")
    print(f"wrote {path}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
