"""The random network beside a trained one: every backbone's says something of its images, in eval mode, at any depth.

Alone: pytest tests/models/test_untrained.py
"""

from typing import Any

import pytest
import torch
from torch import nn

from probekit.config import resolve
from probekit.models import Encoder
from probekit.models.backbones import timm_config
from probekit.models.outside import code_of
from probekit.registry import METHODS, get
from probekit.restore.build import alike, make_plain, untrained_encoder, with_normalise

pytest.importorskip("timm")
# One of every way in which timm's families begin closed (what it is, in the comment), and plain ones beside them.
BACKBONES: dict[str, dict[str, Any]] = {
    "unet": {"width": 8, "depth": 4},
    **{
        name: {"backbone": f"timm:{name}"}
        for name in (
            "resnet18",  # the last norm of each block scales by 0
            "regnetx_002",
            "mobilevit_xxs",
            "test_convnext",  # branches times 1e-6
            "edgenext_xx_small",
            "inception_next_atto",
            "swiftformer_xs",
            "test_mambaout",
            "test_nfnet",
            "efficientvit_b0",  # offsets drown what is left of the image
            "repvgg_a0",  # norms that scale by .1
            "densenet121",
            "efficientnet_b0",
            "mobilenetv3_small_050",
            "pvt_v2_b0",
            "test_vit",
        )
    },
    "small stem": {"backbone": "timm:test_resnet", "stem": "small"},
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_baseline_tells_images_apart_and_sees_every_pixel(name: str) -> None:
    spec = {"channels": 1, "pooling": "gap", **BACKBONES[name]}
    encoder = untrained_encoder(spec, seed=0)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, 64, 64, generator=generator).requires_grad_()
    pooled = encoder(x).pooled
    apart = (pooled[0] - pooled[1]).norm() / pooled.norm()
    assert apart > 1e-3
    direction = torch.randn(pooled.shape, generator=generator)
    (seen,) = torch.autograd.grad((pooled * direction).sum(), x)
    assert bool((seen != 0).all())
    small = torch.rand(2, 1, 32, 32, generator=generator)
    with torch.no_grad():
        pooled = encoder(small).pooled
        other = untrained_encoder(spec, seed=1)(small).pooled
    assert (pooled[0] - pooled[1]).norm() > 1e-3 * pooled.norm()
    assert not torch.allclose(pooled, other, rtol=0.1)


def test_what_is_plain_already_stays_as_it_is() -> None:
    spec: dict[str, Any] = {"channels": 1, "pooling": "attention", "width": 8, "depth": 3}
    torch.manual_seed(3)
    fresh, plain = Encoder(**spec), untrained_encoder(spec, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), plain.parameters(), strict=True))


def test_pretraining_keeps_its_own_initialisation() -> None:
    torch.manual_seed(0)
    fresh = Encoder(channels=1, pooling="gap", backbone="timm:resnet18")
    zeroed = [name for name, p in fresh.named_parameters() if not p.any() and name.endswith("bn2.weight")]
    assert len(zeroed) == 8
    plain = untrained_encoder(fresh.spec, seed=0).state_dict()
    changed = [name for name, p in fresh.named_parameters() if not torch.equal(p, plain[name])]
    assert changed == zeroed


class Odd(nn.Module):
    """What must be opened, and what looks like it and must not."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        nn.init.zeros_(self.head.weight)
        self.norm = nn.LayerNorm(3)
        nn.init.zeros_(self.norm.weight)
        self.bare = nn.BatchNorm2d(3, affine=False)
        self.gamma_1 = nn.Parameter(1e-5 * torch.ones(3))
        self.skipinit_gain = nn.Parameter(torch.tensor(0.0))
        self.scale = nn.Parameter(torch.tensor([0.8944]))  # of StarReLU
        self.gamma_learnt = nn.Parameter(torch.tensor([1e-5, 2e-5]))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 3))
        self.attention_biases = nn.Parameter(torch.zeros(2, 4))


def test_what_is_opened_and_what_is_not() -> None:
    odd = Odd()
    make_plain(odd)
    assert odd.head.weight.abs().min() > 0
    assert not odd.head.bias.any()
    for opened in (odd.norm.weight, odd.gamma_1, odd.skipinit_gain):
        assert bool((opened == 1).all())
    assert odd.scale.item() == pytest.approx(0.8944)
    assert odd.gamma_learnt.tolist() == pytest.approx([1e-5, 2e-5])
    assert not odd.cls_token.any()
    assert not odd.attention_biases.any()


class Loaded(nn.Module):
    """A user's encoder, with weights from elsewhere in every way that torch has; it sets the seed, too."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        super().__init__()
        self.token = nn.Parameter(torch.arange(12.0).view(3, 4))
        self.layer = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 1)
        nn.init.constant_(self.layer.weight, 2.0)
        nn.init.constant_(self.attention.in_proj_weight, 2.0)
        nn.init.constant_(self.attention.out_proj.weight, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_nothing_of_a_users_own_weights_is_left_in_random_ones() -> None:
    name = f"py:{__name__}:Loaded"
    spec = {"channels": 1, "pooling": "own", "backbone": name, "shape": [1, 1], "code": code_of(name)}
    own = Loaded().state_dict()
    drawn = [untrained_encoder(spec, seed).backbone.module.state_dict() for seed in (0, 0, 1)]
    for key in ("token", "layer.weight", "attention.in_proj_weight", "attention.out_proj.weight"):
        assert torch.equal(drawn[0][key], drawn[1][key]), key
        assert not torch.equal(drawn[0][key], drawn[2][key]), key
        assert not torch.equal(drawn[0][key], own[key]), key
    assert drawn[0]["token"].sort().values.flatten().sort().values.tolist() == list(range(12))


def test_networks_are_alike_if_their_embeddings_are() -> None:
    spec = {"channels": 1, "pooling": "gap", "width": 4, "depth": 2}
    first, again, other = (untrained_encoder(spec, seed) for seed in (7, 7, 8))
    assert alike(first, again, (16, 16), torch.device("cpu"))
    assert not alike(first, other, (16, 16), torch.device("cpu"))
    for weights in other.parameters():
        weights.data.fill_(torch.nan)
    assert not alike(first, other, (16, 16), torch.device("cpu")), "what is no number is like nothing"


def test_a_tag_of_weights_needs_a_file_of_them() -> None:
    config = resolve(
        "simclr",
        get(METHODS, "method", "simclr"),
        preset="quick",
        seed=0,
        options={"model.backbone": "timm:resnet18.tv_in1k"},
    )
    with pytest.raises(
        ValueError, match=r"expected --init-from FILE with .*; type: --set model\.backbone=timm:resnet18 "
    ):
        with_normalise(config)
    with pytest.raises(ValueError, match=r"unknown tag of weights of resnet18 'a1_in'; .*did you mean 'a1_in1k'"):
        timm_config("resnet18.a1_in")
    assert timm_config("resnet18.a1_in1k").tag == "a1_in1k"
