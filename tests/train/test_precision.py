"""What a run says of bf16 as it begins: on a GPU that has it, where nobody typed a precision.

Alone: pytest tests/train/test_precision.py
"""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from probekit.config import Config, resolve
from probekit.registry import METHODS, get
from probekit.settings import Asked
from probekit.train import plan
from probekit.train import pretrain as starter
from tests.datasets import small_shapes

GPU = torch.device("cuda")


def announced(config: Config, device: torch.device = GPU) -> str:
    text = io.StringIO()
    plan.announce_precision(config, device, Console(file=text, width=200))
    return text.getvalue()


def configured(preset: str = "paper", **options: Any) -> Config:
    return resolve("conrec", get(METHODS, "method", "conrec"), preset=preset, seed=0, options=options)


def test_a_run_in_the_presets_fp32_says_what_bf16_would_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "has_bf16", lambda device: True)
    assert announced(configured()).startswith("fp32; type --precision bf16: several times faster here")


def test_nothing_is_said_on_a_cpu_nor_in_bf16_nor_without_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "has_bf16", lambda device: True)
    assert announced(configured(), torch.device("cpu")) == ""
    assert announced(configured(**{"train.precision": "bf16"})) == ""
    monkeypatch.setattr(plan, "has_bf16", lambda device: False)
    assert announced(configured()) == ""


@pytest.mark.parametrize("how", ["preset", "option", "override", "file"])
def test_who_typed_a_precision_is_told_nothing(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(plan, "announce_precision", lambda config, *rest: told.append(config.train.precision))
    monkeypatch.setattr(starter, "_fit", lambda trainer, console, **about: True)
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
