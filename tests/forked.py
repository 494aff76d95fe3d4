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
    "torch",
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
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    into = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(into, stream.fileno())
    from probekit.cli import main

    sys.argv = ["probekit", *command]
    main()


@contextmanager
def forked_children() -> Iterator[None]:
    """The children of a sweep come from the server."""
    from probekit.sweep import jobs

    with patch.object(jobs, "start", Probekit):
        yield
