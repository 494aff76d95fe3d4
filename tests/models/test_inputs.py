"""Images as weights expect them; the oracles are what transformers, timm and open_clip make of the same images.

Alone: pytest tests/models/test_inputs.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from probekit.models import Encoder
from probekit.models.backbones import import_module, import_timm
from probekit.models.inputs import Expected, Input, of_open_clip, of_timm, of_transformers
from probekit.restore.kinds import input_of_timm

pytest.importorskip("timm")
STEPS = 1.6  # of 255: others round resized pixels to whole ones, twice
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def picture(height: int, width: int) -> Any:
    """Something smooth with edges, uint8 `[H, W, 3]`; no overshoot reaches 0 or 255, where each cuts it off its way."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 7, 9))).float()
    smooth = 0.3 + 0.4 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    smooth[:, height // 4 : height // 2, width // 3 : width // 2] = 0.7
    return (smooth.permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def prepared(expected: Expected, image: Any) -> Tensor:
    """As an encoder has it after its first steps, back in [0, 1]."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return x if expected.input is None else expected.input(x)


def unnormalised(x: Tensor) -> Tensor:
    return x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


HF: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "resample": 2}),
    "DINOv2": (
        "BitImageProcessor",
        {
            "size": {"shortest_edge": 40},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "resample": 3,
            "do_resize": True,
        },
    ),
    "CLIP": (
        "CLIPImageProcessor",
        {
            "size": {"shortest_edge": 32},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "resample": 3,
        },
    ),
    "ConvNeXt": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8, "resample": 3}),
    "SigLIP": ("SiglipImageProcessor", {"size": {"height": 24, "width": 32}, "resample": 3}),
}


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (20, 26)])
@pytest.mark.parametrize("name", HF)
def test_as_transformers_prepares_images(name: str, shape: tuple[int, int]) -> None:
    import_timm()
    library, (kind, settings) = import_module("transformers"), HF[name]
    settings = {**settings, "image_mean": MEAN, "image_std": STD, "do_normalize": True}
    image = picture(*shape)
    theirs = getattr(library, kind)(**settings)
    expected = unnormalised(theirs(image, return_tensors="pt")["pixel_values"])
    said = of_transformers({**settings, **theirs.to_dict()}, "preprocessor_config.json")
    assert said.normalise == {"mean": MEAN, "std": STD}
    found = prepared(said, image)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) * 255 < STEPS


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("share", [0.8, 1.0, 1.15])
def test_as_timm_prepares_images(mode: str, share: float) -> None:
    from PIL import Image

    import_timm()
    about = {"input_size": [3, 32, 32], "crop_pct": share, "interpolation": mode, "mean": MEAN, "std": STD}
    transform = import_module("timm.data").create_transform(
        (3, 32, 32), crop_pct=share, interpolation=mode, mean=MEAN, std=STD
    )
    image = picture(64, 48)
    expected = unnormalised(transform(Image.fromarray(image))[None])
    found = prepared(of_timm(about, "config.json"), image)
    assert float((found - expected).abs().max()) * 255 < STEPS


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_as_open_clip_prepares_images(resize: str) -> None:
    from PIL import Image

    import_timm()
    config = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": resize}
    transform = import_module("open_clip.transform").image_transform(32, is_train=False, **config)
    image = picture(48, 64)
    expected = unnormalised(transform(Image.fromarray(image))[None])
    found = prepared(of_open_clip(config, 32, "open_clip_config.json"), image)
    assert float((found - expected).abs().max()) * 255 < STEPS


def test_weights_that_timm_puts_into_a_black_frame_are_not_refused_for_a_hint() -> None:
    assert input_of_timm("volo_d4_448.sail_in1k").as_dict() == {"resize": [389], "crop": [448, 448], "mode": "bicubic"}


def test_an_encoder_takes_images_of_any_size_and_passes_gradients_to_them() -> None:
    about = Input((40,), (32, 32)).as_dict()
    torch.manual_seed(0)
    encoder = Encoder(channels=3, pooling="gap", backbone="timm:test_vit", input=about).eval()
    plain = Encoder(channels=3, pooling="gap", backbone="timm:test_vit").eval()
    plain.load_state_dict(encoder.state_dict())
    x = torch.rand(1, 3, 20, 30, requires_grad=True)
    found = encoder(x).pooled
    torch.testing.assert_close(found, plain(Input(**about)(x)).pooled)
    torch.testing.assert_close(found, encoder.without_input()(Input(**about)(x)).pooled)
    found.sum().backward()
    gone = x.grad
    assert gone is not None
    assert float(gone[..., :2].abs().max()) == 0, "what is cut off counts for nothing"
    assert encoder.spec["input"] == about


@pytest.mark.parametrize("shape", [(40, 40), (40, 60)])
def test_maps_of_the_middle_stand_in_the_middle(shape: tuple[int, int]) -> None:
    """A point in the middle of what is left is a point in the middle of the image."""
    size = Input((20,), (10, 10))
    made = size.whole(torch.ones(2, 5, 5), *shape)
    height, width = (round(side * share) for side, share in zip(shape, size.seen(*shape), strict=True))
    assert made.shape == (2, *shape)
    assert float(made.sum()) == 2 * height * width
    rows, columns = torch.nonzero(made[0]).float().mean(0).tolist()
    assert abs(rows - (shape[0] - 1) / 2) <= 0.5
    assert abs(columns - (shape[1] - 1) / 2) <= 0.5
    framed = Input((10,), (20, 20)).whole(torch.nn.functional.pad(torch.ones(2, 4, 4), (2, 2, 2, 2)), 40, 40)
    assert framed.shape == (2, 40, 40)
    assert float(framed.mean()) > 0.8, "the black frame is no part of the image"
    uncut = torch.rand(1, 5, 5)
    assert Input((20, 20)).whole(uncut, 40, 40) is uncut


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"size": {"longest_edge": 9}}, "expected height and width, or shortest_edge, as a size"),
        ({"size": {"height": 0, "width": 3}}, "expected sides of 1 to 4096 px"),
        ({"size": {"height": "a", "width": 3}}, "expected sides of 1 to 4096 px"),
        ({"size": 32, "resample": 77}, "averaged as one of nearest"),
        ({"size": 32, "resample": [3]}, "averaged as one of nearest"),
        ({"size": {"shortest_edge": 224}, "crop_pct": "0.875"}, "expected a crop_pct above 0 and of at most 2"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "expected a mean and a deviation of three channels"),
        ({"image_mean": [0.5] * 3, "image_std": [0] * 3}, "expected deviations above 0"),
        ({"do_rescale": False}, r"expected images scaled to \[0, 1\]"),
    ],
)
def test_what_no_image_can_be_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        of_transformers(config, "preprocessor_config.json")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"input_size": [3, "32", 32]}, "expected an input_size of whole numbers"),
        ({"input_size": [3, 32, 32], "interpolation": ["bicubic"]}, "averaged as one of nearest"),
        ({"input_size": [3, 32, 32], "crop_pct": "0.875"}, "expected a crop_pct above 0 and of at most 2"),
    ],
)
def test_what_is_no_size_of_timms_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        of_timm({"mean": MEAN, "std": STD, **config}, "config.json")


def test_nothing_said_is_nothing_done(tmp_path: Path) -> None:
    assert of_transformers({}, "").input is None
    assert of_transformers({"do_resize": False, "size": 3, "do_normalize": False, "image_mean": MEAN}, "") == Expected()
