"""kNN and retrieval against their oracles: seconds, ratios, peak memory, and the same numbers.

    python -m benchmarks.protocols [--n 20000] [--dim 512] [--classes 100] [--queries 1000] [--rounds 3] [--threads 1]
    python -m benchmarks.protocols --memory 268000x2048 [--queries 64]

Features look as after a ReLU (`benchmarks.probe.features`). Each contender runs in a process of its own, so that its
peak memory is its own; the time of imports and of making features is not counted.

kNN, k = 200, T = .1, of `queries` others: ours; lightly's `knn_predict` in blocks of 256, as its benchmarks call it;
scikit-learn's KNeighborsClassifier with the same weights (brute, cosine). Retrieval, complete rankings of n images
for the first `queries` of them: ours (seven metrics); pytorch-metric-learning's AccuracyCalculator (four of them).

--memory: the bank as a memory map of that shape in a temporary file, and the peak of resident memory while `queries`
neighbours are searched and `queries` rankings are scored; resident pages of the map count too.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.probe import features
from benchmarks.report import RESULTS, spread, write
from probekit.models.backbones import import_module
from probekit.probes.knn import nearest, vote
from probekit.probes.retrieval import rank_all

K, T = 200, 0.1


def split(n: int, dim: int, classes: int, queries: int) -> tuple[Any, Any, Any, Any]:
    """A bank with its labels, and queries with theirs."""
    x, y = features(n + queries, dim, classes)
    return x[:n], y[:n], x[n:], y[n:]


def knn_ours(n: int, dim: int, classes: int, queries: int) -> Callable[[], float]:
    """Accuracy of our votes."""
    bank, labels, asked, truth = split(n, dim, classes, queries)

    def run() -> float:
        cosine, rows = nearest(bank, asked, k=K, device="cpu")
        votes = vote(cosine, labels[rows], k=K, temperature=T, classes=classes)
        return float((votes.argmax(1) == truth).mean())

    return run


def knn_lightly(n: int, dim: int, classes: int, queries: int) -> Callable[[], float]:
    """lightly's, with both sides normalised first as its KNNClassifier does."""
    import_module("torchvision")
    from lightly.utils.benchmarking.knn import knn_predict

    arrays = split(n, dim, classes, queries)
    bank, labels, asked, truth = map(torch.from_numpy, arrays)

    def run() -> float:
        unit = torch.nn.functional.normalize(bank, dim=1).T.contiguous()
        rows = torch.nn.functional.normalize(asked, dim=1)
        parts = (rows[start : start + 256] for start in range(0, len(rows), 256))
        found = [knn_predict(part, unit, labels, classes, knn_k=K, knn_t=T)[:, 0] for part in parts]
        return float((torch.cat(found) == truth).double().mean())

    return run


def knn_sklearn(n: int, dim: int, classes: int, queries: int) -> Callable[[], float]:
    """scikit-learn's."""
    from sklearn.neighbors import KNeighborsClassifier

    bank, labels, asked, truth = split(n, dim, classes, queries)

    def run() -> float:
        model = KNeighborsClassifier(K, weights=lambda d: np.exp((1 - d) / T), metric="cosine", algorithm="brute")
        return float((model.fit(bank, labels).predict(asked) == truth).mean())

    return run


def retrieval_ours(n: int, dim: int, classes: int, queries: int) -> Callable[[], float]:
    """MAP of the first `queries` by all."""
    x, y = features(n, dim, classes)
    return lambda: float(rank_all(x, y, seed=0, device="cpu", queries=queries)[0][:, 2].mean())


def retrieval_peer(n: int, dim: int, classes: int, queries: int) -> Callable[[], float]:
    """pytorch-metric-learning's mAP, of the first `queries` by all."""
    import_module("torchvision")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    x, y = map(torch.from_numpy, features(n, dim, classes))
    names = ("precision_at_1", "mean_average_precision", "mean_average_precision_at_r", "r_precision")
    calculator = AccuracyCalculator(
        include=names, k=n - 1, knn_func=CustomKNN(CosineSimilarity(), batch_size=256), device=torch.device("cpu")
    )

    def run() -> float:
        found = calculator.get_accuracy(x[:queries], y[:queries], x, y, ref_includes_query=True)
        return float(found["mean_average_precision"])

    return run


JOBS = {
    "knn, ours": knn_ours,
    "knn, lightly": knn_lightly,
    "knn, scikit-learn": knn_sklearn,
    "retrieval, ours": retrieval_ours,
    "retrieval, pytorch-metric-learning": retrieval_peer,
}


def in_process(job: str, shape: dict[str, int], threads: int) -> dict[str, Any]:
    """One run of a job, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.protocols", "--job", job, "--threads", str(threads)]
    words += [word for name, value in shape.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(job: str, shape: dict[str, int]) -> dict[str, Any]:
    """Seconds, the score, and how far the peak of memory rose above what was there before."""
    run = JOBS[job](**shape)
    before = peak()
    started = time.perf_counter()
    score = run()
    return {"seconds": time.perf_counter() - started, "score": score, "rise_gb": peak() - before, "peak_gb": peak()}


def compare(shape: dict[str, int], rounds: int, threads: int) -> dict[str, Any]:
    """Every job in turns; seconds a query, and ratios to ours."""
    runs: dict[str, list[dict[str, Any]]] = {job: [] for job in JOBS}
    for _ in range(rounds):
        for job in JOBS:
            runs[job].append(in_process(job, shape, threads))
            print(f"  {job}: {runs[job][-1]}", flush=True)
    result: dict[str, Any] = {"shape": shape, "threads": threads, "jobs": {}}
    for job, found in runs.items():
        ours = runs[f"{job.split(',')[0]}, ours"]
        result["jobs"][job] = {
            "ms_a_query": spread([1000 * run["seconds"] / shape["queries"] for run in found]),
            "times_ours": spread([a["seconds"] / b["seconds"] for a, b in zip(found, ours, strict=True)]),
            "rise_gb": max(run["rise_gb"] for run in found),
            "score": found[0]["score"],
        }
    return result


def memory(n: int, dim: int, queries: int) -> dict[str, Any]:
    """Peak memory at a large bank, and seconds a query."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.npy"
        bank = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dim))
        rng = np.random.default_rng(0)
        for start in range(0, n, 4096):
            bank[start : start + 4096] = rng.standard_normal((min(4096, n - start), dim), dtype=np.float32)
        del bank
        x, y = np.load(path, mmap_mode="c"), np.arange(n) % 1000
        row: dict[str, Any] = {"shape": [n, dim], "queries": queries, "before_gb": peak()}
        jobs: dict[str, Callable[[], Any]] = {
            "knn": lambda: nearest(x, x[:queries], k=K, device="cpu"),
            "retrieval": lambda: rank_all(x, y, seed=0, device="cpu", queries=queries),
        }
        for name, run in jobs.items():
            started = time.perf_counter()
            run()
            row[name] = {"s_a_query": (time.perf_counter() - started) / queries, "peak_gb": peak()}
            print(f"  {name}: {row[name]}", flush=True)
        return row


def peak() -> float:
    """Highest resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("n", 20_000), ("dim", 512), ("classes", 100), ("queries", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", help="NxD")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = {name: getattr(arguments, name) for name in ("n", "dim", "classes", "queries")}
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        if arguments.job:
            print(json.dumps(one(arguments.job, shape)))
        elif arguments.memory:
            n, dim = map(int, arguments.memory.split("x"))
            write(RESULTS / "protocols-memory-cpu.json", {"memory": memory(n, dim, arguments.queries)})
        else:
            write(RESULTS / "protocols-cpu.json", compare(shape, arguments.rounds, arguments.threads))


if __name__ == "__main__":
    main()
