"""What maps explain, and what hides pixels."""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.heatmaps.base import Classifier, Target
from probekit.heatmaps.measurement import TARGETS

Pixels = NDArray[np.uint8]
BLUR_SD = 8.0  # px at 128, ours: half a window of occlusion
BASE_SIZE = 128


def make_targets(
    name: str,
    classifier: Classifier,
    labels: Tensor,
    pooled: Tensor | None,
    counterfactuals: Mapping[str, NDArray[np.int64]],
) -> dict[str, Target]:
    """The targets of all images by one of `measurement.TARGETS`, by class factor for "pair", else under "".

    `labels` int64 `[N]`, known to the probe; `pooled` `[N, D]` for "margin"; `counterfactuals` for "pair": by class
    factor, the class `[N]` of the counterfactual. A ValueError if "pair" is asked of images without counterfactuals, or
    with some of a class that the probe does not know.
    """
    assert name in TARGETS
    if name == "logit":
        return {"": Target(classifier.weight[labels], classifier.bias[labels])}
    if name == "margin":
        assert pooled is not None
        others = classifier.logits(pooled).scatter(1, labels[:, None], -torch.inf)
        return {"": _margin(classifier, labels, others.argmax(dim=1))}
    if not counterfactuals:
        raise ValueError("expected images that a generator drew for --target pair, found others; type: --target margin")
    targets = {
        factor: _margin(classifier, labels, torch.from_numpy(other).to(labels.device))
        for factor, other in counterfactuals.items()
    }
    for factor, target in targets.items():
        if not target.offset.isfinite().all():
            raise ValueError(
                f"expected only classes that train shows, for --target pair, found that changing {factor} gives "
                "others; type: --target margin"
            )
    return targets


def _margin(classifier: Classifier, labels: Tensor, others: Tensor) -> Target:
    return Target(
        classifier.weight[labels] - classifier.weight[others],
        classifier.bias[labels] - classifier.bias[others],
    )


def mean_colour(images: Iterable[Pixels]) -> NDArray[np.float64]:
    """The mean over all images and pixels, some images at a time: a number as `[1]`, or `[3]`, in [0, 255]."""
    sums, pixels = np.zeros(1), 0
    for some in images:
        by_channel = some.reshape(-1, some.shape[3] if some.ndim == 4 else 1)
        sums, pixels = sums + by_channel.sum(axis=0), pixels + len(by_channel)
    return sums / pixels


def fill(
    name: str, images: Pixels, *, mean: NDArray[np.floating] | None = None, counterfactuals: Pixels | None = None
) -> Pixels:
    """The filling for each image, like `images`, uint8 `[N, H, W]` or `[N, H, W, 3]`, by one of `measurement.FILLS`.

    `mean`: the mean colour, `[1]` or `[3]`, in [0, 255], for "mean". A ValueError if there are no counterfactuals to
    fill with.
    """
    if name == "counterfactual":
        if counterfactuals is None:
            raise ValueError(
                "expected --target pair of a generated dataset for --fill counterfactual, found no counterfactuals; "
                "type: --fill mean"
            )
        return counterfactuals
    if name == "blur":
        sd = BLUR_SD * max(images.shape[1:3]) / BASE_SIZE
        return np.stack([cv2.GaussianBlur(image, (0, 0), sd) for image in images]).astype(np.uint8)
    value = {"black": np.zeros(1), "grey": np.full(1, 127.5), "mean": mean}[name]
    assert value is not None
    return np.broadcast_to(np.rint(value).astype(np.uint8), images.shape)
