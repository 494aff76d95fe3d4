"""What other projects call the tensors of a backbone: one row a project, from timm's names to theirs.

Any prefix of the whole is tried besides (`probekit.models.weights`).
"""

from collections.abc import Callable, Iterator, Mapping

from probekit.models.layout import Layout, Made, Rules, Table, batched, from_flax, joined, unchunked, unmasked


def _stages(rules: Mapping[str, str], first: int = 0, step: int = 1) -> dict[str, str | Made]:
    """Rules for each of four stages; `@` is its number with us, and from `first` by `step` with them."""
    return {
        ours.replace("@", str(i)): theirs.replace("@", str(first + step * i))
        for i in range(4)
        for ours, theirs in rules.items()
    }


HF_VIT: Rules = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "blocks.#.attn.qkv": joined(*(f"encoder.layer.#.attention.attention.{part}" for part in ("query", "key", "value"))),
    "blocks.#.attn.proj": "encoder.layer.#.attention.output.dense",
    "blocks.#.norm1": "encoder.layer.#.layernorm_before",
    "blocks.#.norm2": "encoder.layer.#.layernorm_after",
    "blocks.#.mlp.fc1": "encoder.layer.#.intermediate.dense",
    "blocks.#.mlp.fc2": "encoder.layer.#.output.dense",
    "norm": "layernorm",
}
HF_DINOV2: Rules = {
    **HF_VIT,
    "reg_token": "embeddings.register_tokens",
    "blocks.#.norm1": "encoder.layer.#.norm1",
    "blocks.#.norm2": "encoder.layer.#.norm2",
    "blocks.#.ls1.gamma": "encoder.layer.#.layer_scale1.lambda1",
    "blocks.#.ls2.gamma": "encoder.layer.#.layer_scale2.lambda1",
    "blocks.#.mlp.fc1": "encoder.layer.#.mlp.fc1",
    "blocks.#.mlp.fc2": "encoder.layer.#.mlp.fc2",
}
HF_DINOV2_SWIGLU: Rules = {
    **HF_DINOV2,
    "blocks.#.mlp.fc1": "encoder.layer.#.mlp.weights_in",
    "blocks.#.mlp.fc2": "encoder.layer.#.mlp.weights_out",
}
HF_DINOV3: Rules = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings",
    "blocks.#.attn.qkv": joined(*(f"layer.#.attention.{part}_proj" for part in "qkv")),
    "blocks.#.attn.q_bias": "layer.#.attention.q_proj.bias",
    "blocks.#.attn.v_bias": "layer.#.attention.v_proj.bias",
    "blocks.#.attn.proj": "layer.#.attention.o_proj",
    "blocks.#.gamma_1": "layer.#.layer_scale1.lambda1",
    "blocks.#.gamma_2": "layer.#.layer_scale2.lambda1",
    "blocks.#.mlp.fc1_g": "layer.#.mlp.gate_proj",
    "blocks.#.mlp.fc1_x": "layer.#.mlp.up_proj",
    "blocks.#.mlp.fc1": "layer.#.mlp.up_proj",
    "blocks.#.mlp.fc2": "layer.#.mlp.down_proj",
    "blocks.#": "layer.#",
}
HF_TOWER: Rules = {  # of CLIP and of SigLIP
    "cls_token": "embeddings.class_embedding",
    "pos_embed": batched("embeddings.position_embedding.weight"),
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm_pre": "pre_layrnorm",
    "blocks.#.attn.qkv": joined(*(f"encoder.layers.#.self_attn.{part}_proj" for part in "qkv")),
    "blocks.#.attn.proj": "encoder.layers.#.self_attn.out_proj",
    "blocks.#.norm1": "encoder.layers.#.layer_norm1",
    "blocks.#.norm2": "encoder.layers.#.layer_norm2",
    "blocks.#": "encoder.layers.#",
    "norm": "post_layernorm",
}
HF_RESNET: Rules = {
    "conv1": "embedder.embedder.convolution",
    "bn1": "embedder.embedder.normalization",
    **{
        ours.replace("@", str(i + 1)): theirs.replace("@", str(i))
        for i in range(4)
        for n in range(3)
        for ours, theirs in {
            f"layer@.#.conv{n + 1}": f"encoder.stages.@.layers.#.layer.{n}.convolution",
            f"layer@.#.bn{n + 1}": f"encoder.stages.@.layers.#.layer.{n}.normalization",
            "layer@.#.downsample.0": "encoder.stages.@.layers.#.shortcut.convolution",
            "layer@.#.downsample.1": "encoder.stages.@.layers.#.shortcut.normalization",
        }.items()
    },
}
HF_CONVNEXT: Rules = {
    "stem.0": "embeddings.patch_embeddings",
    "stem.1": "embeddings.layernorm",
    "stages.#.downsample": "encoder.stages.#.downsampling_layer",
    "stages.#.blocks.#.gamma": "encoder.stages.#.layers.#.layer_scale_parameter",
    "stages.#.blocks.#.conv_dw": "encoder.stages.#.layers.#.dwconv",
    "stages.#.blocks.#.norm": "encoder.stages.#.layers.#.layernorm",
    "stages.#.blocks.#.mlp.fc1": "encoder.stages.#.layers.#.pwconv1",
    "stages.#.blocks.#.mlp.grn": "encoder.stages.#.layers.#.grn",
    "stages.#.blocks.#.mlp.fc2": "encoder.stages.#.layers.#.pwconv2",
}
HF_DINOV3_CONVNEXT: Rules = {
    "stem": "stages.0.downsample_layers",
    "stages.#.downsample": "stages.#.downsample_layers",
    "stages.#.blocks.#.conv_dw": "stages.#.layers.#.depthwise_conv",
    "stages.#.blocks.#.norm": "stages.#.layers.#.layer_norm",
    "stages.#.blocks.#.mlp.fc1": "stages.#.layers.#.pointwise_conv1",
    "stages.#.blocks.#.mlp.fc2": "stages.#.layers.#.pointwise_conv2",
    "stages.#.blocks.#": "stages.#.layers.#",
}
META_CONVNEXT = {
    "stem": "downsample_layers.0",
    "stages.#.downsample": "downsample_layers.#",
    "stages.#.blocks.#.conv_dw": "stages.#.#.dwconv",
    "stages.#.blocks.#.mlp.fc1": "stages.#.#.pwconv1",
    "stages.#.blocks.#.mlp.grn.weight": "stages.#.#.grn.gamma",
    "stages.#.blocks.#.mlp.grn.bias": "stages.#.#.grn.beta",
    "stages.#.blocks.#.mlp.fc2": "stages.#.#.pwconv2",
    "stages.#.blocks.#": "stages.#.#",
}
MMPRETRAIN_CONVNEXT: Rules = {
    ours: theirs.replace("dwconv", "depthwise_conv").replace("pwconv", "pointwise_conv")
    for ours, theirs in META_CONVNEXT.items()
}
OPENAI_VIT: Rules = {  # and open_clip's
    "cls_token": "class_embedding",
    "pos_embed": batched("positional_embedding"),
    "patch_embed.proj": "conv1",
    "norm_pre": "ln_pre",
    "blocks.#.attn.qkv.weight": "transformer.resblocks.#.attn.in_proj_weight",
    "blocks.#.attn.qkv.bias": "transformer.resblocks.#.attn.in_proj_bias",
    "blocks.#.attn.proj": "transformer.resblocks.#.attn.out_proj",
    "blocks.#.norm1": "transformer.resblocks.#.ln_1",
    "blocks.#.norm2": "transformer.resblocks.#.ln_2",
    "blocks.#.mlp.fc1": "transformer.resblocks.#.mlp.c_fc",
    "blocks.#.mlp.fc2": "transformer.resblocks.#.mlp.c_proj",
    "blocks.#.ls1": "transformer.resblocks.#.ls_1",
    "blocks.#.ls2": "transformer.resblocks.#.ls_2",
    "norm": "ln_post",
}
OPENAI_RESNET: Rules = {
    **{f"stem.conv{n}.{ours}": f"{theirs}{n}" for n in (1, 2, 3) for ours, theirs in (("conv", "conv"), ("bn", "bn"))},
    **_stages(
        {
            f"stages.@.#.{name}.{leaf}": f"layer@.#.{leaf}{n}"
            for n, name in ((1, "conv1_1x1"), (2, "conv2_kxk"), (3, "conv3_1x1"))
            for leaf in ("conv", "bn")
        }
        | {
            "stages.@.#.shortcut.conv.conv": "layer@.#.downsample.0",
            "stages.@.#.shortcut.conv.bn": "layer@.#.downsample.1",
        },
        first=1,
    ),
}
DINOV2: Rules = {"reg_token": "register_tokens"}
DINOV2_SWIGLU: Rules = {**DINOV2, "blocks.#.mlp.fc1": "blocks.#.mlp.w12", "blocks.#.mlp.fc2": "blocks.#.mlp.w3"}
DINOV3: Rules = {
    "reg_token": "storage_tokens",
    "blocks.#.gamma_1": "blocks.#.ls1.gamma",
    "blocks.#.gamma_2": "blocks.#.ls2.gamma",
    "blocks.#.mlp.fc1_g": "blocks.#.mlp.w1",
    "blocks.#.mlp.fc1_x": "blocks.#.mlp.w2",
}
DINOV3_SWIGLU: Rules = {**DINOV3, "blocks.#.mlp.fc2": "blocks.#.mlp.w3"}
MMPRETRAIN_VIT: Rules = {
    "patch_embed.proj": "patch_embed.projection",
    "norm_pre": "pre_norm",
    "blocks.#.norm1": "layers.#.ln1",
    "blocks.#.norm2": "layers.#.ln2",
    "blocks.#.mlp.fc1": "layers.#.ffn.layers.0.0",
    "blocks.#.mlp.fc2": "layers.#.ffn.layers.1",
    "blocks.#.ls1.gamma": "layers.#.attn.gamma1.weight",
    "blocks.#.ls2.gamma": "layers.#.ffn.gamma2.weight",
    "blocks.#": "layers.#",
    "norm": "ln1",
}
TORCHVISION_VIT: Rules = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    "blocks.#.attn.qkv.weight": "encoder.layers.encoder_layer_#.self_attention.in_proj_weight",
    "blocks.#.attn.qkv.bias": "encoder.layers.encoder_layer_#.self_attention.in_proj_bias",
    "blocks.#.attn.proj": "encoder.layers.encoder_layer_#.self_attention.out_proj",
    "blocks.#.norm1": "encoder.layers.encoder_layer_#.ln_1",
    "blocks.#.norm2": "encoder.layers.encoder_layer_#.ln_2",
    "blocks.#.mlp.fc1": "encoder.layers.encoder_layer_#.mlp.0",
    "blocks.#.mlp.fc2": "encoder.layers.encoder_layer_#.mlp.3",
    "norm": "encoder.ln",
}
TORCHVISION_CONVNEXT: Rules = {  # stages are the odd entries of one Sequential, what halves between them the even ones
    "stem": "features.0",
    **_stages({"stages.@.downsample": "features.@"}, step=2),
    **_stages(
        {
            "stages.@.blocks.#.gamma": "features.@.#.layer_scale",
            "stages.@.blocks.#.conv_dw": "features.@.#.block.0",
            "stages.@.blocks.#.norm": "features.@.#.block.2",
            "stages.@.blocks.#.mlp.fc1": "features.@.#.block.3",
            "stages.@.blocks.#.mlp.fc2": "features.@.#.block.5",
        },
        first=1,
        step=2,
    ),
}
SEQUENTIAL: Rules = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
KUANGLIU: Rules = {f"layer{n}.#.downsample": f"layer{n}.#.shortcut" for n in range(1, 5)}
KUANGLIU_PREACT: Rules = {
    "stem.conv": "conv1",
    **_stages(
        {"stages.@.blocks.#.downsample.conv": "layer@.#.shortcut.0", "stages.@.blocks.#": "layer@.#"}
        | {f"stages.@.blocks.#.norm{n}": f"layer@.#.bn{n}" for n in (1, 2, 3)},
        first=1,
    ),
}
DETECTRON2: Rules = {  # as its tools/convert-torchvision-to-d2.py renames torchvision's
    "conv1": "stem.conv1",
    "bn1": "stem.conv1.norm",
    **{
        f"layer{n}.#.{ours}": f"res{n + 1}.#.{theirs}"
        for n in range(1, 5)
        for ours, theirs in {
            **{f"bn{k}": f"conv{k}.norm" for k in (1, 2, 3)},
            **{f"conv{k}": f"conv{k}" for k in (1, 2, 3)},
            "downsample.0": "shortcut",
            "downsample.1": "shortcut.norm",
        }.items()
    },
}
GOOGLE: Rules = {
    "cls_token": "cls",
    "pos_embed": "Transformer.posembed_input.pos_embedding",
    "patch_embed.proj": "embedding",
    "blocks.#.attn.qkv": joined(
        *(f"Transformer.encoderblock_#.MultiHeadDotProductAttention_1.{part}" for part in ("query", "key", "value"))
    ),
    "blocks.#.attn.proj": "Transformer.encoderblock_#.MultiHeadDotProductAttention_1.out",
    "blocks.#.norm1": "Transformer.encoderblock_#.LayerNorm_0",
    "blocks.#.norm2": "Transformer.encoderblock_#.LayerNorm_2",
    "blocks.#.mlp.fc1": "Transformer.encoderblock_#.MlpBlock_3.Dense_0",
    "blocks.#.mlp.fc2": "Transformer.encoderblock_#.MlpBlock_3.Dense_1",
    "norm": "Transformer.encoder_norm",
}
BIG_VISION: Rules = {
    ours: theirs
    if isinstance(theirs, str)
    else Made(theirs.make, tuple(name.replace("Attention_1", "Attention_0") for name in theirs.names))
    for ours, theirs in {
        **GOOGLE,
        "pos_embed": "pos_embedding",
        "blocks.#.attn.proj": "Transformer.encoderblock_#.MultiHeadDotProductAttention_0.out",
        "blocks.#.norm2": "Transformer.encoderblock_#.LayerNorm_1",
        "blocks.#.mlp.fc1": "Transformer.encoderblock_#.MlpBlock_0.Dense_0",
        "blocks.#.mlp.fc2": "Transformer.encoderblock_#.MlpBlock_0.Dense_1",
    }.items()
}


MASKS = r"(embeddings\.)?(mask_token|masked_embed)$"
ROPE = rf"{MASKS}|rope_embed\.|.*\.bias_mask$"
LAYOUTS: tuple[Layout, ...] = (
    Layout("timm; torchvision's resnets, densenets and vggs; MAE, I-JEPA, iBOT", "any"),
    Layout("torchvision's resnets as nn.Sequential", "resnet*", SEQUENTIAL),
    Layout("torchvision's ViT", "vit_*", TORCHVISION_VIT),
    Layout("torchvision's ConvNeXt", "convnext_*", TORCHVISION_CONVNEXT),
    Layout("kuangliu's CIFAR resnets", "resnet*, stem=small", KUANGLIU),
    Layout("kuangliu's pre-activated resnets", "resnetv2_*, stem=small", KUANGLIU_PREACT),
    Layout("DINOv2", "vit_*_dinov2", DINOV2, MASKS),
    Layout("DINOv2, giant", "vit_giant_*_dinov2", DINOV2_SWIGLU, MASKS),
    Layout("DINOv2, chunked blocks", "vit_*_dinov2", DINOV2, MASKS, unchunked),
    Layout("DINOv2, giant, chunked blocks", "vit_giant_*_dinov2", DINOV2_SWIGLU, MASKS, unchunked),
    Layout("DINOv3", "vit_*_dinov3", DINOV3, ROPE, unmasked),
    Layout("DINOv3, huge plus", "vit_huge_plus_*_dinov3", DINOV3_SWIGLU, ROPE, unmasked),
    Layout("Meta's ConvNeXt, DINOv3's too", "convnext_*", META_CONVNEXT, r"norms\..*"),
    Layout("Hugging Face ViT, I-JEPA, MAE", "vit_*", HF_VIT, MASKS),
    Layout("Hugging Face DINOv2", "vit_*_dinov2", HF_DINOV2, MASKS),
    Layout("Hugging Face DINOv2, giant", "vit_giant_*_dinov2", HF_DINOV2_SWIGLU, MASKS),
    Layout("Hugging Face DINOv3", "vit_*_dinov3", HF_DINOV3, ROPE),
    Layout("Hugging Face CLIP and SigLIP", "vit_*_clip_*, vit_*_siglip_*", HF_TOWER),
    Layout("Hugging Face ResNet", "resnet*", HF_RESNET),
    Layout("Hugging Face ConvNeXt", "convnext_*, convnextv2_*", HF_CONVNEXT),
    Layout("Hugging Face DINOv3 ConvNeXt", "convnext_*", HF_DINOV3_CONVNEXT),
    Layout("OpenAI CLIP, open_clip", "vit_*_clip_*", OPENAI_VIT, r"(proj|ln_post.*)$"),
    Layout("OpenAI CLIP's resnets", "resnet*_clip", OPENAI_RESNET),
    Layout("mmpretrain's ViT", "vit_*", MMPRETRAIN_VIT),
    Layout("mmpretrain's ConvNeXt", "convnext_*", MMPRETRAIN_CONVNEXT, r"norm\d\..*"),
    Layout("Google's npz", "vit_*", GOOGLE, prepare=from_flax),
    Layout("Google's big_vision npz", "vit_*", BIG_VISION, prepare=from_flax),
)


def prepared(table: Table) -> Iterator[tuple[Layout, Table]]:
    """Each layout with a table as its rules speak of it."""
    known: dict[Callable[[Table], Table] | None, Table] = {None: table}
    for layout in LAYOUTS:
        if layout.prepare is not None and layout.prepare not in known:
            known[layout.prepare] = layout.prepare(table)
        yield layout, known[layout.prepare]
