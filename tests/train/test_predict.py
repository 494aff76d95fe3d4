"""What a run says of bf16 as it begins: on a GPU that has it, where nobody typed a precision, with a predicted factor.

Alone: pytest tests/train/test_predict.py
"""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from probekit.config import Config, resolve
from probekit.registry import METHODS, get
from probekit.settings import Asked
from probekit.train import plan, predict
from probekit.train import pretrain as starter
from tests.datasets import small_shapes

GPU = torch.device("cuda")


def announced(config: Config, device: torch.device = GPU, *, pixels: int = 128) -> str:
    train: Any = SimpleNamespace(images=torch.empty(8, 1, pixels, pixels, dtype=torch.uint8, device="meta"))
    text = io.StringIO()
    plan.announce_precision(config, train, device, Console(file=text, width=200))
    return text.getvalue()


def configured(preset: str = "paper", **options: Any) -> Config:
    return resolve("conrec", get(METHODS, "method", "conrec"), preset=preset, seed=0, options=options)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock in a test: the prediction is waited for."""
    monkeypatch.setattr(predict, "HINT_SECONDS", 1e9)
    monkeypatch.setattr(plan, "has_bf16", lambda device: True)


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3", "NVIDIA H200"])
def test_a_run_in_the_presets_fp32_says_what_bf16_would_bring(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 67 against 790 TFLOP/s, and with much that is no product, several times, and fewer than 12."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    said = announced(configured())
    start, _, rest = said.partition("about ")
    times, _, end = rest.partition(" ")
    assert (start, end) == ("fp32; type --precision bf16: ", "times faster here\n")
    assert 2 < int(times) < 12


def test_on_a_gpu_that_is_not_known_no_factor_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    assert announced(configured()) == "fp32; type --precision bf16: faster here\n"


def test_nothing_is_said_where_bf16_brings_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    tiny: dict[str, Any] = {"model.width": 2, "train.batch_size": 2}
    assert announced(configured(**tiny), pixels=32) == ""


def test_nothing_is_said_on_a_cpu_nor_in_bf16_nor_without_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert announced(configured(), torch.device("cpu")) == ""
    assert announced(configured(**{"train.precision": "bf16"})) == ""
    monkeypatch.setattr(plan, "has_bf16", lambda device: False)
    assert announced(configured()) == ""


@pytest.mark.parametrize("how", ["preset", "option", "override", "file"])
def test_who_typed_a_precision_is_told_nothing(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(plan, "announce_precision", lambda config, *rest: told.append(config.train.precision))
    monkeypatch.setattr(starter, "_fit", lambda trainer, console: True)
    small_shapes(tmp_path / "shapes.h5")
    file = tmp_path / "settings.toml"
    file.write_text('[train]\nprecision = "fp32"\n')
    starter.pretrain(
        Asked(
            "simclr",
            preset="paper",
            config_file=file if how == "file" else None,
            overrides=["train.precision=fp32"] if how == "override" else [],
            options={"model.width": 4} | ({"train.precision": "fp32"} if how == "option" else {}),
            device="cpu",
        ),
        data=tmp_path / "shapes.h5",
        runs=tmp_path,
        name=None,
        console=Console(quiet=True),
    )
    assert told == (["fp32"] if how == "preset" else [])
