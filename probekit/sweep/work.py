"""What a job of Slurm does: a run's commands, one after another, until none is left; asked to stop it is requeued.

Nothing but the run folder says where it stands, so Slurm may start it anywhere, at any time and as often as it likes.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from probekit.locks import BEAT, holder
from probekit.run import WORK, Run
from probekit.sweep.folder import SweepFolder
from probekit.sweep.jobs import WARNING, Job, Outcome, child_environment, cores, run_jobs, stop_signals, threads_of
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
            if _node() > 0:  # beside the first node, which keeps the run
                self._help(asked)
                return
            before, outcome = self._mark(), self._work(asked)
            if outcome.state in ("failed", "interrupted"):  # a child may have heard of it first
                _wait(asked, LATER)
            if asked and outcome.state != "finished":
                self._begin_again(asked, before)
        if outcome.state != "finished":
            raise RuntimeError(
                f"{self.run.name}: {outcome.state}: {outcome.line}; see {self.folder.log(self.run.name)}"
            )

    def _help(self, asked: list[int]) -> None:
        """Trains with the first node; what that decides ends the job."""
        command = next((command for command in self._left() if command[0] == "pretrain"), None)
        commands = iter([command] if command else [])
        self._commands(asked, lambda: next(commands, None))

    def _work(self, asked: list[int]) -> Outcome:
        """Does what is left, once no other process is at it: one of the same job on a node that was given up, say."""
        said, outcome = None, Outcome("stopped", "")
        while not asked:
            if (who := self._at_work()) is None:
                outcome = self._commands(asked, lambda: next(iter(self._left()), None))
                if outcome.state != "failed" or self._at_work() is None:
                    return outcome
            elif said != who:
                said = who
                print(f"{self.run.name} is held by {who}: waiting for it", flush=True)
            _wait(asked, BEAT)
        return outcome

    def _at_work(self) -> str | None:
        return next((who for work in WORK if (who := holder(self.place.lock(work)))), None)

    def _commands(self, asked: list[int], command: Callable[[], list[str] | None]) -> Outcome:
        outcomes: list[Outcome] = []
        log = self.folder.log(self.run.name)
        log = log.with_suffix(f".{_node()}.log") if _node() else log

        def ended(job: Job, outcome: Outcome) -> list[Job]:
            outcomes.append(outcome)
            return []

        own, several = _cores(os.environ), several_nodes(self.run, os.environ)
        each = threads_of(own * self.run.nodes // self.run.gpus)
        run_jobs(
            [Job(self.run.name, log, command, several, each)],
            at_once=1,
            places=[child_environment(threads=own)],
            deadline=math.inf,
            ended=ended,
            show=lambda active, waiting: None,
            stopping=lambda reason: print(f"{self.run.name}: asked to save", flush=True),
            asked=asked,
        )
        return outcomes[0] if outcomes else Outcome("stopped", "")

    def _left(self) -> list[list[str]]:
        if left := commands_left(self.place, self.run, data=self.data, device=self.device):
            return left
        more = next_baselines(self.place, self.run, device=self.device) if self.baselines else None
        return [more] if more else []

    def _mark(self) -> tuple[int | None, int, bool]:
        """Differs when something was saved: a checkpoint, or what a command measured."""
        last, left = self.place.checkpoints / "last.pt", self._left()
        protocol = any("--protocol" in command for command in left)  # the last of a dataset's baselines
        return (last.stat().st_mtime_ns if last.exists() else None), len(left), protocol

    def _begin_again(self, asked: list[int], before: tuple[int | None, int, bool]) -> None:
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


def several_nodes(run: PlannedRun, environment: Mapping[str, str]) -> list[str]:
    """torchrun, as each node of a job starts it for a run on several; nothing for a run on one."""
    if run.nodes == 1:
        return []
    port = 20000 + int(environment["SLURM_JOB_ID"]) % 40000  # the same on all, and seldom another job's
    return [
        "-m",
        "torch.distributed.run",
        f"--nnodes={run.nodes}",
        f"--nproc-per-node={run.gpus // run.nodes}",
        f"--node-rank={_node()}",
        f"--master-addr={environment['SLURM_LAUNCH_NODE_IPADDR']}",
        f"--master-port={port}",
    ]


def _node() -> int:
    """The number of this node among those of the job."""
    return int(os.environ.get("SLURM_PROCID", "0"))


def _wait(asked: list[int], seconds: float) -> None:
    """Waits so long, or until a signal."""
    until = time.monotonic() + seconds
    while not asked and time.monotonic() < until:
        time.sleep(0.1)


def _cores(environment: Mapping[str, str]) -> int:
    """Cores that the job has on this node, which not every Slurm binds its processes to."""
    given = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE") or ""
    return int(given) if given.isdecimal() else cores()
