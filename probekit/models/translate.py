"""Which of two networks in a file is meant, and tables of positions.

Positions: from the prefix tokens and the grid of a file to those of a transformer of timm.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

POSITIONS = "pos_embed"
PREFIX = ("cls_token", "dist_token", "reg_token")  # in the order in which timm puts them before the patches


# Of two equally good places in one file, what the authors evaluate: of DINO, iBOT and DINOv2 the teacher, of I-JEPA and
# MSN the target encoder, of timm's own training (ConvNeXt, DeiT, ...) the average; of MoCo, BYOL and SimSiam the
# encoder that is trained.
PREFERRED = ("teacher", "target_encoder", "state_dict_ema", "model_ema")
AVOIDED = frozenset({"momentum", "ema", "target", "student", "k", "key"})

CONSTANTS = ("relative_position_index", "attn_mask", "freqs_cos", "freqs_sin")  # in blocks of older files: not learnt
# What stands beside the patches: a network that has it is another one than a network without.
TOKENS = r"(cls|class|dist|reg|register|storage)_tokens?|(cls_)?pos_embed\w*|class_embedding|positional_embedding"


def rank(key: str) -> int:
    """1 for a place in a file ("state_dict.encoder_k") that is preferred, -1 for one that is avoided, else 0."""
    if any(part in PREFERRED for part in key.split(".")):
        return 1
    return -1 if AVOIDED & set(re.split(r"[._]", key)) else 0


def fit_positions(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], grid: Sequence[int]
) -> tuple[dict[str, Tensor], str] | None:
    """The table for another grid and other prefix tokens, and the tokens that take over what it does not hold.

    A prefix token's position is added to it before the first block. So where a file has it in the table, and the model
    has no such row (as timm's DINOv2 with registers), it is added to the token itself; and where only the model has
    one, the row is zero. Returns new tensors by name and what was done; None if the two do not go together in one way
    alone. `found`: tensors of the file by timm's names: the table `[1, N, D]` and the prefix tokens `[1, n, D]`;
    `grid`: rows and columns of the model's patches.
    """
    table, target = found[POSITIONS], wanted[POSITIONS]
    if table.ndim != 3 or target.ndim != 3 or table.shape[::2] != target.shape[::2]:
        return None
    cells = math.prod(grid)
    rows, places = _rows(found, table.shape[1], cells), _rows(wanted, target.shape[1], cells)
    if rows is None or places is None or target.shape[1] - len(places) != cells:
        return None
    table = table.float()
    tokens = {name: found[name].float().clone() for name in {name for name, _ in rows} if name in wanted}
    prefix = torch.zeros(1, len(places), table.shape[2])
    added: list[str] = []
    for row, (name, number) in enumerate(rows):
        if (name, number) in places:
            prefix[:, places.index((name, number))] = table[:, row]
        elif name in tokens:
            tokens[name][:, number] += table[:, row]
            added.append(name)
    patches = _resampled(table[:, len(rows) :], grid)
    says = f"positions resampled from {table.shape[1]} to {target.shape[1]}"
    if table.shape[1] - len(rows) == cells:
        says = f"positions of {len(rows)} prefix tokens in the file, of {len(places)} here"
    changed = {name: tokens[name] for name in added}
    return {POSITIONS: torch.cat([prefix, patches], dim=1), **changed}, says


def _rows(tensors: Mapping[str, Tensor], length: int, cells: int) -> list[tuple[str, int]] | None:
    """Which prefix tokens, (name, number), the first rows of a table are for: all, the first kinds of them, or none.

    The rest is a grid of as many cells as the model's, or else a square one.
    """
    kinds = [[(name, n) for n in range(tensors[name].shape[1])] for name in PREFIX if name in tensors]
    choices: list[list[tuple[str, int]]] = [[], *accumulate(kinds)]
    same = [choice for choice in choices if length - len(choice) == cells]
    square = [
        choice
        for choice in choices
        if length > len(choice) and math.isqrt(length - len(choice)) ** 2 == length - len(choice)
    ]
    fitting = same or square
    return fitting[0] if len(fitting) == 1 else None


def _resampled(patches: Tensor, grid: Sequence[int]) -> Tensor:
    """`[1, N, D]` of a square grid, or of as many cells as the wanted one, as timm resamples it."""
    if patches.shape[1] == math.prod(grid):
        return patches
    from timm.layers.pos_embed import resample_abs_pos_embed

    side = math.isqrt(patches.shape[1])
    made: Tensor = resample_abs_pos_embed(patches, list(grid), old_size=[side, side], num_prefix_tokens=0)
    return made
