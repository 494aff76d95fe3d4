"""The encoder that every probe and heatmap sees, and the file it is kept in."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, overload

import torch
from torch import Tensor, nn

from probekit.models.backbones import build_backbone
from probekit.models.inputs import Input
from probekit.models.outside import OutsideBackbone, is_module, made_again
from probekit.models.pooling import build_pooling
from probekit.models.tensor_files import read_tensors, read_torch, save_tensors
from probekit.run import Run
from probekit.weights import ENCODER_FILE, KEPT

FORMAT = "probekit-encoder/2"
# What every reader takes for granted in the header of an encoder of a run.
HEADER = {
    "spec": dict, "channels": int, "pooling": str,
    "method": str, "epoch": int, "image_size": list, "max_size": int, "classes": list,
}  # fmt: skip


@dataclass
class Features:
    """What an encoder makes of a batch.

    `stages`: every stage's activations, finest first; the last one is `map`. `map`: `[B, D, h, w]`; 1x1, the embedding
    itself, where an encoder gives no map. `pooled`: `[B, D]`, float32: the embedding. `weights`: `[B, h, w]`, the
    pooling weights, or None for plain averages.
    """

    stages: Sequence[Tensor]
    map: Tensor
    pooled: Tensor
    weights: Tensor | None


class JoinedStages(Sequence[Tensor]):
    """The stages of several passes, one pass after another; each is put together when asked for, as few ever are."""

    def __init__(self, passes: Sequence[Sequence[Tensor]]) -> None:
        self.passes = passes

    def __len__(self) -> int:
        return len(self.passes[0])

    @overload
    def __getitem__(self, at: int) -> Tensor: ...
    @overload
    def __getitem__(self, at: slice) -> list[Tensor]: ...
    def __getitem__(self, at: int | slice) -> Tensor | list[Tensor]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return torch.cat([stages[at] for stages in self.passes])


class Encoder(nn.Module):
    """Normalisation, backbone and pooling. `[B, C, H, W] -> Features`.

    A ValueError if there is no such backbone, stem or pooling.

    Attributes:
        spec: Enough to rebuild it.
        dim: D, of the feature map and the embedding.
        stride: Px a cell of the feature map; H and W should be divisible by it.
        widths: Channels of each stage, finest first.
        strides: Px a cell of each stage.
        has_map: Whether the embedding is `pooling` of the feature map: what class activation maps rest on.
        has_gradient: Whether what it gives has a derivative by the image.
        repooled: Whether `pooling` counts for a backbone that pools by itself, too.
        reading: What it gives in place of its own features (`probekit.models.layers.read`); None but in a measurement.

    Args:
        pooling: "gap" or "attention"; "own" where a backbone of "py:" pools by itself.
        backbone: "unet", "timm:NAME" or a module from elsewhere (`probekit.models.outside.REMADE`).
        stem: "imagenet", or "small" for small images (`probekit.models.backbones`).
        arguments: Numbers of a model of timm that are others than those of its name (`probekit.models.backbones`).
        input: How images come to the size that weights expect, `Input.as_dict`; None for as they are.
        normalise: Mean and standard deviation of each channel, which are taken off and divided by; None for neither.
        shape: (D, px a cell) of the map of a backbone of "py:".
        thrice: Whether such a one takes three channels, and is given the one of grey images in each.
        module: A user's own module, in place of what the backbone's name stands for.
    """

    def __init__(
        self,
        *,
        channels: int,
        pooling: str,
        backbone: str = "unet",
        width: int = 0,
        depth: int = 0,
        stem: str = "imagenet",
        arguments: Mapping[str, Any] | None = None,
        input: Mapping[str, Any] | None = None,
        normalise: Mapping[str, list[float]] | None = None,
        shape: Sequence[int] = (),
        code: str = "",
        thrice: bool = False,
        module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {"channels": channels, "pooling": pooling}
        if backbone == "unet":
            self.spec |= {"width": width, "depth": depth}
        else:
            self.spec |= {"backbone": backbone, "stem": stem, **({"arguments": dict(arguments)} if arguments else {})}
        if shape:
            self.spec |= {"shape": list(shape), "code": code, **({"thrice": True} if thrice else {})}
        self.input = None if input is None else Input(**input)
        if self.input is not None:
            self.spec["input"] = self.input.as_dict()
        if normalise is not None:
            self.spec["normalise"] = {name: list(values) for name, values in normalise.items()}
        self.backbone: Any  # a module with the attributes that `probekit.models.backbones` names
        if module is not None or is_module(backbone):
            made = made_again(backbone, code) if module is None else module
            self.backbone = OutsideBackbone(made, shape, thrice=thrice)
        else:
            about: dict[str, Any] = {"channels": channels, "stem": stem, "arguments": arguments or {}}
            self.backbone = build_backbone(backbone, width=width, depth=depth, **about)
        self.widths: list[int] = self.backbone.widths
        self.strides: list[int] = self.backbone.strides
        self.dim, self.stride = self.widths[-1], self.strides[-1]
        self.has_map = pooling != "own"
        self.has_gradient: bool = getattr(getattr(self.backbone, "module", None), "gradients", True)
        self.repooled = False
        self.reading: Callable[[Encoder, Tensor], Features] | None = None
        self.pooling = build_pooling(pooling if self.has_map else "gap", self.dim)
        for name in ("mean", "std"):  # not persistent: the spec holds them
            values = None if normalise is None else torch.tensor(normalise[name]).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def without_input(self) -> "Encoder":
        """The same weights, for images that have the size that they expect already."""
        same = copy(self)
        same.input = None
        return same

    @property
    def blocks(self) -> dict[str, nn.Module]:
        """The parts that hold weights, by name, the last that an image passes first."""
        named: dict[str, nn.Module] = {"pooling": self.pooling, **dict(reversed(self.backbone.parts.items()))}
        return {name: block for name, block in named.items() if any(True for _ in block.parameters())}

    def forward(self, x: Tensor, *others: Tensor) -> Features:
        """Encodes images in [0, 1].

        With more than one batch each has a pass, and so batch statistics, of its own; the features are those of all,
        one batch after another, and pooled from the joined map, so that a loss has a gradient there.
        """
        if others:
            return self._apart((x, *others))
        return self.as_trained(x) if self.reading is None else self.reading(self, x)

    def as_trained(self, x: Tensor) -> Features:
        """Its own features of images in [0, 1], wherever it is read."""
        out = self.backbone(self._normalised(x))
        if isinstance(out, Features):
            if not self.repooled:
                return out
            pooled, weights = self.pooling(out.map)
            return Features(stages=out.stages, map=out.map, pooled=pooled, weights=weights)
        if isinstance(out, Tensor):
            if out.ndim == 2:
                return Features(stages=[], map=out[:, :, None, None], pooled=out.float(), weights=None)
            out = [out]
        pooled, weights = self.pooling(out[-1])
        return Features(stages=out, map=out[-1], pooled=pooled, weights=weights)

    def _apart(self, batches: Sequence[Tensor]) -> Features:
        passes: list[list[Tensor]] = [self.backbone(self._normalised(x)) for x in batches]
        feature_map = torch.cat([stages[-1] for stages in passes])
        parts = [self.pooling(part) for part in torch.split(feature_map, [len(x) for x in batches])]
        pooled = torch.cat([part for part, _ in parts])
        weights = None if parts[0][1] is None else torch.cat([part for _, part in parts])
        return Features(JoinedStages(passes), feature_map, pooled, weights)

    def _normalised(self, x: Tensor) -> Tensor:
        x = x if self.input is None else self.input(x)
        return x if self.mean is None else (x - self.mean) / self.std  # type: ignore[operator]


@torch.no_grad()
def check_takes(encoder: Encoder, size: tuple[int, int]) -> None:
    """Passes an image of (height, width) through an encoder in eval mode, before anything is made for it.

    A ValueError if it fails, as some backbones halve small images to nothing, or its features are not finite, as finite
    weights may be too large, or variances below 0.
    """
    training, name = encoder.training, encoder.spec.get("backbone", "the U-Net")
    try:
        place = next((weight.device for weight in encoder.state_dict().values()), None)  # a user's may have none
        found = encoder.eval()(torch.zeros(1, encoder.spec["channels"], *size, device=place))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{name} fails on images of {size[0]}x{size[1]}: {reason}; "
            "for larger ones type: probekit import SOURCE --size 224"
        ) from error
    finally:
        encoder.train(training)
    if not found.pooled.isfinite().all():
        raise ValueError(f"expected finite features from {name}, found nan or inf; are its weights those of another?")


def build_encoder(spec: dict[str, Any]) -> Encoder:
    """The encoder that `spec` (an encoder's `.spec`) describes, with fresh weights."""
    return Encoder(**spec)


def count_parameters(encoder: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def count_as_paper(encoder: nn.Module) -> int:
    """Parameters as the ConRec paper's Table 2 counts them: Keras also counts the moving mean and variance."""
    moving = sum(b.numel() for name, b in encoder.named_buffers() if "running_" in name)
    return count_parameters(encoder) + moving


def save_encoder(path: Path, encoder: Encoder, info: dict[str, Any]) -> None:
    """Writes weights as safetensors with a JSON header that is enough to rebuild the encoder.

    `path`: the file, replaced whole: a reader never sees half of it; `info`: more for the header, JSON-able: method,
    dataset hash, image size, epoch.
    """
    header = {"format": FORMAT, "spec": encoder.spec, **info}
    # Clones: an encoder of a user's may hold one tensor under two names, which the format refuses.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in encoder.state_dict().items()}
    save_tensors(path, tensors, header)


def load_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """Rebuilds a run's encoder with its own pooling, on the CPU, in eval mode.

    `path`: a file of weights (`Weights.file`), or a run folder, whose last encoder is meant. Returns the encoder and
    its header (spec, method, image size, epoch, ...). A ValueError if the run has no such checkpoint, or the file is
    not an encoder of this format.
    """
    path = path / ENCODER_FILE if path.is_dir() else path
    if path.suffix == ".safetensors":
        header, state = _read_safetensors(path)
        return _built(header, state, path), header
    if not path.exists():
        raise ValueError(_missing(path))
    return encoder_of(read_torch(path, "cpu"), path)


def encoder_of(checkpoint: Mapping[str, Any], path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder that is kept of a whole checkpoint, and its header, as `load_encoder`."""
    header, state = checkpoint.get("encoder_header"), checkpoint.get("method")
    if not isinstance(header, dict) or not isinstance(state, dict):
        raise ValueError(f"expected an encoder in {path}, found none")
    prefix = f"{header.get('kept')}."
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return _built(header, own, path), header


def _built(header: dict[str, Any], state: Mapping[str, Any], path: Path) -> Encoder:
    check_header(header, path)
    try:
        encoder = build_encoder(header["spec"])
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(f"expected an encoder that can be built from {path}, found: {error}") from error
    _check_state(encoder, state, path)
    encoder.load_state_dict(state)
    return encoder.eval()


def check_header(header: dict[str, Any], path: Path) -> None:
    """Refuses a header without what every reader takes for granted."""
    spec = header.get("spec")
    flat = {**header, **(spec if isinstance(spec, dict) else {})}
    missing = [name for name, kind in HEADER.items() if not isinstance(flat.get(name), kind)]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} in the header of {path}, found none")


def _check_state(encoder: Encoder, state: Mapping[str, Any], path: Path) -> None:
    wanted = encoder.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        expected, found = (_kind(table.get(name)) for table in (wanted, state))
        if expected != found:
            raise ValueError(f"expected {expected} for {name} in {path}, found {found}")


def _kind(tensor: Any) -> str:
    if not isinstance(tensor, Tensor):
        return "no tensor"
    kind = "complex" if tensor.is_complex() else "real" if tensor.is_floating_point() else "whole"
    return f"{kind} numbers {list(tensor.shape)}"


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if path.stem.startswith(KEPT) and not path.exists():
        raise ValueError(_missing(path))
    if not path.exists():
        raise ValueError(
            f"expected an encoder in {path.parent}, found none; "
            f"type: probekit pretrain --resume --name {quote(Run(path.parent).argument)}"
        )
    header, state = read_tensors(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT} in {path}, found {header.get('format')!r}")
    return header, state


def _missing(path: Path) -> str:
    found = sorted(p.stem for p in path.parent.glob("*") if p.suffix in (".pt", ".safetensors"))
    return (
        f"expected checkpoint {path.stem!r} in {path.parent.parent}, found {', '.join(found) or 'none'}; "
        "type: --checkpoint last"
    )
