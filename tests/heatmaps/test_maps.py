"""Attribution maps: the contract for every one, identities, a planted network, and oracles.

Alone: pytest tests/heatmaps/test_maps.py
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from captum.attr import Occlusion as CaptumOcclusion
from pytorch_grad_cam import GradCAM as PeerGradCAM
from pytorch_grad_cam import HiResCAM as PeerHiResCAM
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from probekit.branches.base import attach
from probekit.branches.lcr import LCR
from probekit.heatmaps.base import AttributionMap, Batch, Context, Target, encode
from probekit.heatmaps.maps.gradcam_ssl import positives, project
from probekit.heatmaps.maps.occlusion import PASS, Occlusion
from probekit.heatmaps.score import score_maps
from probekit.methods.conrec import SimCLR
from probekit.models.encoder import Encoder
from probekit.registry import MAPS, get
from tests.heatmaps.encoders import Planted, fitting, make_batch, small_encoder

TARGETED = ["cam", "gradcam", "hirescam", "input-gradient", "occlusion"]
CAMS = ["cam", "gradcam", "hirescam"]


def make(name: str, encoder: Encoder, **settings: Any) -> AttributionMap:
    generator = torch.Generator().manual_seed(7)
    negatives = nn.functional.normalize(torch.randn(5, encoder.dim, generator=generator), dim=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = SimCLR(encoder, **SimCLR.defaults)
        attach(method, LCR(encoder, k=3))
    for head in (method.projection, method.branches):
        assert head is not None
        head.eval()
    companions = torch.randint(0, 256, (2, encoder.spec["channels"], 32, 32), dtype=torch.uint8, generator=generator)
    more: dict[str, Any] = {"method": method, "companions": companions, "negatives": negatives}
    context = Context(**more, window=8, stride=4, draws=4, **settings)
    found: AttributionMap = get(MAPS, "map", name)(context)
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("name", MAPS)
def test_maps_have_the_shape_they_promise(name: str, depth: int, channels: int) -> None:
    encoder = fitting(name, channels=channels, depth=depth)
    batch = make_batch(encoder)
    maps = make(name, encoder)(encoder, batch)
    cells = 32 if name in ("input-gradient", "occlusion") else 32 // encoder.stride
    assert maps.shape == (3, cells, cells)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert torch.isfinite(maps).all()
    assert maps.std() > 0
    assert get(MAPS, "map", name).signed or (maps >= 0).all()


@pytest.mark.parametrize(
    ("name", "pooling"),
    [(name, p) for name in MAPS for p in ("gap", "attention") if (name, p) != ("attention", "gap")],
)
def test_an_images_map_does_not_depend_on_its_neighbours(name: str, pooling: str) -> None:
    encoder = fitting(name, pooling=pooling)
    drawn = make(name, encoder)
    together = drawn(encoder, make_batch(encoder, n=6))
    alone = torch.cat([drawn(encoder, make_batch(encoder, n=1, first=i)) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_a_function_of_the_seed(name: str) -> None:
    encoder = fitting(name)
    batch = make_batch(encoder)
    first, again = make(name, encoder, seed=3)(encoder, batch), make(name, encoder, seed=3)(encoder, batch)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    other = make(name, encoder, seed=4)(encoder, batch)
    assert torch.equal(first, other) == (name not in ("gradcam-ssl", "gradcam-similarity", "gradcam-loss"))


def state(encoder: Encoder) -> list[Any]:
    modules = list(encoder.modules())
    return [
        [module.training for module in modules],
        [
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in modules
        ],
        [parameter.requires_grad for parameter in encoder.parameters()],
        [None if parameter.grad is None else parameter.grad.clone() for parameter in encoder.parameters()],
        {name: value.clone() for name, value in encoder.state_dict().items()},
        torch.is_grad_enabled(),
        torch.get_rng_state(),
    ]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_no_state_is_left_behind(name: str, broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a map nor by one that fails half way."""
    encoder = fitting(name)
    batch = make_batch(encoder)
    encoder.train()
    next(iter(encoder.backbone.children())).eval()  # a mode that differs within the encoder
    for parameter in encoder.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state(encoder)
    if broken:

        def fail(*args: Any) -> Any:
            raise RuntimeError("planted")

        drawn = make(name, encoder)
        monkeypatch.setattr(type(drawn), "maps", _after(type(drawn).maps, fail))
        with pytest.raises(RuntimeError, match="planted"):
            drawn(encoder, batch)
    else:
        make(name, encoder)(encoder, batch)
    torch.testing.assert_close(state(encoder), before, rtol=0, atol=0)


def _after(maps: Callable[..., Tensor], fail: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, encoder, batch: fail(maps(self, encoder, batch))


def test_with_averages_gradcam_times_the_cells_is_cam() -> None:
    encoder = small_encoder(pooling="gap")
    batch = make_batch(encoder)
    cam, gradcam, hirescam = (make(name, encoder)(encoder, batch) for name in CAMS)
    cells = cam[0].numel()
    torch.testing.assert_close(gradcam * cells, cam, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hirescam, gradcam, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["gap", "attention"])
def test_cam_adds_up_to_the_target(pooling: str) -> None:
    encoder = small_encoder(pooling=pooling)
    batch = make_batch(encoder)
    assert batch.target is not None
    mean = make("cam", encoder)(encoder, batch).mean((1, 2))
    torch.testing.assert_close(
        mean + batch.target.offset, batch.target.score(batch.features.pooled), rtol=1e-5, atol=1e-5
    )


def test_attention_is_a_share() -> None:
    encoder = small_encoder(pooling="attention")
    maps = make("attention", encoder)(encoder, make_batch(encoder))
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["cam", "gradcam", "hirescam", "input-gradient", "occlusion"])
def test_a_planted_quadrant_is_found_and_the_others_are_not(name: str) -> None:
    """Channel k sees quadrant k alone, and the target is channel k: all evidence lies in quadrant k."""
    encoder: Any = Planted()
    size = 16
    images = torch.randint(1, 256, (4, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = replace(encode(encoder, images, torch.arange(4)), target=Target(torch.eye(4), torch.zeros(4)))
    drawn: AttributionMap = get(MAPS, "map", name)(Context(window=4, stride=4))
    maps = drawn(encoder, batch).numpy()
    quadrants = np.zeros((4, 4, size, size), bool)  # mask, image
    for k in range(4):
        quadrants[k, :, 8 * (k // 2) : 8 * (k // 2) + 8, 8 * (k % 2) : 8 * (k % 2) + 8] = True
    mass = score_maps(maps, quadrants)[:, :, 1]
    if name == "gradcam":  # the mean gradient weighs the channel alike everywhere, but it is 0 outside
        assert mass.diagonal().min() == 1
    np.testing.assert_allclose(mass, np.eye(4), atol=1e-6)


def test_maps_move_with_the_image() -> None:
    """A shape far from the border, moved by whole strides: what is near it moves along."""
    encoder = small_encoder(pooling="gap", depth=4)
    images = torch.zeros(2, 1, 192, 192, dtype=torch.uint8)
    images[0, 0, 88:104, 84:100] = 255
    images[1] = images[0].roll((16, 24), (1, 2))
    target = Target(
        torch.randn(1, encoder.dim, generator=torch.Generator().manual_seed(1)).expand(2, -1), torch.zeros(2)
    )
    batch = replace(encode(encoder, images, torch.arange(2)), target=target)
    for name in CAMS:
        first, moved = make(name, encoder)(encoder, batch)
        np.testing.assert_allclose(
            moved[9:17, 10:18], first[7:15, 7:15], rtol=1e-4, atol=1e-4 * float(first.abs().max())
        )
        assert first[7:15, 7:15].std() > 0


class Classifier(nn.Module):
    """What captum and pytorch-grad-cam ask for: images to the scores of one class each."""

    def __init__(self, encoder: Encoder, direction: Tensor) -> None:
        super().__init__()
        self.encoder, self.direction = encoder, direction

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.encoder(x).pooled @ self.direction.T
        return scores


def oracle_case(pooling: str) -> tuple[Encoder, Batch, Classifier]:
    encoder = small_encoder(pooling=pooling)
    batch = make_batch(encoder)
    assert batch.target is not None
    return encoder, batch, Classifier(encoder, batch.target.direction)


@pytest.mark.parametrize("pooling", ["gap", "attention"])
def test_gradcam_is_captums(pooling: str) -> None:
    encoder, batch, model = oracle_case(pooling)
    last = encoder.backbone.levels[-1]
    oracle = LayerGradCam(model, last).attribute(batch.inputs, target=torch.arange(3), relu_attributions=False)
    torch.testing.assert_close(make("gradcam", encoder)(encoder, batch), oracle[:, 0].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "peer"), [("gradcam", PeerGradCAM), ("hirescam", PeerHiResCAM)])
@pytest.mark.parametrize("pooling", ["gap", "attention"])
def test_cams_are_pytorch_grad_cams(name: str, peer: Any, pooling: str) -> None:
    """Raw maps: what it returns is scaled and rectified, `get_cam_image` is not."""
    encoder, batch, model = oracle_case(pooling)
    ours = make(name, encoder)(encoder, batch)
    last = encoder.backbone.levels[-1]
    with peer(model=model, target_layers=[last]) as oracle:
        targets = [lambda scores, k=k: scores[k] for k in range(3)]
        inputs = batch.inputs.requires_grad_()
        scores = oracle.activations_and_grads(inputs)
        scores.diagonal().sum().backward()
        activations = oracle.activations_and_grads.activations[0].numpy()
        gradients = oracle.activations_and_grads.gradients[0].numpy()
        raw = oracle.get_cam_image(inputs, last, targets, activations, gradients, eigen_smooth=False)
    np.testing.assert_allclose(ours, raw, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (7, 5), (16, 16), (32, 32)])
def test_occlusion_is_captums(window: int, stride: int) -> None:
    encoder, batch, model = oracle_case("gap")
    drawn: AttributionMap = get(MAPS, "map", "occlusion")(Context(window=window, stride=stride))
    filled = replace(batch, fill=torch.full_like(batch.inputs, 0.25))
    oracle = CaptumOcclusion(model).attribute(
        batch.inputs,
        sliding_window_shapes=(1, window, window),
        strides=(1, stride, stride),
        baselines=0.25,
        target=torch.arange(3),
    )
    torch.testing.assert_close(drawn(encoder, filled), oracle[:, 0].float(), rtol=1e-4, atol=1e-5)


def test_occlusion_without_a_target_is_how_far_the_embedding_turns() -> None:
    encoder = small_encoder()
    batch = make_batch(encoder, n=1, target=False)
    drawn: AttributionMap = get(MAPS, "map", "occlusion")(Context(window=16, stride=16))
    hidden = batch.inputs.clone()
    hidden[:, :, :16, 16:] = 0
    turned = 1 - nn.functional.cosine_similarity(encoder(hidden).pooled, batch.features.pooled)
    maps = drawn(encoder, batch)
    torch.testing.assert_close(maps[0, :16, 16:], turned.detach().expand(16, 16), rtol=1e-4, atol=1e-6)


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_occlusion_holds_a_pass_of_images_however_many_windows() -> None:
    encoder = Planted()
    batch = encode(encoder, torch.zeros(1, 1, 32, 32, dtype=torch.uint8), torch.arange(1))  # type: ignore[arg-type]
    with Largest() as largest:  # type: ignore[no-untyped-call]
        Occlusion(Context(window=2, stride=1))(encoder, batch)  # type: ignore[arg-type]
    assert largest.numbers <= PASS * encoder.dim * 32 * 32


def test_the_input_gradient_is_the_slope() -> None:
    """Against finite differences, in float64."""
    encoder = small_encoder().double()
    batch = make_batch(small_encoder(), n=1)
    assert batch.target is not None
    target = Target(batch.target.direction.double(), batch.target.offset.double())

    def score(x: Tensor) -> Tensor:
        total: Tensor = (target.direction * encoder(x).map.mean((2, 3))).sum()
        return total

    x = batch.inputs.double()
    maps = make("input-gradient", small_encoder())(small_encoder(), batch)[0]
    with torch.no_grad():
        for row, column in [(3, 5), (16, 16), (30, 2)]:
            step = torch.zeros_like(x)
            step[0, 0, row, column] = 1e-6
            slope = (score(x + step) - score(x - step)) / 2e-6
            assert float(maps[row, column]) == pytest.approx(abs(float(slope)), rel=1e-3, abs=1e-6)


def test_gradcam_ssl_is_the_formula() -> None:
    """The LCR paper's eq. 2 and 3 in loops: the gradient of each image's own InfoNCE, per channel, mean over views."""
    encoder = small_encoder()
    batch = make_batch(encoder)
    drawn = make("gradcam-ssl", encoder)
    views = positives(encoder, batch, drawn.context)
    assert drawn.context.negatives is not None
    for i in range(3):
        leaf = batch.features.map[i : i + 1].clone().requires_grad_()
        z = project(leaf.mean((2, 3)), drawn.context)[0]
        losses = []
        for view in views[i]:
            logits = torch.stack([z @ view, *(z @ negative for negative in drawn.context.negatives)])
            logits = logits / drawn.context.temperature
            losses.append(-(logits[0] - logits.exp().sum().log()))
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), leaf)
        expected = sum(gradient[0, k].mean() * leaf[0, k] for k in range(encoder.dim))
        torch.testing.assert_close(drawn(encoder, batch)[i], expected, rtol=1e-4, atol=1e-6)


def test_gradcam_similarity_is_the_formula() -> None:
    encoder = small_encoder()
    batch = make_batch(encoder, n=1)
    drawn = make("gradcam-similarity", encoder)
    views = positives(encoder, batch, drawn.context)[0]
    leaf = batch.features.map.clone().requires_grad_()
    cosine = torch.stack([nn.functional.cosine_similarity(leaf.mean((2, 3))[0], v, dim=0) for v in views]).mean()
    (gradient,) = torch.autograd.grad(cosine, leaf)
    expected = (gradient.mean((2, 3), keepdim=True) * leaf).sum(1)
    torch.testing.assert_close(drawn(encoder, batch), expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TARGETED)
def test_targeted_maps_follow_the_target(name: str) -> None:
    encoder = small_encoder()
    batch = make_batch(encoder)
    assert batch.target is not None
    drawn = make(name, encoder)
    turned = replace(batch, target=Target(-2 * batch.target.direction, batch.target.offset))
    sign = 2 if name == "input-gradient" else -2
    torch.testing.assert_close(drawn(encoder, turned), sign * drawn(encoder, batch), rtol=1e-4, atol=1e-5)
    assert get(MAPS, "map", name).targeted
