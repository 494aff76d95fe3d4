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


def dinov2(key: str) -> str:
    """DINOv2 and its registers, as its authors publish them."""
    key = re.sub(r"^reg_token$", "register_tokens", key)
    return re.sub(r"\.mlp\.fc([12])\.", lambda found: f".mlp.{'w12' if found[1] == '1' else 'w3'}.", key)


def dinov2_registers(key: str) -> str:
    """The smaller ones of DINOv2, whose MLPs are plain."""
    return re.sub(r"^reg_token$", "register_tokens", key)


STYLES: tuple[Rename, ...] = (same, sequential, torchvision_vit, torchvision_convnext, dinov2, dinov2_registers)

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
