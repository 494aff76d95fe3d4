"""Settings at their extremes: an epoch of real steps ends with finite weights, or one line refuses them before it.

Alone: pytest tests/methods/test_extremes.py
"""

from typing import Any

import pytest
import torch

from probekit.branches.base import begin_on_noise
from probekit.config import fitted, resolve
from probekit.registry import BRANCHES, METHODS, branch_named, get
from probekit.restore.build import build_method
from probekit.settings import method_options
from probekit.train.step import build_step

N, BATCH, SIZE = 8, 4, 16
SMALL = {"model.width": 4, "model.depth": 2, "train.batch_size": BATCH, "train.epochs": 1, "train.precision": "fp32"}
NARROW = {"hidden": 8, "projection_dim": 8, "bottleneck": 8, "prototypes": 4, "out": 6, "queue": 4, "clusters": 2}
EXTREMES: dict[type, list[Any]] = {int: [-1, 0, 1], float: [-1.0, 0.0, 1e-8, 1.0, 1e3], bool: [False, True]}
PARTS: list[tuple[str, str | None]] = [(name, None) for name in METHODS]
PARTS += [("moco-v2", name) for name in ("lcr", "lcr-sam-bilinear", "lcr-mlp", "xcorr", "lewel")]


def epoch(method: str, branch: str | None, given: dict[str, Any]) -> list[float]:
    """Its losses."""
    kind, attached = get(METHODS, "method", method), [branch] if branch else []
    config = resolve(method, kind, preset="quick", seed=0, options=given, branches=attached)
    config, _ = fitted(config, typed=given, images=N)
    model = build_method(config, channels=1).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 1, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    model.plan(batches=N // BATCH, epochs=1)
    step = build_step(config, model, images, (torch.arange(N) % 2).numpy())
    begin_on_noise(model, 1, images=N, size=(SIZE, SIZE))
    losses = [float(step(index, images[index])[0]) for index in torch.arange(N).view(-1, BATCH)]
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.isfinite(value).all(), name
    return losses


@pytest.mark.parametrize(("method", "branch"), PARTS)
def test_every_extreme_trains_or_is_refused_in_a_line(method: str, branch: str | None) -> None:
    own, brought = (None, {}) if branch is None else branch_named(branch)
    options = method_options(get(METHODS, "method", method) if own is None else get(BRANCHES, "branch", own)) | brought
    prefix = "method." if own is None else f"branch.{own}."
    narrow = {f"{prefix}{name}": size for name, size in NARROW.items() if name in options}
    if branch is not None:
        narrow |= {"method.hidden": 8, "method.projection_dim": 8, "method.queue": 4}
    trained = 0
    for name, default in options.items():
        for value in EXTREMES.get(type(default), []):
            try:
                losses = epoch(method, branch, {**SMALL, **narrow, f"{prefix}{name}": value})
            except ValueError as error:
                (line,) = str(error).splitlines()
                assert f"{prefix}{name}" in line or "attention pooling" in line, line
                continue
            assert all(map(torch.isfinite, torch.tensor(losses))), f"{name}={value}: {losses}"
            assert len(set(losses)) == 2, f"{name}={value}: the loss stays at {losses}, as if nothing were learnt"
            trained += 1
    assert trained >= len(options) // 2


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        *[("swav", "prototypes"), ("dino", "out"), ("dino", "bottleneck")],
        *((name, "projection_dim") for name in ("simclr", "moco-v2", "byol", "swav")),
    ],
)
def test_what_leaves_a_loss_nothing_to_tell_is_refused(method: str, setting: str) -> None:
    """One prototype takes every image; a vector of one number has no direction but its sign."""
    with pytest.raises(ValueError, match=rf"expected method\.{setting} = a whole number of at least 2, found 1"):
        epoch(method, None, {**SMALL, f"method.{setting}": 1})


def test_defaults_for_the_smallest_batch_are_none_of_these() -> None:
    losses = epoch("swav", None, {**SMALL, "train.batch_size": 2, "method.queue": 0})
    assert len(set(losses)) == 2
