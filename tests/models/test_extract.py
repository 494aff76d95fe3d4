"""Feature extraction: eval mode, no gradient, no batch mates. Alone: pytest tests/models/test_extract.py."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probekit.data.split import shrink
from probekit.models import extract as features
from probekit.models.extract import BATCH_SIZE, extract, read_all


class Small(nn.Module):
    """Batch norm and dropout: both betray a wrong mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.ReLU())

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooled=self.net(x).mean((2, 3)))


@pytest.fixture
def encoder() -> Small:
    torch.manual_seed(0)
    model = Small()
    model(torch.rand(20, 1, 8, 8))  # moves the running statistics away from 0 and 1
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (11, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_features_do_not_depend_on_the_batch(encoder: Small, images: Tensor) -> None:
    whole = extract(encoder, images, batch_size=11)
    assert whole.shape == (11, 6)
    assert whole.dtype == np.float32
    for batch_size in (1, 4, 100):
        np.testing.assert_allclose(extract(encoder, images, batch_size=batch_size), whole, atol=1e-6)
    alone = encoder.eval()(images.float() / 255).pooled.detach().numpy()
    np.testing.assert_allclose(whole, alone, atol=1e-6)


def test_modes_statistics_and_gradients_are_left_alone(encoder: Small, images: Tensor) -> None:
    encoder.train()
    encoder.net[1].eval()  # a frozen batch norm inside a training model
    modes = [module.training for module in encoder.modules()]
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    extract(encoder, images, batch_size=4)
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(weight.grad is None for weight in encoder.parameters())
    assert torch.is_grad_enabled()


def test_modes_come_back_after_an_error(encoder: Small) -> None:
    encoder.train()
    with pytest.raises(RuntimeError):
        extract(encoder, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), batch_size=2)
    assert all(module.training for module in encoder.modules())


def test_autocast_around_it_changes_nothing(encoder: Small, images: Tensor) -> None:
    plain = extract(encoder, images, batch_size=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(extract(encoder, images, batch_size=4), plain)


def test_any_callable_is_an_encoder_and_sees_fractions(images: Tensor) -> None:
    def mean(x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooled=x.mean((2, 3)))

    expected = images.numpy().mean((2, 3)) / 255
    np.testing.assert_allclose(extract(mean, images, batch_size=3), expected, rtol=1e-5)


def test_larger_images_are_averaged_down(encoder: Small) -> None:
    large = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    expected = extract(encoder, shrink(large, 16), batch_size=5)
    np.testing.assert_allclose(read_all(encoder, large, lambda found: found.pooled, 2, 16).numpy(), expected, atol=1e-6)
    assert not np.allclose(extract(encoder, large, batch_size=2), expected, atol=1e-3)


def test_no_images_is_one_line(encoder: Small) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        extract(encoder, torch.empty(0, 1, 8, 8, dtype=torch.uint8), batch_size=4)


def test_what_is_held_on_the_device_is_bounded(encoder: Small, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to the host for every 40 bytes or more, here two images of 6 numbers; and all of it in order."""
    whole = read_all(encoder, images, lambda found: found.pooled, 1)
    copies: list[int] = []
    cpu = Tensor.cpu

    def counted(tensor: Tensor) -> Tensor:
        copies.append(len(tensor))
        return cpu(tensor)

    monkeypatch.setattr(Tensor, "cpu", counted)
    assert torch.equal(read_all(encoder, images, lambda found: found.pooled, 1), whole)
    assert copies == [11]
    copies.clear()
    monkeypatch.setattr(features, "HELD", 40)
    assert torch.equal(read_all(encoder, images, lambda found: found.pooled, 1), whole)
    assert copies == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("device", "side", "expected"), [("cpu", 8, 32), ("cuda", 8, 256), ("cuda", 512, 64), ("cuda", 4096, 32)]
)
def test_a_gpu_takes_more_images_at_a_time_and_no_more_pixels_than_fit(device: str, side: int, expected: int) -> None:
    assert features.images_at_a_time(torch.device(device), (side, side), BATCH_SIZE) == expected


def test_passes_that_measure_nothing_may_be_in_bf16(encoder: Small, images: Tensor) -> None:
    def types(precision: str) -> set[torch.dtype]:
        seen: set[torch.dtype] = set()
        convolution = encoder.net[0]
        hook = convolution.register_forward_hook(lambda module, inputs, out: seen.add(out.dtype))
        read_all(encoder, images, lambda found: found.pooled, precision=precision)
        hook.remove()
        return seen

    assert types("fp32") == {torch.float32}
    assert types("bf16") == {torch.bfloat16}
