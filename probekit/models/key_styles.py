"""What other projects call the tensors of a backbone: from timm's names to theirs. Any prefix is tried besides."""

import re
from collections.abc import Callable

Rename = Callable[[str], str]


def same(key: str) -> str:
    """The names of timm; torchvision's resnets, densenets and vggs have them too."""
    return key


def sequential(key: str) -> str:
    """A resnet of torchvision as `nn.Sequential(*children)`: how lightly's and others' examples cut its head off."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    first, dot, rest = key.partition(".")
    return f"{numbers.get(first, first)}{dot}{rest}"


def torchvision_vit(key: str) -> str:
    """VisionTransformer of torchvision."""
    whole = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "attn.qkv.weight": "self_attention.in_proj_weight",
        "attn.qkv.bias": "self_attention.in_proj_bias",
    }
    parts = {
        "patch_embed.proj": "conv_proj",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.proj": "self_attention.out_proj",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
        "norm": "encoder.ln",
    }
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
    block, inner = (f"encoder.layers.encoder_layer_{found[1]}.", found[2]) if found else ("", key)
    part, _, leaf = inner.rpartition(".")
    return block + (whole.get(inner) or f"{parts.get(part, part)}.{leaf}")


def torchvision_convnext(key: str) -> str:
    """ConvNeXt of torchvision: stages are the odd entries of one Sequential, what halves between them the even ones."""
    parts = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}
    if found := re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(?:(gamma)|(.+)\.(\w+))", key):
        stage, block, gamma, part, leaf = found.groups()
        inner = "layer_scale" if gamma else f"{parts.get(part, part)}.{leaf}"
        return f"features.{2 * int(stage) + 1}.{block}.{inner}"
    if found := re.fullmatch(r"stages\.(\d+)\.downsample\.(.+)", key):
        return f"features.{2 * int(found[1])}.{found[2]}"
    return re.sub(r"^stem\.", "features.0.", key)


STYLES: tuple[Rename, ...] = (same, sequential, torchvision_vit, torchvision_convnext)

# Of two equally good prefixes in one file: DINO's authors evaluate the teacher, MoCo's and BYOL's the trained encoder.
PREFERRED = ("teacher",)
AVOIDED = ("encoder_k.", "momentum", "ema", "target", "student")
