"""Signals that ask a training run to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[list[bool]]:
    """Ctrl-C and SIGTERM ask for a stop after the current step; the second one stops at once."""
    stopped: list[bool] = []
    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

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
