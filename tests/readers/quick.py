"""What no option makes small: exams, detectors, the sets of shipped sweeps; a sweep's children, Slurm's programs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from probekit.detection import protocol
from probekit.exams import examine
from probekit.sweep import dry_run, jobs, start
from probekit.sweep.definition import Sweep, load
from tests.detection.test_command import SMALL
from tests.typed import typed

PROGRAMS = {"sbatch": "Submitted batch job 12", "squeue": "", "scontrol": "", "srun": ""}


class Done:
    """A child of a sweep that has run in this process."""

    def __init__(
        self, command: list[str], log: Path, environment: Mapping[str, str], several: Sequence[str] = ()
    ) -> None:
        done = typed(*command, cwd=Path.cwd())
        log.write_text(f"{done.stdout}{done.stderr}")
        self.code = done.returncode

    def poll(self) -> int:
        return self.code

    def send_signal(self, number: int) -> None: ...


def small_sweep(source: str) -> Sweep:
    """A sweep with few and small images."""
    sweep = load(source)
    few = [replace(data, n=16, n_test=12, size=32) if data.generator else data for data in sweep.datasets]
    return replace(sweep, datasets=tuple(few))


def make_quick(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """`folder`: where Slurm's programs may lie."""
    for name in examine.PLANS:
        patch.setitem(examine.PLANS, name, examine.Plan(train=14, held=4, test=4))
    patch.setattr(protocol, "QUICK", SMALL)
    patch.setattr(start, "load", small_sweep)
    patch.setattr(dry_run, "run_hours", lambda planned, shapes: [None] * len(planned))
    patch.setattr(jobs, "start", Done)
    folder.mkdir()
    for name, answer in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\nprintf '{answer}'\n")
        (folder / name).chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    patch.delenv("SLURM_JOB_ID", raising=False)
