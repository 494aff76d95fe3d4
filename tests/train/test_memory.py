"""A batch that does not fit is told with one that does.

Alone: pytest tests/train/test_memory.py
"""

import ctypes
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


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a matter of the GNU C library, from 2.33")
def test_freed_memory_is_kept_for_the_next_activation() -> None:
    """What the allocator itself says of a large tensor, in a process of its own: mapped anew, or on the heap and kept.

    Page faults would say it too, but they vary: a small object in a freed block sends the next large one elsewhere.
    """
    code = """
import ctypes, sys, torch
from probekit.device import keep_freed_memory
fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Info(ctypes.Structure):  # malloc.h: hblkhd bytes are mapped apart, fordblks bytes are free on the heap
    _fields_ = [(field, ctypes.c_size_t) for field in fields]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = mallinfo().hblkhd
activation = torch.ones(40 * 2**20, dtype=torch.uint8)
mapped = mallinfo().hblkhd - before
del activation
print(mapped >> 20, mallinfo().fordblks >> 20)
"""
    root = Path(__file__).parents[2]
    mapped, kept = {}, {}
    for how in ("kept", "as it is"):
        said = subprocess.run([sys.executable, "-c", code, how], cwd=root, capture_output=True, check=True, text=True)
        mapped[how], kept[how] = map(int, said.stdout.split())
    assert mapped["as it is"] >= 40
    assert mapped["kept"] == 0
    assert kept["as it is"] < 40 <= kept["kept"]
