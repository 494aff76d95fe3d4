"""What the trainer makes of its parts, step by step: rates, seeds, the monitor's scores.

Alone: pytest tests/train/test_parts.py
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from probekit.config import Config
from probekit.methods.base import Method
from probekit.restore.build import build_method, load_checkpoint
from probekit.run import Run
from probekit.settings import Asked
from probekit.train import plan
from probekit.train.evaluate import Monitor, Scores
from probekit.train.pretrain import pretrain
from probekit.train.step import TrainingStep
from probekit.views.recipes import Views
from tests.datasets import small_shapes

BATCH, BATCHES = 8, 4  # of 32 images
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path, n=BATCH * BATCHES)
    return path


def train(data: Path, runs: Path, *, epochs: int, seed: int = 0, **options: Any) -> Run:
    small = {"model.width": 4, "train.batch_size": BATCH, "train.epochs": epochs, "train.eval_every": 1}
    return pretrain(
        Asked("simclr", preset="quick", seed=seed, options={**small, **options}, device="cpu"),
        data=data,
        runs=runs,
        name=f"seed-{seed}",
        console=Console(quiet=True),
    )[0]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Scores]]:
    """What the monitor will say, once an epoch; nothing is probed."""
    coming: list[Scores] = []
    monkeypatch.setattr(Monitor, "score", lambda self, encoder: coming.pop(0) if coming else Scores(None, None, None))
    yield coming
    assert not coming


@pytest.fixture
def used() -> Iterator[list[float]]:
    """The rates of the optimizer's first group, at each of its steps."""
    rates: list[float] = []

    def note(optimizer: Optimizer, *args: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_pre_hook(note)
    yield rates
    handle.remove()


@pytest.mark.parametrize(("scaling", "peak"), [("sqrt", 0.03 * math.sqrt(8)), ("linear", 0.03 / 32), ("none", 0.03)])
def test_each_step_takes_the_rate_that_is_written_out(
    data: Path, tmp_path: Path, scores: list[Scores], used: list[float], scaling: str, peak: float
) -> None:
    """Two epochs of warm-up, whose last step is at the peak; then a cosine that would reach 0 after the last step."""
    settings: dict[str, Any] = {"lr": 0.03, "scaling": scaling, "schedule": "cosine", "warmup_epochs": 2}
    run = train(data, tmp_path, epochs=4, **{f"optimizer.{name}": value for name, value in settings.items()})
    rise = [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1]
    fall = [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert used == pytest.approx([peak * share for share in rise + fall], rel=1e-6)
    assert [line["lr"] for line in run.read_metrics()] == used[BATCHES - 1 :: BATCHES]


def test_order_and_views_are_of_the_seed_and_not_of_the_weights(
    data: Path, tmp_path: Path, scores: list[Scores], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runs begin with the same weights."""

    def same_weights(config: Config, **shape: int) -> Method:
        return build_method(replace(config, seed=0), **shape)

    orders: list[list[int]] = []
    crops: list[list[int]] = []
    dropout: list[int] = []
    plain = TrainingStep.views

    def views(self: TrainingStep, index: torch.Tensor, images: torch.Tensor) -> Views:
        made = plain(self, index, images)
        orders.append(index.tolist())
        crops.append(made.boxes.flatten().tolist())  # no image has a part in them
        dropout.append(torch.initial_seed())
        return made

    monkeypatch.setattr(plan, "build_method", same_weights)
    monkeypatch.setattr(TrainingStep, "views", views)
    for seed in (0, 1):
        train(data, tmp_path, epochs=1, seed=seed)
    for found in (orders, crops):
        assert all(a != b for a, b in zip(found[:BATCHES], found[BATCHES:], strict=True))
    for epoch in (orders[:BATCHES], orders[BATCHES:]):
        assert sorted(chain.from_iterable(epoch)) == list(range(BATCH * BATCHES))
    assert dropout[0] != dropout[BATCHES]


def test_the_best_checkpoints_are_of_the_epochs_with_the_highest_scores(
    data: Path, tmp_path: Path, scores: list[Scores]
) -> None:
    """The later one of equals; validation and test each have their own."""
    val, test = [0.2, 0.9, 0.5, 0.8], [0.8, 0.3, 0.8, 0.4]
    scores += [Scores(*pair, None) for pair in zip(val, test, strict=True)]
    run = train(data, tmp_path, epochs=4)
    kept = {name: load_checkpoint(run.checkpoints / f"{name}.pt", CPU) for name in ("best_val", "best_test", "last")}
    assert {name: found["encoder_header"]["epoch"] for name, found in kept.items()} == {
        "best_val": 2,
        "best_test": 3,
        "last": 4,
    }
    assert kept["last"]["progress"]["best"] == {"best_val": 0.9, "best_test": 0.8}
    assert [(line["val"], line["test"]) for line in run.read_metrics()] == list(zip(val, test, strict=True))
