"""Who sits the exam beside an encoder, with answers that are known: bags of patches, raw pixels, the known template.

An observer reads images `uint8 [N, H, W]` into features by name, `(layer, pool) -> [N, D]`, as `layers.Reader` does.
The known template and the ideal reader need no read-out: they answer at once, from drawings without noise.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generators import Generator
from probekit.certificate.readout import patch_counts
from probekit.exams.draw import Pixels
from probekit.exams.items import Item, blind
from probekit.probes.baselines import raw_pixels

Floats = NDArray[np.float32]
Output = tuple[str, str]  # layer, pooling

BAG, PIXELS, TEMPLATE, IDEAL = "patch bag", "raw pixels", "known template", "ideal reader"
SIDES = (3, 5, 9)  # px, of the patches in the bag
ITSELF: Output = ("itself", "own")


class Observer(Protocol):
    """Reads images uint8 `[N, H, W]` into features `[N, D]` by layer and pooling."""

    def read(self, images: Pixels) -> Mapping[Output, Floats]:
        """The features of each output."""
        ...


class Plain:
    """An observer whose features are a function of the pixels."""

    def __init__(self, features: Callable[[Pixels], Floats]) -> None:
        self.features = features

    def read(self, images: Pixels) -> Mapping[Output, Floats]:
        """One output."""
        return {ITSELF: self.features(images)}


def bag(images: Pixels) -> Floats:
    """Counts of binary patches of 3, 5 and 9 px, `[N, 3 * 512]`: whole numbers, without order or place.

    None are so large that they could tell wholes (`items.blind`): of 3 and 5 px alone in small frames.
    """
    most = blind(images.shape[-1])
    return np.concatenate([patch_counts(images, side) for side in SIDES if side <= most], axis=1)


PLAIN: dict[str, Observer] = {BAG: Plain(bag), PIXELS: Plain(raw_pixels)}


def template(images: Pixels, drawings: Pixels) -> Floats:
    """Answers `[2n]` of who knows both drawings of a pair: no other observer can do better at this noise.

    `images`: `[n, 2, H, W]` with noise; `drawings`: the same without. An answer is the image along the difference of
    the drawings, from their mean, in units of its length.
    """
    one, other = drawings[:, 0].astype(np.float32), drawings[:, 1].astype(np.float32)
    along, middle = other - one, (one + other) / 2
    length = np.sqrt(np.square(along).sum(axis=(1, 2)))
    found = np.einsum("nkij,nij->nk", images.astype(np.float32) - middle[:, None], along)
    values: Floats = (found / np.maximum(length, 1e-9)[:, None]).ravel().astype(np.float32)
    return values


def ideal(item: Item, drawer: Generator, drawings: Pixels) -> Floats:
    """Answers `[2n]` of the generator's ideal reader: -1 for the value of role 0, 1 for role 1, 0 for another.

    `drawer`: of drawings without noise; `drawings`: `[n, 2, H, W]`, white on black.
    """
    read = drawer.read(drawings.reshape(-1, *drawings.shape[2:]))[item.factor]
    values: Floats = (read == item.values[1]).astype(np.float32) - (read == item.values[0]).astype(np.float32)
    return values
