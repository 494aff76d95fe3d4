"""Child processes for tests, from a server that has imported once what takes long, and nothing of this tree."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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
STRENGTHS = (1e-4, 1e-2)  # of a probe, where a test looks at no choice of them: the quickest to fit


class Job:
    """A child of the server, with as much of `subprocess.Popen` as a sweep needs: does `main` with COMMAND as words."""

    def __init__(
        self,
        main: Callable[[], None],
        command: list[str],
        log: Path,
        environment: Mapping[str, str],
        several: Sequence[str] = (),
    ) -> None:
        assert not several
        with log.open("a") as file:
            file.write(f"$ probekit {shlex.join(command)}\n")
        self._process = SERVER.Process(target=_run, args=(main, command, log, Path.cwd(), dict(environment)))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _run(main: Callable[[], None], command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    typed(main, *command, cwd=folder, out=log, err=log)


def typed(main: Callable[[], None], *arguments: str, cwd: Path, out: Path, err: Path) -> None:
    """In a child: `probekit ARGUMENTS` in a folder, with what it prints added to these files or named pipes."""
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.argv = ["probekit", *arguments]
    main()


def probekit() -> None:
    """The command, of the tree that the child is of."""
    from probekit.cli import main

    main()


def probekit_of_few_strengths() -> None:
    """The command, with C chosen as in tests/conftest.py."""
    from probekit.probes import protocol

    with patch.object(protocol, "GRID", STRENGTHS):
        probekit()


@contextmanager
def forked_children(main: Callable[[], None] = probekit) -> Iterator[None]:
    """The children of a sweep come from the server."""
    from probekit.sweep import jobs

    with patch.object(jobs, "start", partial(Job, main)):
        yield
