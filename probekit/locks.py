"""One process at a time, on one machine or on several that share a disk.

Two means, held together. `flock`: the system frees it however a process ends, but some network file systems keep it to
each machine (Lustre mounted with localflock, BeeGFS as it comes), or have none. And a lease beside it, a file that says
who holds it on which machine, and whose time of change the holder renews: who is silent for long is taken for dead.
"""

import errno
import os
import platform
import shlex
import socket
import sys
import threading
import time
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import SIGTERM

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network file systems have none
BEAT = 10.0  # seconds from one sign of life of who holds a lease to the next
DEAD = 120.0  # seconds without one, after which it is another's: longer than a file server's restart usually takes
MOST = 1000  # characters of a lease
SOMEONE = "another process"


def lock(handle: int, *, shared: bool = False) -> bool:
    """Locks an open file for this process (or `shared` with others) until it is closed; False if another holds it."""
    return _flock(handle, shared=shared) is not False


def _flock(handle: int, *, shared: bool) -> bool | None:
    """As `lock`; None where there are no such locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds a lock file, and the lease beside it, for this process alone.

    A ValueError if another process holds it: one line with `what` it is for, and who. Where another machine takes the
    lease, as this process gave no sign of life for `DEAD` seconds, it is asked to stop as by SIGTERM; a ValueError then
    says so in the end.
    """
    with path.open("a+b") as file:
        found = None
        for pause in (0.0, 0.05, 0.1):  # `holder` holds the lock for a moment to ask for it
            time.sleep(pause)
            found = _flock(file.fileno(), shared=False)
            if found is not False:
                break
        lease, ours = _lease(path), _ours()
        who = _who(lease) if found is False else _take(lease, ours, alone=found is True)
        if who is not None:
            raise ValueError(in_use(what, who))
        beat = _Beat(lease, ours)
        beat.start()
        try:
            yield
        finally:
            beat.end()
        if beat.lost:
            raise ValueError(f"{what} was taken by {_who(lease)}: this process was silent for {DEAD:.0f} s; it stops")


def in_use(what: str, who: str) -> str:
    """The one line for what another process, `who`, holds."""
    return f"expected {what} for this command alone, found {who} at work; wait for it, or end it"


def holder(path: Path) -> str | None:
    """Who holds a lock file, in words; None if nobody does."""
    if path.is_symlink() or not path.is_file():  # we write no links
        return None
    with path.open("rb") as file:
        free = _flock(file.fileno(), shared=True)  # others may ask at the same time
    lease = _lease(path)
    if free is False:
        return _who(lease)
    found = _read(lease)
    return found.who if found and _lives(found, now=_clock(lease), alone=free is True) else None


@dataclass(frozen=True)
class _Found:
    """What a lease says."""

    text: str
    who: str
    machine: str
    renewed: float  # by the clock of the file server


def _lease(path: Path) -> Path:
    return path.with_suffix(".lease")


def _ours() -> str:
    """The text of a lease of this process."""
    command = " ".join(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200].split())
    text = f"process {os.getpid()} on {socket.gethostname()} ({command})\n{_machine()}\n"
    return text.encode(errors="replace").decode()


@cache
def _machine() -> str:
    """A name of this machine since it was started: locks of the system reach as far."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()


def _read(lease: Path) -> _Found | None:
    """What it says; None where there is none. One that is being written says nothing yet, and is another's."""
    if lease.is_symlink() or not lease.is_file():
        return None
    try:
        with lease.open(encoding="utf-8", errors="replace") as file:
            text, renewed = file.read(MOST), os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    who, _, machine = text.partition("\n")
    return _Found(text, who.strip() or SOMEONE, machine.strip(), renewed)


def _who(lease: Path) -> str:
    found = _read(lease)
    return found.who if found else SOMEONE


def _lives(found: _Found, *, now: float, alone: bool) -> bool:
    """Whether a lease holds; `alone`: the system's own lock has told that nobody of this machine has it.

    One of the future is not renewed either: the clock was wrong when that was done.
    """
    return abs(now - found.renewed) < DEAD and not (alone and found.machine == _machine())


def _take(lease: Path, ours: str, *, alone: bool) -> str | None:
    """Writes a lease of this process; who has it, if another does.

    One whose holder is dead is replaced under a lease of its own, the claim: of all who find it dead, one at a time
    looks again and puts its own in the dead one's place, so that there is no moment without any.
    """
    if _write(lease, ours):
        return None
    if who := _living(lease, alone=alone):
        return who
    claim = lease.with_name(f"{lease.name}.claim")
    if (who := _take(claim, ours, alone=alone)) is not None:
        return who
    try:
        if who := _living(lease, alone=alone):
            return who
        aside = _beside(lease, "new")
        aside.write_text(ours, encoding="utf-8")
        aside.replace(lease)
        return None
    finally:
        _give_back(claim, ours)


def _living(lease: Path, *, alone: bool) -> str | None:
    """Who holds a lease; None if that is dead."""
    now, found = _clock(lease), _read(lease)
    if found is None:  # given back just now, or no file of ours
        return SOMEONE
    return found.who if _lives(found, now=now, alone=alone) else None


def _write(lease: Path, ours: str) -> bool:
    """Whether there was none, and now is this one."""
    try:
        with lease.open("x", encoding="utf-8") as file:
            file.write(ours)
    except FileExistsError:
        return False
    return True


def _is(lease: Path, ours: str) -> bool:
    found = _read(lease)
    return found is not None and found.text == ours


def _give_back(lease: Path, ours: str) -> None:
    if _is(lease, ours):
        with suppress(OSError):
            lease.unlink()


def _clock(lease: Path) -> float:
    """The time by the clock that leases are renewed by, the file server's; this machine's where nothing is written."""
    asked = _beside(lease, "tmp")
    try:
        asked.touch()
        return asked.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            asked.unlink(missing_ok=True)


def _beside(lease: Path, suffix: str) -> Path:
    """A name for this process alone."""
    return lease.with_name(f"{lease.name}.{socket.gethostname()[:20]}-{os.getpid()}.{suffix}")


class _Beat(threading.Thread):
    """Renews a lease of this process until `end`, which gives it back."""

    def __init__(self, lease: Path, ours: str) -> None:
        super().__init__(daemon=True, name="lease")
        self.lease, self.ours, self.lost, self._ended = lease, ours, False, threading.Event()

    def run(self) -> None:
        """Renews."""
        while not self._ended.wait(BEAT):
            if not _is(self.lease, self.ours):
                self.lost = True
                interrupt_main(SIGTERM)
                return
            with suppress(OSError):  # a file server that is away for a while
                os.utime(self.lease)

    def end(self) -> None:
        """Stops, and gives the lease back."""
        self._ended.set()
        self.join()
        if not self.lost:
            _give_back(self.lease, self.ours)
