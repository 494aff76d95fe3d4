"""Weights from elsewhere: a checkpoint of any project, matched with an encoder by name and shape.

A file holds dictionaries of tensors, perhaps nested, whose keys are a backbone's with some prefix. Every dictionary,
every prefix in it and every row of `layouts` is tried; what names most of the backbone's tensors is taken. All
that the backbone has learnt must be there.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Any

import torch
from torch import Tensor

from probekit.models.backbones import TABLES, known_normalisation, normalisation
from probekit.models.checkpoint import Checkpoint, unwrapped, without_wrappers
from probekit.models.encoder import Encoder
from probekit.models.layout import Layout
from probekit.models.layouts import prepared
from probekit.models.outside import is_module
from probekit.models.translate import CONSTANTS, POSITIONS, TOKENS, fit_positions, rank
from probekit.visible import short, some

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # others are parts of quantised weights


@dataclass(frozen=True)
class Match:
    """How the tensors of a file and of a backbone go together.

    Attributes:
        sha256: The file's hash, hex.
        where: In which dictionary they stand, and their prefix there: "state_dict: encoder_q.".
        layout: Whose names they have: a row of `probekit.models.layouts`.
        others: Where else in the file as many of them stand: keys, "state_dict.encoder_k".
        total: Tensors that the backbone has learnt.
        matched: Those that the file holds, in a shape that fits.
        missing: Names of those that it does not hold: they are random.
        unexpected: Names of the others in that dictionary.
        changed: What was made of tensors of another shape: "conv1.weight: 3 channels summed".
        misshapen: Names of those that fit in no way: they are random, too.
        after: How far the run was whose file it is: "epoch 3 of 45, interrupted"; "" for a file that lies elsewhere.
    """

    file: str
    sha256: str
    where: str
    layout: str
    others: list[str]
    total: int
    matched: int
    missing: list[str]
    unexpected: list[str]
    changed: list[str]
    misshapen: list[str]
    after: str = ""

    @property
    def mark(self) -> str:
        """What stands behind a name wherever it is shown: "12 tensors random"; "" for whole weights."""
        lacking = len(self.missing) + len(self.misshapen)
        return f"{lacking} tensor{'s' * (lacking > 1)} random" if lacking else ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "mark": self.mark}

    def lines(self) -> list[str]:
        """For the reader."""
        after = f", {self.after}" if self.after else ""
        found = [f"weights: {self.matched} of {self.total} tensors from {self.file}{after} ({short(self.where)})"]
        if self.mark:
            found[0] += f"; {self.mark}"
        found += [
            f"  as many stand {f'under {key}' if key else 'at the top level'}: {self.file}:{key} takes those"
            for key in map(short, self.others)
        ]
        lists = {"missing": self.missing, "of another shape": self.misshapen, "not used": self.unexpected}
        found += [f"  {what}: {some(names)}" for what, names in lists.items() if names]
        return found + [f"  changed: {line}" for line in self.changed]


@dataclass(frozen=True)
class _Place:
    """Where a network stands in a file: in a table, under a prefix, with a project's names; how many of it do.

    `table`: as the layout's rules speak of it.
    """

    where: str
    at: str
    layout: Layout
    table: Mapping[str, Tensor]
    score: int

    @property
    def key(self) -> str:
        """How FILE:KEY names it."""
        return ".".join(part for part in (without_wrappers(self.where), self.at.rstrip(".")) if part)


def load_weights(encoder: Encoder, checkpoint: Checkpoint, *, allow_missing: bool = False) -> Match:
    """Copies the weights of a file into an encoder.

    `encoder`: changed in place; `allow_missing`: whether what the file lacks may stay random, and what it has more may
    be left out. A ValueError if it lacks something that the backbone has learnt, is of another network, or a number is
    not finite.
    """
    name = encoder.spec.get("backbone")
    prefix = "backbone." if name is None else f"backbone.{'module' if is_module(name) else 'model'}."
    state = encoder.state_dict()
    full = {key.removeprefix(prefix): key for key in state if key.startswith(prefix)}
    if not full:
        raise ValueError(
            f"expected an encoder with weights, found none in {encoder.spec['backbone']}; leave --weights out"
        )
    names = unwrapped(full)
    wanted = {name: state[key] for name, key in names.items()}
    place, others = _best(checkpoint, wanted)
    table = place.table
    found, used = _made(place, wanted)
    fitted, changed, misshapen = _fitted(found, wanted, encoder)
    learnt = [key for key, value in wanted.items() if value.is_floating_point()]
    match = Match(
        file=str(checkpoint.path),
        sha256=checkpoint.sha256,
        where=f"{place.where or 'top level'}: {place.at or 'no prefix'}",
        layout=place.layout.project,
        others=[other.key for other in others],
        total=len(learnt),
        matched=sum(key in fitted for key in learnt),
        missing=[key for key in learnt if key not in found],
        unexpected=[n for n, v in table.items() if n not in used and v.is_floating_point()],
        changed=changed,
        misshapen=misshapen,
        after=checkpoint.after,
    )
    if not allow_missing or not match.matched:
        _check(match, encoder, _beyond(match.unexpected, place, used))
    loaded = {names[key]: tensor for key, tensor in fitted.items()} | _pooling(table, place.at, state)
    broken = [key for key, tensor in loaded.items() if not _finite(tensor) and _finite(state[key])]
    if broken:
        raise ValueError(f"expected finite weights in {checkpoint.path}, found others in {some(broken)}")
    encoder.load_state_dict({**state, **loaded})
    return match


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _finite(tensor: Tensor) -> bool:
    return bool((tensor.float() if tensor.is_floating_point() else tensor).isfinite().all())  # 8 bits cannot be asked


def _check(match: Match, encoder: Encoder, beyond: list[str]) -> None:
    """Refuses weights that are not whole, and those of a network that has more than this one (`beyond`)."""
    expected = f"expected weights of {encoder.spec.get('backbone', 'the U-Net')} in {match.file}, found"
    hint = "to take the rest, type: --allow-missing"
    if match.mark:
        lists = {"missing": match.missing, "of another shape": match.misshapen}
        wrong = "; ".join(f"{what}: {some(names)}" for what, names in lists.items() if names)
        more = f"; {hint}" if match.matched else ""
        raise ValueError(f"{expected} {match.matched} of its {match.total} tensors; {wrong}{more}")
    if beyond:
        raise ValueError(f"{expected} those of another network, which also has {some(beyond)}; {hint}")


def _made(place: _Place, wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """What the file has of the wanted tensors, by timm's names, and the names there that it is made of."""
    found, used = {}, set()
    for key in wanted:
        source = place.layout.source(key)
        names = [place.at + name for name in source.names]
        if all(name in place.table for name in names):
            parts = [place.table[name] for name in names]
            quantised = [part for part in parts if part.dtype not in (*FLOATS, torch.bool)]
            # One quantised part of several would become a float where they are joined.
            found[key] = quantised[0] if quantised and len(parts) > 1 else source.make(*parts)
            used |= set(names)
    return found, used


def _beyond(unexpected: list[str], place: _Place, matched: Collection[str]) -> list[str]:
    """Tensors in blocks that the backbone has, too, and tokens beside its own: those of a head are neither.

    What the project's layout leaves out counts for nothing, nor does a bias of zeros, nor a tensor without numbers.
    """
    at = place.at
    blocks = {name.removeprefix(at).partition(".")[0] for name in matched}
    left = re.compile(place.layout.left)
    unexpected = [name for name in unexpected if not left.match(name.removeprefix(at))]
    unexpected = [name for name in unexpected if place.table[name].numel()]
    unexpected = [name for name in unexpected if not name.endswith("bias") or place.table[name].float().any()]
    inside = [name for name in unexpected if name.startswith(at) and name.rpartition(".")[2] not in CONSTANTS]
    firsts = {name: name.removeprefix(at).partition(".")[0] for name in inside}
    return [name for name, first in firsts.items() if first in blocks or re.fullmatch(TOKENS, first)]


def default_normalise(checkpoint: Checkpoint | None, backbone: str) -> str:
    """What "auto" of `model.normalise` means: what the weights were trained with.

    A file of probekit says it; others expect that of published weights if their first convolution takes three channels.
    A ValueError if a file of probekit has a normalisation without a name here, or as `known_normalisation`.
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
            f"expected {checkpoint.path} normalised as one of {', '.join(known)}, found {values}; to measure it as it "
            f"is, --encoder file:{quote(str(checkpoint.path))}; to begin a training with it type "
            "--set model.normalise=imagenet, or what is nearest"
        )
    tensors = (tensor for table in checkpoint.tables.values() for tensor in table.values())
    return known_normalisation(backbone) if any(t.ndim == 4 and t.shape[1] == 3 for t in tensors) else "none"


def _best(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> tuple[_Place, list[_Place]]:
    """The dictionary, prefix and layout that name most of the wanted tensors, and others that name as many."""
    places = [
        _Place(where, at, layout, theirs, sum(all(at + name in theirs for name in each) for each in names))
        for where, table in checkpoint.tables.items()
        for layout, theirs in prepared(table)
        for names in [[layout.source(key).names for key in wanted]]
        for at in _prefixes(theirs, [first for first, *_ in names])
    ]
    most = max(place.score for place in places)
    key = None if checkpoint.key is None else without_wrappers(checkpoint.key)
    meant = [place for place in places if key is None or _named(key, place.key)]
    if not any(place.score for place in meant) and most:
        keys = sorted({place.key for place in places if place.score == most})
        raise ValueError(
            f"expected weights under {short(str(key))!r} in {checkpoint.path}, found them under {some(keys)}; "
            f"{checkpoint.path}:{short(keys[0])} takes those"
        )
    best = max(meant, key=lambda place: (place.score, rank(place.key)))
    others = {place.key: place for place in places if place.score == best.score > 0 and place.key != best.key}
    return best, list(others.values())


def _named(key: str, full: str) -> bool:
    """Whether a key is a part of a place's name: "student" of "student.backbone"; "" is the top level."""
    return f".{key}." in f".{full}." if key else not full


def _prefixes(table: Mapping[str, Tensor], names: list[str]) -> list[str]:
    """What stands before the first, the middle or the last name wherever a key ends with it; "" in any case."""
    anchors = {names[0], names[len(names) // 2], names[-1]}
    ends = [key[: -len(name)] for key in table for name in anchors if key.endswith(name)]
    return ["", *sorted({end for end in ends if end.endswith(".")})]


def _fitted(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], encoder: Encoder
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Tensors in the shapes of the wanted ones, what was changed for it, and which of them fit in no way."""
    fitted, changed, misshapen = {}, [], []
    for key, tensor in found.items():
        made, says = reshaped(tensor, wanted[key])
        if wanted[key].is_floating_point() and tensor.dtype not in FLOATS:
            made, says = None, f"{_kind(tensor)} for {_kind(wanted[key])}"
        if made is not None:
            fitted[key] = made
            changed += [f"{key}: {says}"] if says else []
        else:
            misshapen.append(f"{key} ({says})")
    model: Any = getattr(encoder.backbone, "model", None)
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if grid and POSITIONS in found and POSITIONS not in fitted and (positions := fit_positions(found, wanted, grid)):
        misshapen = [line for line in misshapen if not line.startswith(f"{POSITIONS} ")]
        fitted |= positions[0]
        changed.append(f"{POSITIONS}: {positions[1]}")
    return fitted, changed, misshapen


def reshaped(tensor: Tensor, wanted: Tensor) -> tuple[Tensor | None, str]:
    """The tensor in the wanted shape and what was done to it, or None and the two shapes."""
    if tensor.is_complex():  # torch would take the real parts
        return None, "complex numbers"
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
    return None, f"{_shape(tensor)} for {_shape(wanted)}"


def _pooling(found: Mapping[str, Tensor], at: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The pooling's weights, which files of probekit hold beside the backbone's."""
    root = at.removesuffix("model.").removesuffix("module.").removesuffix("backbone.")
    keys = [key for key in state if key.startswith("pooling.") and f"{root}{key}" in found]
    return {key: found[root + key] for key in keys if found[root + key].shape == state[key].shape}


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
