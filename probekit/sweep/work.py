"""What a job of Slurm does: a run's commands, one after another, until none is left; asked to stop it is requeued.

Nothing but the run folder says where it stands, so Slurm may start it anywhere, at any time and as often as it likes.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probekit.locks import BEAT, holder
from probekit.run import WORK, Run
from probekit.sweep.folder import SweepFolder
from probekit.sweep.jobs import WARNING, Job, Outcome, child_environment, cores, run_jobs, stop_signals
from probekit.sweep.plan import PlannedRun, commands_left, next_baselines

LATER = 5.0  # seconds in which a signal to all processes of a job has reached each
REQUEUED = 75  # the exit code of a job that is to begin again, EX_TEMPFAIL


@dataclass(frozen=True)
class Work:
    """A run of a sweep as a job, for submitit to call on its node."""

    run: PlannedRun
    folder: SweepFolder
    runs: Path
    data: str
    device: str
    baselines: bool  # whether those of its dataset are measured on it
    minutes: int  # the time limit

    @property
    def place(self) -> Run:
        """Its folder."""
        return Run(self.runs / self.run.name)

    def __call__(self) -> None:
        """Works, and has Slurm requeue the job where a signal asks to stop; a RuntimeError if the run fails."""
        if not self.folder.plan.exists():
            raise RuntimeError(f"expected {self.folder.plan.absolute()} on {os.uname().nodename}, found none")
        with stop_signals() as asked:
            before, outcome = self._mark(), self._work(asked)
            if outcome.state in ("failed", "interrupted"):  # a child may have heard of it first
                _wait(asked, LATER)
            if asked and outcome.state != "finished":
                self._begin_again(asked, before)
        if outcome.state != "finished":
            raise RuntimeError(
                f"{self.run.name}: {outcome.state}: {outcome.line}; see {self.folder.log(self.run.name)}"
            )

    def _work(self, asked: list[int]) -> Outcome:
        """Does what is left, once no other process is at it: one of the same job on a node that was given up, say."""
        said, outcome = None, Outcome("stopped", "")
        while not asked:
            if (who := self._at_work()) is None:
                outcome = self._commands(asked)
                if outcome.state != "failed" or self._at_work() is None:
                    return outcome
            elif said != who:
                said = who
                print(f"{self.run.name} is held by {who}: waiting for it", flush=True)
            _wait(asked, BEAT)
        return outcome

    def _at_work(self) -> str | None:
        return next((who for work in WORK if (who := holder(self.place.lock(work)))), None)

    def _commands(self, asked: list[int]) -> Outcome:
        outcomes: list[Outcome] = []

        def ended(job: Job, outcome: Outcome) -> list[Job]:
            outcomes.append(outcome)
            return []

        run_jobs(
            [Job(self.run.name, self.folder.log(self.run.name), self._next)],
            at_once=1,
            places=[child_environment(threads=_cores(os.environ))],
            deadline=math.inf,
            ended=ended,
            show=lambda active, waiting: None,
            stopping=lambda reason: print(f"{self.run.name}: asked to save", flush=True),
            asked=asked,
        )
        return outcomes[0] if outcomes else Outcome("stopped", "")

    def _next(self) -> list[str] | None:
        for command in commands_left(self.place, self.run, data=self.data, device=self.device):
            return command
        return next_baselines(self.place, self.run, device=self.device) if self.baselines else None

    def _mark(self) -> tuple[int | None, list[str] | None]:
        """Differs when something was saved."""
        last = self.place.checkpoints / "last.pt"
        return (last.stat().st_mtime_ns if last.exists() else None), self._next()

    def _begin_again(self, asked: list[int], before: tuple[int | None, list[str] | None]) -> None:
        """Requeues the job, unless it was cancelled, Slurm did, or it would get no further; ends the process."""
        if WARNING in asked and self._mark() == before:
            raise RuntimeError(
                f"{self.run.name}: nothing could be saved within the time limit of {self.minutes} min; "
                "more is had by: --slurm time=H:MM:SS"
            )
        job = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in os.environ:  # the last job of an array has the array's own number
            job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        state = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True
        ).stdout.strip()
        print(f"{self.run.name}: {signal.Signals(asked[0]).name}, all saved; Slurm has the job as {state}", flush=True)
        if state == "RUNNING":
            subprocess.run(["scontrol", "requeue", job], check=True)
        sys.exit(REQUEUED)


def _wait(asked: list[int], seconds: float) -> None:
    """Waits so long, or until a signal."""
    until = time.monotonic() + seconds
    while not asked and time.monotonic() < until:
        time.sleep(0.1)


def _cores(environment: Mapping[str, str]) -> int:
    """Cores that the job has on this node, which not every Slurm binds its processes to."""
    given = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE") or ""
    return int(given) if given.isdecimal() else cores()
