"""Child processes for tests, from a server that has imported once what takes long, and nothing of this tree."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

SERVER = get_context("forkserver")
SLOW = (
    "torch._dynamo",  # the first optimizer imports it
    "torch.utils.tensorboard",
    "pydantic",
    "hypothesis",
    "scipy.stats",
    "sklearn.linear_model",
    "matplotlib.pyplot",
    "skimage",
    "h5py",
    "cv2",
)
SERVER.set_forkserver_preload([*SLOW])


class Probekit:
    """`probekit COMMAND` as a child of the server, with as much of `subprocess.Popen` as a sweep needs."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self._process = SERVER.Process(target=_run, args=(command, log, Path.cwd(), dict(environment)))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _run(command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    probekit(*command, cwd=folder, out=log, err=log)


def probekit(*arguments: str, cwd: Path, out: Path, err: Path) -> None:
    """In a child: `probekit ARGUMENTS` in a folder, with what it prints added to these files or named pipes."""
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    from probekit.cli import main

    sys.argv = ["probekit", *arguments]
    main()


@contextmanager
def forked_children() -> Iterator[None]:
    """The children of a sweep come from the server."""
    from probekit.sweep import jobs

    with patch.object(jobs, "start", Probekit):
        yield
