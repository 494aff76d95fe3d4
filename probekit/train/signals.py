"""Signals that ask a training run to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from probekit.output.console import HANGUP


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop after the current step; a second Ctrl-C or SIGTERM stops at once.

    A second SIGHUP says nothing new: each line to a terminal that has gone tells of it again, also afterwards. What is
    ignored stays ignored: `nohup` means that a terminal may go.
    """
    stopped: list[int] = []
    asking = (signal.SIGINT, signal.SIGTERM, HANGUP)
    kept = {s: signal.getsignal(s) for s in asking if signal.getsignal(s) is not signal.SIG_IGN}

    def ask(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        for name in (signal.SIGINT, signal.SIGTERM):
            if name in kept:
                signal.signal(name, kept[name])

    for name in kept:
        signal.signal(name, ask)
    try:
        yield stopped
    finally:
        for name, handler in kept.items():
            signal.signal(name, signal.SIG_IGN if name == HANGUP and HANGUP in stopped else handler)
