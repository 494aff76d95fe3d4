"""A split of a dataset file, or images rendered into memory, as a dataset of torch, with all that is known of each."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from generators import GENERATORS, Generator, Scenes, register
from generators.certificates import shipped, told
from probekit.data.generate import MAX_N, MAX_SEED, generate, rendered
from probekit.data.truth import Counterfactual, Truth
from probekit.h5 import DatasetInfo, read_split, verify
from probekit.h5.schema import SCHEMA, SPLITS, SplitInfo
from probekit.registry import nearest


class Dataset(TorchDataset[dict[str, Any]]):
    """Images with factors, masks and counterfactuals, all in memory.

    An item is {"image": float32 `[C, H, W]` in [0, 1], "index": int} with "label" (int, or uint8 `[K]` where an image
    may have several), "factors" ({name: number}) and "masks" ({name: bool `[H, W]`}) where there are such: a DataLoader
    puts items together as they are. A ValueError if there is no such file or split, or it is damaged.

    Args:
        path: A dataset file (`probekit gen`, `probekit import`), a folder of shards or a pattern.
        split: "train", "val" or "test".

    Attributes:
        images: uint8 `[N, H, W]`, or `[N, H, W, 3]` in colour.
        labels: int64 `[N]`, uint8 `[N, K]` where an image may have several classes, or None.
        classes: Names of the classes.
        factors: By name, `[N]`.
        info: All that the file says of itself; `info.certificate` is what is proved of the images.
    """

    def __init__(self, path: str | Path, split: str = "train") -> None:
        info = verify(Path(path))
        if split not in info.splits:
            raise ValueError(nearest("split", split, info.splits))
        rows = read_split(info.path, split, masks=info.splits[split].masked)
        self._keep(Truth(info, rows, np.arange(len(rows.images))), split)

    @classmethod
    def of(cls, truth: Truth, split: str) -> "Dataset":
        """Makes one from rows that were read, or rendered, already."""
        made = cls.__new__(cls)
        made._keep(truth, split)
        return made

    def _keep(self, truth: Truth, split: str) -> None:
        self._truth, self.split, self.info = truth, split, truth.info
        self.images, self.labels, self.factors = truth.split.images, truth.split.labels, truth.split.factors
        self.classes = truth.info.classes

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """By name, bool `[N, H, W]`: objects, then `evidence:FACTOR`; empty where nobody knows them."""
        return self._truth.masks

    @property
    def counterfactuals(self) -> Mapping[str, Counterfactual]:
        """By class factor, `images` and `labels` with another value of it; empty of images that no generator drew."""
        return self._truth.counterfactuals

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """See the class; a negative index counts from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, found {index}")
        index %= len(self)
        item: dict[str, Any] = {"image": as_image(self.images[index]), "index": index}
        if self.labels is not None:
            item["label"] = int(self.labels[index]) if self.labels.ndim == 1 else torch.from_numpy(self.labels[index])
        numbers = {name: values[index] for name, values in self.factors.items() if values.dtype.kind in "biuf"}
        if numbers:
            item["factors"] = {name: value.item() for name, value in numbers.items()}
        if masks := self._masks_of(index):
            item["masks"] = masks
        return item

    def _masks_of(self, index: int) -> dict[str, Tensor]:
        """Those of one image, of whose bits no others are unpacked."""
        bits = self._truth.split.masks
        if bits is None:
            return {name: torch.from_numpy(mask[index]) for name, mask in self.masks.items()}
        return {name: torch.from_numpy(bits[index] >> bit & 1).bool() for bit, name in enumerate(self.info.mask_names)}

    def _repr_png_(self) -> bytes:
        """A few images of each class, plain and with their evidence outlined, for notebooks."""
        from probekit.data.picture import dataset_figure, png  # matplotlib is slow to import

        name = f"{self.info.name or self.info.generator}, {self.split}"
        return png(dataset_figure(name, self.images, self.labels, self.classes, self.masks))

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        about = f"{len(self)} images of {width}x{height} px, {len(self.classes)} classes"
        known = [*self.factors, *(f"mask {name}" for name in self.info.mask_names)]
        lines = [f"{self.info.path}, {self.split}: {about}", *([f"  known: {', '.join(known)}"] if known else [])]
        lines += [f"  {line}" for line in (told(self.info.certificate) if self.info.certificate else [])]
        return "\n".join(lines)


def as_image(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 `[H, W]` or `[H, W, 3]` to float32 `[C, H, W]` in [0, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)


def render(
    name: str | type[Generator],
    *,
    n: int = 1000,
    seed: int = 0,
    split: str = "train",
    size: int = 128,
    out: str | Path | None = None,
    n_test: int | None = None,
    overwrite: bool = False,
    **parameters: float,
) -> Dataset:
    """Renders images of a generator.

    The same name, seed, split, size and parameters give the same images, of any n the first ones. A ValueError for an
    unknown generator or parameter, or a number out of range; an OSError for a file that exists.

    Args:
        name: A generator: "rect-tri", "landolt", ... (`probekit list generators`); or a class of your own, which is
            known by its name from here on (docs/notebooks/generator.ipynb).
        n: How many; with `out`, of train.
        split: Whose images: train and test have nothing in common.
        size: Pixels a side, 16 to 1024.
        out: A dataset file to write, with a train and a test split; without it they stay in memory.
        n_test: Images of the test split of that file; None is the generator's own number.
        overwrite: Whether a file of that name may be replaced.
        **parameters: Values of its parameters, `gap=3` for example (`probekit list generators`).
    """
    if not isinstance(name, str):
        name = register(name)
    if out is not None:
        path = Path(out)
        about: dict[str, Any] = {"n": n, "n_test": n_test, "seed": seed, "size": size, "overwrite": overwrite}
        generate(name, out=path, parameters=parameters, **about)
        return Dataset(path, split)
    if split not in SPLITS:
        raise ValueError(nearest("split", split, SPLITS))
    if n_test is not None:
        raise ValueError(f"expected n_test of a file, found n_test={n_test} without out; add out='data.h5'")
    if name == Scenes.name:
        raise ValueError("expected scenes in a file, found them without out; add out='scenes.h5'")
    if name not in GENERATORS:
        raise ValueError(nearest("generator", name, GENERATORS))
    if not isinstance(n, int | np.integer) or not 0 < n <= MAX_N or not 0 <= seed <= MAX_SEED:
        raise ValueError(
            f"expected a whole n from 1 to {MAX_N} and a seed from 0 to {MAX_SEED}, found n={n}, seed={seed}"
        )
    generator, index = GENERATORS[name](size=size, parameters=parameters), np.arange(n, dtype=np.int64)
    info = _in_memory(generator, split, n=n, seed=seed, size=size)
    return Dataset.of(Truth(info, rendered(generator, seed, split, index), index), split)


def _in_memory(generator: Generator, split: str, *, n: int, seed: int, size: int) -> DatasetInfo:
    """What a file of these images would say of itself."""
    names = tuple(factor.name for factor in generator.factors)
    return DatasetInfo(
        path=Path(f"{generator.name} in memory"),
        schema=SCHEMA,
        generator=generator.name,
        parameters=generator.values,
        seed=seed,
        classes=generator.classes,
        factors=tuple(asdict(factor) for factor in generator.factors),
        mask_names=generator.mask_names,
        version="",
        content_hash="",
        splits={split: SplitInfo(split, n, size, size, 1, labelled=True, masked=True, factors=names)},
        certificate=shipped(generator),
    )
