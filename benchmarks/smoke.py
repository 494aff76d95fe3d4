"""Small versions of the benchmarks: fails where ours has become slower next to its peer than the committed ratio says.

    python -m benchmarks.smoke [--update]

Compared are ratios (peer's time over ours, in turns, one thread, medians), not times, so that another machine may run
it. A ratio more than `SLACK` below `results/smoke.json` is measured once more before it counts. --update writes the
file anew.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks import generators, h5, probe, views
from benchmarks.report import RESULTS, interleaved, spread, write

SLACK = 0.25
COMMITTED = RESULTS / "smoke.json"


def of_views(channels: int) -> Callable[[], float]:
    """The best per-image path's time over ours, batch 32."""

    def run() -> float:
        row = views.measure(channels, 32, device=torch.device("cpu"), cores=1, rounds=9)
        return float(min(ratio["median"] for name, ratio in row["ratio"].items() if name != "kornia"))

    return run


def of_probe() -> float:
    """scikit-learn's defaults over ours stopped at the same objective, 4000 x 256 x 20."""
    x, y = probe.features(4000, 256, 20)
    default = probe.timed(probe.theirs(x, y, max_iter=100), x, y)["objective"]
    tol = probe.stop_at(x, y, default, "cpu")
    jobs = {"ours": probe.ours(x, y, device="cpu", tol=tol), "theirs": probe.theirs(x, y, max_iter=100)}
    return median_ratio(jobs, rounds=9)


def of_writing() -> float:
    """h5py's defaults over ours, 2048 images."""
    images, labels = h5.draw(2048)
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "ours": lambda: h5.write_ours(Path(folder) / "ours.h5", images, labels),
            "theirs": lambda: h5.write_h5py(Path(folder) / "theirs.h5", images, labels),
        }
        return median_ratio(jobs, rounds=9)


def of_generator(name: str, drawn: str = "image + masks") -> Callable[[], float]:
    """A Pillow renderer over ours."""
    return lambda: float(generators.compare(name, 5)["ratio"][f"pil {drawn}"]["median"])


def median_ratio(jobs: dict[str, Callable[[], Any]], *, rounds: int) -> float:
    """Median over the rounds of theirs / ours."""
    times = interleaved(jobs, rounds=rounds)
    return spread([t / o for t, o in zip(times["theirs"], times["ours"], strict=True)])["median"]


CHECKS: dict[str, Callable[[], float]] = {
    "views, 1 channel": of_views(1),
    "views, 3 channels": of_views(3),
    "linear probe": of_probe,
    "writing a dataset": of_writing,
    "rect-tri": of_generator("rect-tri"),
    "circ-sq": of_generator("circ-sq"),
    "rect-tri, image alone": of_generator("rect-tri", "image, grey"),
    "circ-sq, image alone": of_generator("circ-sq", "image, grey"),
    "vernier, image alone": of_generator("vernier", "image, grey"),
}


def main() -> None:
    """Measures and compares; exit status 1 where something is slower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    update = parser.parse_args().update
    if not (update or COMMITTED.exists()):
        sys.exit(f"expected committed ratios in {COMMITTED}, found none; type: python -m benchmarks.smoke --update")
    committed: dict[str, float] = {} if update else json.loads(COMMITTED.read_text())["ratio"]
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    with threadpool_limits(1):
        for name, check in CHECKS.items():
            found[name] = check()
            if found[name] < (1 - SLACK) * committed.get(name, 0.0):
                print(f"{name}: {found[name]:.2f}, once more")
                found[name] = max(found[name], check())
    if update:
        write(COMMITTED, {"ratio": found})
        return
    slower = [name for name in committed if found[name] < (1 - SLACK) * committed[name]]
    for name, ratio in found.items():
        verdict = "SLOWER" if name in slower else "ok"
        before = f"{committed[name]:.2f}" if name in committed else "none"
        print(f"{name}: {ratio:.2f} times as fast as its peer, committed {before}: {verdict}")
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
