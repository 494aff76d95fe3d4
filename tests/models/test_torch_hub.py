"""Names of torch.hub: each is one of timm's here, of the size that its name says, with weights that timm knows, too.

Alone: pytest tests/models/test_torch_hub.py
"""

import pytest

from probekit.models.backbones import import_timm, timm_tags
from probekit.models.torch_hub import known

# As the repositories' hubconf.py has them, and how many million parameters their papers give.
NAMES = {
    "dino_vits16": 21, "dino_vits8": 21, "dino_vitb16": 85, "dino_vitb8": 85, "dino_resnet50": 23,
    "dinov2_vits14": 21, "dinov2_vitb14": 86, "dinov2_vitl14": 300, "dinov2_vitg14": 1100,
    "dinov2_vits14_reg": 21, "dinov2_vitb14_reg": 86, "dinov2_vitl14_reg": 300, "dinov2_vitg14_reg": 1100,
    "dinov2_vits14_lc": 21, "dinov2_vits14_reg_lc": 21,
    "dinov3_vits16": 21, "dinov3_vits16plus": 29, "dinov3_vitb16": 86, "dinov3_vitl16": 300, "dinov3_vith16plus": 840,
    "dinov3_vit7b16": 6716,
    "dinov3_convnext_tiny": 29, "dinov3_convnext_small": 50, "dinov3_convnext_base": 89, "dinov3_convnext_large": 198,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_model_of_timm_of_that_size(name: str) -> None:
    timm, torch = import_timm(), pytest.importorskip("torch")
    model = known(name)
    assert model is not None
    plain, _, tag = model.timm.partition(".")
    assert timm.is_model(plain)
    assert not tag or tag in timm_tags(plain)
    with torch.device("meta"):
        network = timm.create_model(plain, num_classes=0)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(NAMES[name], rel=0.08)
    assert ("_reg4" in plain) == ("_reg" in name)
    assert network.default_cfg["input_size"][1] == (
        518 if name.startswith("dinov2") else 256 if "v3_vit" in name else 224
    )


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "dinov2", "dinov2_vits16", "dino_vitl16", "resnet50"])
def test_others_are_none_of_them(name: str) -> None:
    assert known(name) is None
