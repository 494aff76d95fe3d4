"""The cost of the loop: a whole training step over the bare forward and backward of the same model, in the same run.

    python -m benchmarks.step [--preset quick] [--methods conrec,simclr] [--precision bf16] [--device cpu] [--out FILE]

Bare: encoder, and where the method has them decoder and head, on a fixed batch, sum of outputs, backward; the same
precision and layout. Whole: images by index, views, corruption, losses, backward, optimizer, the read of the losses.
On a GPU both are CUDA graphs. The profile says where the rest goes; its parts are launched kernel by kernel, so on a
GPU they do not add up to a step.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import RESULTS, interleaved, spread, write
from probekit.config import fitted, resolve
from probekit.data.generate import generate
from probekit.data.split import open_split
from probekit.device import allow_tf32, choose_device, with_precision
from probekit.methods.conrec import ConRec
from probekit.registry import METHODS, get
from probekit.restore.build import build_method, on_device
from probekit.run import create_run
from probekit.train.evaluate import Monitor
from probekit.train.loop import Trainer
from probekit.train.step import WARM_UP
from probekit.views.recipes import Views


def trainer_for(
    name: str,
    *,
    preset: str,
    precision: str | None,
    device: torch.device,
    folder: Path,
    options: Mapping[str, Any] = {},
    branches: Sequence[str] = (),
) -> Trainer:
    """A trainer of `method` on 256 rendered images, as `probekit pretrain` builds it."""
    data = folder / "shapes.h5"
    if not data.exists():
        generate("rect-tri", out=data, n=256, n_test=8, compression="none", workers=1)
    kind = get(METHODS, "method", name)
    asked = dict(options) | ({} if precision is None else {"train.precision": precision})
    config = resolve(name, kind, preset=preset, seed=0, options=asked, branches=branches)
    config = with_precision(fitted(config, typed=asked, images=256)[0], device)
    train = open_split(data, "train", device, max_size=config.data.max_size)
    method = build_method(config, channels=1)
    method = on_device(method, device)
    run = create_run(folder / name, {}, overwrite=True)
    monitor = Monitor(train, None, None, seed=0)
    return Trainer(config=config, method=method, run=run, train=train, monitor=monitor, header={}, say=print)


def first_views(trainer: Trainer) -> Views:
    """Views of the first batch of images."""
    index = torch.arange(trainer.config.train.batch_size, device=trainer.device)
    return trainer.eager_step.views(index, trainer.train.images[index])


def bare_step(trainer: Trainer) -> Callable[[], None]:
    """Forward and backward of the model alone, on a batch that stays the same."""
    method = trainer.method
    assert isinstance(method, ConRec)
    x = first_views(trainer).inputs.flatten(0, 1)

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=trainer.config.train.precision == "bf16"):
            features = method.encoder(x)
            out = features.pooled.sum() * 1e-6
            if method.head is not None:
                out = out + method.head(features.pooled).sum() * 1e-6
            if method.decoder is not None:
                out = out + method.decoder(features.stages).sum() * 1e-6
        method.zero_grad(set_to_none=True)
        out.backward()

    return step


def recorded(job: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """On a GPU the replay of the job as a CUDA graph, as the trainer records its step; elsewhere the job itself."""
    if device.type != "cuda":
        return job
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            job()
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        job()
    return graph.replay


def whole_step(trainer: Trainer) -> Callable[[], None]:
    """One step of the trainer, its bookkeeping included."""
    order = torch.arange(len(trainer.train), device=trainer.device)
    size = trainer.config.train.batch_size
    count = 0

    def step() -> None:
        nonlocal count
        start = count % (len(order) // size) * size
        index = order[start : start + size]
        trainer.advance(index, trainer.train.images[index])
        count += 1

    return step


def profile(trainer: Trainer, *, rounds: int) -> dict[str, float]:
    """Median milliseconds of each part of a step, measured apart from one another."""
    method = trainer.method
    views = first_views(trainer)

    def forward() -> Tensor:
        with torch.autocast(views.inputs.device.type, torch.bfloat16, enabled=trainer.config.train.precision == "bf16"):
            return method.step(views).loss

    forward().backward()  # type: ignore[no-untyped-call]  # leaves gradients for the optimizer
    parts: dict[str, Callable[[], Any]] = {
        "views": lambda: first_views(trainer),
        "forward with losses": forward,
        "optimizer": trainer.optimizer.step,
    }
    timed = {name: synchronised(job, trainer.device) for name, job in parts.items()}
    return {k: 1e3 * spread(v)["median"] for k, v in interleaved(timed, rounds=rounds).items()}


def synchronised(job: Callable[[], Any], device: torch.device, *, times: int = 1) -> Callable[[], None]:
    """The job, `times` over, and the wait for the device."""

    def run() -> None:
        for _ in range(times):
            job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Float32 as torch comes, for a peer's pass: TF32 in convolutions, not in products; ours has it in neither."""
    allow_tf32(convolutions=True, products=False)
    try:
        yield
    finally:
        allow_tf32(convolutions=False, products=False)


def measure(
    name: str, *, preset: str, precision: str | None, device: torch.device, rounds: int, steps: int
) -> dict[str, Any]:
    """One method's row."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(name, preset=preset, precision=precision, device=device, folder=Path(folder))
        trainer.method.train()
        whole = whole_step(trainer)

        def whole_and_read() -> None:
            for _ in range(steps):
                whole()
            trainer._read_buffer()

        jobs = {
            "bare": synchronised(recorded(bare_step(trainer), device), device, times=steps),
            "whole": synchronised(whole_and_read, device),
        }
        times = interleaved(jobs, rounds=rounds)
        ratios = [w / b for w, b in zip(times["whole"], times["bare"], strict=True)]
        size = trainer.config.train.batch_size
        milliseconds = {
            k: {a: 1e3 * b / steps if a != "n" else b for a, b in spread(v).items()} for k, v in times.items()
        }
        return {
            "method": name,
            "preset": preset,
            "precision": trainer.config.train.precision,
            "batch_size": size,
            "view_size": list(trainer.eager_step.view_size),
            "ms_per_step": milliseconds,
            "ratio": spread(ratios),
            "images_per_second": 1e3 * size / milliseconds["whole"]["median"],
            "profile_ms": profile(trainer, rounds=rounds),
        }


def main() -> None:
    """Measures, prints a line a method, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--methods", default="conrec,simclr")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="a round: long enough for the clock")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    rows = []
    for name in arguments.methods.split(","):
        row = measure(
            name,
            preset=arguments.preset,
            precision=arguments.precision,
            device=device,
            rounds=arguments.rounds,
            steps=arguments.steps,
        )
        rows.append(row)
        bare, whole = (row["ms_per_step"][k]["median"] for k in ("bare", "whole"))
        ratio = row["ratio"]
        print(
            f"{name} preset {row['preset']} {row['precision']} batch {row['batch_size']}: bare {bare:.1f} ms, whole "
            f"{whole:.1f} ms, ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        )
        print("  " + ", ".join(f"{part} {ms:.2f} ms" for part, ms in row["profile_ms"].items()))
    out = arguments.out or RESULTS / f"step-{arguments.preset}-{device.type}.json"
    write(out, {"device": str(device), "rows": rows})


if __name__ == "__main__":
    main()
