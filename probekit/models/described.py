"""From a project's description of a network, its config.json, to a model of timm: one row a type of model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

T = TypeVar("T")

ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


@dataclass(frozen=True)
class Network:
    """A model of timm: its name without "timm:", and in which numbers it is another than that of the name."""

    name: str
    arguments: Mapping[str, Any]


class Config(dict[str, Any]):
    """A config.json, whose values are checked as they are read; `where` is the file."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        super().__init__(content)
        self.where = where

    def part(self, name: str) -> "Config":
        """A dictionary in it; itself if there is none of that name."""
        inner = self.get(name)
        return Config(inner, self.where) if isinstance(inner, dict) else self

    def whole(self, name: str, default: int, least: int = 1) -> int:
        """A whole number."""
        said = f"a whole number of {least} or more"
        return self._checked(name, default, lambda value: type(value) is int and value >= least, said)

    def number(self, name: str, default: float) -> float:
        """A number above 0."""
        return self._checked(name, default, lambda x: type(x) in (int, float) and x > 0, "a number above 0")

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._checked(name, default, lambda value: type(value) is bool, "true or false")

    def wholes(self, name: str, default: list[int]) -> list[int]:
        """Whole numbers, as many as by default."""
        said = f"{len(default)} whole numbers"
        return self._checked(
            name,
            default,
            lambda x: isinstance(x, list) and len(x) == len(default) and all(type(n) is int and n >= 1 for n in x),
            said,
        )

    def activation(self, name: str, default: str) -> str:
        """Timm's name of an activation."""
        said = f"one of {', '.join(ACTIVATIONS)}"
        return ACTIVATIONS[self._checked(name, default, lambda x: isinstance(x, str) and x in ACTIVATIONS, said)]

    def refuse(self, name: str, default: Any, wanted: Any) -> None:
        """Refuses what no model of timm has."""
        self._checked(name, default, lambda value: value == wanted, f"{wanted!r}, which timm's model has,")

    def _checked(self, name: str, default: T, fits: Callable[[Any], bool], said: str) -> T:
        value: Any = self.get(name)
        value = default if value is None else value
        if not isinstance(value, str | int | float | list) or not fits(value):
            raise ValueError(f"expected {said} for {name} in {self.where}, found {value!r}")
        return cast(T, value)


def _ratio(hidden: int, wide: int) -> float:
    """Timm's `mlp_ratio`, of which it takes the whole part of `hidden * ratio`."""
    return wide / hidden if int(hidden * (wide / hidden)) == wide else (wide + 0.5) / hidden


def _sizes(config: Config, *, patch: int, image: int = 224, width: int = 768, heads: int = 12) -> dict[str, Any]:
    """What all transformers have."""
    return {
        "embed_dim": config.whole("hidden_size", width),
        "depth": config.whole("num_hidden_layers", 12),
        "num_heads": config.whole("num_attention_heads", heads),
        "img_size": config.whole("image_size", image),
        "patch_size": config.whole("patch_size", patch),
    }


def _vit(config: Config, name: str = "vit_base_patch16_224", *, act: str = "gelu", patch: int = 16) -> Network:
    sizes = _sizes(config, patch=patch)
    return Network(
        name,
        sizes
        | {
            "mlp_ratio": _ratio(sizes["embed_dim"], config.whole("intermediate_size", 3072)),
            "qkv_bias": config.flag("qkv_bias", True),
            "act_layer": config.activation("hidden_act", act),
            "layer_norm_eps": config.number("layer_norm_eps", 1e-12),
        },
    )


def _clip(config: Config) -> Network:
    tower = config.part("vision_config")
    tower.setdefault("layer_norm_eps", 1e-5)
    return _vit(tower, "vit_base_patch16_clip_224", act="quick_gelu", patch=32)


def _siglip(config: Config) -> Network:
    tower = config.part("vision_config")
    tower.setdefault("layer_norm_eps", 1e-6)
    return _vit(tower, "vit_base_patch16_siglip_gap_224", act="gelu_pytorch_tanh")


def _dinov2(config: Config) -> Network:
    registers = config.whole("num_register_tokens", 4) if "with_registers" in config["model_type"] else 0
    gated = config.flag("use_swiglu_ffn", False)
    sizes = _sizes(config, patch=16)  # as transformers has it; the files of DINOv2 say 14
    wide = int(sizes["embed_dim"] * config.number("mlp_ratio", 4))
    more: dict[str, Any] = {"act_layer": config.activation("hidden_act", "gelu")}
    if gated:  # the three matrices of two thirds, in steps of 8
        more = {}
        wide = 2 * ((wide * 2 // 3 + 7) // 8 * 8)
    name = f"vit_{'giant' if gated else 'base'}_patch14_{'reg4_' if registers else ''}dinov2"
    more |= {"reg_tokens": registers} if registers else {}
    more |= {"layer_norm_eps": config.number("layer_norm_eps", 1e-6), "qkv_bias": config.flag("qkv_bias", True)}
    return Network(name, sizes | {"mlp_ratio": _ratio(sizes["embed_dim"], wide)} | more)


def _dinov3(config: Config) -> Network:
    sizes = _sizes(config, patch=16, width=384, heads=6)
    gated = config.flag("use_gated_mlp", False)
    config.refuse("key_bias", False, False)
    config.refuse("hidden_act", "silu" if gated else "gelu", "silu" if gated else "gelu")
    return Network(
        "vit_base_patch16_dinov3",
        sizes
        | {
            "mlp_ratio": _ratio(sizes["embed_dim"], config.whole("intermediate_size", 1536)),
            "qkv_bias": config.flag("query_bias", True) or config.flag("value_bias", True),
            "rope_temperature": config.number("rope_theta", 100.0),
            "num_reg_tokens": config.whole("num_register_tokens", 0, least=0),
            "layer_norm_eps": config.number("layer_norm_eps", 1e-5),
        }
        | ({"swiglu_mlp": True, "swiglu_align_to": 1} if gated else {}),
    )


def _convnext(config: Config) -> Network:
    second = config["model_type"] == "convnextv2"
    config.refuse("hidden_act", "gelu", "gelu")
    return Network(
        "convnextv2_tiny" if second else "convnext_tiny",
        {
            "dims": config.wholes("hidden_sizes", [96, 192, 384, 768]),
            "depths": config.wholes("depths", [3, 3, 9, 3]),
            "patch_size": config.whole("patch_size", 4),
        },
    )


def _resnet(config: Config) -> Network:
    basic = config.get("layer_type", "bottleneck") == "basic"
    config.refuse("layer_type", "bottleneck", "basic" if basic else "bottleneck")
    config.refuse("embedding_size", 64, 64)
    config.refuse("hidden_act", "relu", "relu")
    for name in ("downsample_in_first_stage", "downsample_in_bottleneck"):
        config.refuse(name, False, False)
    widths = config.wholes("hidden_sizes", [256, 512, 1024, 2048])
    return Network(
        "resnet18" if basic else "resnet50",
        {
            "layers": config.wholes("depths", [3, 4, 6, 3]),
            "channels": [width // (1 if basic else 4) for width in widths],
        },
    )


def open_clip_network(config: Config) -> Network:
    """The image tower that an open_clip_config.json describes: a model of timm, or a transformer of its own.

    A ValueError for CLIP's own resnets of other sizes than the published ones.
    """
    model = config.part("model_cfg")
    tower = model.part("vision_cfg")
    if isinstance(name := tower.get("timm_model_name"), str):
        return Network(name, {})
    if isinstance(layers := tower.get("layers"), list):
        sizes = {(3, 4, 6, 3): "resnet50_clip", (3, 4, 23, 3): "resnet101_clip"}
        if tuple(layers) not in sizes or tower.get("width", 64) != 64:
            raise ValueError(f"expected CLIP's resnet50 or resnet101 in {config.where}, found layers of {layers}")
        return Network(sizes[tuple(layers)], {})
    width = tower.whole("width", 768)
    return Network(
        "vit_base_patch16_clip_224",
        {
            "embed_dim": width,
            "depth": tower.whole("layers", 12),
            "num_heads": width // tower.whole("head_width", 64),
            "mlp_ratio": tower.number("mlp_ratio", 4),
            "img_size": tower.whole("image_size", 224),
            "patch_size": tower.whole("patch_size", 16),
            "act_layer": "quick_gelu" if model.flag("quick_gelu", False) else "gelu",
        },
    )


# By `model_type` of a config.json of Hugging Face's transformers, whose defaults these are.
TYPES: dict[str, Callable[[Config], Network]] = {
    "vit": _vit,
    "vit_mae": _vit,
    "vit_msn": _vit,
    "ijepa": partial(_vit, name="vit_huge_patch14_gap_224"),
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "dinov3_vit": _dinov3,
    "dinov3_convnext": _convnext,
    "clip": _clip,
    "clip_vision_model": _clip,
    "siglip": _siglip,
    "siglip_vision_model": _siglip,
    "convnext": _convnext,
    "convnextv2": _convnext,
    "resnet": _resnet,
}


def network_of(config: Config) -> Network:
    """The model of timm that a config.json describes: timm's own, or one of `TYPES`.

    A ValueError for another type of model, and for numbers that no model of timm has.
    """
    if isinstance(name := config.get("architecture"), str):  # of a repository of timm
        given = config.get("model_args")
        return Network(name, given if isinstance(given, dict) else {})
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(
            f"expected model_type one of {', '.join(TYPES)} in {config.where}, found {kind!r}; "
            "for another network type: --encoder py:MODULE:FUNCTION"
        )
    return TYPES[kind](config)
