"""Every method of the table: losses, gradients, what is kept, state, and training in two parts.

Alone: pytest tests/methods/test_contract.py
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from probekit.config import resolve
from probekit.methods.momentum import FeatureQueue, MomentumMethod
from probekit.models import Encoder, load_encoder
from probekit.models.checkpoint import read_checkpoint
from probekit.models.weights import load_weights
from probekit.registry import METHODS, get
from probekit.restore.build import build_method, load_checkpoint
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.settings import presets
from probekit.train.health import NUMBERS, OWN_LOSS, RANK, USED
from probekit.train.pretrain import resume
from probekit.views.recipes import RECIPES, make_views
from probekit.weights import LAST
from tests.chance import noise, seeded
from tests.datasets import small_shapes
from tests.methods.batches import HEADS, built
from tests.train.test_loop import assert_same_run, quiet, stop_after, train

# The trainer's own names in a line of metrics.
TAKEN = {"epoch", "step", "lr", "val", "test", "loss", OWN_LOSS, RANK} | NUMBERS - {USED}
BACKBONES: dict[str, dict[str, Any]] = {
    "unet": {},
    "resnet": {"model.backbone": "timm:test_resnet", "model.stem": "small"},
}
KINDS = [
    (name, channels, backbone)
    for name in METHODS
    for channels, backbone in ((1, "unet"), (3, "unet"), (3, "resnet"))
    if backbone == "unet" or "reconstruction" not in get(METHODS, "method", name).provides
]


@pytest.mark.parametrize(("name", "channels", "backbone"), KINDS)
def test_a_step(name: str, channels: int, backbone: str) -> None:
    """Finite loss, logs detached, a gradient for every parameter that is trained and none for a target's."""
    method = built(name, BACKBONES[backbone], channels=channels)
    views = make_views(method.recipe, noise(4, channels, 16, 16), seeded())
    views.labels = torch.tensor([0, 1, 1, 0])
    step = method.step(views)
    assert step.loss.shape == ()
    assert step.loss.dtype == torch.float32
    assert torch.isfinite(step.loss)
    rows = len(step.features.pooled)
    assert rows in (4, 4 * len(views.inputs))  # of whole views
    assert step.features.pooled.shape == (rows, method.encoder.dim)
    assert len(step.features.map) == rows
    assert (step.projections is None) == (method.projection is None)
    if step.projections is not None:
        assert len(step.projections) == 8  # of both whole views
        assert not step.projections.requires_grad
    assert step.logs
    assert not step.logs.keys() & TAKEN
    assert all(v.shape == () and not v.requires_grad and torch.isfinite(v) for v in step.logs.values())

    step.loss.backward()  # type: ignore[no-untyped-call]
    method.after_step()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert not [n for n, p in trained.items() if p.grad is None]
    still = {n: p for n, p in method.named_parameters() if n not in trained}
    assert all(n.startswith("target.") and p.grad is None for n, p in still.items())
    assert bool(still) == isinstance(method, MomentumMethod)
    assert not [n for n, b in method.named_buffers() if b.requires_grad]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", presets())
def test_what_it_says_of_itself(name: str, preset: str) -> None:
    """With every preset it can be built, here without numbers: some heads are 8192 wide."""
    kind = get(METHODS, "method", name)
    config = resolve(name, kind, preset=preset, seed=0)
    with torch.device("meta"):
        method = build_method(config, channels=3)
    assert isinstance(method, kind)
    assert method.recipe in RECIPES
    assert method.about
    assert method.paper
    assert "map" in method.provides
    assert isinstance(method.get_submodule(method.kept), Encoder)
    assert method.chance_loss is None or 0 < method.chance_loss < 20


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_alone_decides_its_weights(name: str) -> None:
    torch.manual_seed(1)
    a = built(name).state_dict()
    torch.manual_seed(2)
    b = built(name).state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


# --- Through the trainer.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path, size=16)
    return path


def trained(
    name: str, data: Path, runs: Path, options: Mapping[str, Any] = {}, *, run: str = "run"
) -> tuple[Run, bool]:
    """Two epochs of four steps."""
    settings = {"model.depth": 3, "train.eval_every": 1, **HEADS.get(name, {}), **options}
    return train(data, runs, method=name, epochs=2, name=run, options=settings)


@pytest.mark.parametrize("name", [*HEADS, "supervised"])
def test_in_two_parts_it_is_the_run_of_one(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after 3 of 8 steps, while what is frozen is, and queues are not yet full: bit for bit the same."""
    whole, finished = trained(name, data, tmp_path, run="whole")
    assert finished
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        part, finished = trained(name, data, tmp_path, run="part")
    assert not finished
    _, finished = resume(part, epochs=None, device="cpu", console=quiet())
    assert finished
    assert_same_run(whole, part)

    method = open_encoder(whole, LAST, torch.device("cpu")).whole
    started = Encoder(channels=1, pooling="gap", width=4, depth=3)
    load_weights(started, read_checkpoint(whole.checkpoints / "last.pt"))
    best = load_checkpoint(whole.checkpoints / "best_test.pt", torch.device("cpu"))["method"]
    for encoder, state in (
        (started, method.state_dict()),
        (load_encoder(whole.path)[0], method.state_dict()),
        (load_encoder(whole.path / "checkpoints/best_test.pt")[0], best),
    ):
        assert all(torch.equal(v, state[f"{method.kept}.{k}"]) for k, v in encoder.state_dict().items())
    if isinstance(method, MomentumMethod):  # the two networks differ, so that the above can tell them apart
        assert int(method.clock.step) == 8
        online, target = (e.state_dict() for e in (method.encoder, method.target["encoder"]))
        assert not all(torch.equal(online[k], target[k]) for k in online)
    for queue in (m for m in method.modules() if isinstance(m, FeatureQueue)):
        assert int(queue.pushed) == 64


@pytest.mark.parametrize("name", ["moco-v2", "swav"])
def test_a_batch_that_does_not_fit_the_queue_is_refused_in_one_line(name: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected method\.queue of at least a batch, 8") as caught:
        trained(name, data, tmp_path, {"method.queue": 7})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_typed_setting_stands_in_the_run_and_is_warned_of(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Console(file=io.StringIO(), record=True, width=200)
    monkeypatch.setattr("tests.train.test_loop.quiet", lambda: said)
    run, _ = trained("moco-v2", data, tmp_path, {"method.queue": 1000})
    told = "warning: method.queue=1000 stands as typed, where 16 would suit: there are 32 images"
    assert told in said.export_text()
    assert run.read()["config"]["method_options"]["queue"] == 1000
    assert open_encoder(run, LAST, torch.device("cpu")).whole.queue.rows.shape == (1000, 8)  # type: ignore[union-attr]


def test_started_from_weights_the_target_begins_with_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = trained("simsiam", data, tmp_path, run="first")
    stop_after(1, monkeypatch)
    options = {"model.weights": str(first.encoder), "optimizer.lr": 0.0, "optimizer.weight_decay": 0.0}
    run, _ = trained("byol", data, tmp_path, options, run="second")
    method = open_encoder(run, LAST, torch.device("cpu")).whole
    assert isinstance(method, MomentumMethod)
    weights = load_encoder(first.path)[0].state_dict()
    for encoder in (method.encoder, method.target["encoder"]):
        state = encoder.state_dict()
        assert all(torch.allclose(state[k], v) for k, v in weights.items() if k.endswith(("weight", "bias")))
