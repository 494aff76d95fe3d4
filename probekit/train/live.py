"""What a run shows while it trains: a live line on a terminal, plain lines otherwise; its loggers are told the same."""

import time
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:  # the sweep shows itself alike, without torch
    from probekit.train.logged import Logged

PLAIN_EVERY = 10.0  # seconds between plain lines: a log file should stay readable


class Display:
    """Shows progress: epoch, losses, learning rate, images/s, time left, and the probes as they come.

    Args:
        console: Where to; decides between live and plain.
        done: Epochs done before, of an interrupted run.
        log: The run's loggers, each told what metrics.jsonl is.
        silent: Names of numbers that the line leaves out: it keeps to the losses.
        percents: Whether the monitor's scores are shares, shown in %.
    """

    def __init__(
        self,
        console: Console,
        *,
        epochs: int,
        done: float,
        log: "Logged",
        silent: Collection[str],
        percents: bool = True,
    ) -> None:
        self.console = console
        self.epochs = epochs
        self.done_before = done
        self.silent = silent
        self.percents = percents
        self.live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self.log = log
        self.started = time.monotonic()
        self.printed = self.started

    def __enter__(self) -> "Display":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def progress(self, *, epochs_done: float, means: dict[str, float], rate: float, lr: float) -> None:
        """Shows where the run is: at once on a terminal, else every few seconds and at the end.

        `epochs_done`: with the fraction of the current one; `means`: means of the losses in the current epoch.
        """
        done = epochs_done - self.done_before
        left = self.elapsed / done * (self.epochs - epochs_done) if done > 0 else None
        losses = "  ".join(f"{name} {_number(value)}" for name, value in means.items() if name not in self.silent)
        text = Text(
            f"epoch {epochs_done:.1f}/{self.epochs}  {losses}  lr {lr:.2g}  {rate:.0f} images/s  left {clock(left)}"
        )
        if self.live is not None:
            self.live.update(text)
        elif epochs_done == self.epochs or time.monotonic() - self.printed >= PLAIN_EVERY:
            self.console.print(text, soft_wrap=True)
            self.printed = time.monotonic()

    def epoch(self, line: dict[str, Any], *, scored: bool) -> None:
        """Takes one line of metrics.jsonl, for the monitor's scores and for the loggers."""
        found = [(name, line[name]) for name in ("val", "test") if name in line]
        scores = [f"{name} {100 * value:.1f} %" if self.percents else f"{name} {value:.3f}" for name, value in found]
        if scores:
            self.console.print(f"monitor after epoch {line['epoch']}: {', '.join(scores)}")
        self.log.epoch(line, scored=scored)


def _number(value: float) -> str:
    """Four decimals, or two digits where those would be all that is not 0."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def clock(seconds: float | None) -> str:
    """`75.0 -> "1:15"`, hours in front where there are any; "?" for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
