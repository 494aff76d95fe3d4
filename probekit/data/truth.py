"""The truth about a dataset's images that measurements are scored against: masks, and counterfactuals drawn anew."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators import GENERATORS, Generator
from probekit.data.seen import objects_seen
from probekit.h5 import PRESENT, DatasetInfo, Objects, Split, read_images, read_split
from probekit.h5.objects import mask_of

LABEL_MASK, LABEL_BOXES = "mask of the label", "boxes of the label"

AT_A_TIME = 64  # images that `read_truths` reads: their maps and masks bound its memory; ours


@dataclass(frozen=True)
class Counterfactual:
    """The images with another value of one class factor, all else equal.

    Attributes:
        images: uint8 `[N, H, W]`.
        labels: int64 `[N]`, their classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Rows of a split with what is known about them.

    Attributes:
        info: The dataset.
        split: The rows, in the order of `index`.
        index: int64 `[N]`, their places in the split.
    """

    info: DatasetInfo
    split: Split
    index: NDArray[np.int64]

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """By name, bool `[N, H, W]`: objects, then `evidence:FACTOR`; drawn anew where the file has none.

        Empty for images without masks that no generator drew.

        Raises:
            ValueError: If they are to be drawn anew, and the generator draws other images than the file holds.
        """
        bits, names = self.split.masks, self.info.mask_names
        if bits is None:
            if self.scenes is None:
                return {}
            generator, factors = self.scenes
            bits, names = generator.render(factors).masks, generator.mask_names
        return _unpacked(bits, names)

    @cached_property
    def counterfactuals(self) -> dict[str, Counterfactual]:
        """By class factor, as the generator draws them. Empty for images that no generator drew.

        Raises:
            ValueError: If the generator draws other images of the file's settings and factors than the file holds.
        """
        if self.scenes is None:
            return {}
        generator, factors = self.scenes
        others = {name: generator.counterfactual(factors, name) for name in generator.class_factors}
        return {name: Counterfactual(generator.render_images(f), generator.labels(f)) for name, f in others.items()}

    @cached_property
    def scenes(self) -> tuple[Generator, NDArray[np.void]] | None:
        """What drew the images, with the file's settings, and the rows' factors; None where no generator did.

        Raises:
            ValueError: As `counterfactuals`.
        """
        kind = GENERATORS.get(self.info.generator)
        if kind is None:
            return None
        generator = kind(size=self.info.first.height, parameters=self.info.parameters)
        return generator, self._drawn(generator)

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


@dataclass(frozen=True)
class LabelTruth(Truth):
    """A row for each label of each image, where images have several: the same image again, with one of its labels.

    `split.labels` int64 `[N]` are these; `index` has the place of an image once for each of them.
    """

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Those of each row's label: its mask, under `LABEL_MASK`, and all of its boxes, under `LABEL_BOXES`.

        The mask is that with the name of the label's class, else of all objects of the class. Without either masks are
        as of any truth. Empty for a row whose label has none.
        """
        bits, names = self.split.masks, self.info.mask_names
        labels, objects = self.split.labels, self.split.objects
        assert labels is not None
        size = (self.split.images.shape[1], self.split.images.shape[2])
        found = {}
        places = np.array([names.index(name) if name in names else -1 for name in self.info.classes])
        if bits is not None and places.max() >= 0:
            bit = places[labels][:, None, None]
            found[LABEL_MASK] = (bits >> bit.clip(0).astype(bits.dtype) & 1).astype(bool) & (bit >= 0)
        elif objects is not None and objects.masked:
            found[LABEL_MASK] = np.stack([_of_objects(each, k, size) for each, k in zip(objects, labels, strict=True)])
        if objects is not None:
            found[LABEL_BOXES] = np.stack([_in_boxes(each, k, size) for each, k in zip(objects, labels, strict=True)])
        return found if found or bits is None else _unpacked(bits, names)


def _of_objects(objects: Objects, label: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels `[H, W]` of all objects of a class in an image."""
    found = np.zeros(size, np.bool_)
    for own, runs in zip(objects.labels, objects.masks or (), strict=True):
        if own == label:
            found |= mask_of(runs, size)
    return found


def _in_boxes(objects: Objects, label: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels `[H, W]` whose centres lie in a box of a class."""
    y, x = (np.arange(side) + 0.5 for side in size)
    found = np.zeros(size, np.bool_)
    for x0, y0, x1, y1 in objects.boxes[objects.labels == label]:
        found |= ((y0 <= y) & (y < y1))[:, None] & ((x0 <= x) & (x < x1))
    return found


def _unpacked(bits: NDArray[np.unsignedinteger[Any]], names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """By name, bool `[N, H, W]`: bit k of masks `[N, H, W]` is that of names[k]."""
    return {name: (bits >> bit & 1).astype(bool) for bit, name in enumerate(names)}


def of_labels(truth: Truth) -> LabelTruth:
    """The rows of images of several labels once for each label that they show; difficult ones are left out.

    A ValueError if they show none.
    """
    split = truth.split
    assert split.labels is not None
    rows, labels = np.nonzero(split.labels == PRESENT)
    if not len(rows):
        raise ValueError(f"expected images with labels in {truth.info.path}, found none of a class; type: --n 1000")
    own = replace(split.take(rows), labels=labels.astype(np.int64), factors={})
    return LabelTruth(truth.info, own, truth.index[rows])


def with_shared_noise(info: DatasetInfo) -> DatasetInfo:
    """The same file, whose counterfactuals are drawn with the noise of their image, whatever its settings say.

    With noise of their own all pixels would differ, and not only those of a class factor.
    """
    shared = {name: False for name in ("independent_noise",) if name in info.parameters}
    return replace(info, parameters=info.parameters | shared)


def read_truth(info: DatasetInfo, split: str, n: int) -> Truth:
    """Reads n images of a split, evenly spaced, so that every class comes even where the file is sorted by class.

    Counterfactuals in the file are left out: they share a scene with their image, and intervals take images as
    independent.
    """
    about = info.splits[split]
    whole = not about.encoded  # of images kept as files only those are decoded that are looked at
    rows = read_split(info.path, split, images=whole, masks=about.masked and whole, objects=about.boxed)
    own = bases(rows.factors, about.n)
    index = own[spaced(len(own), n)]
    taken = rows.take(index)
    if not whole:
        seen = read_images(info.path, split, index.tolist())
        taken = replace(taken, images=seen.images, masks=seen.masks)
    if rows.objects is not None:
        taken = replace(taken, objects=objects_seen(rows.objects, info.path, split, index, about.crop))
    return Truth(info, taken, index)


def read_truths(info: DatasetInfo, split: str, *, images: bool = True) -> Iterator[Truth]:
    """All images of a split but counterfactuals, as `read_truth` has them, so many at a time that memory is bounded.

    `images`: whether they are wanted; where masks are drawn anew, they are read in any case.
    """
    about = info.splits[split]
    wanted: dict[str, Any] = {"images": images or not about.masked, "masks": about.masked}
    for start in range(0, about.n, AT_A_TIME):
        stop = min(start + AT_A_TIME, about.n)
        rows = read_split(info.path, split, start=start, stop=stop, **wanted)
        own = bases(rows.factors, stop - start)
        if len(own):
            yield Truth(info, rows.take(own), start + own)


def bases(factors: Mapping[str, NDArray[Any]], n: int) -> NDArray[np.int64]:
    """Which of n images of a split, with these columns, are no counterfactuals of others in the file."""
    roles = factors.get("pair_role")
    return np.arange(n) if roles is None else np.flatnonzero(roles.astype("S") == b"base")


def spaced(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of n places, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
