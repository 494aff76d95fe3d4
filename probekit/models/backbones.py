"""Backbones: images to stages, finest first, the last of which is the feature map; and how images are normalised.

A backbone has `widths` and `strides` (channels, and px a cell, of each stage) and `parts` (what holds its weights, by
name, in the order that an image passes them).
"""

import difflib
import importlib
import importlib.util
import math
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from probekit.models import torch_hub
from probekit.models.unet import UNetEncoder
from probekit.registry import nearest
from probekit.visible import first_line, some

BACKBONES = {
    "unet": "of the ConRec paper, model.width and model.depth",
    "timm:NAME": "any of timm that takes images of many sizes: resnet18, densenet121, convnext_tiny, "
    "vit_small_patch16_224, ... (pip install 'timm>=1.0')",
    "hf:FOLDER": "weights with a config.json beside them, for probekit probe --encoder (docs/encoders.md)",
    "onnx:FILE[:OUTPUT]": "a file of ONNX, for probekit probe --encoder (pip install onnx onnxruntime)",
    "torchscript:FILE": "a file of TorchScript, likewise; its code runs",
    "py:MODULE:FUNCTION": "an encoder of your own, for probekit probe --encoder (docs/encoders.md)",
}
# Numbers in which a network may differ from the one that timm has a name for; `layer_norm_eps` is ours,
# and `without`, parts that are left out.
ARGUMENTS = (
    *("embed_dim", "depth", "num_heads", "mlp_ratio", "img_size", "patch_size", "act_layer", "layer_norm_eps"),
    *("qkv_bias", "init_values", "class_token", "no_embed_class", "reg_tokens", "num_reg_tokens", "global_pool"),
    *("dynamic_img_size", "rope_temperature", "swiglu_mlp", "swiglu_align_to", "pre_norm", "fc_norm", "final_norm"),
    *("depths", "dims", "layers", "channels", "ls_init_value", "norm_eps", "conv_mlp", "without"),
)
TRIAL = 64  # px a side of the image that tells a backbone's widths and strides
QUARTERS = 4  # stages of a transformer whose blocks all have one grid
TRUNKS = ("blocks", "features", "layers", "stages")  # what timm calls the one child that holds all blocks of a model
STEMS = ("imagenet", "small")

# Of ImageNet's training images, as torchvision and all that follow it have them.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
TABLES = {"imagenet": IMAGENET, "swav": {**IMAGENET, "std": [0.228, 0.224, 0.225]}}  # SwAV, official code


def import_module(name: str) -> ModuleType:
    """The module; if torchvision's operators are why it cannot be imported, they are declared first.

    The CPU build of torch does not fit them; timm and most encoders of a user's own need torchvision's Python alone. An
    Exception whatever else the import raises.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    _declare()
    return importlib.import_module(name)


@cache  # a library forgets its definitions when it is collected
def _declare() -> torch.library.Library:
    """Declares the operators that importing torchvision looks up; none of them is ever run."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def build_backbone(
    name: str, *, channels: int, width: int, depth: int, stem: str, arguments: Mapping[str, Any] = {}
) -> nn.Module:
    """A backbone with fresh weights.

    A ValueError if there is no such backbone, or it has no such stem, or timm is not installed. `name`: "unet", or
    "timm:NAME" for any model of timm that takes images of many sizes; `stem`: "imagenet", or "small" for small images:
    a 3x3 convolution of stride 1 and no max-pooling come first; `arguments`: of a model of timm, by the names of
    `ARGUMENTS`.
    """
    if stem not in STEMS:
        raise ValueError(f"expected model.stem one of {', '.join(STEMS)}, found {stem!r}")
    kind, _, model = name.partition(":")
    if kind == "timm" and model:
        return TimmBackbone(model, channels=channels, stem=stem, arguments=arguments)
    if name != "unet":
        raise ValueError(f"expected model.backbone unet or timm:NAME (timm:resnet18, ...), found {name!r}")
    if stem != "imagenet":
        raise ValueError("expected a resnet or a densenet for model.stem small, found the U-Net, which has no stem")
    return UNetEncoder(channels=channels, width=width, depth=depth)


class TimmBackbone(nn.Module):
    """A model of timm without its head. `[B, C, H, W] -> stages [B, D_i, h_i, w_i]`.

    The last stage is what timm's `forward_features` gives, normalised as the model does; of a transformer it is the
    grid of patch tokens, without the class token. A ValueError if timm is missing or has no such model, or the model
    fits images of one size alone. `name`: timm's, with or without a tag: "resnet50", "vit_small_patch16_224.dino".
    """

    def __init__(self, name: str, *, channels: int, stem: str, arguments: Mapping[str, Any] = {}) -> None:
        super().__init__()
        self.name = name
        self.model = _create(name, channels, arguments)
        if stem == "small":
            _make_stem_small(self.model, name)
        embedder = self.model if hasattr(self.model, "patch_embed") else getattr(self.model, "encoder", None)
        patch = getattr(getattr(embedder, "patch_embed", None), "patch_size", 1)
        self.patch = max(patch) if isinstance(patch, tuple) else int(patch)
        self.indices: list[int] | None = None
        self._look_around(channels)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Blocks by timm's names; parameters of the model itself (tokens, positions) go with the first."""
        own = dict(self.model.named_parameters(recurse=False))
        found: dict[str, nn.Module] = {"tokens and positions": nn.ParameterDict(own)} if own else {}
        for name, child in self.model.named_children():
            if name in TRUNKS:
                found |= {f"{name}.{inner}": block for inner, block in child.named_children()}
            else:
                found[name] = child
        return found

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every stage, the feature map last."""
        height, width = x.shape[2:]
        if height % self.patch or width % self.patch:
            fit = max(1, min(height, width) // self.patch) * self.patch
            raise ValueError(
                f"expected images whose sides are divisible by {self.patch}, the patches of {self.name}, "
                f"found {height}x{width}; type: probekit import SOURCE --size {fit}"
            )
        last, stages = self.model.forward_intermediates(x, indices=self.indices, output_fmt="NCHW")
        return [*stages[:-1], self._as_map(last, stages[-1])]

    def _as_map(self, last: Tensor, stage: Tensor) -> Tensor:
        """The model's last features as `[B, D, h, w]`, on the grid of its last stage."""
        if last.ndim == 3:  # tokens; those of the class and of registers come first
            h, w = stage.shape[2:]
            return last[:, -h * w :].transpose(1, 2).reshape(last.shape[0], -1, h, w)
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            return last.permute(0, 3, 1, 2)
        return last

    @torch.no_grad()
    def _look_around(self, channels: int) -> None:
        """Passes one image: notes widths and strides, and leaves out weights it does not reach: those of heads."""
        side = TRIAL // self.patch * self.patch
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, channels, side, side, generator=generator)  # of zeros, convolutions make zeros
        reached: set[str] = set()
        hooks = [
            module.register_forward_pre_hook(partial(lambda child, *_: reached.add(child), name.partition(".")[0]))
            for name, module in self.model.named_modules()
            if name
        ]
        self.model.eval()
        stages = self._tried(image)
        for hook in hooks:
            hook.remove()
        for name, child in list(self.model.named_children()):
            if name not in reached and any(True for _ in child.parameters()):
                setattr(self.model, name, nn.Identity())
        again = self._tried(image)  # what was never called may be used by another method
        if not again[-1].is_meta and not torch.allclose(again[-1], stages[-1], equal_nan=True):
            raise ValueError(f"expected a backbone that can be told from its head, found that timm:{self.name} cannot")
        self.model.train()
        if len(stages) > QUARTERS and stages[0].shape == stages[-1].shape:
            self.indices = [len(stages) * (k + 1) // QUARTERS - 1 for k in range(QUARTERS)]
            stages = [stages[i] for i in self.indices]
        self.widths = [stage.shape[1] for stage in stages]
        self.strides = [math.ceil(side / stage.shape[2]) for stage in stages]
        if self.patch != self.strides[0]:  # patches that overlap (pvt) fit any side
            self.patch = 1

    def _tried(self, image: Tensor) -> list[Tensor]:
        try:
            stages: list[Tensor] = self(image)
        except Exception as error:  # whatever a model of timm raises at a size that is not its own
            reason = first_line(error)
            raise ValueError(
                f"expected a backbone that takes images of many sizes, found that timm:{self.name} fails at "
                f"{image.shape[-1]} px: {reason}"
            ) from error
        return stages


def _create(name: str, channels: int, arguments: Mapping[str, Any]) -> Any:
    """A model of timm with fresh weights and no classifier, made for images of any size where it can be."""
    if unknown := [key for key in arguments if key not in ARGUMENTS]:  # others could name files
        raise ValueError(f"expected arguments of timm's models among {', '.join(ARGUMENTS)}, found {some(unknown)}")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    if (eps := given.pop("layer_norm_eps", None)) is not None:
        given["norm_layer"] = partial(import_timm().layers.LayerNorm, eps=eps)
    without = given.pop("without", ())
    make = partial(import_timm().create_model, name, pretrained=False, in_chans=channels, num_classes=0, **given)
    try:
        model = _made(make, name)
        for part in without:
            if part in dict(model.named_children()):
                setattr(model, part, nn.Identity())
        return model
    except (AssertionError, RuntimeError, TypeError, ZeroDivisionError) as error:
        if not arguments:
            raise
        raise ValueError(
            f"expected a model of timm {name} with {dict(arguments)}, found: {first_line(error)}"
        ) from error


def _made(make: Any, name: str) -> Any:
    any_size = ({"dynamic_img_size": True}, {"strict_img_size": False}) if timm_config(name).fixed_input_size else ()
    for extra in any_size:
        with suppress(TypeError):  # it has no such argument
            return make(**extra)
    return make()


def find_stem(model: Any) -> tuple[Any, str, str] | None:
    """Where a resnet or a densenet of timm begins: what holds its first convolution and pooling, and their names."""
    for path, convolution, pool in (("", "conv1", "maxpool"), ("features", "conv0", "pool0"), ("stem", "conv", "pool")):
        stem = getattr(model, path, None) if path else model
        if hasattr(stem, convolution) and hasattr(stem, pool):
            return stem, convolution, pool
    return None


def _make_stem_small(model: Any, name: str) -> None:
    """A 3x3 convolution of stride 1 in place of the first, and no max-pooling (SimCLR, appendix B.9)."""
    found = find_stem(model)
    if found is None:
        raise ValueError(
            f"expected a resnet or a densenet for model.stem small, found {name}; type: --set model.stem=imagenet"
        )
    stem, convolution, pool = found
    layers = [layer for layer in getattr(stem, convolution).modules() if isinstance(layer, nn.Conv2d)]
    small = nn.Conv2d(layers[0].in_channels, layers[-1].out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")  # as timm's resnets
    setattr(stem, convolution, small)
    setattr(stem, pool, nn.Identity())


def timm_config(name: str) -> Any:
    """What timm knows of a model's own weights: `mean`, `std`, `fixed_input_size`, ...

    A ValueError if timm is missing, or has no such model.
    """
    timm = import_timm()
    if not timm.is_model(name):  # so is "hf-hub:...", which would ask the network
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        meant = [model.timm] if (model := torch_hub.known(name)) else close
        hint = f"; did you mean timm:{meant[0]}?" if meant else ""
        raise ValueError(f"unknown model of timm {name!r}{hint} (timm.list_models() names them)")
    plain, _, tag = name.partition(".")
    if tag and tag not in timm_tags(plain):
        raise ValueError(nearest(f"tag of weights of {plain}", tag, timm_tags(plain)))
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def timm_tags(name: str) -> list[str]:
    """The tags of all weights that timm knows for a model; none for one that it has no weights for."""
    return [full.partition(".")[2] for full in import_timm().list_pretrained(f"{name}.*")]


def untagged(name: str) -> str:
    """`"timm:resnet18.a1_in1k" -> "timm:resnet18"`: a backbone without the tag of pretrained weights."""
    plain = name.partition(".")[0]
    return plain if name.startswith("timm:") and plain != "timm:" else name


def import_timm() -> Any:
    """The module timm; a ValueError if it is not installed, or cannot be imported."""
    if importlib.util.find_spec("timm") is None:
        raise ValueError("expected timm for backbones beside the U-Net, found none; type: pip install 'timm>=1.0'")
    try:
        return import_module("timm")
    except Exception as error:  # it imports torchvision, which has ways of its own to fail
        reason = first_line(error)
        raise ValueError(
            f"timm cannot be imported: {type(error).__name__}: {reason}; check that torchvision fits torch"
        ) from error


def normalisation(name: str, backbone: str, channels: int) -> dict[str, list[float]] | None:
    """Mean and standard deviation of each channel, or None.

    A ValueError if timm is asked about a backbone that is not its own. `name`: one of `TABLES`; "timm", as its own
    weights of the backbone expect; "none", or "auto", which is none. `backbone`: as an encoder names it. `channels`:
    image channels; one channel gets the means over the three.
    """
    if name in ("none", "auto"):
        return None
    if name == "timm":
        kind, _, model = backbone.partition(":")
        if kind != "timm":
            raise ValueError(
                f"expected a backbone of timm for model.normalise timm, found {backbone}; "
                "type: --set model.normalise=imagenet"
            )
        config = timm_config(model)
        found = {"mean": list(config.mean), "std": list(config.std)}
    else:
        found = TABLES[name]
    return grey(found) if channels == 1 else found


def grey(values: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """A normalisation of three channels for one: their means."""
    return {key: [sum(of_channels) / len(of_channels)] for key, of_channels in values.items()}


def known_normalisation(backbone: str) -> str:
    """What published weights of a backbone expect: "timm" where timm knows another normalisation than ImageNet's.

    A ValueError if timm knows several for the name, by the tag of the weights.
    """
    kind, _, model = backbone.partition(":")
    if kind != "timm":
        return "imagenet"
    tags = [] if "." in model else timm_tags(model)
    found: dict[str, list[str]] = defaultdict(list)
    for tag in tags:
        found[str(normalisation("timm", f"{backbone}.{tag}", 3))].append(tag)
    if len(found) > 1:
        groups = "; ".join(f"{', '.join(same[:2])}, ...: {values}" for values, same in found.items())
        raise ValueError(
            f"expected the tag of the weights behind {backbone}, as in {backbone}.{tags[0]}, found none, and by it "
            f"timm knows several normalisations ({groups}); name it, or type: --set model.normalise=imagenet"
        )
    return "imagenet" if normalisation("timm", backbone, 3) == IMAGENET else "timm"


def described(values: Mapping[str, list[float]] | None) -> str:
    """For the reader: what a normalisation takes off and divides by, and whether that is ImageNet's."""
    if values is None:
        return "none, images in [0, 1]"
    mean, std = (" ".join(f"{value:.3f}" for value in values[key]) for key in ("mean", "std"))
    own = values != normalisation("imagenet", "", len(values["mean"]))
    return f"mean {mean}, standard deviation {std}{', not those of ImageNet' if own else ''}"
