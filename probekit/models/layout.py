"""How a project names the tensors of a kind of networks, and what is done to them on the way to timm's.

A rule maps the beginning of a name of timm to the beginning of theirs; `#` is a number, taken over in order, and what
follows (`.weight`) is the same in both. The most special rule counts; what none begins is called as timm calls it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

Table = Mapping[str, Tensor]


@dataclass(frozen=True)
class Made:
    """A tensor that is made of one or several of theirs, `names`, by `make`, from tensors to one."""

    make: Callable[..., Tensor]
    names: tuple[str, ...]


Rules = Mapping[str, str | Made]


@dataclass(frozen=True)
class Layout:
    """How a project names the tensors of a kind of networks.

    Attributes:
        project: Whose names.
        backbone: What of timm it is.
        rules: From the beginning of timm's names to theirs.
        left: A pattern of names, without the prefix, that no features come from: heads, decoders, mask tokens.
        prepare: Makes their table one that rules can be said of; None for most.
    """

    project: str
    backbone: str
    rules: Rules = field(default_factory=dict)
    left: str = r"(?!)"
    prepare: Callable[[Table], Table] | None = None

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], Made]]:
        return [
            (re.compile(re.escape(ours).replace(r"\#", r"(\d+)") + r"(?=\.|$)"), _as_made(theirs))
            for ours, theirs in sorted(self.rules.items(), key=lambda rule: -len(rule[0]))  # the most special first
        ]

    def source(self, key: str) -> Made:
        """What a tensor of timm is made of, with their whole names."""
        for pattern, made in self._patterns:
            if found := pattern.match(key):
                rest = key[found.end() :]
                return Made(made.make, tuple(_numbered(name, found.groups()) + rest for name in made.names))
        return Made(_same, (key,))

    def renamed(self, table: Table) -> dict[str, Tensor]:
        """Tensors of timm's by their names: the rules read backwards, none of which may make one of several."""
        made = {key: self.source(key) for key in table}
        assert all(each.make is _same for each in made.values())
        return {each.names[0]: table[key] for key, each in made.items()}


def _as_made(theirs: str | Made) -> Made:
    return Made(_same, (theirs,)) if isinstance(theirs, str) else theirs


def _numbered(name: str, numbers: tuple[str, ...]) -> str:
    following = iter(numbers)
    return re.sub("#", lambda _: next(following), name)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def joined(*names: str) -> Made:
    """Several linear maps as one: queries, keys and values."""
    return Made(lambda *parts: torch.cat(parts), names)


def batched(name: str) -> Made:
    """A table `[N, D]` of positions as timm's `[1, N, D]`."""
    return Made(lambda table: table.unsqueeze(0) if table.ndim == 2 else table, (name,))


CHUNK = re.compile(r"(^|\.)blocks\.\d+\.(\d+)\.")


def unchunked(table: Table) -> Table:
    """Blocks in groups, `blocks.1.3`, as they count on through all groups; unchanged if two would have one name."""
    short = {CHUNK.sub(r"\1blocks.\2.", name): tensor for name, tensor in table.items()}
    return short if len(short) == len(table) else table


def unmasked(table: Table) -> Table:
    """DINOv3's biases of queries and values, apart; those of keys are masked there, so that they count for nothing."""
    made: dict[str, Tensor] = {}
    for name, tensor in table.items():
        if name.endswith("attn.qkv.bias") and len(tensor) % 3 == 0 and f"{name}_mask" in table:
            made[name.replace("qkv.bias", "q_bias")], _, made[name.replace("qkv.bias", "v_bias")] = tensor.chunk(3)
        elif not name.endswith("attn.qkv.bias_mask"):
            made[name] = tensor
    return made


def from_flax(table: Table) -> Table:
    """Arrays of flax as torch has them: names with dots, what comes out first, heads in one dimension."""
    return dict(map(_from_flax, table.items()))


def _from_flax(item: tuple[str, Tensor]) -> tuple[str, Tensor]:
    name, array = item[0].replace("/", "."), item[1]
    head, _, leaf = name.rpartition(".")
    part = head.rpartition(".")[2]
    if part in ("query", "key", "value"):
        array = array.flatten(1).T if leaf == "kernel" and array.ndim == 3 else array.flatten()
    elif part == "out" and leaf == "kernel" and array.ndim == 3:
        array = array.flatten(0, 1).T
    elif leaf == "kernel":
        array = array.permute(3, 2, 0, 1) if array.ndim == 4 else array.T if array.ndim == 2 else array
    return f"{head}.{ {'kernel': 'weight', 'scale': 'weight'}.get(leaf, leaf) }".lstrip("."), array
