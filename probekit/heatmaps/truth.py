"""What maps are scored against, masks and counterfactuals drawn anew; what they explain, and what hides pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators import GENERATORS, Generator
from probekit.h5 import DatasetInfo, Split, read_split
from probekit.heatmaps.base import Classifier, Target
from probekit.heatmaps.measurement import TARGETS

Pixels = NDArray[np.uint8]
BLUR_SD = 8.0  # px at 128, ours: half a window of occlusion
BASE_SIZE = 128


@dataclass(frozen=True)
class Counterfactual:
    """The images with another value of one class factor, all else equal."""

    images: NDArray[np.uint8]  # uint8 `[N, H, W]`
    labels: NDArray[np.int64]  # `[N]`, their classes


@dataclass(frozen=True)
class Truth:
    """Rows of a split, and what is known about them; refused where a generator draws others than the file holds."""

    info: DatasetInfo
    split: Split  # the rows, in the order of `index`
    index: NDArray[np.int64]  # their places in the split `[N]`

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """By name, bool `[N, H, W]`: objects, then `evidence:FACTOR`; drawn anew where the file has none, or {}."""
        bits, names = self.split.masks, self.info.mask_names
        if bits is None:
            generator = self._generator
            if generator is None:
                return {}
            bits, names = generator.render(self._drawn(generator)).masks, generator.mask_names
        return {name: (bits >> bit & 1).astype(bool) for bit, name in enumerate(names)}

    @cached_property
    def counterfactuals(self) -> dict[str, Counterfactual]:
        """By class factor, as the generator draws them; {} for images that no generator drew."""
        generator = self._generator
        if generator is None:
            return {}
        factors = self._drawn(generator)
        others = {name: generator.counterfactual(factors, name) for name in generator.class_factors}
        return {name: Counterfactual(generator.render_images(f), generator.labels(f)) for name, f in others.items()}

    @property
    def _generator(self) -> Generator | None:
        """What drew the images, with the file's settings."""
        kind = GENERATORS.get(self.info.generator)
        return None if kind is None else kind(size=self.info.first.height, parameters=self.info.parameters)

    def _drawn(self, generator: Generator) -> NDArray[np.void]:
        """The rows' factors, of which the generator draws the very images of the rows."""
        factors = np.zeros(len(self.index), generator.dtype())
        found = self.split.factors
        names = factors.dtype.names or ()
        if sound := all(name in found and found[name].dtype == factors.dtype[name] for name in names):
            for name in names:
                factors[name] = found[name]
                sound = sound and bool(np.isfinite(found[name]).all())
        with np.errstate(all="ignore"):  # values beyond reason draw something else
            if not sound or not np.array_equal(generator.render_images(factors), self.split.images):
                raise ValueError(
                    f"expected in {self.info.path} the images that {generator.name} draws of its settings and factors, "
                    f"found others; to make it anew type: probekit gen {generator.name}"
                )
        return factors


def read_truth(info: DatasetInfo, split: str, n: int) -> Truth:
    """Reads n images of a split, evenly spaced, so that every class comes even where the file is sorted by class.

    Counterfactuals in the file are left out: they share a scene with their image, and intervals take images as
    independent.
    """
    rows = read_split(info.path, split, masks=info.splits[split].masked)
    roles = rows.factors.get("pair_role")
    bases = np.arange(len(rows.images)) if roles is None else np.flatnonzero(roles.astype("S") == b"base")
    index = bases[spaced(len(bases), n)]
    return Truth(
        info,
        Split(
            images=rows.images[index],
            labels=None if rows.labels is None else rows.labels[index],
            factors={name: values[index] for name, values in rows.factors.items()},
            masks=None if rows.masks is None else rows.masks[index],
        ),
        index,
    )


def spaced(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of n places, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


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


def fill(name: str, images: Pixels, *, mean: NDArray[np.floating], counterfactuals: Pixels | None) -> Pixels:
    """The filling for each image, like `images`, uint8 `[N, H, W]` or `[N, H, W, 3]`, by one of `measurement.FILLS`.

    `mean`: the mean colour, a number or `[3]`, in [0, 255]. A ValueError if there are no counterfactuals to fill with.
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
    value = {"black": np.zeros(1), "grey": np.full(1, 127.5), "mean": np.asarray(mean)}[name]
    return np.broadcast_to(np.rint(value).astype(np.uint8), images.shape)
