"""Where the lines of a command go, and how it ends: a user's mistake is one line and exit code 1."""

import io
import signal
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from probekit.run import to_json

# No markup: a path or a name may hold brackets.
console = Console(highlight=False, soft_wrap=True, markup=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
tracebacks = False  # set by --debug


def show_tracebacks(asked: bool) -> None:
    """Whether `run_app` lets a mistake through as it was raised."""
    global tracebacks
    tracebacks = asked


def run_app(app: Callable[[], Any]) -> None:
    """Runs the command line; what a user can cause is printed after `error:`, a traceback only with --debug."""
    # What ends a command politely also removes its temporary file; training has its own handler, which saves.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("error: terminated"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text that stdout can write
    try:
        app()
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        # torch raises plain RuntimeErrors when memory runs out, and explains its allocator at length.
        out_of_memory = isinstance(error, RuntimeError) and "memory" in str(error)
        if tracebacks or (isinstance(error, RuntimeError) and not out_of_memory):
            raise
        text = " ".join((str(error) or type(error).__name__).split())
        if out_of_memory:
            text = f"{text[:200]}; try a smaller --batch-size"
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)


def print_json(content: dict[str, Any]) -> None:
    """One strict JSON object on stdout."""
    print(to_json(content))
