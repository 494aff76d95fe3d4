"""A batch that does not fit is told with one that does.

Alone: pytest tests/train/test_memory.py
"""

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
