"""A batch that does not fit is told with one that does.

Alone: pytest tests/train/test_memory.py
"""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from probekit.run import Run
from probekit.train.loop import Trainer
from probekit.train.memory import batch_that_fits
from probekit.train.step import TrainingStep
from tests.datasets import small_shapes
from tests.train.test_loop import train


@pytest.mark.parametrize(
    ("batch", "most", "fits", "tries"),
    [(256, 100, 64, [128, 64]), (256, 1, None, [128, 64, 32, 16, 8, 4, 2]), (24, 24, 12, [12]), (3, 3, None, [])],
)
def test_halves_until_it_fits(batch: int, most: int, fits: int | None, tries: list[int]) -> None:
    tried: list[int] = []

    def attempt(count: int) -> None:
        tried.append(count)
        if count > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert batch_that_fits(attempt, batch) == fits
    assert tried == tries


@pytest.mark.parametrize(("most", "advice"), [(2, "2 does: type --batch-size 2"), (0, "--set model.width=2")])
def test_a_batch_that_does_not_fit_says_which_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, advice: str
) -> None:
    data = tmp_path / "shapes.h5"
    small_shapes(data)
    rehearse = TrainingStep.rehearse

    def full(trainer: Trainer, display: object) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def room(step: TrainingStep, batch: int) -> None:
        rehearse(step, batch)
        if batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "fit", full)
    monkeypatch.setattr(TrainingStep, "rehearse", room)
    with pytest.raises(ValueError, match=f"a batch of 8 images does not fit .*{advice}"):
        train(data, tmp_path)
    assert Run(tmp_path / "run").read()["state"] == "failed"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of the GNU C library")
def test_freed_memory_is_kept_for_the_next_activation() -> None:
    """Page faults of repeated large allocations, in a process of its own: thousands each time, or next to none."""
    code = """
import resource, sys, torch
from probekit.train.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
fill = lambda: torch.empty(40 * 2**20, dtype=torch.uint8).fill_(1)
for _ in range(10):
    fill()  # until the heap has grown
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    root = Path(__file__).parents[2]
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], cwd=root, capture_output=True, check=True).stdout)
        for how in ("kept", "as it is")
    }
    assert faults["kept"] * 10 < faults["as it is"]
