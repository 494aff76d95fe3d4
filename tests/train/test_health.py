"""Health of a run: its numbers against loops, its warnings, and --fail-on-collapse.

Alone: pytest tests/train/test_health.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from probekit.config import resolve
from probekit.methods.base import Method
from probekit.registry import METHODS, get
from probekit.run import open_run
from probekit.train import health
from probekit.train.build import build_method
from probekit.train.health import CollapseError, batch_health, complaints
from probekit.train.pretrain import pretrain, resume
from tests.datasets import small_shapes


def test_deviation_and_gap_are_their_formulas() -> None:
    pooled = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    found = batch_health(pooled, 5)
    z = pooled.double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    deviation = np.sqrt(6) * np.mean([np.sqrt(np.mean((c - c.mean()) ** 2)) for c in z.T])
    own = [z[i] @ z[5 + i] for i in range(5)]
    other = [z[i] @ z[5 + j] for i in range(5) for j in range(5) if i != j]
    assert float(found["deviation"]) == pytest.approx(deviation, rel=1e-5)
    assert float(found["similarity gap"]) == pytest.approx(np.mean(own) - np.mean(other), rel=1e-4)
    assert "similarity gap" not in batch_health(pooled, 10)  # one view


def test_a_collapse_has_no_deviation_and_spread_directions_have_one() -> None:
    assert float(batch_health(torch.ones(8, 4), 4)["deviation"]) == pytest.approx(0, abs=1e-6)
    many = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert float(batch_health(many, 2000)["deviation"]) == pytest.approx(1, abs=0.02)


def method(name: str) -> Method:
    config = resolve(name, get(METHODS, "method", name), preset="quick", seed=0, options={"model.width": 4})
    return build_method(config, channels=1)


def line(**changes: float) -> dict[str, Any]:
    sound = {"epoch": 20, "loss": 1.0, "deviation": 0.4, "similarity_gap": 0.3, "prototypes_used": 0.9}
    return {name.replace("_", " "): value for name, value in (sound | changes).items()}


@pytest.mark.parametrize(
    ("name", "changes", "kind", "cause"),
    [
        ("simsiam", {"deviation": 0.001}, "collapse", "--set method.bottleneck=512"),
        ("vicreg", {"deviation": 0.001}, "collapse", "optimizer.lr is too high"),
        ("dino", {"prototypes_used": 0.02}, "prototypes", "--set method.teacher_temperature"),
        ("swav", {"loss": 3.4657, "similarity_gap": 0.001}, "stuck", "--set method.epsilon=0.02"),
    ],
)
def test_a_warning_names_a_likely_cause(name: str, changes: dict[str, float], kind: str, cause: str) -> None:
    found = complaints(line(**changes), method(name), epochs=45)
    assert list(found) == [kind]
    assert cause in found[kind]
    assert "after epoch 20" in found[kind]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": 3.4657},
        {"loss": 3.4657, "similarity_gap": 0.001, "epoch": 3},
        {"loss": 3.3, "similarity_gap": 0.001},
    ],
)
def test_a_sound_run_is_left_alone(changes: dict[str, float]) -> None:
    """Swav's ln K is 3.4657; a loss near it early, or with views told apart, is none to speak of."""
    assert complaints(line(**changes), method("swav"), epochs=45) == {}


def start(tmp_path: Path, console: Console, *, fail: bool) -> None:
    small_shapes(tmp_path / "a.h5", n=8, n_test=4, size=16)
    pretrain(
        "simclr",
        data=tmp_path / "a.h5",
        runs=tmp_path / "runs",
        name="a",
        preset="quick",
        seed=0,
        config_file=None,
        overrides=(),
        options={"model.width": 4, "train.batch_size": 4, "train.epochs": 3},
        branches=(),
        device="cpu",
        overwrite=False,
        fail_on_collapse=fail,
        console=console,
    )


@pytest.mark.parametrize("fail", [False, True])
def test_a_run_warns_once_and_fails_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: bool) -> None:
    monkeypatch.setattr(health, "COLLAPSED", 2.0)
    console = Console(record=True, width=300, quiet=False, file=(tmp_path / "out").open("w"))
    if fail:
        with pytest.raises(CollapseError, match="All is saved, and --fail-on-collapse"):
            start(tmp_path, console, fail=True)
    else:
        start(tmp_path, console, fail=False)
    assert console.export_text().count("warning: collapse") == 1
    run = open_run("a", tmp_path / "runs")
    assert run.read()["state"] == ("failed" if fail else "finished")
    assert len(run.read_metrics()) == (1 if fail else 3)
    assert {"deviation", "similarity gap", "effective rank"} <= run.read_metrics()[0].keys()
    assert torch.load(run.checkpoints / "last.pt", weights_only=True)["progress"]["epoch"] == (1 if fail else 3)


def test_a_run_that_goes_on_fails_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path, Console(quiet=True), fail=False)
    monkeypatch.setattr(health, "COLLAPSED", 2.0)
    run = open_run("a", tmp_path / "runs")
    with pytest.raises(CollapseError):
        resume(run, epochs=5, device="cpu", fail_on_collapse=True, console=Console(quiet=True))
    assert len(run.read_metrics()) == 4
