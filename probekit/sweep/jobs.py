"""Child processes, so many at a time: each has its own log, and is asked to save when it must stop.

When a sweep is killed its children go on, and hold the locks of their runs: another sweep is refused until they end.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

COMMAND = (sys.executable, "-m", "probekit")
POLL = 0.1  # seconds between looks at the children
INSIST = 1.0  # seconds between two signals that make the second one mean it: some tools send each one twice
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """Commands, one after another.

    Attributes:
        name: Unique.
        log: Where the commands' output goes.
        next: The next command's arguments for `probekit`, or None when all is done; asked again after each command.
    """

    name: str
    log: Path
    next: Callable[[], list[str] | None]


@dataclass(frozen=True)
class Outcome:
    """How a job ended: "finished", "failed", "interrupted" (killed from outside) or "stopped" (on request).

    `line`: the last line of its log, where it did not finish.
    """

    state: str
    line: str


@dataclass(frozen=True)
class _Child:
    """A process at work: a job's latest command, at one of the places."""

    job: Job
    place: int
    command: list[str]
    process: subprocess.Popen[bytes]


class Jobs:
    """Runs jobs, at most so many at once, spread evenly over places.

    Args:
        at_once: Processes.
        places: The environment of the processes at each place, a GPU say; one place or more.
        deadline: A `time.monotonic()` after which nothing is started and what runs is asked to save.
        ended: Called when a job has ended; gives jobs to be done first.
        show: Called a few times a second, with the names of what runs and the number of jobs that wait.
        stopping: Called once when it must stop early, with the reason.
    """

    def __init__(
        self,
        *,
        at_once: int,
        places: Sequence[Mapping[str, str]],
        deadline: float,
        ended: Callable[[Job, Outcome], Iterable[Job]],
        show: Callable[[Iterable[str], int], None],
        stopping: Callable[[str], None],
    ) -> None:
        self.at_once, self.places, self.deadline = at_once, places, deadline
        self.ended, self.show, self.stopping = ended, show, stopping
        self.queue: deque[Job] = deque()
        self.active: dict[str, _Child] = {}

    def run(self, jobs: Iterable[Job]) -> str | None:
        """Runs them all.

        Returns:
            Why it stopped early ("a signal" or "the time limit"), or None.
        """
        self.queue.extend(jobs)
        reason = None
        with _signals() as asked:
            try:
                while self.queue or self.active:
                    if reason is None:
                        late = time.monotonic() >= self.deadline
                        reason = "a signal" if asked else "the time limit" if late else None
                        if reason:
                            self.stopping(reason)
                            self._signal(signal.SIGTERM)
                    elif asked and asked[-1] - asked[0] > INSIST:
                        self._signal(signal.SIGKILL)
                    if reason is None:
                        self._fill()
                    else:
                        self.queue.clear()
                    self._reap(stopping=reason is not None)
                    self.show(self.active, len(self.queue))
                    if self.active:
                        time.sleep(POLL)
            finally:  # whatever went wrong here, no child is left behind
                self._signal(signal.SIGTERM)
        return reason

    def _fill(self) -> None:
        while self.queue and len(self.active) < self.at_once:
            taken = Counter(child.place for child in self.active.values())
            place = min(range(len(self.places)), key=taken.__getitem__)
            self._begin(self.queue.popleft(), place, before=None)

    def _begin(self, job: Job, place: int, *, before: list[str] | None) -> None:
        try:
            command = job.next()
        except (ValueError, OSError) as error:  # a run folder that cannot be read; the others go on
            self._end(job, Outcome("failed", f"error: {error}"))
            return
        if command is None:
            self._end(job, Outcome("finished", ""))
        elif command == before:
            self._end(job, Outcome("failed", f"probekit {command[0]} ended well and left no result"))
        else:
            self.active[job.name] = _Child(job, place, command, start(command, job.log, self.places[place]))

    def _reap(self, *, stopping: bool) -> None:
        for child in list(self.active.values()):
            job, code = child.job, child.process.poll()
            if code is None:
                continue
            del self.active[job.name]
            if stopping:
                self._end(job, Outcome("stopped", ""))
            elif code == 0:
                self._begin(job, child.place, before=child.command)
            elif code < 0:
                self._end(job, Outcome("interrupted", f"killed by {signal.Signals(-code).name}"))
            else:
                self._end(job, Outcome("failed", last_line(job.log)))

    def _end(self, job: Job, outcome: Outcome) -> None:
        self.queue.extendleft(self.ended(job, outcome))

    def _signal(self, number: signal.Signals) -> None:
        for child in self.active.values():
            child.process.send_signal(number)


def start(command: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts `probekit COMMAND`, its output appended to `log`, in a session of its own: Ctrl-C does not reach it."""
    with log.open("ab") as file:
        file.write(f"$ probekit {shlex.join(command)}\n".encode())
        file.flush()
        return subprocess.Popen(
            [*COMMAND, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )


def child_environment(*, threads: int) -> dict[str, str]:
    """This process's environment, for children with so many threads each, whether probekit is installed or not."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        wished = environment.get(name, "")
        environment[name] = str(min(threads, int(wished)) if wished.isdecimal() and int(wished) else threads)
    root = Path(__file__).resolve().parents[2]
    if not {"site-packages", "dist-packages"} & set(root.parts):  # a checkout
        paths = filter(None, (str(root), environment.get("PYTHONPATH")))
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextmanager
def _signals() -> Iterator[list[float]]:
    """Collects the times of the signals that ask for a stop, in place of what they did before."""
    asked: list[float] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(time.monotonic())

    kept = {name: signal.signal(name, ask) for name in STOP_SIGNALS}
    try:
        yield asked
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)
