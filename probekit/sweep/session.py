"""One call of `probekit sweep`: the chosen runs that are not done yet, each dataset's baselines, and the results."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from probekit.run import Run
from probekit.sweep.datasets import Data
from probekit.sweep.definition import Sweep
from probekit.sweep.folder import SweepFolder
from probekit.sweep.jobs import Job, Outcome, child_environment, run_jobs
from probekit.sweep.live import Display
from probekit.sweep.plan import PlannedRun, commands_left, next_baselines
from probekit.sweep.results import collect
from probekit.sweep.table import markdown

DONE = Outcome("finished", "")


class Session:
    """Works through a sweep.

    Args:
        folder: The sweep's.
        sweep: The file's contents.
        planned: Every run of the sweep.
        chosen: Those to be run now.
        data: The datasets' files by name.
        runs: The folder of run folders.
        device: "auto", "cpu" or "cuda[:i]".
    """

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
        """Runs what is left.

        Args:
            at_once: Processes.
            threads: How many each has.
            gpus: What CUDA_VISIBLE_DEVICES is to be, for the processes on each GPU; none: as it is.
            deadline: See `run_jobs`.
            console: Where progress goes.

        Returns:
            Why it stopped early, or None.
        """
        with Display(console, planned=self.chosen, runs=self.runs, done=self.finished) as display:

            def ended(job: Job, outcome: Outcome) -> Iterable[Job]:
                self.outcomes[job.name] = outcome
                display.finished(job.name, outcome)
                self.write()  # after every run: whatever ends this process, the table is up to date
                return list(self._baselines())

            environment = child_environment(threads=threads)
            work = [Job(run.name, self.folder.log(run.name), partial(self._next, run)) for run in self.left]
            return run_jobs(
                [*self._baselines(), *work],
                at_once=at_once,
                places=[environment | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [environment],
                deadline=deadline,
                ended=ended,
                show=display.show,
                stopping=lambda reason: console.print(f"{reason}: the runs at work are asked to save"),
            )

    def write(self) -> dict[str, Any]:
        """Writes results.json and table.md from what the run folders hold."""
        results = collect(
            self.folder.path.name, self.sweep, self.planned, self.data, runs=self.runs, outcomes=self.outcomes
        )
        self.folder.write_results(results, markdown(results))
        return results

    def _next(self, run: PlannedRun) -> list[str] | None:
        left = commands_left(Run(self.runs / run.name), run, data=self.data[run.dataset].path, device=self.device)
        return next(iter(left), None)

    def _baselines(self) -> Iterator[Job]:
        """A job for each dataset whose baselines are due: when the first of its runs that has not failed is finished.

        The first in the order of the plan, whatever the order of ends: the random network has that run's architecture.
        """
        for dataset in self.data:
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
