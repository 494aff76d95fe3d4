"""Several processes: images/s against one with as many threads, and against torch's DistributedDataParallel.

    python -m benchmarks.ranks [--rounds 5] [--steps 4] [--size 64] [--out FILE]

Speed: simclr at preset quick. Two processes of one thread against one of two threads, each with the same batch; and in
the same two processes, in turns, the trainer's step against one whose gradients DistributedDataParallel averages, on
the same method with the same batch norm over all images. On a CPU torch has no such batch norm; `plain` is its own, of
each process's images alone, which is another computation. A busy machine disturbs the first comparison, the second
hardly; processor time is beside both.

Counts: what a step of each method at preset paper sends, by number and bytes, counted with torch's group of processes
that are not there. Rows of images (projections, embeddings for the health numbers) grow with the batch, the rest does
not depend on it. `--plan` computes from these and from the cost model what more GPUs would give.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch._C._distributed_c10d import TCPStore
from torch.nn.parallel import DistributedDataParallel

from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.step import trainer_for
from probekit import ranks
from probekit.config import fitted, resolve
from probekit.methods.base import Method, Step
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.train import step as step_file
from probekit.train.cost import step_cost
from probekit.train.dry_run import KNOWN
from probekit.train.loop import Trainer
from probekit.train.plan import unite
from probekit.train.step import build_step
from probekit.views.recipes import Views

CPU = torch.device("cpu")
METHOD, PROCESSES, BATCH = "simclr", 2, 32
IMAGES = 8  # a batch whose bytes are counted

# The plan's assumptions: bytes/s of a link, seconds of a small collective, and of each doubling of the links. NVLink 4
# moves 450 GB/s each way on paper; a 100 Gb cable is that of a whole machine.
NETWORKS = {"NVLink": (350e9, 15e-6, 2e-6), "100 Gb Ethernet": (10e9, 30e-6, 20e-6)}
MACHINE = 8  # GPUs
GPUS = (2, 8, 64, 512)
# Not barlow-twins and vicreg: every process computes their losses of the whole batch, which is no small part of a step.
PLANNED = (("conrec", 16), ("simclr", 256), ("simclr", 4096), ("byol", 4096), ("swav", 4096))
FEW = 2  # images, whose step is mostly launches
MANY = 1_281_167  # images to train on: ImageNet's, so that no setting is fitted to a small set


class Wrapped(nn.Module):
    """What DistributedDataParallel wraps: a module whose forward pass is the method's step."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: Views) -> tuple[Tensor, Step]:
        """The loss, which it looks for, and all else."""
        step = type(self.method).step(self.method, views)  # the class's: the method's own attribute is this module
        return step.loss, step


def job_of(trainer: Trainer, steps: int, *, ddp: bool) -> Callable[[], None]:
    """So many steps of the trainer, or of one whose gradients torch averages."""
    images, own, batch = trainer.train.images, trainer.eager_step, trainer.config.train.batch_size
    index = ranks.mine(torch.arange(batch))
    if ddp:
        # Torch refuses its own kind of synced batch norm on a CPU; ours, which is of that kind, runs there.
        with patch.object(DistributedDataParallel, "_passing_sync_batchnorm_handle", lambda self, module: None):
            wrapped = DistributedDataParallel(Wrapped(trainer.method), forward_sync_buffers=False)
        trainer.method.step = lambda views: wrapped(views)[1]  # type: ignore[method-assign]

    def job() -> None:
        with patch.object(step_file, "averaged", (lambda tensors: None) if ddp else ranks.averaged):
            for _ in range(steps):
                own(index, images[index])

    return job


def contend(rank: int, n: int, port: int, args: argparse.Namespace, out: Path) -> None:
    """In a process of its own: seconds of each contender, wall and processor."""
    torch.set_num_threads(PROCESSES // n)
    if n > 1:
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=n)
    options = {"train.batch_size": BATCH, "views.max_size": args.size}
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs: dict[str, Callable[[], None]] = {}
        for name in ("ours", "ddp", "plain") if n > 1 else ("one",):
            trainer = trainer_for(
                METHOD, preset="quick", precision="fp32", device=CPU, folder=Path(folder), options=options
            )
            if n > 1 and name != "plain":
                unite(trainer.method, BATCH)
            jobs[name] = job_of(trainer, args.steps, ddp=name in ("ddp", "plain"))
        clocks = {name: [time.process_time()] for name in jobs}

        def timed(name: str) -> Callable[[], None]:
            def job() -> None:
                started = time.process_time()
                jobs[name]()
                clocks[name].append(time.process_time() - started)

            return job

        wait = (lambda: dist.barrier()) if n > 1 else (lambda: None)
        found = interleaved({name: timed(name) for name in jobs}, rounds=args.rounds, before=wait)
    if rank == 0:
        cpu = {name: seconds[2:] for name, seconds in clocks.items()}
        torch.save({"wall": found, "processor": cpu}, out)


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Both comparisons."""
    found: dict[str, dict[str, list[float]]] = {"wall": {}, "processor": {}}
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, PROCESSES):
            out = Path(folder) / f"{n}.pt"
            store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
            os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
            multiprocessing.spawn(contend, args=(n, store.port, args, out), nprocs=n)  # type: ignore[no-untyped-call]
            for clock, seconds in torch.load(out).items():
                found[clock] |= seconds
    wall = found["wall"]
    images = args.steps * BATCH
    rates = {name: spread([images / seconds for seconds in times]) for name, times in wall.items()}
    ratios = {
        f"{clock}: ours / {peer}": spread([b / a for a, b in zip(times["ours"], times[peer], strict=True)])
        for clock, times in found.items()
        for peer in ("ddp", "plain")
    }
    ratios["wall: two of one thread / one of two"] = spread(
        [b / a for a, b in zip(sorted(wall["ours"]), sorted(wall["one"]), strict=True)]
    )
    return {"images/s": rates, "ratios": ratios, "seconds": found}


@contextmanager
def counting(kinds: dict[str, list[int]]) -> Iterator[None]:
    """Notes how many bytes each process gives to each collective, by what it is for."""

    def noted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def collective(numbers: Tensor, *given: Any) -> Any:
            kinds.setdefault("statistics" if numbers.ndim == 2 else "gradients", []).append(numbers.nbytes)
            return plain(numbers, *given)

        return collective

    def everyones(x: Tensor) -> Tensor:
        kinds.setdefault("statistics" if x.ndim == 1 else "rows", []).append(x.nbytes)
        return torch.cat([x] * ranks.size())

    reduced = patch.object(dist, "all_reduce", noted(dist.all_reduce))
    with reduced, patch.object(ranks, "_everyones", everyones):
        yield


def counted(name: str) -> dict[str, Any]:
    """Collectives of a step of a method at preset paper, and their bytes; of rows, a byte count an image."""
    options = {"train.batch_size": 2 * IMAGES, "train.precision": "fp32", "views.max_size": 32, "data.max_size": 32}
    if name == "moco-v2":
        options["method.group"] = IMAGES
    config = resolve(name, get(METHODS, "method", name), preset="paper", seed=0, options=options)
    method = build_method(config, channels=1, classes=4).train()
    unite(method, 2 * IMAGES)
    method.plan(batches=4, epochs=5)
    pixels = torch.randint(256, (2 * IMAGES, 1, 32, 32), dtype=torch.uint8)
    step = build_step(config, method, pixels, (torch.arange(2 * IMAGES) % 4).numpy())
    kinds: dict[str, list[int]] = {}
    with counting(kinds):
        step(ranks.mine(torch.arange(2 * IMAGES)), ranks.mine(pixels))
    gradients = max(kinds.get("gradients", [0]))
    others = sum(kinds.get("gradients", [])) - gradients
    return {
        "collectives": sum(map(len, kinds.values())),
        "gradients": gradients,
        "statistics": sum(kinds.get("statistics", [])),
        "rows of an image": sum(kinds.get("rows", [])) // IMAGES,
        "others": others,
        "parameters": sum(p.numel() for p in method.parameters() if p.requires_grad),
    }


def counts(names: list[str]) -> dict[str, Any]:
    """What every method sends in a step; the group has a second process that is not there."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=PROCESSES)
    found = {}
    for name in names:
        found[name] = row = counted(name)
        cells = (row["collectives"], *(f"{row[key] / 1e6:.3g}" for key in list(row)[1:5]))
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)
    dist.destroy_process_group()
    return found


def seconds(method: str, batch: int) -> float:
    """What the cost model predicts of a step on one H100, bf16, preset paper, 128 px."""
    options = {"train.batch_size": batch, "train.precision": "bf16"}
    config = resolve(method, get(METHODS, "method", method), preset="paper", seed=0, options=options)
    config, _ = fitted(config, typed=set(), images=MANY)  # swav's queue holds a whole batch
    return sum(KNOWN[0].predicted(step_cost(config, channels=1, size=(128, 128)).parts).values())


def planned(row: dict[str, Any], batch: int, gpus: int, network: str, ends: tuple[float, float]) -> float:
    """Seconds of a step: its predicted work, and each collective's latency and bytes, none of it beside the other.

    Over Ethernet machines of eight GPUs, linked by NVLink inside, share a cable each.

    `ends`: the work of `FEW` images, and of the whole batch; between, it grows evenly.
    """
    few, whole = ends
    time = few + (whole - few) * max(0.0, batch / gpus - FEW) / (batch - FEW)
    given = 2 * (row["gradients"] + row["statistics"] + row["others"]) + batch * row["rows of an image"]
    machines = 1 if network == "NVLink" else -(-gpus // MACHINE)
    for name, ends_of in (("NVLink", gpus // machines), (network, machines)):
        across, latency, hop = NETWORKS[name]
        if ends_of > 1:
            time += row["collectives"] * (latency + hop * math.log2(ends_of)) + (1 - 1 / ends_of) * given / across
    return time


def plan(counts: dict[str, Any]) -> list[str]:
    """The table of docs/scale.md: images/s, and what of so many times one GPU's that is."""
    lines = []
    for method, batch in PLANNED:
        ends = seconds(method, FEW), seconds(method, batch)
        alone = batch / ends[1]
        for network in NETWORKS:
            cells = []
            for gpus in GPUS:
                if batch % gpus or batch < gpus:
                    cells.append("-")
                    continue
                rate = batch / planned(counts[method], batch, gpus, network, ends)
                cells.append(f"{rate:,.0f} ({rate / alone:.1f} times, {rate / alone / gpus:.0%})")
            lines.append(f"| {method}, batch {batch:,} | {network} | {alone:,.0f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--methods", default=",".join(METHODS), help="whose collectives are counted")
    parser.add_argument("--plan", action="store_true", help="print the plan's table of the counts in --out")
    parser.add_argument("--out", type=Path, default=RESULTS / "ranks-cpu.json")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    if args.plan:
        print(*plan(json.loads(args.out.read_text())["counts"]), sep="\n")
        return
    result = {"load": load, "counts": counts([name for name in args.methods.split(",") if name]), **speed(args)}
    for name, ratio in result["ratios"].items():
        print(f"{name}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    write(args.out, result)


if __name__ == "__main__":
    main()
