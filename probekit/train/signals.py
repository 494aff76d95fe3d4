"""Signals that ask a training run to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from probekit.output import HANGUP


@contextmanager
def stop_on_signals() -> Iterator[list[bool]]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop after the current step; the second one stops at once.

    What is ignored stays ignored: `nohup` means that a terminal may go.
    """
    stopped: list[bool] = []
    asking = (signal.SIGINT, signal.SIGTERM, HANGUP)
    kept = {s: signal.getsignal(s) for s in asking if signal.getsignal(s) is not signal.SIG_IGN}

    def ask(number: int, frame: FrameType | None) -> None:
        stopped.append(True)
        for name, handler in kept.items():
            signal.signal(name, handler)

    for name in kept:
        signal.signal(name, ask)
    try:
        yield stopped
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)
