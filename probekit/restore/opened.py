"""The one way to an encoder that is measured, and to all that it is measured with."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.branches.base import Branch
from probekit.config import Config
from probekit.data.split import CPU, read_chunks, refuse_changed, shrunk_size
from probekit.files import sha256
from probekit.h5 import CentreCrop, DatasetInfo, seen_by, verify
from probekit.methods.base import Method
from probekit.models.encoder import Encoder, encoder_of, load_encoder
from probekit.models.extract import extract, read_all
from probekit.models.layers.read import Layers, Together, layers_of
from probekit.registry import POOLS
from probekit.restore.build import alike, build_method, load_checkpoint, untrained_encoder
from probekit.restore.embeddings import kept
from probekit.restore.images import check_size, taken
from probekit.restore.pooled import NO_PARTS, Parts, layered, pool_warnings, pooled
from probekit.run import IMPORTED, Run, how_far
from probekit.weights import LAST, RANDOM, Weights

FORMAT = 1  # of kept embeddings; to be raised when an encoder's forward pass changes its numbers


class Opened:
    """An encoder, and what a measurement needs of it: each is made once, and only when it is asked for.

    A ValueError if there is nothing to pool with in this way.

    Attributes:
        encoder: In eval mode, on the device, pooled as `weights` says.
        plain: The same before a layer or a class token is read in place of its own features.
        header: spec, method, epoch, image_size, max_size, classes, ...
        weights: Which of a run's weights, and what is read, a layer by its own name.
        sha256: Hash of the file of weights, hex; "" without one.
        config: The settings that it was pretrained with here; None for an encoder that was trained elsewhere.
        method: The whole method that it belongs to, heads, decoder and branches included, in eval mode on the device;
            None where only the encoder is there.
    """

    config: Config | None = None
    method: Method | None = None

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        header: Mapping[str, Any],
        device: torch.device,
        *,
        weights: Weights = LAST,
        sha256: str = "",
        seed: int | None = None,
    ) -> None:
        self.name, self.header, self.device, self.weights = name, header, device, weights
        self._sha256, self.seed = sha256, seed
        parts = self._parts() if weights.pool and POOLS[weights.pool].of_run else NO_PARTS
        try:
            if not weights.of_layers:
                encoder = pooled(encoder, weights.pool, parts)
            self.plain = self.encoder = encoder.to(device).eval()
            if weights.of_layers:
                self.encoder, self.weights = layered(self.plain, weights, self.layers)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    @cached_property
    def layers(self) -> Layers:
        """What can be read, told by images of the size that it was made for."""
        height, width = self.header["image_size"]
        return layers_of(self.plain, shrunk_size(height, width, self.header["max_size"]))

    def at(self, layer: str) -> Self:
        """The same, read at a layer; a ValueError if its pooling cannot be of that one."""
        found = copy(self)
        found.encoder, found.weights = layered(self.plain, replace(self.weights, layer=layer), self.layers)
        return found

    @property
    def hash(self) -> str:
        """SHA-256 of the file of weights, hex; "" without one."""
        return self._sha256

    @property
    def row(self) -> str:
        """What it is called in tables."""
        if self.seed is not None:
            return RANDOM
        name = str(self.weights)
        return f"{self.header['method']} {'best_test (as the papers choose)' if name == 'best_test' else name}"

    def random(self, seed: int) -> "Opened":
        """The same architecture and pooling with the plain random weights of a seed (`restore.build`)."""
        return type(self)(self.name, self._untrained(seed), self.header, self.device, weights=self.weights, seed=seed)

    def beside(self, seed: int, size: tuple[int, int]) -> "Opened | None":
        """Random weights that are others than its own: of this seed, or of the next if the encoder has those of this.

        `seed`: the one to begin with; `size`: (height, width) of images that the encoder takes. Returns None if both
        give the encoder's own embeddings: then nothing in it is random.
        """
        for candidate in map(self.random, (seed, seed + 1)):
            if not alike(self.encoder, candidate.encoder, size, self.device):
                return candidate
        return None

    def size(self, info: DatasetInfo) -> tuple[int, int]:
        """(height, width) to which it takes the images of a file: larger ones are averaged down."""
        return shrunk_size(info.first.height, info.first.width, self.header["max_size"])

    def take(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """Images as `[N, C, H, W]` from 0 to 255 on the device at the size that it takes.

        `images`: as a file holds them, uint8 `[N, H, W]` or `[N, H, W, 3]`; or a tensor `[N, C, H, W]` in [0, 1]. A
        ValueError for others, and for channels that it does not take.
        """
        return taken(images, self.encoder, self.device, max_size=self.header["max_size"])

    def embed(
        self, data: DatasetInfo | str | Path | NDArray[np.uint8] | Tensor, split: str = "test"
    ) -> NDArray[np.float32]:
        """The embeddings `[N, D]` of a split of a dataset file, or of images as `take` has them."""
        if isinstance(data, str | Path):
            data = verify(Path(data))
        return self._split(data, split) if isinstance(data, DatasetInfo) else extract(self.encoder, self._fit(data))

    def map(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """The feature maps `[N, D, h, w]` of images as `take` has them, on the CPU."""
        return read_all(self.encoder, self._fit(images), lambda found: found.map.float())

    def _fit(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """As `take`; a ValueError if the encoder fails on images of this size, too."""
        found = self.take(images)
        check_size(self.encoder, (found.shape[2], found.shape[3]))
        return found

    def reconstruct(self, images: Tensor) -> Tensor | None:
        """What the method's decoder makes of `[B, C, H, W]` in [0, 1]; None without one."""
        with torch.no_grad():
            return None if self.method is None else self.method.reconstruct(images)

    @cached_property
    def decodes(self) -> bool:
        """Whether the method has a decoder."""
        like = torch.zeros(1, self.header["spec"]["channels"], *self.header["image_size"], device=self.device)
        return self.reconstruct(like) is not None

    def refuse_replaced(self, info: DatasetInfo | None = None) -> None:
        """Refuses what was measured while others took the place of the weights or the data: it belongs to neither."""
        if info is not None:
            refuse_changed(info)

    def _split(self, info: DatasetInfo, split: str) -> NDArray[np.float32]:
        return np.concatenate(list(self._embed(info, split)))

    def _embed(self, info: DatasetInfo, split: str) -> Iterator[NDArray[np.float32]]:
        check_size(self.encoder, self.size(info))
        for images in read_chunks(info, split):
            yield extract(self.encoder, self.take(images))

    def _untrained(self, seed: int) -> Encoder:
        return untrained_encoder(self.header["spec"], seed)

    def _parts(self) -> Parts:
        """What may pool beside the encoder."""
        return NO_PARTS


class OpenedRun(Opened):
    """The encoder of a run folder.

    `weights`: which of its weights, and how they are pooled. `found`: the encoder, its header, and the state of the
    whole method if that came along. `stamp`: `stamp_of` that file before it was read. `seed`: seed of random weights;
    None for its own.
    """

    def __init__(
        self,
        run: Run,
        weights: Weights,
        device: torch.device,
        found: tuple[Encoder, Mapping[str, Any], Mapping[str, Any] | None],
        *,
        stamp: tuple[int, ...] = (),
        seed: int | None = None,
    ) -> None:
        encoder, header, self._saved = found
        self.run, self._stamp = run, stamp
        super().__init__(run.name, encoder, header, device, weights=weights, seed=seed)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file of weights, hex; "" of random weights.

        A ValueError if another file has taken its place since it was read.
        """
        if self.seed is not None:
            return ""
        digest = sha256(self.weights.file(self.run.path))
        self._refuse_other_weights()
        return digest

    @cached_property
    def config(self) -> Config | None:  # type: ignore[override]
        """None for an imported encoder."""
        content = self.run.read()
        return None if content["state"] == IMPORTED else Config.from_dict(content["config"])

    @cached_property
    def whole(self) -> Method:
        """The run's whole method; a ValueError if it was imported, or only the encoder was kept of it."""
        if self.config is None:
            raise ValueError(
                f"expected a run that was pretrained here, found {self.run.name}, an imported encoder, which has "
                f"neither views nor a decoder; type: probekit heatmap {quote(self.run.argument)}"
            )
        shape = {"channels": self.header["spec"]["channels"], "classes": len(self.header["classes"])}
        if self.seed is not None:
            return build_method(replace(self.config, seed=self.seed), **shape).to(self.device).eval()
        saved = self._saved or load_checkpoint(self._checkpoint, CPU)["method"]
        method = build_method(self.config, **shape)
        method.load_state_dict(saved)
        return method.to(self.device).eval()

    @property
    def method(self) -> Method | None:  # type: ignore[override]
        """`whole`, or None where only the encoder was kept."""
        return self.whole if self.config is not None and self._checkpoint.exists() else None

    @property
    def after(self) -> str:
        """How far the run was: "epoch 3 of 45, interrupted"."""
        return how_far(self.run.read(), self.header["epoch"])

    def random(self, seed: int) -> "OpenedRun":
        """As of any encoder; a branch that pools is as random."""
        return OpenedRun(self.run, self.weights, self.device, (self._untrained(seed), self.header, None), seed=seed)

    def _split(self, info: DatasetInfo, split: str) -> NDArray[np.float32]:
        """A memory map; computed only if the run folder does not hold them yet."""
        key, n = self._key(info, split), info.splits[split].n
        return kept(self.run.path, split, [key], lambda: ([rows] for rows in self._embed(info, split)), n)[0]

    def embed_at(self, views: Sequence["OpenedRun"], info: DatasetInfo, split: str) -> None:
        """Keeps the embeddings of several views of it, `at` others of its layers, in one pass: `embed` finds them."""
        together, ends = Together([view.encoder for view in views]), np.cumsum([view.encoder.dim for view in views])

        def make() -> Iterator[list[NDArray[np.float32]]]:
            for images in read_chunks(info, split):
                joined = read_all(together, self.take(images), lambda found: found).numpy()
                yield np.split(joined, ends[:-1], axis=1)

        keys = [view._key(info, split) for view in views]
        kept(self.run.path, split, keys, make, info.splits[split].n)

    def _key(self, info: DatasetInfo, split: str) -> dict[str, Any]:
        """All that an embedding depends on."""
        own = {"encoder": self.hash, "pooling": self.weights.pool or self.header["spec"]["pooling"]}
        if self.seed is not None:  # another torch may draw other weights
            own = {"untrained": self.header["spec"], "seed": self.seed, "torch": torch.__version__}
            if self.weights.pool:
                branches = self.run.read()["config"].get("branches", {})
                own |= {"pooling": self.weights.pool, "branches": branches}
        if self.weights.layer is not None:
            own |= {"layer": self.weights.layer}
        depends = {"max_size": self.header["max_size"], "device": self.device.type, "format": FORMAT}
        return own | depends | {"data": info.content_hash, "split": split}

    def dataset(self, named: Path | None, crop: CentreCrop | None = None) -> tuple[DatasetInfo, list[str]]:
        """The named dataset file, or the run's own, verified, and what to know of its embeddings, a line each.

        `crop`: the test transform of photographs, in place of the file's own.
        """
        trained = self.run.read()["dataset"]
        held = verify(named or self.run.data())
        info = held if crop is None else seen_by(held, crop)
        notes = list(pool_warnings(self.encoder))
        if held.content_hash == trained["hash"]:
            return info, notes
        if named is None:
            return info, [f"warning: {info.path} has changed since {self.run.name} was trained on it", *notes]
        return info, [f"note: {self.run.name} was trained on {trained['path']}, and is measured on {info.path}", *notes]

    def refuse_replaced(self, info: DatasetInfo | None = None) -> None:
        """The file of weights counts, too."""
        super().refuse_replaced(info)
        self._refuse_other_weights()

    def _refuse_other_weights(self) -> None:
        path = self.weights.file(self.run.path)
        if stamp_of(path) != self._stamp:
            raise ValueError(f"expected {path} as it was, found it replaced while it was read; measure again")

    def _parts(self) -> Parts:
        if self.config is None:
            return NO_PARTS
        if self.weights.only_encoder:
            found = self.weights.checkpoint
            raise ValueError(
                f"expected --checkpoint last, best_val or best_test, found {found}: it keeps no branch and no head"
            )
        return Parts(cast(Sequence[Branch], self.whole.kept_branches), self.whole.projection)

    @property
    def _checkpoint(self) -> Path:
        return self.run.checkpoints / f"{self.weights.checkpoint}.pt"


def open_encoder(run: Run, weights: Weights, device: torch.device) -> OpenedRun:
    """Opens the encoder of a run.

    A ValueError if the run has no such checkpoint, or nothing to pool with in this way.
    """
    path = weights.file(run.path)
    stamp = stamp_of(path)
    if path.suffix == ".pt" and path.exists():
        saved = load_checkpoint(path, CPU)
        encoder, header = encoder_of(saved, path)
        found = (encoder, header, saved["method"])
    else:
        found = (*load_encoder(path), None)
    return OpenedRun(run, weights, device, found, stamp=stamp)


def stamp_of(path: Path) -> tuple[int, ...]:
    """What tells a file from the one that took its place, without reading it; () of one that is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
