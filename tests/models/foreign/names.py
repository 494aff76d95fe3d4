"""How other projects write the tensors of a network of timm."""

import re
from typing import Any

import torch

from tests.models.foreign.base import State, renamed


def with_masks(state: State) -> State:
    """As DINOv3 is published: one bias for queries, keys and values, that of keys masked."""
    made = renamed(state, ("reg_token", "storage_tokens"), (r"gamma_(\d)", r"ls\1.gamma"))
    for name in [name for name in made if name.endswith("attn.q_bias")]:
        q, v = made.pop(name), made.pop(name.replace("q_bias", "v_bias"))
        full = name.replace("q_bias", "qkv.bias")
        made[full] = torch.cat([q, torch.full_like(q, 7.0), v])
        made[f"{full}_mask"] = torch.cat([torch.ones_like(q), torch.zeros_like(q), torch.ones_like(v)])
    return made | {"mask_token": torch.rand(1, 32), "rope_embed.periods": torch.rand(4)}


def swiglu(state: State) -> State:
    return renamed(with_masks(state), (r"mlp\.fc1_g", "mlp.w1"), (r"mlp\.fc1_x", "mlp.w2"), (r"mlp\.fc2", "mlp.w3"))


def registers(state: State) -> State:
    """As DINOv2 is published: the table of positions has the class token's."""
    state = dict(state)
    made = {"register_tokens": state.pop("reg_token"), "mask_token": torch.rand(1, 32)} | state
    generator = torch.Generator().manual_seed(1)
    made["pos_embed"] = torch.cat([torch.randn(1, 1, 32, generator=generator), made["pos_embed"]], dim=1)
    return made


def masked(state: State) -> State:
    return state | {"mask_token": torch.rand(1, 32)}


def packed(state: State) -> State:
    return masked(renamed(state, (r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")))


def chunked(state: State) -> Any:
    """As DINOv2's trainer saves it: one block a group, which are counted on through all groups."""
    blocks = renamed(masked(state), (r"^blocks\.(\d+)", r"blocks.\1.\1"), prefix="backbone.")
    return {"teacher": blocks | {"dino_head.mlp.0.weight": torch.rand(3, 3)}}


def of_mmpretrain(state: State) -> Any:
    pairs = [
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"norm(\d)", r"ln\1"),
        (r"^norm\.", "ln1."),
        (r"mlp\.fc1", "ffn.layers.0.0"),
        (r"mlp\.fc2", "ffn.layers.1"),
        (r"ls1\.gamma", "attn.gamma1.weight"),
        (r"ls2\.gamma", "ffn.gamma2.weight"),
        (r"^blocks", "layers"),
    ]
    return {"meta": {"epoch": 3}, "state_dict": renamed(state, *pairs, prefix="backbone.")}


def of_meta_convnext(state: State, *inner: str) -> State:
    inner = inner or ("dwconv", "pwconv1", "pwconv2", "norm")
    return renamed(
        state,
        (r"^head\.norm", inner[3]),
        (r"^stem", "downsample_layers.0"),
        (r"^stages\.(\d)\.downsample", r"downsample_layers.\1"),
        (r"\.blocks\.", "."),
        ("conv_dw", inner[0]),
        (r"mlp\.fc1", inner[1]),
        (r"mlp\.fc2", inner[2]),
    )


def of_mmpretrain_convnext(state: State) -> Any:
    made = of_meta_convnext(state, "depthwise_conv", "pointwise_conv1", "pointwise_conv2", "norm3")
    return {"state_dict": renamed(made, prefix="backbone.")}


def of_google(state: State, *, big: bool = False) -> State:
    """Arrays of flax: what goes in first, heads apart."""
    attention, second, mlp = ("_0", "LayerNorm_1", "MlpBlock_0") if big else ("_1", "LayerNorm_2", "MlpBlock_3")
    made: State = {}
    for name, tensor in state.items():
        block = re.match(r"blocks\.(\d+)\.(.*)", name)
        at, inner = (f"Transformer/encoderblock_{block[1]}/", block[2]) if block else ("", name)
        heads = f"{at}MultiHeadDotProductAttention{attention}/"
        part, _, leaf = inner.rpartition(".")
        if part == "attn.qkv":
            for kind, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                made[f"{heads}{kind}/{'kernel' if leaf == 'weight' else 'bias'}"] = (
                    third.T.reshape(32, 2, 16) if leaf == "weight" else third.reshape(2, 16)
                )
        elif inner == "attn.proj.weight":
            made[f"{heads}out/kernel"] = tensor.T.reshape(2, 16, 32)
        elif inner == "attn.proj.bias":
            made[f"{heads}out/bias"] = tensor
        elif part.startswith("mlp.fc"):
            dense = f"{at}{mlp}/Dense_{int(part[-1]) - 1}/"
            made[dense + ("kernel" if leaf == "weight" else "bias")] = tensor.T if leaf == "weight" else tensor
        elif part in ("norm1", "norm2", "norm"):
            norm = {"norm1": f"{at}LayerNorm_0", "norm2": f"{at}{second}", "norm": "Transformer/encoder_norm"}[part]
            made[f"{norm}/{'scale' if leaf == 'weight' else 'bias'}"] = tensor
        elif part == "patch_embed.proj":
            kernel = leaf == "weight"
            made[f"embedding/{'kernel' if kernel else 'bias'}"] = tensor.permute(2, 3, 1, 0) if kernel else tensor
        elif name == "pos_embed":
            made["pos_embedding" if big else "Transformer/posembed_input/pos_embedding"] = tensor
        else:
            made[{"cls_token": "cls"}[name]] = tensor
    made = {key: tensor.contiguous() for key, tensor in made.items()}
    return {f"params/img/{key}": tensor for key, tensor in made.items()} if big else made
