"""`pretrain --dry-run`: it says what `pretrain` does, what that costs, and leaves nothing behind.

Alone: pytest tests/train/test_dry_run.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.run import Run
from probekit.train import dry_run
from probekit.train.dry_run import Rates
from probekit.train.step import TrainingStep
from tests.datasets import small_shapes
from tests.typed import typed

HERE = Rates("here", {"fp32": 1e11, "bf16": 1e11}, 1e10)
SMALL = ("--data", "a.h5", "--set", "model.width=2", "--batch-size", "4", "--precision", "fp32", "--epochs", "3")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset file, and a machine whose rates are known without measuring."""
    monkeypatch.setattr(dry_run, "measured_rates", lambda device, precision: HERE)
    monkeypatch.setattr(dry_run, "STEPS", 2)
    small_shapes(tmp_path / "a.h5")
    return tmp_path


def asked(home: Path, *arguments: str) -> dict[str, Any]:
    done = typed("pretrain", *arguments, *SMALL, "--dry-run", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        ("simclr",),
        ("moco-v2", "--branch", "lcr", "--branch", "xcorr", "--set", "branch.lcr.k=3", "--preset", "quick"),
        ("conrec", "--preset", "paper", "--branch", "contrastive-crop"),
    ],
)
def test_what_it_says_is_what_runs(home: Path, arguments: tuple[str, ...]) -> None:
    """The settings, to the last one, are those in the run.json that the same words then make; it has made nothing."""
    result = asked(home, *arguments)
    assert [path.name for path in home.iterdir()] == ["a.h5"]
    done = typed("pretrain", *arguments, *SMALL, "--epochs", "1", "--name", "r", cwd=home)
    assert done.returncode == 0, done.stderr
    content = Run(home / "runs" / "r").read()
    config = content["config"]
    assert result["config"] == config | {"train": config["train"] | {"epochs": 3}}
    assert result["dataset"]["hash"] == content["dataset"]["hash"]
    assert result["steps"] == 3 * Run(home / "runs" / "r").read_metrics()[-1]["step"]


def test_each_number_follows_from_the_others(home: Path) -> None:
    result = asked(home, "conrec")
    here, *known = result["machines"]
    assert [row["machine"] for row in known] == ["H100, on paper", "H200, on paper"]
    for row in result["machines"]:
        assert row["floor_ms"] == max(row["arithmetic_ms"], row["memory_ms"])
        assert set(row["parts_ms"]) == set(result["parts"])
        assert row["predicted_ms"] == pytest.approx(sum(row["parts_ms"].values()))
        assert row["predicted_ms"] > row["floor_ms"]
        assert row["run_seconds"] == pytest.approx(result["steps"] * row["predicted_ms"] / 1e3)
    assert [row["gpu_hours"] for row in known] == pytest.approx([row["run_seconds"] / 3600 for row in known])
    assert here["gpu_hours"] is None  # a CPU
    measured = result["measured"]
    assert measured["ms"] > 0
    assert measured["images_per_second"] == pytest.approx(4e3 / measured["ms"])
    assert measured["run_seconds"] == pytest.approx(result["steps"] * measured["ms"] / 1e3)
    assert measured["peak_bytes"] is None
    assert result["memory"]["images"] == 32 * 32 * result["dataset"]["images"]
    assert here["arithmetic_ms"] == pytest.approx(1e3 * result["flops"] / here["flops"])


def test_lines_say_it_too_and_notes_are_those_of_a_run(home: Path) -> None:
    done = typed("pretrain", "swav", "--branch", "lcr", *SMALL, "--dry-run", cwd=home)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("pretraining swav + lcr on a.h5, preset quick (the default on a CPU), fp32")
    assert any("prototypes" in line for line in lines)
    for start in ("train: epochs=3, batch_size=4", "branch.lcr: weight=", "memory of a step", "the whole run: "):
        assert any(line.startswith(start) for line in lines), start
    assert any("GFLOP" in line for line in lines)
    assert any(line.startswith("H200, on paper: at least") and "GPU hours" in line for line in lines)
    assert lines[-1].startswith("measured here: ")


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"_room": lambda device: 1000}, "1.0 kB of memory here"), ({"PATIENCE": 0.0}, "more than 0 s")],
)
def test_what_cannot_be_measured_is_not(
    home: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], said: str
) -> None:
    for name, value in setting.items():
        monkeypatch.setattr(dry_run, name, value)
    monkeypatch.setattr(dry_run, "build_step", None)
    done = typed("pretrain", "simclr", *SMALL, "--dry-run", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "not measured: a step " in done.stdout
    assert said in done.stdout


def test_a_step_without_room_names_a_batch_that_has_some(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: Callable[[], object], device: torch.device) -> list[float]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(dry_run, "step_times", full)
    done = typed("pretrain", "simclr", *SMALL, "--dry-run", cwd=home)
    assert (done.returncode, done.stderr.endswith("; 2 does: type --batch-size 2\n")) == (1, True), done.stderr


def test_json_is_one_object_also_where_the_step_has_something_to_say(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unrecordable(step: TrainingStep, say: Callable[[str], None]) -> TrainingStep:
        say("the step cannot be recorded")
        return step

    monkeypatch.setattr(dry_run, "fastest_step", unrecordable)
    assert asked(home, "simclr")["config"]["method"] == "simclr"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simclr", "--dry-run"), "type: probekit gen rect-tri"),
        (("nosuch", "--dry-run"), "nosuch"),
        (("simclr", "--dry-run", "--data", "a.h5", "--set", "train.epoch=3"), "train.epoch"),
        (("simclr", "--dry-run", "--data", "a.h5", "--batch-size", "64"), "at least 64 training images"),
        (("--dry-run", "--resume"), "found --dry-run; leave them out"),
    ],
)
def test_it_refuses_in_one_line(home: Path, arguments: tuple[str, ...], message: str) -> None:
    done = typed("pretrain", *arguments, cwd=home)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert message in done.stderr
    assert [path.name for path in home.iterdir()] == ["a.h5"]
