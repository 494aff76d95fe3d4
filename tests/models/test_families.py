"""A small model of every family of timm that has pretrained weights: its features are timm's own, or it is refused.

Alone: pytest tests/models/test_families.py
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.models import backbones
from probekit.models.backbones import TRIAL, build_backbone
from probekit.models.checkpoint import Checkpoint, unwrapped
from probekit.models.encoder import Encoder
from probekit.models.weights import load_weights

timm = pytest.importorskip("timm")

# By the module of timm that a family is written in. Several where its members differ in what `forward` calls.
TAKEN = """
byobnet test_byobnet
convmixer convmixer_768_32
convnext test_convnext
cpubone cpubone_nano
csatv2 csatv2
cspnet cspresnext50
cspnext cspnext_tiny
davit davit_tiny
deepseek_vit deepseek_vit_412m
deit deit_tiny_distilled_patch16_224
densenet densenet121
dla dla46x_c
dpn dpn68
edgenext edgenext_xx_small
efficientnet test_efficientnet
efficientvit_mit efficientvit_b0
efficientvit_msra efficientvit_m0
eva eva02_tiny_patch14_224
eva vit_pe_core_tiny_patch16_384
eva vit_small_patch16_dinov3
fasternet fasternet_t0
fastvit fastvit_t8
focalnet focalnet_tiny_srf
gemma4_vit gemma4_vit_167m
ghostnet ghostnet_100
hardcorenas hardcorenas_b
hgnet hgnetv2_b0
hieradet_sam2 sam2_hiera_tiny
hrnet hrnet_w18_small
iformer iformer_t
inception_next inception_next_atto
lcnetv2 lcnetv2_small
lowformer lowformer_b0
mambaout mambaout_femto
metaformer caformer_s18
mobilenetv3 mobilenetv3_small_050
mobilenetv5 mobilenetv5_300m
mobilevit mobilevit_xxs
mvitv2 mvitv2_tiny
naflexvit naflexvit_base_patch16_parfac_gap
nasnet nasnetalarge
nextvit nextvit_small
nfnet test_nfnet
pnasnet pnasnet5large
pvt_v2 pvt_v2_b0
qwen3_vit qwen3_vit_88m
rdnet rdnet_tiny
regnet regnetx_002
repghost repghostnet_050
repvit repvit_m1
res2net res2next50
resnest resnest14d
resnet test_resnet
resnetv2 resnetv2_18
rexnet rexnet_100
selecsls selecsls60
senet legacy_seresnet18
sequencer sequencer2d_s
shvit shvit_s1
sknet skresnet18
starnet starnet_s1
swiftformer swiftformer_xs
swin_transformer swin_tiny_patch4_window7_224
swin_transformer_v2 swinv2_tiny_window8_256
swin_transformer_v2_cr swinv2_cr_tiny_ns_224
tiny_vit tiny_vit_5m_224
tresnet tresnet_m
twins twins_svt_small
vgg vgg11
vision_transformer test_vit
vision_transformer vit_small_patch14_reg4_dinov2
vision_transformer_hybrid vit_tiny_r_s16_p8_224
vision_transformer_sam samvit_base_patch16
vitamin vitamin_small_224
vovnet ese_vovnet19b_dw
xception legacy_xception
xception_aligned xception41p
xcit xcit_nano_12_p8_224
"""
# Made for images of one size, which their weights or their code hold; or, of 64 px, too few cells are left.
REFUSED = """
beit beit_base_patch16_224
byoanet eca_botnext26ts_256
cait cait_xxs24_224
coat coat_tiny
convit convit_tiny
crossvit crossvit_tiny_240
efficientformer efficientformer_l1
efficientformer_v2 efficientformerv2_s0
efficientvim efficientvim_m1
gcvit gcvit_xxtiny
hiera hiera_tiny_224
inception_resnet_v2 inception_resnet_v2
inception_v3 inception_v3
inception_v4 inception_v4
levit levit_128s
maxxvit maxvit_rmlp_pico_rw_256
mlp_mixer resmlp_12_224
nest nest_tiny_jx
pit pit_ti_224
tnt tnt_s_legacy_patch16_224
visformer visformer_tiny
vision_transformer_relpos vit_srelpos_small_patch16_224
volo volo_d1_224
"""
# What makes the large ones small enough for a test.
SHRUNK: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 2},
    "davit_tiny": {"depths": (1, 1, 1, 1), "embed_dims": (24, 48, 96, 192)},
    "deepseek_vit_412m": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "densenet121": {"block_config": (2, 2, 2, 2)},
    "dpn68": {"k_sec": (1, 1, 1, 1)},
    "gemma4_vit_167m": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "mobilenetv5_300m": {"channel_multiplier": 0.1},
    "naflexvit_base_patch16_parfac_gap": {"depth": 2},
    "nasnetalarge": {"num_features": 384},
    "nextvit_small": {"depths": (1, 1, 10, 1)},
    "qwen3_vit_88m": {"depth": 2},
    "res2next50": {"layers": [1, 1, 1, 1]},
    "sam2_hiera_tiny": {"stages": (1, 1, 1, 1), "global_att_blocks": ()},
    "samvit_base_patch16": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "sequencer2d_s": {"layers": [1, 1, 1, 1]},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 2, 1)},
    "swinv2_cr_tiny_ns_224": {"depths": (1, 1, 2, 1)},
    "swinv2_tiny_window8_256": {"depths": (1, 1, 2, 1)},
    "tiny_vit_5m_224": {"depths": [1, 1, 2, 1]},
    "tresnet_m": {"layers": [1, 1, 1, 1]},
    "twins_svt_small": {"depths": (1, 1, 2, 1)},
    "vgg11": {"mlp_ratio": 0.01},
    "vit_small_patch14_reg4_dinov2": {"depth": 2},
    "vit_small_patch16_dinov3": {"depth": 2},
    "xcit_nano_12_p8_224": {"depth": 2},
}


def pairs(listed: str) -> list[tuple[str, str]]:
    return [(family, name) for family, name in map(str.split, listed.strip().splitlines())]


@pytest.fixture(autouse=True)
def small_and_seeded(monkeypatch: pytest.MonkeyPatch, drawn_once: None) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **given, **SHRUNK.get(name, {})))
    torch.manual_seed(0)


@pytest.mark.parametrize("name", [name for _, name in pairs(TAKEN)])
def test_features_are_timms_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the model gives them before anything is left out of it; and what timm would save of it is whole."""
    side = TRIAL // 14 * 14 if "patch14" in name or "deepseek" in name else TRIAL
    create, image = backbones._create, torch.rand(1, 3, side, side)
    expected: list[torch.Tensor] = []
    saved: dict[str, torch.Tensor] = {}

    def watched(*given: Any) -> Any:
        model = create(*given).eval()
        with torch.no_grad():
            expected.append(model.forward_features(image))
        saved.update({key: value.clone() for key, value in model.state_dict().items()})
        return model

    monkeypatch.setattr(backbones, "_create", watched)
    built = Encoder(channels=3, pooling="gap", backbone=f"timm:{name}").eval()
    with torch.no_grad():
        ours = built(image).map
    theirs = expected[0]
    if theirs.ndim == 3:
        cells = ours.shape[2] * ours.shape[3]
        theirs = theirs[:, -cells:].transpose(1, 2).reshape(ours.shape)
    elif theirs.shape != ours.shape:
        theirs = theirs.permute(0, 3, 1, 2)
    assert theirs.std() > 0
    torch.testing.assert_close(ours, theirs)
    match = load_weights(built, Checkpoint(Path(__file__), {"": unwrapped(saved)}, spec=None))
    assert (match.matched, match.mark) == (match.total, "")


@pytest.mark.parametrize("name", [name for _, name in pairs(REFUSED)])
def test_refused_in_one_line(name: str) -> None:
    """By shapes alone: on the meta device nothing is drawn or computed."""
    with (
        pytest.raises(
            ValueError, match=rf"takes images of many sizes, found that timm:{name} fails at \d+ px: ."
        ) as caught,
        torch.device("meta"),
    ):
        build_backbone(f"timm:{name}", channels=3, width=0, depth=0, stem="imagenet")
    assert "\n" not in str(caught.value)


def test_every_family_that_pretrains_is_listed() -> None:
    from timm.models._registry import _model_to_module

    names = {name.partition(".")[0] for name in timm.list_pretrained()}
    families = {_model_to_module[name] for name in names}
    assert {family for family, _ in [*pairs(TAKEN), *pairs(REFUSED)]} == families
