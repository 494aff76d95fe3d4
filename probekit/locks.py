"""One process at a time: lock files that the system frees when their process ends, however it ends."""

import errno
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network file systems have none


def lock(handle: int, *, shared: bool = False) -> bool:
    """Locks an open file for this process (or `shared` with others) until it is closed; False if another holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds a lock file for this process alone, and keeps in it who holds it.

    A ValueError if another process holds it: one line with `what` it is for, and who.
    """
    with path.open("a+b") as file:
        if not any(_tries(file.fileno())):
            raise ValueError(in_use(what, _holder(path)))
        file.truncate(0)
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({command[:200]})\n".encode(errors="replace"))
        file.flush()
        yield


def _tries(handle: int) -> Iterator[bool]:
    """A few, as `holder` holds the lock for a moment to ask for it."""
    for pause in (0.0, 0.05, 0.1):
        time.sleep(pause)
        yield lock(handle)


def in_use(what: str, who: str) -> str:
    """The one line for what another process, `who`, holds."""
    return f"expected {what} for this command alone, found {who} at work; wait for it, or end it"


def holder(path: Path) -> str | None:
    """Who holds a lock file, in words; None if nobody does."""
    if path.is_symlink() or not path.is_file():  # we write no links
        return None
    with path.open("rb") as file:
        return None if lock(file.fileno(), shared=True) else _holder(path)  # others may ask at the same time


def _holder(path: Path) -> str:
    said = path.read_text(errors="replace").strip()
    return said or "another process"
