"""What processes that train one run know of each other: who is there, who has died, and who says what ended them.

Each beats once a second in the store of torchrun, by a thread and a connection of its own: a collective that waits for
a process that has died says so at once (gloo), or never (NCCL).
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from probekit import ranks
from probekit.device import find_device
from probekit.output.console import be_quiet
from probekit.run import Run
from probekit.train.launch import typed_again

BEAT = 1.0  # seconds
SILENT = 40.0  # seconds without a beat after which a process counts as dead: the others then end within a minute
MISSED = 4.0  # the same, once a collective has failed
PATIENCE = 10.0  # seconds in which one that has died is looked for, once a collective has failed
GRACE = 15.0  # seconds in which a process ends by itself, once another has said what ends all
LEFT = b"left"  # in place of a beat
# Of a collective: the first may score for hours, while the others wait for it. That it is alive, its beats say.
LONGEST = timedelta(days=7)

_TRAINED: list[Run] = []


@contextmanager
def join(device: str) -> Iterator[None]:
    """Makes this process one of those that torchrun started, until the block ends; the first alone prints.

    Where one raises an error all end, and the first that tells of its own lets it pass; the others end with
    SystemExit(1). A ValueError in place of the error of a collective that failed since a process died, which it names.
    """
    kind = find_device(device).type
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    backend = "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=LONGEST)
    own = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=SILENT))
    watch = Watch(PrefixStore(f"probekit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", own))
    if not ranks.is_first():
        be_quiet(True)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    try:
        watch.start()
        _take_device(kind, device)
        yield
        ranks.largest(0)  # none leaves while another may need it
    except BaseException as error:
        _end(watch, error)
    finally:
        watch.leave()
        with suppress(Exception):
            dist.destroy_process_group()


def _take_device(kind: str, name: str) -> None:
    """Gives each process of a machine a GPU of its own."""
    if ":" in name:
        raise ValueError(f"expected --device auto, cuda or cpu for several processes, found {name}; leave it out")
    if kind == "cuda":
        found, wanted = torch.cuda.device_count(), ranks.on_machine()
        if wanted > found:
            raise ValueError(f"expected a GPU for each of {wanted} processes, found {found}; start {found} of them")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _end(watch: "Watch", error: BaseException) -> None:
    """Lets an error pass in the process that is to tell of it, and ends the others."""
    for number in (signal.SIGTERM, signal.SIGINT):  # torchrun sends one to all as soon as one has ended
        signal.signal(number, signal.SIG_IGN)
    if not watch.tells():
        raise SystemExit(1) from error
    if isinstance(error, RuntimeError):
        for dead in watch.missing():
            raise ValueError(gone(dead)) from error
    raise error


def gone(who: str) -> str:
    """The line for a process that has died."""
    how = "start all of them again"
    if _TRAINED:
        how = f"to go on from the last checkpoint type: {typed_again(_TRAINED[-1])}"
    return f"{who} has ended without a word, and so the others end; {how}"


def trains(run: Run) -> None:
    """Notes which run this process trains: where another dies, it is said how that goes on."""
    _TRAINED.append(run)


class Watch:
    """Beats for this process, and looks at those of others: the first at all, the others at the first.

    `store`: shared by all; used by this class alone.
    """

    def __init__(self, store: Store, *, end: Callable[[int], None] = os._exit) -> None:
        self.store, self.end = store, end
        self.over = threading.Event()
        self.telling = False
        self.beats = 0
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        """Begins to beat; returns when all have begun."""
        self.store.set(f"who/{ranks.rank()}", f"process {os.getpid()} on {socket.gethostname()}")
        self._beat()
        ranks.largest(0)
        self.thread.start()

    def leave(self) -> None:
        """Ends well, or as another has told."""
        self.over.set()
        self.thread.join(BEAT)
        with suppress(Exception), self.lock:
            self.store.set(f"beat/{ranks.rank()}", LEFT.decode())

    def tells(self) -> bool:
        """Whether it falls to this process to say what ended all: to the one that asks first."""
        try:
            with self.lock:
                self.telling = self.store.add("ended", 1) == 1
        except RuntimeError:  # torchrun has gone, and the store with it
            self.telling = ranks.is_first()
        return self.telling

    def missing(self) -> Iterator[str]:
        """Which of the others beat no more, though none of them has left: at most one, within `PATIENCE`."""
        others = [rank for rank in range(ranks.size()) if rank != ranks.rank()]
        heard: dict[int, tuple[bytes, float]] = {}
        started = time.monotonic()
        with suppress(RuntimeError):
            while time.monotonic() - started < PATIENCE:
                for rank in self._silent(others, heard, MISSED):
                    yield self._who(rank)
                    return
                time.sleep(BEAT / 2)

    def _watch(self) -> None:
        others = range(1, ranks.size()) if ranks.is_first() else range(1)
        heard: dict[int, tuple[bytes, float]] = {}
        try:
            while not self.over.wait(BEAT):
                self._beat()
                with self.lock:
                    ended = self.store.check(["ended"])
                if ended and not self.telling:
                    self._leave_soon()
                    return
                for rank in () if ended else self._silent(others, heard, SILENT):
                    if self.tells():
                        self._say(gone(self._who(rank)))
                    self.end(1)
                    return
        except RuntimeError:  # torchrun has gone, and the store with it: as if it had asked for a stop
            if not self.over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def _leave_soon(self) -> None:
        """Gives the main thread a while to end the process; else ends it."""
        if not self.over.wait(GRACE):
            self.end(1)

    def _silent(self, others: Sequence[int], heard: dict[int, tuple[bytes, float]], limit: float) -> list[int]:
        """Those that have not beaten for so many seconds; `heard`: their last beats, and since when."""
        with self.lock:
            beats = self.store.multi_get([f"beat/{rank}" for rank in others]) if others else []
        now = time.monotonic()
        for rank, beat in zip(others, beats, strict=True):
            if rank not in heard or heard[rank][0] != beat:
                heard[rank] = (beat, now)
        return [rank for rank, (beat, since) in heard.items() if beat != LEFT and now - since > limit]

    def _who(self, rank: int) -> str:
        with self.lock:
            who = self.store.get(f"who/{rank}").decode()
        return f"rank {rank} of {ranks.size()} ({who})"

    def _beat(self) -> None:
        self.beats += 1
        with self.lock:
            self.store.set(f"beat/{ranks.rank()}", str(self.beats))

    @staticmethod
    def _say(line: str) -> None:
        print(f"error: {line}", file=sys.stderr, flush=True)
