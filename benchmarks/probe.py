"""The linear probe against scikit-learn's LogisticRegression, its default solver lbfgs, to the same objective.

    python -m benchmarks.probe [--shapes 1000x512x4,20000x512x100] [--threads 1] [--rounds 3] [--device cpu]
    python -m benchmarks.probe --per-pass 100000x2048x1000 [--threads 1]

Shapes are samples x features x classes; features are float32 and look as after a ReLU, C is 1. Timed is all of it: ours
from the features as given (centring, products of the columns, iterations), scikit-learn's `fit`. Threads are the same
for both (torch and BLAS).

Ours is run to its own tolerance, scikit-learn with its defaults (100 iterations), without that limit, and with ever
lower tolerances until its objective is as low as ours but for `EQUAL`; then on float64, since float32 does not get
there. Ours is also stopped as soon as it is as low as scikit-learn's default ends. The objective of each is computed
afterwards in float64.

--per-pass measures what one evaluation of objective and gradient costs at a shape that is too long to finish, and the
memory: ours by its parts, scikit-learn's as the difference of a fit of 3 and one of 1 iteration, over the evaluations
that it made. No time of a whole fit follows from it without the iterations.
"""

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.report import RESULTS, spread, write
from probekit.probes.linear import Problem, Space, fit, gram, inverse_curvature

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Shape = tuple[int, int, int]
Fit = Callable[[], tuple[NDArray[np.float64], NDArray[np.float64], int]]  # weights [K, D], biases [K], iterations

EQUAL = 1e-6  # of the objective
SIGNAL = 2.0  # length of the class means, in standard deviations of the noise
TOLERANCES = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)


def features(n: int, dim: int, classes: int, *, seed: int = 0) -> tuple[NDArray[np.float32], Ints]:
    """max(0, class mean + normal noise), float32 [n, dim], and labels [n]."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    means = (SIGNAL * rng.normal(size=(classes, dim)) / np.sqrt(dim)).astype(np.float32)
    x = rng.standard_normal((n, dim), dtype=np.float32)
    for start in range(0, n, 4096):  # the means of all rows at once would double the memory
        x[start : start + 4096] += means[y[start : start + 4096]]
    return np.maximum(x, 0, out=x), y


def objective(x: Floats, y: Ints, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> float:
    """scikit-learn's objective at C = 1, in float64."""
    total = float((weight**2).sum() / 2)
    for start in range(0, len(x), 4096):
        logits = x[start : start + 4096].astype(np.float64) @ weight.T + bias
        own = logits[np.arange(len(logits)), y[start : start + 4096]]
        top = logits.max(1)
        total += float((np.log(np.exp(logits - top[:, None]).sum(1)) + top - own).sum())
    return total


def ours(x: NDArray[np.float32], y: Ints, *, device: str, tol: float | None = None) -> Fit:
    """Our probe, features as they are."""

    def run() -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        space = Space.of(x, standardise=False)
        options = {} if tol is None else {"tol": tol}
        probe = fit(space.z, y, C=1.0, device=device, **options)
        assert space.basis is None  # fewer features than samples: `z` is `x` less its mean
        return probe.weight, probe.bias - probe.weight @ space.mean, probe.n_iter

    return run


def theirs(x: Floats, y: Ints, *, tol: float = 1e-4, max_iter: int = 100_000) -> Fit:
    """scikit-learn's LogisticRegression; two classes are not measured."""

    def run() -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(tol=tol, max_iter=max_iter).fit(x, y)
        return model.coef_.astype(np.float64), model.intercept_.astype(np.float64), int(model.n_iter_[0])

    return run


def timed(job: Fit, x: Floats, y: Ints) -> dict[str, Any]:
    """Seconds, iterations and objective of one fit."""
    started = time.perf_counter()
    weight, bias, n_iter = job()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "n_iter": n_iter, "objective": objective(x, y, weight, bias)}


def in_turns(jobs: dict[str, Fit], x: Floats, y: Ints, rounds: int) -> dict[str, dict[str, Any]]:
    """Each job once a round; seconds become a spread."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            runs[name].append(timed(job, x, y))
    return {
        name: {**found[0], "seconds": spread([run["seconds"] for run in found]), "all": [r["seconds"] for r in found]}
        for name, found in runs.items()
    }


def stop_at(x: NDArray[np.float32], y: Ints, goal: float, device: str) -> float:
    """The largest power-of-ten tolerance at which ours ends no higher than `goal`."""
    for exponent in range(1, 10):
        tol = 10.0**-exponent
        if timed(ours(x, y, device=device, tol=tol), x, y)["objective"] <= goal:
            return tol
    raise ValueError(f"expected an objective of {goal} or lower, found none")


def equal_tolerance(x: Floats, y: Ints, goal: float, budget: float) -> float | None:
    """The tolerance at which scikit-learn ends no higher than `goal`, tried for at most `budget` seconds."""
    started = time.perf_counter()
    for tol in TOLERANCES:
        if timed(theirs(x, y, tol=tol), x, y)["objective"] <= goal * (1 + EQUAL):
            return tol
        if time.perf_counter() - started > budget:
            break
    return None


def compare(shape: Shape, *, device: str, rounds: int, budget: float) -> dict[str, Any]:
    """One shape's row."""
    x, y = features(*shape)
    reference = timed(ours(x, y, device=device), x, y)["objective"]
    default = timed(theirs(x, y, max_iter=100), x, y)["objective"]
    jobs = {
        "ours": ours(x, y, device=device),
        "ours, stopped at scikit-learn's default": ours(x, y, device=device, tol=stop_at(x, y, default, device)),
        "scikit-learn, defaults": theirs(x, y, max_iter=100),
        "scikit-learn, default tolerance": theirs(x, y),
    }
    tol = equal_tolerance(x.astype(np.float64), y, reference, budget)
    if tol is not None:
        jobs["scikit-learn, to our objective"] = theirs(x.astype(np.float64), y, tol=tol)
    runs = in_turns(jobs, x, y, rounds)
    for run in runs.values():
        run["gap"] = run["objective"] / reference - 1
    pairs = {
        "at scikit-learn's default objective": ("ours, stopped at scikit-learn's default", "scikit-learn, defaults"),
        "defaults of both": ("ours", "scikit-learn, default tolerance"),
        "at our objective": ("ours", "scikit-learn, to our objective"),
    }
    ratios = {
        name: spread([b / a for a, b in zip(runs[us]["all"], runs[them]["all"], strict=True)])
        for name, (us, them) in pairs.items()
        if them in runs
    }
    print(f"{shape}, objective {reference:.6g}")
    for name, run in runs.items():
        seconds = run["seconds"]
        print(
            f"  {name}: {seconds['median']:.3f} s ({seconds['min']:.3f} to {seconds['max']:.3f}), "
            f"{run['n_iter']} iterations, {run['gap']:.1e} above"
        )
    for name, ratio in ratios.items():
        print(f"  {name}: {ratio['median']:.1f} times as fast ({ratio['min']:.1f} to {ratio['max']:.1f})")
    return {"shape": shape, "reference": reference, "their_tol": tol, "runs": runs, "ratio": ratios}


def per_pass(shape: Shape, *, device: str) -> dict[str, Any]:
    """Seconds of one evaluation and of the preparation, and peak memory."""
    _, dim, k = shape
    row: dict[str, Any] = {"shape": shape, "rss_gb": {}}
    x, y = features(*shape)
    row["rss_gb"]["features"] = peak()

    def clock(name: str, job: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = job()
        row[name] = time.perf_counter() - started
        print(f"  {name}: {row[name]:.2f} s, peak memory {peak():.2f} GB", flush=True)
        return result

    space = clock("ours, centring, s", lambda: Space.of(x, standardise=False))
    products = clock("ours, products of the columns, s", lambda: gram(space.z))
    clock("ours, preconditioner, s", lambda: inverse_curvature(products, k=k, C=1.0))
    w = torch.zeros((k, dim + 1), dtype=torch.float64, device=device)
    rows, codes = torch.from_numpy(space.z).to(device), torch.from_numpy(y).to(device)
    small = rows.float()
    clock("ours, evaluation in float32, s", lambda: Problem(small, codes, k, 1.0)(w.float()))
    clock("ours, evaluation in float64, s", lambda: Problem(rows, codes, k, 1.0)(w))
    row["rss_gb"]["ours"] = peak()
    clock("scikit-learn, 2 iterations and preparation, s", theirs(x, y, max_iter=2))  # ours stays in memory
    row["rss_gb"]["with scikit-learn"] = peak()
    return row


def peak() -> float:
    """Highest resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def shapes(text: str) -> list[Shape]:
    """`1000x512x4,...` -> [(1000, 512, 4), ...]."""
    found = []
    for part in text.split(","):
        n, dim, k = (int(side) for side in part.split("x"))
        found.append((n, dim, k))
    return found


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=shapes, default=shapes("1000x512x4,20000x512x100"))
    parser.add_argument("--per-pass", type=shapes, default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=300, help="seconds to look for scikit-learn's tolerance")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        passes = [per_pass(shape, device=arguments.device) for shape in arguments.per_pass]
        rows = [
            compare(shape, device=arguments.device, rounds=arguments.rounds, budget=arguments.budget)
            for shape in ([] if passes else arguments.shapes)
        ]
    device = torch.device(arguments.device).type
    out = arguments.out or RESULTS / f"probe-{'pass-' if passes else ''}{device}.json"
    write(out, {"device": device, "threads": arguments.threads, "rows": rows, "per_pass": passes})


if __name__ == "__main__":
    main()
