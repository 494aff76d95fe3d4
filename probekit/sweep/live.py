"""What a sweep shows while it runs: a table of the runs under way on a terminal, one line a finished run elsewhere."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from probekit.measurement import Score
from probekit.run import Run
from probekit.sweep.jobs import Outcome
from probekit.sweep.plan import PlannedRun
from probekit.sweep.scores import BEST_TEST, FIRST, read_scores, title
from probekit.sweep.table import percent
from probekit.train.live import clock

EVERY = 1.0  # seconds between looks into the run folders


class Display:
    """Follows the runs of a sweep by their folders.

    Args:
        console: Where to; decides between the live table and plain lines.
        planned: The runs chosen, by name.
        runs: The folder of run folders.
        done: How many of them are finished already.
    """

    def __init__(self, console: Console, *, planned: Mapping[str, PlannedRun], runs: Path, done: int) -> None:
        self.console, self.planned, self.runs, self.done = console, planned, runs, done
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.began: dict[str, tuple[float, int]] = {}  # when each run was first seen at work, and its epoch then
        self.looked = float("-inf")

    def __enter__(self) -> "Display":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.update(Table(box=None), refresh=True)
            self.live.stop()

    def finished(self, name: str, outcome: Outcome) -> None:
        """Prints one line for a job that has ended."""
        run = self.planned.get(name)
        if outcome.state == "stopped" or (run is None and outcome.state == "finished"):
            return
        if run is None or outcome.state != "finished":
            self.console.print(f"{name}: {outcome.state}: {outcome.line}")
            return
        self.done += 1
        scores = read_scores(Run(self.runs / name), epochs=run.epochs, measure=run.measure) or {}
        linear, best = (_percent(scores.get(known)) for known in (FIRST, BEST_TEST))
        told = f"linear probe {linear} %, by the monitor at best_test {best} %"
        if FIRST not in scores:
            told = ", ".join(f"{title(known)} {_percent(score)} %" for known, score in list(scores.items())[:2])
        self.console.print(f"[{self.done}/{len(self.planned)}] {name}: {told}")

    def show(self, active: Iterable[str], waiting: int) -> None:
        """Draws the live table, if it is time."""
        if self.live is None or time.monotonic() - self.looked < EVERY:
            return
        self.looked = time.monotonic()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("run", "state", "epoch", "last probe, %", "left"):
            table.add_column(head, no_wrap=True)
        for name in active:
            table.add_row(name, *self._cells(name))
        table.caption = f"{self.done} of {len(self.planned)} runs finished, {waiting} waiting; Ctrl-C saves and stops"
        self.live.update(table, refresh=True)

    def _cells(self, name: str) -> tuple[str, str, str, str]:
        run = self.planned.get(name)
        if run is None:
            return "probing the baselines", "", "", ""
        lines = Run(self.runs / name).read_metrics()
        epoch = lines[-1]["epoch"] if lines else 0
        since, first = self.began.setdefault(name, (time.monotonic(), epoch))
        elapsed, done = time.monotonic() - since, epoch - first
        left = clock(elapsed / done * (run.epochs - epoch)) if done else "?"
        probes = [line for line in lines if "test" in line]
        probe = ", ".join(f"{key} {percent(probes[-1].get(key))}" for key in ("val", "test")) if probes else ""
        return "probing" if epoch >= run.epochs else "pretraining", f"{epoch}/{run.epochs}", probe, left


def _percent(score: Score | None) -> str:
    return percent(None if score is None else score.value)
