"""XCorr's work before an epoch: k-means of the memory bank against scikit-learn, and what the bank's pass takes.

    python -m benchmarks.clustering [--n 1280000] [--dim 128] [--clusters 3000] [--threads 2] [--rounds 1]

k-means: random unit vectors, one iteration of Lloyd from the same centroids and the labels after it; ours on the
sphere, scikit-learn's with Euclidean distances, each in a process of its own, so that its peak memory is its own; the
bank is part of it. A run does ten such iterations an epoch.

The pass: all images through encoder and projector without gradients, of which the bank is made, as a share of the time
of an epoch of swav and of simclr with XCorr at preset quick. Goal: pass and k-means under a tenth of an epoch.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from benchmarks.branches import job_of
from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import trainer_for
from probekit.branches.spherical_kmeans import spherical_kmeans

CONTENDERS = ("ours", "scikit-learn")
STEPS = 4  # of `job_of`


def contend(name: str, n: int, dim: int, clusters: int, threads: int) -> dict[str, float]:
    """Seconds of one iteration and the labels, and peak memory in GB; called in a process of its own."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(n, dim, generator=generator), dim=1, out=torch.empty(n, dim))
    begin = z[torch.randperm(n, generator=generator)[:clusters]]
    started = time.perf_counter()
    if name == "ours":
        spherical_kmeans(z, begin, iterations=1)
    else:
        with threadpool_limits(threads):
            KMeans(clusters, init=begin.numpy(), n_init=1, max_iter=1, copy_x=False).fit(z.numpy())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def kmeans(args: argparse.Namespace) -> dict[str, Any]:
    """Both contenders, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(args.rounds):
        for name, runs in found.items():
            sizes = [str(v) for v in (args.n, args.dim, args.clusters, args.threads)]
            words = [sys.executable, "-m", "benchmarks.clustering", "--contender", name, *sizes]
            runs.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    return {
        name: {key: spread([run[key] for run in runs]) for key in ("seconds", "peak_gb")}
        for name, runs in found.items()
    }


def passes(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The bank's pass beside an epoch of steps, both of the 256 images of `trainer_for`."""
    torch.set_num_threads(args.threads)
    rows = {}
    for method in ("swav", "simclr"):
        options = {"branch.xcorr.clusters": 12}
        trainer = trainer_for(
            method, preset="quick", precision=None, device=torch.device("cpu"), folder=folder, options=options,
            branches=("xcorr",),
        )  # fmt: skip
        times = interleaved({"steps": job_of(trainer), "pass": trainer._project_all}, rounds=args.rounds + 2)
        per_epoch = len(trainer.train) // trainer.config.train.batch_size / STEPS
        shares = [p / (s * per_epoch) for p, s in zip(times["pass"], times["steps"], strict=True)]
        rows[method] = {"pass_seconds": spread(times["pass"]), "of_an_epoch": spread(shares)}
    return rows


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_280_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contender", nargs=5, metavar=("NAME", "N", "DIM", "CLUSTERS", "THREADS"), default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "clustering-cpu.json")
    args = parser.parse_args()
    if args.contender is not None:
        name, *sizes = args.contender
        print(json.dumps(contend(name, *map(int, sizes))))
        return
    with tempfile.TemporaryDirectory() as folder:
        shares = passes(args, Path(folder))
    sizes = {key: getattr(args, key) for key in ("n", "dim", "clusters", "threads")}
    result = {**sizes, "bank_gb": args.n * args.dim * 4 / 1e9, "kmeans": kmeans(args), "passes": shares}
    for name, row in result["kmeans"].items():
        print(f"{name}: {row['seconds']['median']:.1f} s an iteration, peak {row['peak_gb']['median']:.2f} GB")
    for method, row in shares.items():
        share = row["of_an_epoch"]
        span = f"{share['median']:.3f} ({share['min']:.3f} to {share['max']:.3f})"
        print(f"{method} + xcorr: the bank's pass takes {span} of an epoch")
    write(args.out, result)


if __name__ == "__main__":
    main()
