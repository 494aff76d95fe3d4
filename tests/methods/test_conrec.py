"""The five variants: switches, losses, gradients.

Alone: pytest tests/methods/test_conrec.py
"""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.config import resolve
from probekit.methods import conrec
from probekit.methods.base import Method
from probekit.methods.conrec import ConRec
from probekit.methods.losses import nt_xent
from probekit.models import Encoder
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.views.recipes import Views

TABLE_1 = {  # pooling, contrastive weight, alpha, views: facts of the paper's Table 1
    "simclr": ("gap", 1.0, 0.0, "simclr"),
    "simclr-attention": ("attention", 1.0, 0.0, "simclr"),
    "reconstruction": ("gap", 0.0, 100.0, "conrec"),
    "conrec-gap": ("gap", 1.0, 100.0, "conrec"),
    "conrec": ("attention", 1.0, 100.0, "conrec"),
}


def build(name: str, *, channels: int = 1, preset: str = "quick", options: dict[str, Any] | None = None) -> Method:
    small = {"model.width": 8, **(options or {})}
    config = resolve(name, get(METHODS, "method", name), preset=preset, seed=0, options=small)
    return build_method(config, channels=channels)


def views(channels: int = 1, *, size: int = 32) -> Views:
    g = torch.Generator().manual_seed(0)
    inputs = torch.rand(2, 4, channels, size, size, generator=g)
    targets = torch.rand(2, 4, channels, size, size, generator=g)
    boxes = torch.zeros(2, 4, 4)
    flipped, labels = torch.zeros(2, 4, dtype=torch.bool), torch.tensor([0, 1, 1, 0])
    return Views(inputs=inputs, targets=targets, boxes=boxes, flipped=flipped, labels=labels)


@pytest.mark.parametrize("name", TABLE_1)
def test_switches_of_table_1(name: str) -> None:
    method = build(name)
    assert isinstance(method, ConRec)
    pooling, contrastive, alpha, recipe = TABLE_1[name]
    assert method.encoder.spec["pooling"] == pooling
    assert (method.contrastive, method.alpha, method.recipe) == (contrastive, alpha, recipe)
    assert (method.head is not None) == (contrastive > 0)
    assert (method.decoder is not None) == (alpha > 0)


def test_the_five_variants_stand_in_one_short_file() -> None:
    assert len(inspect.getsource(conrec).splitlines()) <= 250


@pytest.mark.parametrize("name", [name for name, (_, _, alpha, _) in TABLE_1.items() if alpha])
def test_preset_quick_halves_the_decoder(name: str) -> None:
    quick, paper = (build(name, preset=preset, options={"model.width": 16}) for preset in ("quick", "paper"))
    assert isinstance(quick, ConRec)
    assert isinstance(paper, ConRec)
    assert quick.decoder is not None
    assert paper.decoder is not None
    assert (quick.decoder.to_image.in_channels, paper.decoder.to_image.in_channels) == (8, 16)


def test_conrec_loss_is_the_weighted_sum() -> None:
    """L = L_c + 100 L_r, written out."""
    method = build("conrec-gap").eval()  # eval: batch norm and dropout leave both computations alike
    assert isinstance(method, ConRec)
    batch = views()
    step = method.step(batch)
    x = batch.inputs.flatten(0, 1)
    stages = method.encoder.backbone(x)
    assert method.head is not None
    assert method.decoder is not None
    contrastive = nt_xent(method.head(stages[-1].mean((2, 3))), temperature=0.5)
    squares: list[Tensor] = []
    image = method.decoder(stages)
    for view in range(2):
        for b in range(4):
            squares.append(((image[view * 4 + b] - batch.targets[view, b]) ** 2).mean())
    torch.testing.assert_close(step.loss, contrastive + 100 * torch.stack(squares).mean())
    torch.testing.assert_close(step.logs["contrastive"], contrastive)


def test_attention_gets_no_gradient_from_reconstruction() -> None:
    """Why Reconstruction pools by average: its loss never reaches the attention branch."""
    method = build("conrec", options={"method.contrastive": 0.0})
    step = method.step(views())
    step.loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in method.encoder.pooling.parameters())
    assert all(p.grad is not None for p in method.encoder.backbone.parameters())


@pytest.mark.parametrize(
    "options", [{"method.contrastive": 0.0, "method.alpha": 0.0}, {"method.alpha": -1.0}, {"method.temperature": 0.0}]
)
def test_impossible_weights_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected (one of )?method\."):
        build("conrec", options=options)


def test_controls_separate_corruption_from_reconstruction() -> None:
    """Corruption without the reconstruction loss, both ways to say it."""
    without_loss = build("conrec", options={"method.alpha": 0.0})
    assert isinstance(without_loss, ConRec)
    assert without_loss.decoder is None
    assert without_loss.recipe == "conrec"
    config = resolve(
        "simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, overrides=["views.recipe=conrec"]
    )
    assert config.views.recipe == "conrec"


def test_same_seed_same_weights() -> None:
    a, b, c = (build("conrec", options={}) for _ in range(3))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    config = resolve("conrec", ConRec, preset="quick", seed=1, options={"model.width": 8})
    other = build_method(config, channels=1)
    assert not torch.equal(next(iter(other.encoder.backbone.parameters())), next(iter(c.encoder.backbone.parameters())))


def test_reconstruct_needs_a_decoder(tmp_path: Path) -> None:
    x = torch.rand(2, 1, 32, 32)
    with_decoder, without = build("reconstruction"), build("simclr")
    assert isinstance(with_decoder, ConRec)
    assert isinstance(without, ConRec)
    image = with_decoder.reconstruct(x)
    assert image is not None
    assert image.shape == x.shape
    assert without.reconstruct(x) is None


def test_encoder_is_what_is_kept() -> None:
    assert isinstance(build("conrec").encoder, Encoder)
