"""Child processes, so many at a time: each has its own log, and is asked to save when it must stop.

Where a sweep is killed its children go on, each under the lock of its run, which refuses whoever else would train it.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

COMMAND = (sys.executable, "-m", "probekit")
POLL = 0.1  # seconds between looks at the children
WARNING = signal.SIGUSR2  # what Slurm sends to a job of submitit's some time before its limit
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, WARNING)


@dataclass(frozen=True)
class Job:
    """Commands, one after another."""

    name: str  # unique
    log: Path  # where the commands' output goes
    next: Callable[[], list[str] | None]  # arguments of `probekit`, or None when all is done; asked after each
    several: Sequence[str] = ()  # what Python is to run `pretrain` by, where a run is on several machines
    threads: Mapping[str, str] = field(default_factory=dict)  # of each process of `pretrain`, if there are several


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: str  # "finished", "failed", "interrupted" (killed from outside) or "stopped" (on request)
    line: str  # the last one of its log, where it did not finish


@dataclass
class _Active:
    """A job at work at one of the places: its latest command and the process of that."""

    job: Job
    place: int
    command: list[str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def go_on(self, environment: Mapping[str, str], *, stopping: bool) -> Outcome | None:
        """Starts the next command when one has ended; returns how the job ended, if it did."""
        code = 0 if self.process is None else self.process.poll()
        if code is None:
            return None
        if stopping:
            return Outcome("stopped", "")
        if code < 0:
            known = -code in [known.value for known in signal.Signals]
            return Outcome("interrupted", f"killed by {signal.Signals(-code).name if known else f'signal {-code}'}")
        if code:
            return Outcome("failed", last_line(self.job.log))
        try:
            command = self.job.next()
        except (ValueError, OSError) as error:  # a run folder that cannot be read; the others go on
            return Outcome("failed", f"error: {error}")
        if command is None:
            return Outcome("finished", "")
        if command == self.command:
            return Outcome("failed", f"probekit {command[0]} ended well and left no result")
        several: Sequence[str] = ()
        if command[0] == "pretrain":
            several, environment = self.job.several, {**environment, **self.job.threads}
        self.command, self.process = command, start(command, self.job.log, environment, several)
        return None


def run_jobs(
    jobs: Iterable[Job],
    *,
    at_once: int,
    places: Sequence[Mapping[str, str]],
    deadline: float,
    ended: Callable[[Job, Outcome], Iterable[Job]],
    show: Callable[[Sequence[str], int], None],
    stopping: Callable[[str], None],
    asked: list[int] | None = None,
) -> str | None:
    """Runs jobs in their order, at most so many at once, spread evenly over places; says why it stopped early, or None.

    A signal, or the deadline (of `time.monotonic`), asks what runs to save, once: whoever is asked twice may end
    without. `places`: the environment of the processes at each, a GPU say. `ended` gives jobs to be done first; `show`
    is called a few times a second, with the names of what runs and the number of jobs that wait. `asked`: the signals
    that the caller collects by `stop_signals`; else they are collected here.
    """
    queue, active, reason = deque(jobs), list[_Active](), None
    with stop_signals() if asked is None else nullcontext(asked) as signals:
        try:
            while queue or active:
                if reason is None and (signals or time.monotonic() >= deadline):
                    reason = "a signal" if signals else "the time limit"
                    stopping(reason)
                    queue.clear()
                    _ask_to_save(active)
                while queue and len(active) < at_once:
                    place = min(range(len(places)), key=[work.place for work in active].count)
                    active.append(_Active(queue.popleft(), place))
                for work in list(active):
                    if outcome := work.go_on(places[work.place], stopping=reason is not None):
                        active.remove(work)
                        more = ended(work.job, outcome)
                        queue.extendleft(() if reason else more)
                show([work.job.name for work in active], len(queue))
                if active:
                    time.sleep(POLL)
        finally:  # whatever went wrong here, no child is left behind
            if reason is None:
                _ask_to_save(active)
    return reason


def _ask_to_save(active: Iterable[_Active]) -> None:
    for work in active:
        if work.process is not None:
            work.process.send_signal(signal.SIGTERM)


def start(
    command: list[str], log: Path, environment: Mapping[str, str], several: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Starts `probekit COMMAND`, its output appended to `log`, in a session of its own: Ctrl-C does not reach it."""
    with log.open("ab") as file:
        file.write(f"$ probekit {shlex.join(command)}\n".encode())
        file.flush()
        return subprocess.Popen(
            [COMMAND[0], *several, *COMMAND[1:], *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
            # Slurm may send it to every process of a job; the children are asked to save by us.
            preexec_fn=partial(signal.signal, WARNING, signal.SIG_IGN),
        )


def child_environment(*, threads: int) -> dict[str, str]:
    """This process's environment, for children with so many threads each, whether probekit is installed or not."""
    environment = dict(os.environ) | threads_of(threads)
    root = Path(__file__).resolve().parents[2]
    if not {"site-packages", "dist-packages"} & set(root.parts):  # a checkout
        paths = filter(None, (str(root), environment.get("PYTHONPATH")))
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def threads_of(threads: int) -> dict[str, str]:
    """What says in the environment of a process that it may have so many threads, one at least, or fewer if wished."""
    found = {}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        wished = os.environ.get(name, "")
        most = int(wished) if wished.isdecimal() and int(wished) else threads
        found[name] = str(max(1, min(threads, most)))
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects the signals that ask for a stop, in place of what they did before."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    kept = {name: signal.signal(name, ask) for name in STOP_SIGNALS}
    try:
        yield asked
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)
