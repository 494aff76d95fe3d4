"""Detectors on photographs of their own sizes: seen whole, scaled in training and in the test, boxes with them.

Alone: pytest tests/detection/test_photographs.py
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from probekit.detection.model import build_detector
from probekit.detection.operators import detection_models
from probekit.detection.pictures import Batches, Pictures
from probekit.detection.protocol import QUICK
from probekit.detection.score import score
from probekit.detection.train import Training, drawn, find
from probekit.h5 import open_encoded
from probekit.models.encoder import Encoder
from tests.data.importers.planned import HEIGHT, WIDTH
from tests.data.importers.test_boxes import OBJECT, annotate
from tests.data.importers.test_official import build, imported

CPU = torch.device("cpu")
SMALL = replace(QUICK, steps=2, drops=(), batch=2, conv=4, hidden=8, regions=8, anchors=(12, 24))
RECIPE = replace(SMALL, masked=False, scales=(32, 48), test_scale=40)


def test_photographs_are_seen_whole(tmp_path: Path) -> None:
    official, plan = build("voc2007", tmp_path)
    annotate(plan.root / "Annotations", OBJECT.format("cat", 0, 5, 5, 30, 25), OBJECT.format("dog", 1, 2, 2, 9, 9))
    info = imported(official, plan.root, "--boxes", "--store", "original")
    train, test = Pictures(info, "train"), Pictures(info, "test")
    assert train.shape(0) == (HEIGHT, WIDTH) != (info.first.height, info.first.width)
    photograph = open_encoded(info.path, "train").photograph(0)
    np.testing.assert_array_equal((train.image(0) * 255).round().permute(1, 2, 0).numpy(), photograph)
    image, target = train.example(0, flip=True, masked=False)
    assert image.shape == (3, HEIGHT, WIDTH)
    assert target["boxes"].tolist() == [[WIDTH - 30, 4, WIDTH - 4, 25], [WIDTH - 9, 1, WIDTH - 1, 9]]

    with drawn(0, CPU):
        encoder = Encoder(channels=3, pooling="gap", backbone="timm:resnet10t")
    make = partial(build_detector, encoder, RECIPE, len(info.classes), detection_models(CPU))
    batches = Batches(train, RECIPE.batch, 0, flips=True, masked=False)
    detector, loss = Training(make, RECIPE, 0, CPU, tmp_path / "x.pt").run(batches, lambda done, of: None)
    assert np.isfinite(loss)
    found = find(detector, test, RECIPE, CPU, lambda done, of: None)
    assert len(found) == len(test)
    assert detector.transform.min_size == (40,)  # type: ignore[union-attr]
    for each in found:
        assert (each.boxes <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()  # in pixels of the photograph, not of what was seen
    scores = score(test.objects, found, [test.shape(k) for k in range(len(test))], info.classes, masked=False)
    assert [k for k, ap in enumerate(scores["boxes"]["per_class"]) if ap is not None] == [info.classes.index("cat")]
