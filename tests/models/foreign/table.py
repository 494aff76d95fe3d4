"""Every layout of weights that is tested: a small network, its names, and whose code gives the features."""

import torch

from tests.models.foreign.base import CONVNEXT, RESNET, VIT, Foreign, of_timm, renamed
from tests.models.foreign.libraries import (
    HF,
    HF_CONVNEXT,
    kuangliu,
    last,
    last_map,
    last_stage,
    of_hugging_face,
    open_clip_resnet,
    open_clip_vit,
    torchvision_convnext,
    torchvision_resnet,
    torchvision_vit,
    tower,
    unshuffled,
)
from tests.models.foreign.names import (
    chunked,
    masked,
    of_google,
    of_meta_convnext,
    of_mmpretrain,
    of_mmpretrain_convnext,
    packed,
    registers,
    swiglu,
    with_masks,
)

SCALED = {**VIT, "init_values": 1e-5}
ROPE = {key: value for key, value in VIT.items() if key != "img_size"}
TIMM, PUBLISHED = "timm's own reader", "timm, from the published names"
FOREIGN: dict[str, Foreign] = {
    "torchvision ResNet": Foreign("layer1.0.conv1.weight", "resnet*", "torchvision", torchvision_resnet),
    "torchvision ResNet as nn.Sequential": Foreign(
        "backbone.4.0.conv1.weight", "resnet*", "torchvision", lambda folder: torchvision_resnet(folder, cut=True)
    ),
    "torchvision ViT": Foreign("encoder.layers.encoder_layer_0.ln_1.weight", "vit_*", "torchvision", torchvision_vit),
    "torchvision ConvNeXt": Foreign("features.1.0.layer_scale", "convnext_*", "torchvision", torchvision_convnext),
    "kuangliu's CIFAR resnets": Foreign(
        "module.layer2.0.shortcut.0.weight", "resnet*, small stem", "written out in the test", kuangliu
    ),
    "MAE": Foreign(
        "decoder_blocks.0.norm1.weight",
        "vit_*",
        PUBLISHED,
        of_timm(
            "vit_base_patch16_224",
            VIT,
            lambda s: {
                "model": masked(s)
                | {"decoder_blocks.0.norm1.weight": torch.rand(9), "decoder_pos_embed": torch.rand(1, 17, 9)}
            },
        ),
    ),
    "I-JEPA": Foreign(
        "module.blocks.0.norm1.weight",
        "vit_*_gap_*",
        PUBLISHED,
        of_timm(
            "vit_huge_patch14_gap_224",
            VIT,
            lambda s: {
                "encoder": renamed({k: v + 1 for k, v in s.items()}, prefix="module."),
                "predictor": {"module.mask_token": torch.rand(1, 1, 9)},
                "target_encoder": renamed(s, prefix="module."),
            },
        ),
    ),
    "iBOT": Foreign(
        "backbone.masked_embed",
        "vit_*",
        PUBLISHED,
        of_timm(
            "vit_base_patch16_224",
            VIT,
            lambda s: {
                "student": renamed({k: v + 1 for k, v in s.items()}, prefix="module.backbone."),
                "teacher": renamed(s, prefix="backbone.") | {"backbone.masked_embed": torch.rand(1, 32)},
            },
        ),
    ),
    "DINOv2": Foreign(
        "blocks.0.ls1.gamma",
        "vit_*_dinov2",
        TIMM,
        of_timm("vit_small_patch14_dinov2", VIT, masked, filtered="vision_transformer"),
    ),
    "DINOv2 with registers": Foreign(
        "register_tokens",
        "vit_*_reg4_dinov2",
        TIMM,
        of_timm("vit_small_patch14_reg4_dinov2", VIT, registers, filtered="vision_transformer"),
    ),
    "DINOv2, giant": Foreign(
        "blocks.0.mlp.w12.weight",
        "vit_giant_*_dinov2",
        TIMM,
        of_timm("vit_giant_patch14_dinov2", VIT, packed, filtered="vision_transformer"),
    ),
    "DINOv2 in training, blocks in groups": Foreign(
        "backbone.blocks.1.1.ls1.gamma", "vit_*_dinov2", PUBLISHED, of_timm("vit_small_patch14_dinov2", VIT, chunked)
    ),
    "DINOv2 in training, giant": Foreign(
        "backbone.blocks.1.1.mlp.w12.weight",
        "vit_giant_*_dinov2",
        PUBLISHED,
        of_timm("vit_giant_patch14_dinov2", VIT, lambda s: chunked(packed(s))),
    ),
    "DINOv3": Foreign(
        "blocks.0.attn.qkv.bias_mask",
        "vit_*_dinov3_qkvb",
        TIMM,
        of_timm("vit_small_patch16_dinov3_qkvb", ROPE, with_masks, filtered="eva"),
    ),
    "DINOv3, huge": Foreign(
        "blocks.0.mlp.w3.weight",
        "vit_huge_plus_*_dinov3_qkvb",
        TIMM,
        of_timm("vit_huge_plus_patch16_dinov3_qkvb", ROPE, swiglu, filtered="eva"),
    ),
    "ConvNeXt of its authors, and of DINOv3": Foreign(
        "stages.0.0.dwconv.weight",
        "convnext_*",
        TIMM,
        of_timm("convnext_tiny", CONVNEXT, of_meta_convnext, filtered="convnext"),
    ),
    "Hugging Face ViT": Foreign(
        "encoder.layer.0.attention.attention.query.weight",
        "vit_*",
        "transformers",
        of_hugging_face("ViTConfig", "ViTModel", HF, last(1)),
    ),
    "Hugging Face ViT-MAE": Foreign(
        "decoder.decoder_embed.weight",
        "vit_*",
        "transformers",
        of_hugging_face(
            "ViTMAEConfig",
            "ViTMAEForPreTraining",
            {
                **HF,
                "mask_ratio": 0.0,
                "decoder_num_hidden_layers": 1,
                "decoder_hidden_size": 32,
                "decoder_intermediate_size": 32,
                "decoder_num_attention_heads": 2,
            },
            lambda model, x: unshuffled(model.vit, x),
        ),
    ),
    "Hugging Face I-JEPA": Foreign(
        "encoder.layer.0.layernorm_before.weight",
        "vit_*_gap_*",
        "transformers",
        of_hugging_face("IJepaConfig", "IJepaModel", HF, last(0)),
    ),
    "Hugging Face DINOv2": Foreign(
        "encoder.layer.0.layer_scale1.lambda1",
        "vit_*_dinov2",
        "transformers",
        of_hugging_face("Dinov2Config", "Dinov2Model", {**HF, "mlp_ratio": 2}, last(1)),
    ),
    "Hugging Face DINOv2, giant": Foreign(
        "encoder.layer.0.mlp.weights_in.weight",
        "vit_giant_*_dinov2",
        "transformers",
        of_hugging_face("Dinov2Config", "Dinov2Model", {**HF, "mlp_ratio": 2, "use_swiglu_ffn": True}, last(1)),
    ),
    "Hugging Face DINOv2 with registers": Foreign(
        "embeddings.register_tokens",
        "vit_*_reg4_dinov2",
        "transformers",
        of_hugging_face("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", {**HF, "mlp_ratio": 2}, last(5)),
    ),
    "Hugging Face DINOv3": Foreign(
        "layer.0.attention.q_proj.bias",
        "vit_*_dinov3",
        "transformers",
        of_hugging_face("DINOv3ViTConfig", "DINOv3ViTModel", {**HF, "num_register_tokens": 4}, last(5)),
    ),
    "Hugging Face DINOv3, huge": Foreign(
        "layer.0.mlp.gate_proj.weight",
        "vit_huge_plus_*_dinov3",
        "transformers",
        of_hugging_face(
            "DINOv3ViTConfig", "DINOv3ViTModel", {**HF, "use_gated_mlp": True, "hidden_act": "silu"}, last(1)
        ),
    ),
    "Hugging Face DINOv3 ConvNeXt": Foreign(
        "stages.0.layers.0.depthwise_conv.weight",
        "convnext_*",
        "transformers",
        of_hugging_face("DINOv3ConvNextConfig", "DINOv3ConvNextModel", HF_CONVNEXT, last_stage),
    ),
    "Hugging Face ConvNeXt": Foreign(
        "encoder.stages.0.layers.0.layer_scale_parameter",
        "convnext_*",
        "transformers",
        of_hugging_face("ConvNextConfig", "ConvNextModel", HF_CONVNEXT, last_map),
    ),
    "Hugging Face ConvNeXt V2": Foreign(
        "encoder.stages.0.layers.0.grn.weight",
        "convnextv2_*",
        "transformers",
        of_hugging_face("ConvNextV2Config", "ConvNextV2Model", HF_CONVNEXT, last_map),
    ),
    "Hugging Face ResNet": Foreign(
        "encoder.stages.0.layers.0.shortcut.convolution.weight",
        "resnet*",
        "transformers",
        of_hugging_face(
            "ResNetConfig", "ResNetModel", {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1]}, last_map
        ),
    ),
    "Hugging Face ResNet, basic blocks": Foreign(
        "encoder.stages.1.layers.0.shortcut.convolution.weight",
        "resnet*",
        "transformers",
        of_hugging_face(
            "ResNetConfig",
            "ResNetModel",
            {"hidden_sizes": [64, 16, 24, 32], "depths": [1, 1, 2, 1], "layer_type": "basic"},
            last_map,
        ),
    ),
    "Hugging Face CLIP, image tower": Foreign(
        "encoder.layers.0.self_attn.q_proj.weight",
        "vit_*_clip_*",
        "transformers",
        of_hugging_face("CLIPVisionConfig", "CLIPVisionModel", HF, tower),
    ),
    "Hugging Face SigLIP, image tower": Foreign(
        "head.probe",
        "vit_*_siglip_*",
        "transformers",
        of_hugging_face("SiglipVisionConfig", "SiglipVisionModel", HF, last(0)),
    ),
    "open_clip": Foreign(
        "visual.transformer.resblocks.0.attn.in_proj_weight", "vit_*_clip_*", "open_clip", open_clip_vit(quick=False)
    ),
    "open_clip ResNet": Foreign("visual.layer1.0.downsample.0.weight", "resnet50_clip", "open_clip", open_clip_resnet),
    "OpenAI CLIP, TorchScript": Foreign(
        "visual.transformer.resblocks.0.mlp.c_fc.weight",
        "vit_*_clip_quickgelu_*",
        "open_clip",
        open_clip_vit(quick=True, scripted=True),
    ),
    "mmpretrain ViT": Foreign(
        "backbone.layers.0.ffn.layers.0.0.weight",
        "vit_*",
        PUBLISHED,
        of_timm("vit_base_patch16_224", SCALED, of_mmpretrain),
    ),
    "mmpretrain ResNet": Foreign(
        "backbone.layer1.0.conv1.weight",
        "resnet*",
        PUBLISHED,
        of_timm("resnet18", RESNET, lambda s: {"state_dict": renamed(s, prefix="backbone.")}),
    ),
    "mmpretrain ConvNeXt": Foreign(
        "backbone.stages.0.0.depthwise_conv.weight",
        "convnext_*",
        PUBLISHED,
        of_timm("convnext_tiny", CONVNEXT, of_mmpretrain_convnext),
    ),
    "Google's npz": Foreign(
        "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel",
        "vit_*",
        TIMM,
        of_timm("vit_base_patch16_224", VIT, of_google, end=".npz"),
    ),
    "Google's npz, big_vision": Foreign(
        "params/img/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel",
        "vit_*",
        TIMM,
        of_timm("vit_base_patch16_siglip_gap_224", VIT, lambda s: of_google(s, big=True), end=".npz"),
    ),
}
