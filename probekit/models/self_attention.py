"""The self-attention of a transformer, as its blocks compute it, whoever wrote them.

Fused kernels give no weights, so that what they are called with is watched, and softmax(q k^T / sqrt(d)) is made beside
them: with whatever norms, rotary positions and biases the network has. What the network computes is not changed.

Shapes: B batch, N tokens, h w map. The tokens of a class and of registers come before those of patches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from probekit.models.backbones import TimmBackbone
from probekit.models.encoder import Encoder, Features
from probekit.models.extract import eval_mode
from probekit.models.layers.find import prefixes_of

MOST = 17  # tokens before those of patches, where a network does not say: of a class and 16 registers; ours
SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)
ACROSS = ("XCA", "CrossCovarianceAttn")  # classes of timm's: they attend from channel to channel

See = Callable[[Tensor], None]


@dataclass(frozen=True)
class Attended:
    """What of a network's self-attention there is over the cells of its feature map.

    `heads`: of the last block. `prefix`: tokens before those of patches. `has_class`: whether the first is that of the
    class. `throughout`: whether all blocks attend over these tokens alone, so that their product can be taken.
    """

    heads: int
    prefix: int
    has_class: bool
    throughout: bool

    def to_patches(self, weights: Tensor, features: Features) -> Tensor:
        """From weights `[B, N, N]` of queries on keys to a map `[B, h, w]`: the class token's, or the mean of patches'.

        What goes to the class and to registers is left out, and nothing is scaled.
        """
        asked = weights[:, :1] if self.has_class else weights[:, self.prefix :]
        return asked[:, :, self.prefix :].mean(dim=1).view(-1, *features.map.shape[2:])


class _Watch(TorchFunctionMode):
    """Shows the weights of every attention that is computed while it is entered."""

    def __init__(self, see: See) -> None:
        super().__init__()
        self.see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            out, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
            assert weights is not None
            self.see(weights)
            return out, weights if kwargs.get("need_weights", True) else None
        if func is F.scaled_dot_product_attention:
            self.see(weights_of(*args, **kwargs))
        found = func(*args, **kwargs)
        if func in SOFTMAX:
            self.see(found)
        return found


def weights_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights `[..., L, S]` with which `scaled_dot_product_attention` averages values, as torch documents it."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1)


def watch(encoder: Encoder, inputs: Tensor, see: See) -> Features:
    """Passes images `[B, C, H, W]` in [0, 1]; `see` is given `[B, heads, N, N]` of each block in turn, float32.

    Attention over parts of an image (windows, as Swin has them) and between other things is passed over.
    """

    def whole(weights: Tensor) -> None:
        if _is_whole(weights, len(inputs)):
            see(weights.float())

    return _watched(encoder, inputs, whole)


@torch.no_grad()
def _watched(encoder: Encoder, inputs: Tensor, see: See) -> Features:
    with eval_mode(encoder), _Watch(see):
        features: Features = encoder(inputs)
    return features


def _is_whole(weights: Tensor, images: int) -> bool:
    return weights.ndim == 4 and weights.shape[0] == images and weights.shape[2] == weights.shape[3]


def attended(encoder: Encoder, inputs: Tensor) -> Attended | None:
    """What there is of self-attention, seen in a pass of an image; None where none is over the feature map's cells."""
    if any(type(module).__name__ in ACROSS for module in encoder.modules()):
        return None
    shapes: list[tuple[int, int] | None] = []  # heads and tokens of each block; None over parts of an image

    def note(weights: Tensor) -> None:
        if weights.ndim == 4 and weights.shape[2] > 1:  # one query alone pools
            shapes.append((weights.shape[1], weights.shape[2]) if _is_whole(weights, len(inputs)) else None)

    cells = _watched(encoder, inputs, note).map.shape[2:]
    last = next((shape for shape in reversed(shapes) if shape is not None), None)
    if last is None or math.prod(cells) < 2:
        return None
    heads, tokens = last
    prefix = tokens - math.prod(cells)
    known = prefixes_of(encoder) or ({0: False} if isinstance(encoder.backbone, TimmBackbone) else None)
    if not 0 <= prefix <= MOST or (known is not None and prefix not in known):
        return None
    has_class = prefix > 0 if known is None else known[prefix]
    return Attended(heads, prefix, has_class, all(shape is not None and shape[1] == tokens for shape in shapes))
