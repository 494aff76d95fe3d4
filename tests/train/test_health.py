"""Health of a run: its numbers against loops, its warnings, and --fail-on-collapse.

Alone: pytest tests/train/test_health.py
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from probekit.branches.base import attach
from probekit.branches.lcr import LCR
from probekit.config import resolve
from probekit.methods.base import Method
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.run import open_run
from probekit.settings import Asked
from probekit.train import health
from probekit.train.health import CollapseError, batch_health, complaints, projection_health
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


def test_the_directions_and_the_spread_of_projections_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    projections = torch.randn(10, 6, generator=generator) * torch.arange(1, 7) + 5
    found = projection_health(projections, 5)
    z = projections.double().numpy().reshape(2, 5, 6)
    z = (z - z.mean(axis=1, keepdims=True)).reshape(10, 6)
    variances = np.linalg.eigvalsh(z.T @ z)
    assert float(found["projection directions"]) == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-4)
    assert float(found["projection spread"]) == pytest.approx(np.sqrt((z**2).mean(axis=0)).mean(), rel=1e-5)
    for name in ("deviation", "similarity gap"):
        assert found[f"projection {name}"] == batch_health(projections, 5)[name]


def test_projections_along_one_line_have_one_direction_at_any_scale() -> None:
    along = torch.randn(8, 1, generator=torch.Generator().manual_seed(0)) * torch.randn(6)
    for scale in (1e-12, 1.0, 1e12):
        assert float(projection_health(along * scale, 4)["projection directions"]) == pytest.approx(1, rel=1e-4)


def test_equal_projections_and_none_give_finite_numbers() -> None:
    found = projection_health(torch.ones(8, 4), 4)
    assert all(bool(torch.isfinite(v)) for v in found.values())
    assert float(found["projection directions"]) == float(found["projection spread"]) == 0
    assert projection_health(None, 4) == {}


def method(name: str, **settings: float) -> Method:
    options = {"model.width": 4} | {f"method.{key}": value for key, value in settings.items()}
    config = resolve(name, get(METHODS, "method", name), preset="quick", seed=0, options=options)
    return build_method(config, channels=1)


def line(**changes: float) -> dict[str, Any]:
    sound = {"epoch": 20, "loss": 1.0, "deviation": 0.4, "similarity_gap": 0.3, "prototypes_used": 0.9}
    sound |= {"projection_deviation": 0.9, "projection_similarity_gap": 0.3}
    sound |= {"projection_spread": 0.3, "projection_directions": 1.3}
    return {name.replace("_", " "): value for name, value in (sound | changes).items()}


ONE_DIRECTION = {"projection_directions": 1.02, "projection_similarity_gap": 0.01}
AT_LN_32 = {"loss": 3.4657, "projection_similarity_gap": 0.001}
# Paper's, as far as the causes go; quick has what a warning would say.
SHARP = {"student_temperature": 0.1, "centre_momentum": 0.9}
SOFT = {"epsilon": 0.05, "temperature": 0.1}


@pytest.mark.parametrize(
    ("name", "settings", "changes", "kind", "cause"),
    [
        ("simsiam", {}, {"deviation": 0.001}, "collapse", "optimizer.lr is too high"),
        ("simsiam", {}, {"projection_deviation": 0.001}, "collapse", "projections of all images are nearly alike"),
        ("simsiam", {}, ONE_DIRECTION, "collapse", "vary in one direction alone"),
        ("byol", {"momentum": 0.999}, ONE_DIRECTION, "collapse", "likely optimizer.lr is too high"),
        ("byol", {}, ONE_DIRECTION, "collapse", "--set method.momentum=0.999"),
        ("vicreg", {}, {"projection_spread": 0.01}, "collapse", "shrink to a point"),
        ("dino", SHARP, {"prototypes_used": 0.02}, "prototypes", "--set method.student_temperature=0.3"),
        ("dino", {}, {"prototypes_used": 0.02}, "prototypes", "likely there are too many of them"),
        ("swav", SOFT, AT_LN_32, "stuck", "--set method.epsilon=0.02 --set method.temperature=0.3"),
        ("swav", {"epsilon": 0.05}, AT_LN_32, "stuck", "different: --set method.epsilon=0.02"),
        ("swav", {}, AT_LN_32, "stuck", "likely too few steps so far"),
        ("swav", {}, AT_LN_32 | {"loss": 3.7, "method_loss": 3.4657}, "stuck", "stays at 3.466"),  # a branch's is .23
    ],
)
def test_a_warning_names_a_likely_cause(
    name: str, settings: dict[str, float], changes: dict[str, float], kind: str, cause: str
) -> None:
    """And says what to type only where the run does not have it already."""
    found = complaints(line(**changes), method(name, **settings), epochs=45)
    assert list(found) == [kind]
    assert cause in found[kind]
    assert "after epoch 20" in found[kind]


def test_a_branch_may_be_in_the_way_unless_its_weight_is_0() -> None:
    swav = method("swav")
    attach(swav, LCR(swav.encoder, weight=0.0))
    assert "branch" not in complaints(line(**AT_LN_32), swav, epochs=45)["stuck"]
    swav = method("swav")
    attach(swav, LCR(swav.encoder))
    assert "or a branch is in the way" in complaints(line(**AT_LN_32), swav, epochs=45)["stuck"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": 3.4657},
        AT_LN_32 | {"epoch": 3},
        AT_LN_32 | {"loss": 3.3},
        AT_LN_32 | {"method_loss": 3.0},
        {"prototypes_used": 0.01, "epoch": 3},
        ONE_DIRECTION | {"epoch": 3},
        ONE_DIRECTION | {"projection_similarity_gap": 0.8},
        ONE_DIRECTION | {"projection_directions": 1.3},
        {"projection_spread": 1e-4},
    ],
)
def test_a_sound_run_is_left_alone(changes: dict[str, float]) -> None:
    """Swav's ln K is 3.4657; a loss near it early, or with views told apart, is none to speak of; nor is a scale."""
    assert complaints(line(**changes), method("swav"), epochs=45) == {}


SETTINGS = {"model.width": 4, "train.batch_size": 4, "train.epochs": 3}


def start(
    tmp_path: Path,
    console: Console,
    *,
    fail: bool,
    method: str = "simclr",
    n: int = 8,
    options: Mapping[str, Any] = SETTINGS,
    branches: Sequence[str] = (),
) -> None:
    small_shapes(tmp_path / "a.h5", n=n, n_test=4, size=16)
    pretrain(
        Asked(method, preset="quick", options=options, branches=branches, device="cpu"),
        data=tmp_path / "a.h5",
        runs=tmp_path / "runs",
        name="a",
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
    of_projections = {f"projection {name}" for name in ("deviation", "similarity gap", "spread", "directions")}
    assert {"deviation", "similarity gap", "effective rank"} | of_projections <= run.read_metrics()[0].keys()
    assert "method loss" not in run.read_metrics()[0]
    assert torch.load(run.checkpoints / "last.pt", weights_only=True)["progress"]["epoch"] == (1 if fail else 3)


def test_a_run_that_goes_on_fails_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path, Console(quiet=True), fail=False)
    monkeypatch.setattr(health, "COLLAPSED", 2.0)
    run = open_run("a", tmp_path / "runs")
    with pytest.raises(CollapseError):
        resume(run, epochs=5, device="cpu", fail_on_collapse=True, console=Console(quiet=True))
    assert len(run.read_metrics()) == 4


def no_stop_gradient(p: Tensor, z: Tensor) -> Tensor:
    return -F.cosine_similarity(p, z, dim=1).mean()


SHRINKS = {"method.variance": 1e-6, "method.covariance": 1e-6}


@pytest.mark.parametrize(
    ("name", "stop_gradient", "options", "told"),
    [
        ("simsiam", True, {}, None),
        ("simsiam", False, {}, "one direction alone"),
        ("vicreg", True, {}, None),
        ("vicreg", True, SHRINKS, "shrink to a point"),
    ],
)
def test_a_method_that_lost_what_keeps_it_from_collapsing_is_stopped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stop_gradient: bool,
    options: Mapping[str, float],
    told: str | None,
) -> None:
    """What collapses is the projection: the embeddings' deviation stays above a quarter."""
    if not stop_gradient:
        monkeypatch.setattr("probekit.methods.simsiam.negative_cosine", no_stop_gradient)
    settings = {"model.width": 8, "model.depth": 2, "method.hidden": 64, "train.precision": "fp32"}
    settings |= {"train.batch_size": 16, "train.epochs": 6, "optimizer.lr": 1e-2, **options}
    with nullcontext() if told is None else pytest.raises(CollapseError, match=told):
        start(tmp_path, Console(quiet=True), fail=True, method=name, n=256, options=settings)
    lines = open_run("a", tmp_path / "runs").read_metrics()
    assert len(lines) in ((6,) if told is None else (2, 3, 4, 5))
    assert all(line["deviation"] > 0.25 for line in lines)


def test_the_methods_own_loss_is_logged_apart_from_a_branchs(tmp_path: Path) -> None:
    start(
        tmp_path,
        Console(quiet=True),
        fail=False,
        method="moco-v2",
        options=SETTINGS | {"train.epochs": 1, "method.queue": 4},
        branches=("lcr",),
    )
    first = open_run("a", tmp_path / "runs").read_metrics()[0]
    assert first["method loss"] == first["contrastive"] != first["loss"]
