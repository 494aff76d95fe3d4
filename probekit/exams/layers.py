"""Every layer of any encoder as features, in one forward pass: what the exam reads."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probekit.exams.fused import fused
from probekit.exams.items import LEAST
from probekit.exams.measurement import POOLS
from probekit.models.extract import BATCH_SIZE, images_at_a_time
from probekit.models.layers.find import find_layers
from probekit.models.layers.network import EMBEDDING, PROJECTION, Layer, Whole, read_pass, run
from probekit.models.layers.outputs import LONGEST
from probekit.models.layers.read import TRIAL
from probekit.registry import check_named
from probekit.restore.opened import Opened
from probekit.visible import first_line

CLOSE = 1e-4  # relative; how near a fused network's features are to the plain one's
LARGEST = 1e18  # of a feature: the square of a larger one is none of float32


class Reader:
    """Reads drawings into the features of every layer of an encoder, pooled in every way that there is.

    Layers are the levels of the U-Net, or the children of another backbone: lists and sequences longer than
    `probekit.models.layers.find.LONG` are opened, but for the stages that a model of timm names, and an activation, or
    the norm of a convolution, stands for what it follows. Then "map", what the encoder pools, where that is something
    else than the last of them; "embedding"; and "projection" where the run has such a head.
    Pools are "gap" (average), "max", "grid4" (averages of 4 x 4 parts of the map), "cls" (class token), and "own" of
    what is a vector already.

    Attributes:
        layers: By name, in the order that an image passes them.
        network: What is read, a `Whole`: a faster copy that gives the same, or the encoder as it is.
        left_out: What is not read, and why, a line each.
        is_fused: Whether it is that copy, whose batch norms are a part of convolutions.

    Made of an encoder, which is not changed, with `layers`: "all", "last" (the last before the embedding, and what
    follows), or names; `pools`: those of `POOLS` that are wanted; `size`: px a side of the drawings, which are not
    resized. A ValueError if there is no such layer or pool, or the encoder fails on drawings of this size.
    """

    def __init__(
        self, opened: Opened, *, layers: str | Sequence[str] = "all", pools: Sequence[str] = POOLS, size: int
    ) -> None:
        for pool in pools:
            check_named("pool", pool, POOLS)
        self.device, self.size, self.name = opened.device, size, opened.name
        self.channels: int = opened.encoder.spec["channels"]
        patch = getattr(opened.encoder.backbone, "patch", 1)
        self.input = opened.encoder.input  # drawings come to the size of the weights before the network, not in it
        if size % patch and self.input is None:
            raise ValueError(
                f"expected drawings whose sides are divisible by {patch}, the patches of {opened.name}, found "
                f"{size} px; type: --size {max(1, round(size / patch)) * patch}"
            )
        plain = Whole(opened.encoder.without_input(), _head(opened))
        trial = self._inputs(_noise(size, size))
        try:
            run(plain, trial)
        except Exception as error:  # whatever a user's module raises
            said, _, hint = first_line(error).partition("; type")
            side = re.search(r"--size (\d+)", hint)  # that of a network that was made for one
            found = f"expected an encoder that takes drawings of {size}x{size}, found that {opened.name} fails: {said}"
            if side and int(side[1]) < LEAST:
                raise ValueError(f"{found}; it takes {side[1]} px, and exams need {LEAST} px or more") from error
            raise ValueError(f"{found}; type: --size {side[1] if side else 224 if size < 224 else 128}") from error
        height, width = trial.shape[2:]
        known, self.left_out = find_layers(plain, trial, lambda: self._grey(_noise(height, 2 * width)))
        self.layers = self._chosen(known, layers, pools, opened.name)
        faster = fused(plain, trial, run)
        self.is_fused = faster is not None and _agree(plain, faster, self.layers, trial)
        self.network: nn.Module = faster if faster is not None and self.is_fused else plain

    @property
    def names(self) -> list[tuple[str, str]]:
        """(layer, pool) of every output, in order."""
        return [(name, pool) for name, layer in self.layers.items() for pool in layer.pools]

    def stride(self, layer: str) -> int | None:
        """Px a cell of a layer's map, to the nearest whole; None of a vector."""
        cells = self.layers[layer].form.cells
        return None if cells is None else round(self.size / cells[0])

    def read(self, images: NDArray[np.uint8]) -> dict[tuple[str, str], NDArray[np.float32]]:
        """The features `[N, D]` of each of `names` of drawings `[N, H, W]`, grey, each by itself.

        They become as many channels as the encoder takes. A ValueError if a feature is no number that read-outs take.
        """
        found = {name: np.empty((len(images), self._length(*name)), np.float32) for name in self.names}
        at_a_time = images_at_a_time(self.device, images.shape[1:], BATCH_SIZE)
        for start in range(0, len(images), at_a_time):
            batch = self._inputs(images[start : start + at_a_time])
            values = read_pass(self.network, self.layers, _channels_last(batch) if self.is_fused else batch)
            joined = torch.cat(list(values.values()), dim=1).cpu().numpy()  # one copy from a GPU
            if not np.abs(joined).max(initial=0) < LARGEST:
                raise ValueError(
                    f"expected features between -{LARGEST:g} and {LARGEST:g} from {self.name}, found "
                    f"{self._odd(values)}; type: --layers NAME,NAME to leave a layer out"
                )
            end = 0
            for rows in found.values():
                first, end = end, end + rows.shape[1]
                rows[start : start + at_a_time] = joined[:, first:end]
        return found

    def _odd(self, values: dict[tuple[str, str], Tensor]) -> str:
        """A feature that no read-out takes, and where it is."""
        large = {f"{layer}, {pool}": float(found.abs().max()) for (layer, pool), found in values.items()}
        return next(f"{value:g} in {name}" for name, value in large.items() if not value < LARGEST)

    def _length(self, layer: str, pool: str) -> int:
        return self.layers[layer].form.length(pool)

    def _inputs(self, images: NDArray[np.uint8]) -> Tensor:
        grey = self._grey(images)
        return grey if self.input is None else self.input(grey)

    def _grey(self, images: NDArray[np.uint8]) -> Tensor:
        grey = torch.from_numpy(images.copy()).to(self.device).float() / 255
        return grey[:, None].repeat(1, self.channels, 1, 1)

    def _chosen(
        self, known: dict[str, Layer], layers: str | Sequence[str], pools: Sequence[str], encoder: str
    ) -> dict[str, Layer]:
        """What was asked for, without what is too long."""
        names = list(known)
        if layers == "last":
            asked = names[-1 - sum(name in (EMBEDDING, PROJECTION) for name in names) :]
        else:
            asked = names if layers == "all" else [layers] if isinstance(layers, str) else list(layers)
        for name in asked:
            check_named(f"layer of {encoder}", name, known)
        chosen = {}
        for name in [name for name in names if name in asked]:
            form = known[name].form
            wanted = [pool for pool in known[name].pools if pool in pools]
            if "grid4" in wanted and form.length("grid4") > LONGEST:
                wanted.remove("grid4")
                self.left_out.append(f"{name}, grid4: {form.length('grid4')} numbers, above {LONGEST}")
            chosen[name] = Layer(known[name].path, form, wanted)
        if not any(layer.pools for layer in chosen.values()):
            raise ValueError(
                f"expected layers and pools of {encoder} that go together, found {', '.join(asked)} by "
                f"{', '.join(pools)}; type: --pools {','.join(POOLS)}"
            )
        return chosen


def _head(opened: Opened) -> nn.Module | None:
    """The head whose output the loss compares, unless it is a part of the pooling, or does not fit it."""
    if opened.weights.pool in ("bilinear", "projection") or opened.weights.of_layers or opened.method is None:
        return None
    return opened.method.projection


def _agree(plain: nn.Module, faster: nn.Module, layers: dict[str, Layer], trial: Tensor) -> bool:
    """Whether two networks give the same features."""
    own = read_pass(plain, layers, trial)
    try:
        other = read_pass(faster, layers, _channels_last(trial))
    except Exception:  # a user's module may take one order of memory alone
        return False
    return all(bool((own[name] - other[name]).abs().max() <= CLOSE * own[name].abs().max()) for name in own)


def _channels_last(batch: Tensor) -> Tensor:
    return batch.contiguous(memory_format=torch.channels_last)


def _noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (TRIAL, height, width), dtype=np.uint8)
