"""One run in several processes: torchrun is started for `--gpus`, and whoever it started joins the others.

Nothing here loads torch but what is asked for.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TypeVar
from uuid import uuid4

from probekit.run import Run

OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Made = TypeVar("Made")


def is_started() -> bool:
    """Whether torchrun started this process as one of several."""
    return all(name in os.environ for name in OF_TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1


def check_launch(processes: int, device: str) -> None:
    """Refuses more processes than GPUs, and a device that only one of them could have."""
    most = 4 * (os.cpu_count() or 1)  # of the CPU's processes: each takes half a gigabyte, and a core is shared by four
    if device == "cpu" and processes > most:
        raise ValueError(f"expected --gpus of at most {most} with --device cpu here, found {processes}; type --gpus 2")
    from probekit.device import find_device

    kind = find_device(device).type
    if ":" in device:
        raise ValueError(f"expected --device auto, cuda or cpu with --gpus, found {device}; leave --device out")
    if kind == "cpu" and device != "cpu":
        raise ValueError(
            f"expected {processes} GPUs for --gpus {processes}, found none; for as many processes on this machine's "
            "cores add: --device cpu"
        )
    import torch

    found = torch.cuda.device_count()
    if kind == "cuda" and processes > found:
        raise ValueError(
            f"expected at most the {found} GPUs of this machine for --gpus, found {processes}; type: --gpus {found}"
        )


def launched(processes: int, device: str, *, dry_run: bool) -> bool:
    """Whether several processes have done this very command; False in each of them, and where one is asked for."""
    if dry_run and (processes > 1 or is_started()):
        raise ValueError("expected --dry-run for one process, whose step it counts, found several; leave --gpus out")
    if processes == 1 or is_started():
        return False
    launch(processes, device)
    return True


def launch(processes: int, device: str) -> None:
    """Does this very command in so many processes, as `torchrun --standalone --nproc-per-node N -m probekit` would.

    Returns when all have ended well; a SystemExit if one has not, which has said why.
    """
    check_launch(processes, device)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # many lines, of what one line of ours tells
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    with TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "probekit", *sys.argv[1:])
        except (ChildFailedError, SignalException):
            sys.exit(1)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Inside this process is one of those that torchrun started; alone where it started none.

    What ends one of them ends all, and one of them says what it was.
    """
    if not is_started():
        yield
        return
    from probekit.train.watch import join

    with join(device):
        yield


def once(make: Callable[[], Made]) -> Made:
    """What is made before torch is loaded; of several processes by the first, for all."""
    if not is_started():
        return make()
    from probekit.ranks import from_first

    return from_first(make)


def typed_again(run: Run) -> str:
    """The command that goes on with a run in as many processes; those of several machines are not in it."""
    again = f"probekit pretrain --resume --name {quote(run.argument)}"
    if not is_started() or os.environ["WORLD_SIZE"] != os.environ["LOCAL_WORLD_SIZE"]:
        return again
    from torch import distributed

    return f"{again} --gpus {os.environ['WORLD_SIZE']}{' --device cpu' * (distributed.get_backend() == 'gloo')}"
