"""Stands in for probekit in tests of what happens to a sweep's children: the same folders in milliseconds, no torch.

As a script it is a child (`pretrain`, `probe`, `heatmap`); `in_place` lets the real sweep command have such children.
Scores are a function of (run, epoch). `method.alpha=13` fails after an epoch, and 14 is killed then, once. STUB_HOLD=2:
the second epoch waits until the run is asked to stop, or a file `go` is there: no test depends on how long one takes.
"""

import hashlib
import json
import os
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from probekit.config import resolve  # noqa: E402
from probekit.run import Run, create_run, write_json  # noqa: E402

FAILS, DIES = 13.0, 14.0
FOREVER = 200.0  # seconds: longer than any test waits, and none is left behind for good


class Method:
    pooling = "gap"
    recipe = "simclr"
    defaults: ClassVar[dict[str, Any]] = {}
    spans: ClassVar[dict[str, str]] = {}

    def __init__(self, encoder: object, *, alpha: float = 1.0, decoder_width: float = 1.0) -> None: ...

    @classmethod
    def suited(cls, options: dict[str, Any], **about: Any) -> tuple[dict[str, Any], list[str]]:
        return options, []


def share(*key: object) -> float:
    """A number in [0, 1] that belongs to the key."""
    return hashlib.sha256(repr(key).encode()).digest()[0] / 255


def pretrain(options: Namespace) -> None:
    run = Run(Path("runs") / options.name)
    if options.resume:
        run.update(state="running")
    else:
        config = resolve(
            options.command[1],
            Method,
            preset=options.preset,
            seed=options.seed,
            overrides=options.set,
            options={"train.epochs": options.epochs},
        )
        from probekit.h5 import read_info

        data = {"path": options.data, "hash": read_info(Path(options.data)).content_hash}
        content = {"state": "running", "config": config.to_dict(), "dataset": data}
        create_run(run.path, content, overwrite=options.overwrite)
    with run.locked("train"):
        train(run)


def train(run: Run) -> None:
    settings = run.read()["config"]
    last = run.checkpoints / "last.pt"
    done = int(last.read_text()) if last.exists() else 0
    run.keep_metrics(done)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    for epoch in range(done + 1, settings["train"]["epochs"] + 1):
        if str(epoch) == os.environ.get("STUB_HOLD"):
            hold(stop)
        if stop:
            run.update(state="interrupted")
            sys.exit("error: stopped, all saved")
        scores = {"val": share(run.name, epoch, "val"), "test": share(run.name, epoch, "test")}
        run.append_metrics({"epoch": epoch, "step": epoch, **scores})
        last.write_text(str(epoch))
        if settings["method_options"]["alpha"] == FAILS:
            run.update(state="failed")
            sys.exit("error: expected a finite loss, found nan")
        if settings["method_options"]["alpha"] == DIES and done == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    run.update(state="finished")


def hold(stop: list[int]) -> None:
    until = time.monotonic() + FOREVER
    while not stop and not Path("go").exists() and time.monotonic() < until:
        time.sleep(0.01)


def probe(options: Namespace) -> None:
    from tests.sweep.made import CHANCE, ENCODER, linear, result

    run = Run(Path("runs") / options.command[1])
    protocol = options.protocol or "tuned"
    rows = [linear(ENCODER, share(run.name, protocol), corner=share(run.name, "corner"))]
    if not options.no_baselines:
        rows.append(linear(CHANCE, 0.25))
    content = run.read()
    about = {"data_hash": content["dataset"]["hash"], "epoch": content["config"]["train"]["epochs"]}
    write_json(run.results / f"linear-{protocol}-last.json", result("linear", rows, protocol=protocol, **about))


def heatmap(options: Namespace) -> None:
    """A picture of runs that are all finished."""
    runs = [Run(Path("runs") / name) for name in options.command[1:]]
    assert all(run.read()["state"] == "finished" for run in runs)
    options.out.write_text(" ".join([*(run.name for run in runs), options.maps, str(options.perturb)]))


@contextmanager
def in_place() -> Iterator[None]:
    """The sweep command has this file as its children, and leaves out what loads torch."""
    from probekit.registry import METHODS
    from probekit.sweep import dry_run, jobs, request
    from probekit.sweep import start as command

    with (
        patch.dict(METHODS, dict.fromkeys(METHODS, "tests.sweep.stub:Method")),
        patch.object(jobs, "COMMAND", (sys.executable, __file__)),
        patch.object(request, "built", lambda planned, device: planned),
        patch.object(dry_run, "run_hours", lambda planned, shapes: [None] * len(planned)),
        patch.object(command, "_gpus", lambda device, each: os.environ.get("STUB_GPUS", "").split()),
        patch.object(command, "_share", lambda session, at_once, gpus: (at_once or len(gpus) or 2, 1)),
    ):
        yield


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("command", nargs="*")
    for name, kind in {"data": str, "name": str, "preset": str, "epochs": int, "seed": int, "protocol": str}.items():
        parser.add_argument(f"--{name}", type=kind)
    for name, kind in {"maps": str, "perturb": int, "out": Path}.items():  # of `heatmap`
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--device")
    parser.add_argument("--log")
    parser.add_argument("--set", action="append", default=[])
    for name in ("resume", "overwrite", "no-baselines"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "any")
    print("at work", json.dumps(sys.argv), "on GPU", gpu, "threads", os.environ["OMP_NUM_THREADS"], flush=True)
    {"pretrain": pretrain, "probe": probe, "heatmap": heatmap}[options.command[0]](options)


if __name__ == "__main__":
    main()
