"""Self-attention and rollout: against timm's own softmax, transformers' attentions, and the paper's product in loops.

Alone: pytest tests/heatmaps/test_self_attention.py
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.heatmaps.base import Context, Subject, make_map, unmet
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.protocol import DEFAULT_MAPS, OF_TRANSFORMERS, choose_maps
from probekit.models.backbones import import_module
from probekit.models.encoder import Encoder
from probekit.models.self_attention import Attended, attended, watch, weights_of
from tests.heatmaps.encoders import make_batch, small_encoder, small_transformer

SIZE = 64  # 4 x 4 patches


def seen(encoder: Encoder, inputs: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    watch(encoder, inputs, found.append)
    return found


def timms_own(encoder: Encoder, inputs: Tensor) -> list[Tensor]:
    """What the softmax of each of timm's blocks gives where its fused kernel is off."""
    found: list[Tensor] = []
    blocks: list[Any] = [module for module in encoder.modules() if hasattr(module, "fused_attn")]
    hooks = [block.attn_drop.register_forward_hook(lambda m, taken, out: found.append(out)) for block in blocks]
    for block in blocks:
        block.fused_attn = False
    with torch.no_grad():
        encoder(inputs)
    for block, hook in zip(blocks, hooks, strict=True):
        block.fused_attn = True
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("backbone", "prefix", "has_class"),
    [
        ("test_vit", 1, True),
        ("test_vit2", 1, False),  # a register, and no class
        ("vit_pwee_patch16_reg1_gap_256", 1, False),
        ("vit_small_patch16_dinov3", 5, True),  # rotary positions, four registers
    ],
)
def test_weights_are_those_of_timms_own_softmax(backbone: str, prefix: int, has_class: bool) -> None:
    encoder = small_transformer(backbone=backbone)
    inputs = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    expected, found = timms_own(encoder, inputs), seen(encoder, inputs)
    assert len(found) == len(expected) > 3
    assert found[0].std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert attended(encoder, inputs) == Attended(found[0].shape[1], prefix, has_class, throughout=True)


def test_weights_are_those_of_transformers() -> None:
    """With its own kernels, both kinds: what its `output_attentions` gives."""
    import_module("torchvision")
    transformers: Any = import_module("transformers")
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    torch.manual_seed(0)
    config = transformers.ViTConfig(**sizes, intermediate_size=48, image_size=32, patch_size=8, num_channels=1)
    for kernel in ("eager", "sdpa"):
        config._attn_implementation = kernel
        model = transformers.ViTModel(config, add_pooling_layer=False).eval()
        nn.init.normal_(model.get_parameter("embeddings.cls_token"))
        found: list[Tensor] = []
        inputs = torch.rand(2, 1, 32, 32)
        whole: Any = Whole(model)
        watch(whole, inputs, found.append)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            expected = model(inputs, output_attentions=True).attentions
        assert len(expected) == 3
        torch.testing.assert_close(found, list(expected), rtol=0, atol=1e-5)


class Whole(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Any:
        return self.model(inputs)


def test_weights_of_torchs_own_module_are_seen_and_its_answer_is_the_same() -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.rand(3, 5, 8)

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return module(x, x, x, need_weights=False)

    found: list[Tensor] = []
    asks: Any = Asks()
    answer: Any = watch(asks, x, found.append)
    given, none = answer
    with torch.no_grad():
        expected, weights = module(x, x, x, average_attn_weights=False)
    assert none is None
    torch.testing.assert_close(given, expected)
    torch.testing.assert_close(found, [weights])


@pytest.mark.parametrize("kind", ["plain", "scale", "causal", "bool", "bias", "grouped"])
def test_weights_average_values_as_the_kernel_does(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 5, 8, generator=generator) for _ in range(3))
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "scale": {"scale": 0.7},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": torch.rand(5, 5, generator=generator) > 0.4},
        "bias": {"attn_mask": torch.randn(4, 5, 5, generator=generator)},
        "grouped": {"enable_gqa": True},
    }
    more = kinds[kind]
    if kind == "grouped":
        k, v = k[:, :2], v[:, :2]
    if kind == "bool":
        more["attn_mask"].fill_diagonal_(True)
    weights = weights_of(q, k, v, **more)
    whole = v.repeat_interleave(2, 1) if kind == "grouped" else v
    torch.testing.assert_close(weights @ whole, F.scaled_dot_product_attention(q, k, v, **more), rtol=1e-4, atol=1e-5)


def test_the_map_is_the_class_tokens_row_without_what_is_no_patch() -> None:
    encoder = small_transformer()
    batch = make_batch(encoder, size=SIZE)
    last = timms_own(encoder, batch.inputs)[-1]
    mean = make_map("self-attention", Context())(encoder, batch)
    heads = [make_map(f"self-attention:{head}", Context())(encoder, batch) for head in range(2)]
    for i, y, x in np.ndindex(3, 4, 4):
        expected = [float(last[i, head, 0, 1 + 4 * y + x]) for head in range(2)]
        assert [float(each[i, y, x]) for each in heads] == pytest.approx(expected, abs=1e-5)
        assert float(mean[i, y, x]) == pytest.approx(sum(expected) / 2, abs=1e-5)
    assert (mean.sum((1, 2)) < 1).all()


def test_without_a_class_token_all_patches_ask() -> None:
    encoder = small_transformer(backbone="test_vit2")
    batch = make_batch(encoder, size=SIZE)
    last = timms_own(encoder, batch.inputs)[-1].mean(dim=1)
    expected = [[sum(float(image[1 + q, 1 + k]) for q in range(16)) / 16 for k in range(16)] for image in last]
    found = make_map("self-attention", Context())(encoder, batch)
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-5)


def test_rollout_is_the_papers_product() -> None:
    """Abnar and Zuidema 2020, section 3: A = 0.5 W + 0.5 I, and the product over layers, in loops."""
    encoder = small_transformer()
    batch = make_batch(encoder, size=SIZE)
    layers = timms_own(encoder, batch.inputs)
    found = make_map("rollout", Context())(encoder, batch)
    for i in range(3):
        product = np.eye(17)
        for weights in layers:
            mean = weights[i].double().numpy().mean(axis=0)
            product = (0.5 * mean + 0.5 * np.eye(17)) @ product
        np.testing.assert_allclose(found[i].flatten(), product[0, 1:], atol=1e-5)
        assert product[0].sum() == pytest.approx(1, abs=1e-5)


def test_networks_without_it_refuse_in_a_line() -> None:
    encoder = small_encoder()
    assert attended(encoder, torch.rand(1, 1, 32, 32)) is None
    subject = Subject(encoder, None, Context())
    for name in OF_TRANSFORMERS:
        with pytest.raises(ValueError, match="no self-attention over the cells") as error:
            choose_maps(subject, [name], has_weights=False, attention=None)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("backbone", ["pvt_v2_b0", "xcit_nano_12_p16_224", "resnet18"])
def test_attention_over_something_else_is_not_taken_for_it(backbone: str) -> None:
    """Keys of coarser grids in the first stages; from channel to channel; none."""
    found = attended(small_transformer(backbone=backbone), torch.rand(1, 1, SIZE, SIZE))
    assert (found is not None) == (backbone == "pvt_v2_b0")
    if found is not None:
        subject = Subject(small_encoder(), None, Context())
        assert not found.throughout
        assert unmet("self-attention", subject, False, found) is None
        assert "not all blocks" in (unmet("rollout", subject, False, found) or "")


def test_heads_are_chosen_by_number_and_by_all() -> None:
    subject, found = Subject(small_encoder(), None, Context()), Attended(3, 1, True, True)
    names, _ = choose_maps(subject, ["self-attention:all", "rollout"], has_weights=False, attention=found)
    assert names == ["self-attention:0", "self-attention:1", "self-attention:2", "rollout"]
    with pytest.raises(ValueError, match="3 heads, self-attention:0 to self-attention:2"):
        choose_maps(subject, ["self-attention:3"], has_weights=False, attention=found)
    usual, _ = choose_maps(subject, None, has_weights=False, attention=found)
    assert set(usual) >= set(OF_TRANSFORMERS)
    assert not set(OF_TRANSFORMERS) & set(DEFAULT_MAPS)
    for wrong in ("rollout:0", "self-attention:", "self-attention:-1", "self-attention:x"):
        with pytest.raises(
            ValueError, match="expected a number of a head after self-attention or of a filter after gfb alone"
        ):
            Heatmap(maps=(wrong,))
