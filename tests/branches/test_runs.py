"""Runs with branches through the real trainer: weight 0 changes nothing, and resuming changes nothing.

Alone: pytest tests/branches/test_runs.py
"""

import io
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from probekit.models.encoder import load_encoder
from probekit.registry import METHODS
from probekit.restore.build import load_checkpoint
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.train import loop
from probekit.train.pretrain import resume
from probekit.weights import LAST
from tests.branches.attached import train
from tests.datasets import small_shapes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path, n=16, n_test=4, size=16)
    return path


def saved(run: Run) -> dict[str, Any]:
    return load_checkpoint(run.checkpoints / "last.pt", CPU)


def assert_same(a: Any, b: Any) -> None:
    """Bit for bit, through nested dicts and lists."""
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("name", [name for name in METHODS if name != "reconstruction"])
def test_with_weight_0_the_run_is_the_methods_own(data: Path, tmp_path: Path, name: str) -> None:
    """Losses, every weight, queues, random states; all branches that leave the heads' embedding alone at once."""
    branches = ("lcr", "xcorr") if name == "supervised" else ("lcr", "xcorr", "lewel")
    alone, _ = train(data, tmp_path, name, name="alone", epochs=1)
    off = {f"branch.{branch}.weight": 0.0 for branch in branches}
    beside, _ = train(data, tmp_path, name, *branches, name="beside", epochs=1, options=off)
    assert beside.read_metrics() == alone.read_metrics()
    assert_same(load_file(beside.encoder), load_file(alone.encoder))
    mine, theirs = saved(alone), saved(beside)
    assert_same({key: theirs["method"][key] for key in mine["method"]}, mine["method"])
    assert_same(theirs["rng"], mine["rng"])


def test_with_a_weight_the_run_is_another(data: Path, tmp_path: Path) -> None:
    alone, _ = train(data, tmp_path, "simclr", name="alone", epochs=1)
    for branch in ("lcr", "xcorr"):
        beside, _ = train(data, tmp_path, "simclr", branch, epochs=1)
        assert beside.name == f"simclr-{branch}-shapes"
        mine, theirs = (load_file(run.encoder) for run in (alone, beside))
        assert mine.keys() == theirs.keys()
        assert any(not torch.equal(mine[key], theirs[key]) for key in mine)


def stop_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Sends this process what Ctrl-C sends, in the middle of a step."""
    done = 0
    original = loop.Trainer.advance

    def advance(self: loop.Trainer, index: Tensor, images: Tensor) -> None:
        nonlocal done
        done += 1
        original(self, index, images)
        if done == steps:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(loop.Trainer, "advance", advance)


BOTH = ("lcr", "xcorr")


@pytest.fixture(scope="module")
def never_stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """The run of a method and branches that went on to its end, made once."""

    @cache
    def whole(name: str, *branches: str) -> Run:
        return train(data, tmp_path_factory.mktemp("whole"), name, *branches, epochs=3)[0]

    return whole


@pytest.mark.parametrize(
    ("name", "branches", "stop"),
    [
        ("moco-v2", ("lcr",), 3),
        ("moco-v2", ("xcorr",), 3),
        *(("moco-v2", BOTH, s) for s in (1, 2, 5)),
        ("conrec", BOTH, 3),
    ],
)
def test_stopped_and_resumed_is_the_run_that_was_never_stopped(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never_stopped: Callable[..., Run],
    name: str,
    branches: tuple[str, ...],
    stop: int,
) -> None:
    """Two steps an epoch: stopped within an epoch, and at the end of one."""
    whole = never_stopped(name, *branches)
    with monkeypatch.context() as patch:
        stop_after(stop, patch)
        part, finished = train(data, tmp_path, name, *branches, name="part", epochs=3)
    assert not finished
    _, finished = resume(part, epochs=None, device="cpu", console=Console(quiet=True))
    assert finished
    assert_same(saved(part), saved(whole))
    assert part.read_metrics() == whole.read_metrics()
    assert part.encoder.read_bytes() == whole.encoder.read_bytes()


def test_more_epochs_extend_a_run_with_branches(data: Path, tmp_path: Path) -> None:
    constant = {"optimizer.schedule": "constant"}
    long, _ = train(data, tmp_path, "simsiam", "lcr", "xcorr", name="long", epochs=4, options=constant)
    short, _ = train(data, tmp_path, "simsiam", "lcr", "xcorr", name="short", epochs=2, options=constant)
    resume(short, epochs=4, device="cpu", console=Console(quiet=True))
    assert_same(saved(long)["method"], saved(short)["method"])


def test_positives_may_be_streamed(data: Path, tmp_path: Path) -> None:
    here, there = (
        train(data, tmp_path, "simclr", "xcorr", name=place, options={"data.placement": place})[0]
        for place in ("device", "host")
    )
    assert_same(saved(here)["method"], saved(there)["method"])
    assert here.read_metrics() == there.read_metrics()


def test_what_a_run_records_of_its_branches(data: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    run, _ = train(data, tmp_path, "simclr", "lcr", "xcorr", epochs=2, console=Console(file=said, width=300))
    assert run.name == "simclr-lcr-xcorr-shapes"
    assert "pretraining simclr + lcr + xcorr on" in said.getvalue()
    config = run.read()["config"]
    assert config["branches"].keys() == {"lcr", "xcorr"}
    assert (config["branches"]["lcr"]["k"], config["branches"]["xcorr"]["clusters"]) == (32, 3)
    first, second = run.read_metrics()
    assert {"lcr kl", "lcr no target", "xcorr mu", "xcorr cls", "xcorr inertia", "xcorr NMI with labels"} <= set(first)
    assert {"xcorr smallest", "xcorr largest", "xcorr mask", "xcorr attention", "xcorr agreement"} <= set(first)
    assert "xcorr NMI with last epoch" not in first
    assert 0 <= second["xcorr NMI with last epoch"] <= 1


def test_the_kept_encoder_needs_no_branch(data: Path, tmp_path: Path) -> None:
    """Its file holds the method's encoder alone, and loads with nothing beside it."""
    run, _ = train(data, tmp_path, "moco-v2", "lcr", "xcorr", epochs=1)
    assert not [key for key in load_file(run.encoder) if "branch" in key or "lcr" in key]
    encoder, _ = load_encoder(run.path)
    method = open_encoder(run, LAST, torch.device("cpu")).whole
    image = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(encoder(image).pooled, method.eval().encoder(image).pooled)
    assert method.branches.keys() == {"lcr", "xcorr"}


@pytest.mark.parametrize(
    ("branches", "options", "told"),
    [
        (("nonsense",), {}, "unknown branch 'nonsense'; known: contrastive-crop, cvsa, dilo, lcr"),
        (("lcr", "lcr"), {}, "expected each --branch once, found lcr twice"),
        (("lcr", "lcr-sam"), {}, "expected each --branch once, found lcr twice"),
        (("lcr-sam",), {"branch.lcr-sam.k": 3}, "did you mean 'branch.lcr.k'"),
        (("lcr",), {"branch.lcr.kk": 3}, "unknown setting 'branch.lcr.kk'"),
        (
            ("lcr",),
            {"branch.xcorr.mu": 3.0},
            "expected the branch of branch.xcorr.mu, found none; type: --branch xcorr",
        ),
        (("lcr",), {"branch.lcr.k": "many"}, "expected branch.lcr.k = a whole number, found 'many'"),
        (("lcr",), {"branch.lcr.kl": "many"}, "expected branch.lcr.kl = one of target_branch, branch_target"),
        (("xcorr",), {"branch.xcorr.clusters": 17}, "at most the 16 images, found 17"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_run(
    data: Path, tmp_path: Path, branches: tuple[str, ...], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told) as error:
        train(data, tmp_path, "simclr", *branches, epochs=1, options=options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
