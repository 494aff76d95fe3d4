"""Where the lines of a command go, and how it ends: a user's mistake is one line and exit code 1."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typer.exceptions import TyperException

from probekit.installed import NO_OPENCV
from probekit.run import to_json
from probekit.visible import visible


class Terminal(Console):
    """A console that shows every text as it is: no markup, and what would steer a terminal as an escape."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False)

    def print(self, *objects: Any, **named: Any) -> None:
        """Prints; a text is one line of ours, and a line break in it a stranger's, who would write the next."""
        super().print(*(x.replace("\n", r"\n") if isinstance(x, str) else x for x in objects), **named)

    def render_str(self, text: str, *arguments: Any, **named: Any) -> Text:
        """Before rich drops some of what steers."""
        return super().render_str(visible(text), *arguments, **named)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The parts of a line, those that hold text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


console = Terminal(stderr=False)
errors = Terminal(stderr=True)
HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
LONGEST = 2000  # characters of an error's line; a stranger's file may hold a name of millions
tracebacks = False  # set by --debug


def be_quiet(asked: bool) -> bool:
    """Whether nothing is printed but errors, and what a command was asked to print."""
    console.quiet = errors.quiet = asked
    return asked


def show_tracebacks(asked: bool) -> None:
    """Whether `run_app` lets a mistake through as it was raised."""
    global tracebacks
    tracebacks = asked


def run_app(app: Callable[..., Any]) -> None:
    """Runs the command line; what a user can cause is printed after `error:`, a traceback only with --debug.

    Exit codes: 1 for what cannot be done, 2 for what cannot be understood.
    """
    # What ends a command politely also removes its temporary file; training has its own handler, which saves.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("error: terminated"))
    if signal.getsignal(HANGUP) is signal.SIG_DFL:
        signal.signal(HANGUP, lambda number, frame: sys.exit(1))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text that stdout can write
    sys.stdout, sys.stderr = _Read(sys.stdout), _Read(sys.stderr)
    try:
        if code := app():
            sys.exit(code)
    except TyperException as error:
        print(f"error: {visible(_misunderstood(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if tracebacks or error.name != "cv2":
            raise
        print(f"error: {NO_OPENCV}", file=sys.stderr)
        sys.exit(1)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        # torch raises plain RuntimeErrors when memory runs out, and explains its allocator at length.
        out_of_memory = isinstance(error, RuntimeError) and "memory" in str(error)
        if tracebacks or (isinstance(error, RuntimeError) and not out_of_memory):
            raise
        text = " ".join((_said(error) or type(error).__name__).split())
        if out_of_memory:
            text = f"{text[:200]}; try a smaller --batch-size"
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        print(f"error: {visible(text)}", file=sys.stderr)
        sys.exit(1)


def _misunderstood(error: TyperException) -> str:
    """What is wrong with what was typed, and where to read what can be."""
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    text = " ".join(f"{text[:1].lower()}{text[1:]}".split())
    text = text.replace("Value error, ", "").replace(". Did you mean", "; did you mean")
    if context is None:
        return text
    asked = f"{context.command_path} --help"
    return f"{text}; type: {asked}"


def _said(error: Exception) -> str:
    """What an error says; the system's are numbers, names as Python quotes them, and no word of ours."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        named = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
        return f"cannot read or write {' and '.join(named)}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


class _Read:
    """A stream whose reader may leave (`| head`, a closed terminal): then the process is hung up, as the terminal does.

    Training saves and stops, other commands end, and nothing is said where nobody reads.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes text."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._hang_up(error)
        return len(text)

    def flush(self) -> None:
        """Flushes."""
        try:
            self.stream.flush()
        except OSError as error:
            self._hang_up(error)

    def _hang_up(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())  # what is still in the buffer goes there as well
        signal.raise_signal(HANGUP)


def print_json(content: dict[str, Any]) -> None:
    """One strict JSON object on stdout."""
    print(to_json(content))


@contextmanager
def stop_on_signals(*, passed_on: bool = False) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop after the current step; a second Ctrl-C stops at once.

    A second SIGHUP says nothing new: each line to a terminal that has gone tells of it again, also afterwards. Nor does
    a second SIGTERM: Slurm may send it to every process of a job, of which one passes it on. What is ignored stays
    ignored: `nohup` means that a terminal may go. `passed_on`: by torchrun, which may pass on what has been sent to all
    already, and kills what does not stop: then a second Ctrl-C says nothing new either.
    """
    stopped: list[int] = []
    asking = (signal.SIGINT, signal.SIGTERM, HANGUP)
    kept = {s: signal.getsignal(s) for s in asking if signal.getsignal(s) is not signal.SIG_IGN}

    def ask(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if signal.SIGINT in kept and not passed_on:
            signal.signal(signal.SIGINT, kept[signal.SIGINT])

    for name in kept:
        signal.signal(name, ask)
    try:
        yield stopped
    finally:
        for name, handler in kept.items():
            signal.signal(name, signal.SIG_IGN if name == HANGUP and HANGUP in stopped else handler)
