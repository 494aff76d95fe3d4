"""Small methods with branches attached, steps of them, and small runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from probekit.branches.base import Epoch, begin_on_noise, branches_of
from probekit.config import Config, resolve
from probekit.methods.base import Method, Step
from probekit.models.encoder import Features
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.run import Run
from probekit.settings import Asked
from probekit.train.pretrain import pretrain
from probekit.train.step import TrainingStep, build_step

N, SIZE = 24, 16
SMALL = {
    "model.width": 4,
    "model.depth": 3,
    "train.batch_size": 8,
    "train.precision": "fp32",
    "optimizer.warmup_epochs": 0,
}
XCORR = {"branch.xcorr.clusters": 3}


def configured(method: str, *branches: str, **options: Any) -> Config:
    """Preset quick, smaller still; options are settings with a double underscore for each dot."""
    given = {key.replace("__", "."): value for key, value in options.items()}
    few = XCORR if "xcorr" in branches else {}
    return resolve(
        method,
        get(METHODS, "method", method),
        preset="quick",
        seed=0,
        options={**SMALL, **few, **given},
        branches=branches,
    )


def step_of(config: Config) -> TrainingStep:
    """The step of a fresh method on noise of two kinds of texture, labelled 0 and 1; clusters are made."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N, 1, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    pixels[::2] = pixels[::2, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    method = build_method(config, channels=1).train()
    torch.manual_seed(1)  # dropout
    method.plan(batches=N // 8, epochs=config.train.epochs)
    labels = torch.arange(N) % 2
    step = build_step(config, method, pixels, labels.numpy())
    begin_on_noise(method, config.train.epochs, images=N, size=(SIZE, SIZE))
    return step


def epoch(embed: Callable[[], torch.Tensor], labels: torch.Tensor | None = None, *, done: int = 0) -> Epoch:
    """An epoch of ten in which the projections of all images are these."""
    return Epoch(done, 10, embed, lambda read: pytest.fail("no pass for features"), (SIZE, SIZE), labels)


def forward(step: TrainingStep) -> Step:
    """The forward pass of the first batch, companions included."""
    index = torch.arange(8)
    return step._forward(index, step.images[index])


def only(method: Method) -> Any:
    """Its one branch."""
    (branch,) = branches_of(method)
    return branch


def features_of(feature_map: torch.Tensor) -> Features:
    """A map as an encoder would hand it on."""
    return Features([feature_map], feature_map, feature_map.mean((2, 3)), None)


def train(
    data: Path,
    runs: Path,
    method: str,
    *branches: str,
    name: str | None = None,
    epochs: int = 2,
    options: Mapping[str, Any] = {},
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> tuple[Run, bool]:
    """A run of seconds; whether it finished."""
    few = XCORR if "xcorr" in branches else {}
    return pretrain(
        Asked(
            method,
            preset="quick",
            overrides=overrides,
            options={**SMALL, **few, "train.epochs": epochs, "train.eval_every": 100, **options},
            branches=branches,
            device="cpu",
        ),
        data=data,
        runs=runs,
        name=name,
        console=console or Console(quiet=True),
    )
