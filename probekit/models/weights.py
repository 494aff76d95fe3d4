"""Weights from elsewhere: a checkpoint of any project, matched with an encoder by name and shape.

A file holds dictionaries of tensors, perhaps nested, whose keys are a backbone's with some prefix. Every dictionary,
every prefix in it and every style of `key_styles` is tried; what names most of the backbone's tensors is taken.
"""

import argparse
import hashlib
import json
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from probekit.models.encoder import Encoder
from probekit.models.key_styles import AVOIDED, PREFERRED, STYLES, Rename
from probekit.models.normalise import TABLES, normalisation

# Share of the backbone's tensors that a file must hold, and of the file's that the backbone must take. A whole
# checkpoint has all, or all but a first convolution of another shape; that of a relative of the network at most 81 %,
# one way or the other (counted over 13 pairs of timm: resnet50 and seresnet50 are the closest).
LEAST = 0.9
SHOWN = 3  # names in a message
COUNTERS = "num_batches_tracked"  # of batch norms: no weights, and older files lack them


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: The file.
        tables: Every dictionary of tensors in it, by where it stands: "", "state_dict", "teacher", ...
        spec: That of the encoder, if it is a file of probekit.
    """

    path: Path
    tables: dict[str, dict[str, Tensor]]
    spec: dict[str, Any] | None


@dataclass(frozen=True)
class Match:
    """How the tensors of a file and of a backbone go together.

    Attributes:
        file: Its name.
        sha256: Of the file, hex.
        where: In which dictionary they stand, and their prefix there: "state_dict: module.encoder_q.".
        total: Tensors of the backbone, without the counters of batch norms.
        matched: Those that the file holds, in a shape that fits.
        missing: Names of those that it does not hold.
        unexpected: Names of the others in that dictionary.
        changed: What was made of tensors of another shape: "conv1.weight: 3 channels summed".
        misshapen: Names of those that fit in no way.
    """

    file: str
    sha256: str
    where: str
    total: int
    matched: int
    missing: list[str]
    unexpected: list[str]
    changed: list[str]
    misshapen: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For the reader."""
        found = [f"weights: {self.matched} of {self.total} tensors from {self.file} ({self.where})"]
        lists = {"missing": self.missing, "of another shape": self.misshapen, "not used": self.unexpected}
        found += [f"  {what}: {_some(names)}" for what, names in lists.items() if names]
        return found + [f"  changed: {line}" for line in self.changed]


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a .safetensors file, or whatever `torch.load(weights_only=True)` reads.

    Raises:
        ValueError: If the file is no checkpoint, is cut short, holds no tensor, or needs code to be unpickled.
    """
    if not path.is_file():
        inside = path / "encoder.safetensors"  # of a run folder
        hint = f" but a folder; type: {inside}" if inside.is_file() else ""
        raise ValueError(f"expected a file of weights {path}, found none{hint}")
    tree, spec = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    tables = dict(_tables(tree, ""))
    if not tables:
        raise ValueError(f"expected tensors in {path}, found none")
    return Checkpoint(path, tables, spec)


def load_weights(encoder: Encoder, checkpoint: Checkpoint, *, least: float = LEAST) -> Match:
    """Copies the weights of a file into an encoder.

    Args:
        encoder: Changed in place.
        checkpoint: See `read_checkpoint`.
        least: Share of the backbone's tensors that must match, and of those of the file that stand in its blocks.

    Raises:
        ValueError: If fewer do, or a number is not finite.
    """
    prefix = "backbone." if encoder.spec.get("backbone") is None else f"backbone.{_inner(encoder)}."
    state = encoder.state_dict()
    wanted = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not wanted:
        raise ValueError(
            f"expected an encoder with weights, found none in {encoder.spec['backbone']}; leave --weights out"
        )
    found, style, at, where = _best(checkpoint, wanted)
    names = {key: at + style(key) for key in wanted if at + style(key) in found}
    fitted = {key: _fitted(key, found[name], wanted[key], encoder) for key, name in names.items()}
    loaded = {prefix + key: tensor for key, (tensor, _) in fitted.items() if tensor is not None}
    counted = [key for key in wanted if not key.endswith(COUNTERS)]
    match = Match(
        file=str(checkpoint.path),
        sha256=hashlib.sha256(checkpoint.path.read_bytes()).hexdigest(),
        where=f"{where or 'top level'}: {at or 'no prefix'}",
        total=len(counted),
        matched=sum(prefix + key in loaded for key in counted),
        missing=[key for key in counted if key not in names],
        unexpected=[name for name in found if name not in names.values() and not name.endswith(COUNTERS)],
        changed=[f"{key}: {change}" for key, (tensor, change) in fitted.items() if tensor is not None and change],
        misshapen=[f"{key} ({change})" for key, (tensor, change) in fitted.items() if tensor is None],
    )
    _check(match, least, encoder, _beyond(match.unexpected, at, names.values()))
    loaded |= _pooling(found, at, state)
    broken = [key for key, tensor in loaded.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"expected finite weights in {checkpoint.path}, found others in {_some(broken)}")
    encoder.load_state_dict({**state, **loaded})
    return match


def _check(match: Match, least: float, encoder: Encoder, beyond: list[str]) -> None:
    """Refuses another network: a larger one, or one whose blocks hold more (`beyond`)."""
    expected = f"expected weights of {encoder.spec.get('backbone', 'the U-Net')} in {match.file}, found"
    if match.matched < least * match.total:
        wrong = _some(match.missing + match.misshapen)
        raise ValueError(
            f"{expected} {match.matched} of its {match.total} tensors, fewer than {least:.0%}; lacking {wrong}"
        )
    if match.matched < least * (match.matched + len(beyond)):
        raise ValueError(f"{expected} those of a larger network, with {len(beyond)} tensors more: {_some(beyond)}")


def _beyond(unexpected: list[str], at: str, matched: Collection[str]) -> list[str]:
    """Which tensors stand in blocks that the backbone has, too: those of a head do not."""
    blocks = {name.removeprefix(at).partition(".")[0] for name in matched}
    return [n for n in unexpected if n.startswith(at) and n.removeprefix(at).partition(".")[0] in blocks]


def default_normalise(checkpoint: Checkpoint | None, backbone: str) -> str:
    """What "auto" of `model.normalise` means: what the weights were trained with.

    A file of probekit says it; others expect ImageNet's if their first convolution takes three channels.

    Raises:
        ValueError: If a file of probekit has a normalisation without a name here.
    """
    if checkpoint is None:
        return "none"
    if checkpoint.spec is not None:
        values = checkpoint.spec.get("normalise")
        known = ("none", *TABLES, *(["timm"] if backbone.startswith("timm:") else []))
        trained = checkpoint.spec["channels"]
        for name in known:
            if values == normalisation(name, backbone, trained):
                return name
        raise ValueError(
            f"expected {checkpoint.path} normalised as one of {', '.join(known)}, found {values}; type the nearest: "
            "--set model.normalise=... (pretrain), --normalise ... (probe)"
        )
    tensors = (tensor for table in checkpoint.tables.values() for tensor in table.values())
    return "imagenet" if any(t.ndim == 4 and t.shape[1] == 3 for t in tensors) else "none"


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("probekit", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, _spec(header)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"expected a whole safetensors file {path}, found: {_first_line(error)}") from error


def _read_torch(path: Path) -> tuple[Any, dict[str, Any] | None]:
    try:
        # A Namespace only holds what it is given; DINO's checkpoints keep their arguments in one.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes make of torch's reader
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            reason = f"{type(error).__name__}: {_first_line(error.__context__ or error)}"
            raise ValueError(
                f"expected a whole checkpoint in {path}, found a file torch cannot read: {reason}"
            ) from error
        raise ValueError(
            f"{path} needs code to be read ({code[1]}), which may do anything, and is refused; "
            "where you trust it, save its state_dict alone: torch.save(model.state_dict(), FILE)"
        ) from error
    if not isinstance(tree, Mapping):
        return tree, None
    header: Any = tree.get("encoder_header")
    spec = _spec(header)
    if spec is None or not isinstance(tree.get("method"), Mapping):
        return tree, spec
    kept = f"{header.get('kept', 'encoder')}."
    return {"method": {k: v for k, v in tree["method"].items() if k.startswith(kept)}}, spec


def _spec(header: Any) -> dict[str, Any] | None:
    """That of the encoder, if a header is one of probekit."""
    spec = header.get("spec") if isinstance(header, Mapping) else None
    return spec if isinstance(spec, dict) and "channels" in spec else None


def _tables(tree: Any, where: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary with tensors under string keys, by the path to it."""
    if not isinstance(tree, Mapping):
        return
    tensors = {key: value for key, value in tree.items() if isinstance(key, str) and _has_values(value)}
    if tensors:
        yield where, tensors
    for key, value in tree.items():
        if isinstance(key, str):
            yield from _tables(value, f"{where}.{key}" if where else key)


def _has_values(value: Any) -> bool:
    """Whether it is a plain tensor: neither sparse nor one of shape alone."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _best(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Rename, str, str]:
    """The dictionary, style and prefix that name most of the wanted tensors, and where the dictionary stands."""
    best: tuple[tuple[int, int], Any] | None = None
    for where, table in checkpoint.tables.items():
        for style in STYLES:
            names = [style(key) for key in wanted]
            for prefix in _prefixes(table, names):
                score = sum(prefix + name in table for name in names)
                ranked = (score, _rank(f"{where}.{prefix}"))
                if best is None or ranked > best[0]:
                    best = ranked, (table, style, prefix, where)
    assert best is not None
    found: tuple[dict[str, Tensor], Rename, str, str] = best[1]
    return found


def _prefixes(table: Mapping[str, Tensor], names: list[str]) -> list[str]:
    """What stands before the first, the middle or the last name wherever a key ends with it; "" in any case."""
    anchors = {names[0], names[len(names) // 2], names[-1]}
    ends = [key[: -len(name)] for key in table for name in anchors if key.endswith(name)]
    return ["", *sorted({end for end in ends if end.endswith(".")})]


def _rank(where: str) -> int:
    return any(word in where for word in PREFERRED) - any(word in where for word in AVOIDED)


def _fitted(key: str, tensor: Tensor, wanted: Tensor, encoder: Encoder) -> tuple[Tensor | None, str]:
    """The tensor in the wanted shape and what was done to it, or None and the two shapes."""
    if tensor.shape == wanted.shape:
        return tensor, ""
    if tensor.numel() == wanted.numel() and [n for n in tensor.shape if n > 1] == [n for n in wanted.shape if n > 1]:
        return tensor.reshape(wanted.shape), ""
    if tensor.ndim == 4 and tensor.shape[::2] + tensor.shape[3:] == wanted.shape[::2] + wanted.shape[3:]:
        channels = tensor.shape[1], wanted.shape[1]
        if channels == (3, 1):  # as timm does
            return tensor.sum(dim=1, keepdim=True), "3 channels summed to 1"
        if channels == (1, 3):
            return tensor.expand(-1, 3, -1, -1) / 3, "1 channel spread over 3"
    model: Any = getattr(encoder.backbone, "model", None)
    if key == "pos_embed" and tensor.ndim == 3 and hasattr(model, "patch_embed"):
        from timm.layers.pos_embed import resample_abs_pos_embed

        grid, prefix = list(model.patch_embed.grid_size), getattr(model, "num_prefix_tokens", 0)
        made: Tensor = resample_abs_pos_embed(tensor, grid, num_prefix_tokens=prefix)
        if made.shape == wanted.shape:
            return made, f"positions resampled from {tensor.shape[1]} to {made.shape[1]}"
    return None, f"{_shape(tensor)} for {_shape(wanted)}"


def _pooling(found: Mapping[str, Tensor], at: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The pooling's weights, which files of probekit hold beside the backbone's."""
    root = at.removesuffix("model.").removesuffix("module.").removesuffix("backbone.")
    keys = [key for key in state if key.startswith("pooling.") and f"{root}{key}" in found]
    return {key: found[root + key] for key in keys if found[root + key].shape == state[key].shape}


def _inner(encoder: Encoder) -> str:
    return "module" if encoder.spec["backbone"].startswith("py:") else "model"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
