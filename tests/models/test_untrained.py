"""The random network beside a trained one: every backbone's says something of its images, in eval mode, at any depth.

Alone: pytest tests/models/test_untrained.py
"""

from typing import Any

import pytest
import torch
from torch import nn

from probekit.models import Encoder
from probekit.models.untrained import make_plain, untrained_encoder

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
