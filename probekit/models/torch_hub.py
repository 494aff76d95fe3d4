"""Names by which torch.hub has the models of DINO, DINOv2 and DINOv3: what the same are called here.

Nothing is loaded from torch.hub, which runs the code of a repository.
"""

import re
from dataclasses import dataclass

SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant", "h": "huge", "7b": "7b"}


@dataclass(frozen=True)
class Known:
    """`timm`: the model's name there; `hf`: the repository of its weights at Hugging Face, "" for none open to all."""

    timm: str
    hf: str


def known(name: str) -> Known | None:
    """The model of a name of torch.hub, with or without a classifier's ending, or None."""
    if found := re.fullmatch(r"dino_vit([sb])(8|16)", name):
        size, patch = found.groups()
        return Known(f"vit_{SIZES[size]}_patch{patch}_224.dino", f"facebook/dino-vit{size}{patch}")
    if found := re.fullmatch(r"dinov2_vit([sblg])14(_reg)?(_lc)?", name):
        size, registers = SIZES[found[1]], found[2]
        plain, own = ("_reg4", "-with-registers") if registers else ("", "")
        return Known(f"vit_{size}_patch14{plain}_dinov2", f"facebook/dinov2{own}-{size}")
    if found := re.fullmatch(r"dinov3_vit(s|b|l|h|7b)16(plus)?(_lc)?", name):
        return Known(f"vit_{SIZES[found[1]]}{'_plus' * bool(found[2])}_patch16_dinov3", "")
    if found := re.fullmatch(r"dinov3_(convnext_(tiny|small|base|large))", name):
        return Known(f"{found[1]}.dinov3_lvd1689m", "")
    return Known("resnet50", "") if name == "dino_resnet50" else None
