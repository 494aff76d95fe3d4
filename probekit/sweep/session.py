"""One call of `probekit sweep`: the chosen runs that are not done yet, each dataset's baselines, and the results.

On a terminal it shows a table of the runs under way, elsewhere a line for each that has finished.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from probekit.files import write_text
from probekit.run import Run, write_json
from probekit.sweep.datasets import Data
from probekit.sweep.definition import Sweep
from probekit.sweep.figures import drawable
from probekit.sweep.folder import SweepFolder
from probekit.sweep.jobs import Job, Outcome, child_environment, run_jobs, threads_of
from probekit.sweep.measures import BEST_TEST, FIRST, read_scores, title
from probekit.sweep.plan import PlannedRun, commands_left, next_baselines
from probekit.sweep.progress import progress, said
from probekit.sweep.results import collect
from probekit.sweep.table import markdown
from probekit.train.live import clock

EVERY = 1.0  # seconds between looks into the run folders

PICTURE = "-picture"  # ends the names of jobs that draw
DONE = Outcome("finished", "")


class Display:
    """Follows the runs of a sweep in their folders; the console decides between a live table and plain lines."""

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
        linear, best = (said(scores.get(known)) for known in (FIRST, BEST_TEST))
        told = f"linear probe {linear}, by the monitor at best_test {best}"
        if FIRST not in scores:
            told = ", ".join(f"{title(known)} {said(score)}" for known, score in list(scores.items())[:2])
        self.console.print(f"[{self.done}/{len(self.planned)}] {name}: {told}")

    def show(self, active: Iterable[str], waiting: int) -> None:
        """Draws the live table, if it is time."""
        if self.live is None or time.monotonic() - self.looked < EVERY:
            return
        self.looked = time.monotonic()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("run", "state", "epoch", "monitor", "left"):
            table.add_column(head, no_wrap=True)
        for name in active:
            table.add_row(name, *self._cells(name))
        table.caption = f"{self.done} of {len(self.planned)} runs finished, {waiting} waiting; Ctrl-C saves and stops"
        self.live.update(table, refresh=True)

    def _cells(self, name: str) -> tuple[str, str, str, str]:
        run = self.planned.get(name)
        if run is None:
            return "drawing" if name.endswith(PICTURE) else "probing the baselines", "", "", ""
        epoch, told = progress(Run(self.runs / name), run)
        since, first = self.began.setdefault(name, (time.monotonic(), epoch))
        elapsed, done = time.monotonic() - since, epoch - first
        left = clock(elapsed / done * (run.epochs - epoch)) if done else "?"
        return "probing" if epoch >= run.epochs else "pretraining", f"{epoch}/{run.epochs}", told, left


class Session:
    """Works through a sweep; `device` is "auto", "cpu" or "cuda[:i]"."""

    def __init__(
        self,
        folder: SweepFolder,
        sweep: Sweep,
        planned: Sequence[PlannedRun],
        chosen: Sequence[PlannedRun],
        data: Mapping[str, Data],
        *,
        runs: Path,
        device: str,
    ) -> None:
        self.folder, self.sweep, self.planned, self.data = folder, sweep, planned, data
        self.runs, self.device = runs, device
        self.chosen = {run.name: run for run in chosen}
        self.left = [run for run in chosen if self._next(run) is not None]
        waiting = {run.name for run in self.left}
        self.outcomes: dict[str, Outcome] = {name: DONE for name in self.chosen if name not in waiting}

    @property
    def finished(self) -> int:
        """How many of the chosen runs are finished."""
        return sum(name in self.chosen and outcome.state == "finished" for name, outcome in self.outcomes.items())

    @property
    def broken(self) -> list[str]:
        """The jobs of this session, baselines included, that failed or were killed."""
        return [name for name, outcome in self.outcomes.items() if outcome.state in ("failed", "interrupted")]

    def run(self, *, at_once: int, threads: int, gpus: Sequence[str], deadline: float, console: Console) -> str | None:
        """Runs what is left; says why it stopped early, or None.

        `threads`: of each; `gpus`: what CUDA_VISIBLE_DEVICES is to be on each GPU; none: as it is; `deadline`: see
        `run_jobs`.
        """
        with Display(console, planned=self.chosen, runs=self.runs, done=self.finished) as display:

            def ended(job: Job, outcome: Outcome) -> Iterable[Job]:
                self.outcomes[job.name] = outcome
                display.finished(job.name, outcome)
                self.write()  # after every run: whatever ends this process, the table is up to date
                return [*self._baselines(), *self._figures()]

            environment = child_environment(threads=threads)
            each = threads_of(threads // self.sweep.gpus)
            work = [
                Job(run.name, self.folder.log(run.name), partial(self._next, run), threads=each) for run in self.left
            ]
            return run_jobs(
                [*self._baselines(), *self._figures(), *work],
                at_once=at_once,
                places=[environment | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [environment],
                deadline=deadline,
                ended=ended,
                show=display.show,
                stopping=lambda reason: console.print(f"{reason}: the runs at work are asked to save"),
            )

    @property
    def pictures(self) -> list[Path]:
        """Those that are drawn."""
        names = [figure.file(dataset) for figure in self.sweep.figures for dataset in self.sweep.measures]
        return [path for name in names if (path := self.folder.path / name).exists()]

    def is_done(self, run: PlannedRun) -> bool:
        """Whether nothing is left to do for a run."""
        return self._next(run) is None

    def collect(self) -> dict[str, Any]:
        """What the run folders hold, as results.json has it."""
        return collect(
            self.folder.path.name, self.sweep, self.planned, self.data, runs=self.runs, outcomes=self.outcomes
        )

    def write(self) -> dict[str, Any]:
        """Writes results.json and table.md from what the run folders hold."""
        results = self.collect()
        write_json(self.folder.path / "results.json", results)
        write_text(self.folder.path / "table.md", markdown(results))
        return results

    def _next(self, run: PlannedRun) -> list[str] | None:
        left = commands_left(Run(self.runs / run.name), run, data=self.data[run.dataset].path, device=self.device)
        return next(iter(left), None)

    def _baselines(self) -> Iterator[Job]:
        """A job for each dataset whose baselines are due: the first of its runs that has not failed is finished."""
        for dataset in self.data:  # the first in the order of the plan: the random network has its architecture
            own = [run for run in self.chosen.values() if run.dataset == dataset]
            first = next((run for run in own if self.outcomes.get(run.name, DONE) == DONE), None)
            job = f"{dataset}-baselines"
            if first is None or first.name not in self.outcomes or job in self.outcomes:
                continue
            ask = partial(next_baselines, Run(self.runs / first.name), first, device=self.device)
            self.outcomes[job] = DONE
            if ask() is not None:
                self.outcomes[job] = Outcome("started", "")
                yield Job(job, self.folder.log(job), ask)

    def _figures(self) -> Iterator[Job]:
        """A job for each picture that can be drawn now."""
        finished = {name: self.outcomes.get(name) == DONE for name in self.chosen}
        for figure, runs, out in drawable(self.sweep.figures, self.planned, finished, self.folder.path):
            job = f"{out.stem}{PICTURE}"
            if job not in self.outcomes:
                self.outcomes[job] = Outcome("started", "")
                ask = partial(_until, out, figure.command(runs, self.device, out))
                yield Job(job, self.folder.log(job), ask)


def _until(out: Path, command: list[str]) -> list[str] | None:
    """A command until what it draws is there."""
    return None if out.exists() else command
