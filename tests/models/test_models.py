"""U-Net, pooling and head: parameter counts of the paper, eq. 4 in loops, initialisers, saving.

Alone: pytest tests/models/test_models.py
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from probekit.models import Encoder, load_encoder, save_encoder
from probekit.models.encoder import count_as_paper, count_parameters
from probekit.models.heads import ProjectionHead
from probekit.models.pooling import EPSILON, AttentionPool, GlobalAveragePool
from probekit.models.unet import UNetDecoder
from tests.datasets import ABOUT


def encoder(pooling: str = "attention", *, channels: int = 1, width: int = 8, depth: int = 4) -> Encoder:
    torch.manual_seed(0)
    return Encoder(channels=channels, width=width, depth=depth, pooling=pooling)


@pytest.mark.parametrize(
    ("pooling", "trainable", "as_paper"), [("gap", 4_689_216, 4_693_056), ("attention", 4_862_657, 4_867_393)]
)
def test_parameter_counts_of_the_paper(pooling: str, trainable: int, as_paper: int) -> None:
    """Table 2 prints 4.693M and 4.867M."""
    built = encoder(pooling, channels=3, width=64)
    assert count_parameters(built) == trainable
    assert count_as_paper(built) == as_paper


def test_one_channel_has_1152_parameters_fewer() -> None:
    assert count_parameters(encoder(channels=3, width=64)) - count_parameters(encoder(width=64)) == 1_152


def test_complete_conrec_counts() -> None:
    """Skips 88,256, decoder 3,101,056 + 195, head 594,304: 8,651,716 in the paper's way of counting."""
    decoder = UNetDecoder(channels=3, widths=[64, 128, 256, 512], strides=[1, 2, 4, 8])
    head = ProjectionHead(dim=512, out=128)
    assert count_as_paper(decoder) == 88_256 + 3_101_056 + 195
    assert count_as_paper(head) == 594_304
    frozen = 512  # the authors' frozen all-ones convolution, a broadcast here
    whole = encoder(channels=3, width=64)
    assert count_as_paper(whole) + count_as_paper(decoder) + count_as_paper(head) + frozen == 8_651_716


def test_a_decoder_half_as_wide() -> None:
    """Levels of 32, 16 and 8 channels. Convolutions: skips 2,744, levels 66,928, image 9; batch norms 336."""
    decoder = UNetDecoder(channels=1, widths=[16, 32, 64, 128], strides=[1, 2, 4, 8], width=0.5)
    assert count_parameters(decoder) == 2_744 + 66_928 + 9 + 336
    stages = [torch.rand(2, 16 * 2**i, 32 >> i, 48 >> i) for i in range(4)]
    assert decoder(stages).shape == (2, 1, 32, 48)


@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
def test_shapes(size: tuple[int, int]) -> None:
    built = encoder(channels=3)
    features = built(torch.rand(2, 3, *size))
    assert [tuple(s.shape[2:]) for s in features.stages] == [(size[0] >> i, size[1] >> i) for i in range(4)]
    assert features.map is features.stages[-1]
    assert features.pooled.shape == (2, 64)
    assert features.weights is not None
    assert features.weights.shape == (2, size[0] // 8, size[1] // 8)
    image = UNetDecoder(channels=3, widths=built.widths, strides=built.strides)(features.stages)
    assert image.shape == (2, 3, *size)
    assert 0 <= image.min() <= image.max() <= 1


def test_attention_pooling_is_equation_4() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(dim=16).eval()
    feature_map = torch.rand(3, 16, 5, 4)
    with torch.no_grad():
        pooled, weights = pool(feature_map)
        a: Tensor = torch.sigmoid(pool.attention(feature_map))
    for b in range(3):
        for d in range(16):
            over = sum(float(a[b, 0, i, j] * feature_map[b, d, i, j]) for i in range(5) for j in range(4))
            under = sum(float(a[b, 0, i, j]) for i in range(5) for j in range(4))
            assert float(pooled[b, d]) == pytest.approx(over / (under + EPSILON), rel=1e-5)
    assert torch.equal(weights, a[:, 0])


def test_uniform_attention_is_the_global_average() -> None:
    pool = AttentionPool(dim=16).eval()
    last = pool.attention[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    feature_map = torch.rand(2, 16, 4, 4)
    average, none = GlobalAveragePool()(feature_map)
    assert none is None
    torch.testing.assert_close(pool(feature_map)[0], average)


def test_dropout_touches_the_attention_branch_alone() -> None:
    """With A forced to a constant, training mode changes nothing: the map itself passes no dropout."""
    pool = AttentionPool(dim=16).train()
    last = pool.attention[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    feature_map = torch.rand(2, 16, 4, 4)
    torch.testing.assert_close(pool(feature_map)[0], feature_map.mean((2, 3)))


def test_batch_norm_constants_and_initialisers() -> None:
    built = encoder()
    for name, layer in built.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            inside = name.startswith("pooling")
            assert (layer.eps, layer.momentum) == ((1e-3, 0.01) if inside else (1e-5, 0.1))
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            bound = (6 / (area * (layer.in_channels + layer.out_channels))) ** 0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.abs().max() > 0.5 * bound
            assert layer.bias is not None
            assert not layer.bias.any()


def test_head_has_no_bias_and_no_last_shift() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(dim=64, out=16)
    linears = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linears] == [(64, 64), (64, 64), (16, 64)]
    assert all(layer.bias is None for layer in linears)
    assert linears[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    last = head[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.bias is None
    assert last.weight.shape == (16,)


def test_bfloat16_keeps_the_division_and_the_head_in_float32() -> None:
    built = encoder()
    with torch.autocast("cpu", torch.bfloat16):
        features = built(torch.rand(4, 1, 32, 32))
        z = ProjectionHead(dim=64, out=16)(features.pooled)
    assert features.map.dtype == torch.bfloat16
    assert features.pooled.dtype == z.dtype == torch.float32


def test_saved_encoder_is_the_same_encoder(tmp_path: Path) -> None:
    built = encoder().eval()
    save_encoder(tmp_path / "encoder.safetensors", built, ABOUT)
    loaded, header = load_encoder(tmp_path)
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded(x).pooled, built(x).pooled)
    assert header["epoch"] == 3
    assert not loaded.training
    (tmp_path / "other").touch()
    assert (tmp_path / "encoder.safetensors").stat().st_mode == (
        tmp_path / "other"
    ).stat().st_mode  # others may read it


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10])
def test_broken_encoder_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "encoder.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="expected an encoder") as caught:
        load_encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_encoder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="type: probekit pretrain"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match="type: --checkpoint last"):
        load_encoder(tmp_path / "checkpoints/best_val.pt")
