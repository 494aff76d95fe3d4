"""Every family of backbones keeps the encoder's contract; what timm says about them is the oracle.

Alone: pytest tests/models/test_backbones.py
"""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probekit.config import Config, resolve
from probekit.models import Encoder, backbones, build_encoder, load_encoder, save_encoder
from probekit.models.backbones import IMAGENET, build_backbone, described, known_normalisation, normalisation
from probekit.models.unet import UNetDecoder
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.train.cost import step_cost
from probekit.train.optim import build_optimizer
from probekit.train.step import build_step
from tests.datasets import ABOUT
from tests.forked import SERVER
from tests.methods.test_conrec import views

timm = pytest.importorskip("timm")

UNET = {"backbone": "unet", "width": 8, "depth": 4}
# Small members of timm's families: plain stages, a map that comes after them, tokens, channels last.
NAMES = ("test_resnet", "densenet121", "test_convnext", "test_efficientnet", "test_vit", "test_mambaout")
KINDS: dict[str, dict[str, Any]] = {
    "unet": UNET,
    **{name: {"backbone": f"timm:{name}"} for name in NAMES},
    "small stem": {"backbone": "timm:test_resnet", "stem": "small"},
}


def encoder(kind: str, *, channels: int = 3, pooling: str = "gap", **changes: Any) -> Encoder:
    torch.manual_seed(0)
    return Encoder(channels=channels, pooling=pooling, **{**KINDS[kind], **changes})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str, channels: int, tmp_path: Path) -> None:
    """Shapes, gradients, independence of batch mates, and the file."""
    built = encoder(kind, channels=channels, pooling="attention", normalise=normalisation("imagenet", "", channels))
    x = torch.rand(3, channels, 64, 96)
    features = built(x)
    assert [s.shape[1] for s in features.stages] == built.widths
    assert [(64 // s.shape[2], 96 // s.shape[3]) for s in features.stages] == [
        (stride, stride) for stride in built.strides
    ]
    assert built.strides == sorted(built.strides)
    assert features.map is features.stages[-1]
    assert features.pooled.shape == (3, built.dim)
    assert features.pooled.dtype == torch.float32
    assert features.weights is not None
    assert features.weights.shape == (3, 64 // built.stride, 96 // built.stride)
    features.pooled.square().sum().backward()
    assert not [name for name, p in built.named_parameters() if p.grad is None]

    built.eval()
    with torch.no_grad():
        whole = built(x).pooled
        alone = torch.cat([built(image[None]).pooled for image in x])
        torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)
        save_encoder(tmp_path / "encoder.safetensors", built, ABOUT)
        loaded, header = load_encoder(tmp_path)
        assert torch.equal(loaded(x).pooled, whole)
    assert header["spec"] == built.spec


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_hold_every_weight_and_the_stem_comes_last(kind: str) -> None:
    built = encoder(kind, pooling="attention")
    held = {id(p) for block in built.blocks.values() for p in block.parameters()}
    assert held == {id(p) for p in built.parameters()}
    fresh = encoder(kind, pooling="attention")
    with torch.no_grad():
        for p in fresh.parameters():
            p.add_(1)
    for name, block in built.blocks.items():  # as the check of the parameters does
        block.load_state_dict(fresh.blocks[name].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), fresh.parameters(), strict=True))
    assert next(iter(built.blocks)) == "pooling"


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_what_timm_calls_the_features(name: str) -> None:
    built = encoder(name).eval()
    x = torch.rand(2, 3, 160, 160)  # the size that timm's test models were made for
    with torch.no_grad():
        ours = built(x)
        model = built.backbone.model
        theirs = model.forward_features(x)
    if theirs.ndim == 3:
        theirs = theirs[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, ours.map.shape[2:])
    elif theirs.shape[1] != built.dim:
        theirs = theirs.permute(0, 3, 1, 2)
    torch.testing.assert_close(ours.map, theirs)
    torch.testing.assert_close(ours.pooled, theirs.mean((2, 3)))


def test_normalisation_is_inside_and_rebuilt_from_the_spec() -> None:
    plain, normalised = encoder("test_resnet").eval(), encoder("test_resnet", normalise=IMAGENET).eval()
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(IMAGENET[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(normalised(x).pooled, plain((x - mean) / std).pooled)
        again = build_encoder(normalised.spec).eval()
        again.load_state_dict(normalised.state_dict())
        assert torch.equal(again(x).pooled, normalised(x).pooled)
    assert plain.state_dict().keys() == normalised.state_dict().keys()


def test_what_timm_knows_of_its_weights() -> None:
    assert normalisation("timm", "timm:vit_small_patch16_224", 3) == {"mean": [0.5] * 3, "std": [0.5] * 3}
    grey = normalisation("imagenet", "unet", 1)
    assert grey is not None
    assert grey["mean"] == pytest.approx([0.449], abs=1e-3)
    assert normalisation("auto", "unet", 3) is None
    with pytest.raises(ValueError, match="expected a backbone of timm"):
        normalisation("timm", "unet", 3)


@pytest.mark.parametrize(
    ("backbone", "mean"),  # from the papers' and the authors' code
    [
        ("timm:vit_base_patch16_siglip_224", 0.5),
        ("timm:vit_base_patch16_clip_224", 0.48145466),
        ("timm:eva02_tiny_patch14_224", 0.48145466),
        ("timm:vit_tiny_patch16_224", 0.5),  # augreg
        ("timm:vit_small_patch16_224.augreg_in21k", 0.5),
        ("timm:vit_small_patch16_224.dino", 0.485),
        ("timm:vit_small_patch14_dinov2", 0.485),
        ("timm:resnet50", 0.485),
        ("timm:botnet50ts_256", 0.485),  # timm has no weights of it
        ("unet", 0.485),
    ],
)
def test_published_weights_are_normalised_as_they_were_trained(backbone: str, mean: float) -> None:
    name = known_normalisation(backbone)
    values = normalisation(name, backbone, 3)
    assert values is not None
    assert values["mean"][0] == pytest.approx(mean)
    assert (name == "imagenet") == (mean == 0.485)
    assert described(values).endswith("not those of ImageNet") == (name == "timm")


def test_a_name_with_several_normalisations_needs_a_tag() -> None:
    says = (
        r"the tag of the weights behind timm:resnet34, as in timm:resnet34\.a1_in1k, .*type: --set model.normalise=im"
    )
    with pytest.raises(ValueError, match=says):
        known_normalisation("timm:resnet34")


@pytest.mark.parametrize(
    ("name", "stem", "says"),
    [
        ("timm:resnet5", "imagenet", "did you mean timm:resnet50"),
        ("timm:dino_vits16", "imagenet", "did you mean timm:vit_small_patch16_224.dino"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "imagenet", "unknown model of timm"),
        ("timm:mixer_s16_224", "imagenet", "takes images of many sizes"),
        ("timm:test_convnext", "small", "expected a resnet or a densenet for model.stem small, found test_convnext"),
        ("unet", "small", "the U-Net, which has no stem"),
        ("unet", "tiny", "expected model.stem one of imagenet, small"),
        ("resnet18", "imagenet", "expected model.backbone unet or timm:NAME"),
        ("timm:", "imagenet", "expected model.backbone unet or timm:NAME"),
    ],
)
def test_mistakes_are_one_line(name: str, stem: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        build_backbone(name, channels=3, width=8, depth=4, stem=stem)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_what_hooks_do_not_see_is_not_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses `mix.forward`, where of a black image a net without biases has nothing but zeros to mix."""
    create = backbones._create

    def mixed(name: str, *others: Any) -> Any:
        model = create(name, *others)
        model.mix = nn.Conv2d(model.num_features, model.num_features, 1, bias=False)
        whole = model.forward_intermediates

        def with_mix(x: Tensor, **how: Any) -> Any:
            last, stages = whole(x, **how)
            return model.mix.forward(last), stages

        model.forward_intermediates = with_mix
        return model

    monkeypatch.setattr(backbones, "_create", mixed)
    with pytest.raises(ValueError, match=f"told from its head, found that timm:{name} cannot"):
        encoder(name)


def test_a_look_around_takes_no_random_number() -> None:
    torch.manual_seed(0)
    timm.create_model("test_resnet", num_classes=0)
    expected = torch.rand(1)
    encoder("test_resnet")
    assert torch.equal(torch.rand(1), expected)


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"type: pip install 'timm>=1\.0'"):
        encoder("test_resnet")


def test_a_timm_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(
        ValueError, match=r"timm cannot be imported: RuntimeError: operator .* does not exist; check"
    ) as caught:
        encoder("test_resnet")
    assert "\n" not in str(caught.value)


def test_patches_that_do_not_fit_are_one_line() -> None:
    built = encoder("test_vit")
    with pytest.raises(ValueError, match=r"divisible by 16.*found 64x40; type: probekit import SOURCE --size 32"):
        built(torch.rand(1, 3, 64, 40))


def test_small_stems_keep_the_resolution() -> None:
    for name in ("test_resnet", "resnet18d", "densenet121"):
        backbone = build_backbone(f"timm:{name}", channels=1, width=0, depth=0, stem="small")
        assert backbone.strides == [1, 1, 2, 4, 8]


def configured(method: str, backbone: str, **options: Any) -> Config:
    options = {"model.backbone": backbone, **options}
    return resolve(method, get(METHODS, "method", method), preset="quick", seed=0, options=options)


# Every method on one, and on each other one a method that decodes, one with a target, one with small crops.
PAIRS = [(method, "test_resnet") for method in METHODS] + [
    (method, name)
    for method in ("conrec", "byol", "swav")
    for name in ("test_convnext", "test_efficientnet", "test_vit", "test_mambaout")
]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_every_method_takes_every_backbone_or_says_why_not(method: str, name: str) -> None:
    config = configured(method, f"timm:{name}")
    if name == "test_vit" and config.method_options.get("alpha"):
        with pytest.raises(ValueError, match="expected stages that halve"):
            build_method(config, channels=1)
        return
    built = build_method(config, channels=1)
    step = built.step(views(size=64))
    assert torch.isfinite(step.loss)
    step.loss.backward()  # type: ignore[no-untyped-call]
    assert not [n for n, p in built.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(("method", "name"), [("swav", "test_vit"), ("dino", "test_convnext")])
def test_small_crops_fit_patches_and_strides(method: str, name: str) -> None:
    """Views of 64 px with small crops of 24 for the U-Net: fewer than two patches of 16, less than a stride of 32."""
    config = configured(
        method,
        f"timm:{name}",
        **{"views.max_size": 64, **({"train.batch_size": 4, "method.queue": 4} if method == "swav" else {})},
    )
    built = build_method(config, channels=1).train()
    images = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    step = build_step(config, built, images)
    local = step.views(torch.arange(4), images).local
    assert local is not None
    assert local.inputs.shape[1:] == (4, 1, 32, 32)
    assert built.encoder(local.inputs[0]).map.shape[2:] == (32 // built.encoder.stride, 32 // built.encoder.stride)
    assert torch.isfinite(step(torch.arange(4), images)).all()
    assert step_cost(config, channels=1, size=(64, 64)).flops > 0


def test_patches_that_overlap_fit_any_cell() -> None:
    """Its patches of 7 px are 4 apart: sides need not be divisible by 7."""
    backbone = build_backbone("timm:pvt_v2_b0", channels=1, width=0, depth=0, stem="imagenet")
    assert backbone.strides == [4, 8, 16, 32]
    assert backbone(torch.rand(2, 1, 32, 96))[-1].shape[2:] == (1, 3)


@pytest.mark.parametrize(
    ("strides", "ok"), [([1, 1, 2, 4], True), ([4, 8, 16], True), ([16, 16], False), ([2, 8], False)]
)
def test_the_decoder_takes_pyramids_that_halve(strides: list[int], ok: bool) -> None:
    widths = [4 * (1 + number) for number in range(len(strides))]
    if not ok:
        with pytest.raises(ValueError, match="expected stages that halve"):
            UNetDecoder(channels=1, widths=widths, strides=strides)
        return
    decoder = UNetDecoder(channels=1, widths=widths, strides=strides)
    stages = [torch.rand(2, w, 32 // s, 48 // s) for w, s in zip(widths, strides, strict=True)]
    assert decoder(stages).shape == (2, 1, 32, 48)


def test_width_and_depth_belong_to_the_unet() -> None:
    with pytest.raises(ValueError, match=r"expected model\.width for the U-Net alone, found it with timm:resnet18"):
        configured("simclr", "timm:resnet18", **{"model.width": 8})
    config = configured("simclr", "timm:resnet18")
    assert (config.model.width, config.model.depth) == (0, 0)
    assert Config.from_dict(config.to_dict()) == config


def test_tokens_and_positions_are_not_decayed() -> None:
    """As timm's own training leaves them out."""
    built = encoder("test_vit")
    optimizer = build_optimizer(built, name="lars", lr=0.1, momentum=0.9, weight_decay=1e-4)
    model = built.backbone.model
    spared = {id(p) for p in optimizer.param_groups[1]["params"]}
    assert {id(model.pos_embed), id(model.cls_token)} <= spared
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert not {id(p) for p in matrices} & spared
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(built.parameters()))


def test_the_core_does_not_need_timm() -> None:
    """Nothing of probekit imports it before a backbone of timm is asked for."""
    code = "[__import__('probekit.models'), __import__('probekit.train.pretrain'), 'timm' in __import__('sys').modules]"
    with ProcessPoolExecutor(1, mp_context=SERVER) as child:  # which imports nothing of the tests
        assert child.submit(eval, f"{code}[-1]").result() is False
