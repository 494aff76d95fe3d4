"""From an encoder to torchvision's Faster R-CNN or Mask R-CNN on its backbone.

A resnet is cut as Detectron2's R50-C4: anchors stand on the map before the last stage, which is the head of the
regions, with a batch norm behind it (MoCo, appendix "detection"; XCorr paper, supplement 1.4). Any other backbone gives
its feature map whole, and regions go through torchvision's convolutional head with batch norm. All of it is trained.
"""

from collections import OrderedDict
from copy import deepcopy
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from probekit.detection.protocol import LONGER, Recipe
from probekit.models.encoder import Encoder

STAGES = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3")  # timm's resnets, up to the map of C4
LAST = "layer4"
POOLED, POOLED_C4 = 7, 14  # cells a side of a region: torchvision's; Detectron2's C4, whose last stage halves them
ASPECTS = (0.5, 1.0, 2.0)
POINTS = 2  # a side, that a cell of a region is the mean of: torchvision's
NAME = "0"  # of the one map


class Trunk(nn.Module):
    """Images `[B, C, H, W]`, normalised, to the one map that anchors stand on."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = body, channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """The last of several stages."""
        found = self.body(x)
        return OrderedDict({NAME: found if isinstance(found, Tensor) else found[-1]})


class LastStage(nn.Module):
    """Regions `[K, C, 14, 14]` through the last stage of a resnet; `[K, D]` where they are `pooled`."""

    def __init__(self, stage: nn.Module, norm: nn.Module, *, pooled: bool) -> None:
        super().__init__()
        self.stage, self.norm, self.pooled = stage, norm, pooled

    def forward(self, regions: Tensor) -> Tensor:
        """What the predictor reads."""
        found: Tensor = self.norm(self.stage(regions))
        return found.mean(dim=(2, 3)) if self.pooled else found


def is_resnet(encoder: Encoder) -> bool:
    """Whether the backbone can be cut as C4."""
    model = getattr(encoder.backbone, "model", None)
    return all(isinstance(getattr(model, name, None), nn.Module) for name in (*STAGES, LAST))


def check_encoder(encoder: Encoder, name: str) -> None:
    """Refuses an encoder whose map no detector can stand on."""
    if not encoder.has_map or not encoder.has_gradient:
        raise ValueError(
            f"expected an encoder with a feature map that can be trained, found {name}; choose another run"
        )
    if encoder.stride & (encoder.stride - 1):
        raise ValueError(
            f"expected a feature map whose cells are a power of two px wide, as torchvision's detectors do, found "
            f"{encoder.stride} in {name}; choose another run"
        )


def build_detector(encoder: Encoder, recipe: Recipe, classes: int, models: ModuleType) -> nn.Module:
    """The detector with the encoder's weights, in training mode; all that is new is drawn from torch's generator.

    `classes`: without the background; `models`: torchvision.models.detection.
    """
    heads: Any = models.faster_rcnn
    trunk, box_head, mask_head, width, mask_width, cells = _parts(encoder, recipe, models)
    pool = {"output_size": cells, "sampling_ratio": POINTS}
    align: Any = heads.MultiScaleRoIAlign
    about: dict[str, Any] = {
        "rpn_anchor_generator": heads.AnchorGenerator((recipe.anchors,), (ASPECTS,)),
        "rpn_pre_nms_top_n_train": recipe.proposals[0],
        "rpn_post_nms_top_n_train": recipe.proposals[1],
        "rpn_pre_nms_top_n_test": recipe.test_proposals[0],
        "rpn_post_nms_top_n_test": recipe.test_proposals[1],
        "box_batch_size_per_image": recipe.regions,
        "box_roi_pool": align([NAME], **pool),
        "box_head": box_head,
        "box_predictor": heads.FastRCNNPredictor(width, classes + 1),
        "min_size": recipe.scales or 1,
        "max_size": LONGER,
        "size_divisible": max(encoder.stride, 32) if recipe.scales else encoder.stride,
        "_skip_resize": not recipe.scales,
        **_normalisation(encoder),
    }
    if not recipe.masked:
        return cast(nn.Module, heads.FasterRCNN(trunk, **about)).train()
    masks: Any = models.mask_rcnn
    about |= {
        "mask_roi_pool": align([NAME], output_size=POOLED_C4, sampling_ratio=POINTS),
        "mask_head": mask_head,
        "mask_predictor": masks.MaskRCNNPredictor(mask_width, recipe.conv, classes + 1),
    }
    return cast(nn.Module, masks.MaskRCNN(trunk, **about)).train()


def _parts(encoder: Encoder, recipe: Recipe, models: ModuleType) -> tuple[Trunk, nn.Module, nn.Module, int, int, int]:
    """Trunk, box head and mask head; channels of the last two; and cells a side of a region."""
    backbone = deepcopy(encoder.backbone)
    for weight in backbone.parameters():
        weight.requires_grad_(True)
    if is_resnet(encoder):
        model = backbone.model
        stage, norm = getattr(model, LAST), nn.BatchNorm2d(encoder.dim)
        body = nn.Sequential(OrderedDict((name, getattr(model, name)) for name in STAGES))
        heads = (LastStage(stage, norm, pooled=pooled) for pooled in (True, False))
        return Trunk(body, encoder.widths[-2]), *heads, encoder.dim, encoder.dim, POOLED_C4
    box: Any = models.faster_rcnn
    mask: Any = models.mask_rcnn
    shape = (encoder.dim, POOLED, POOLED)
    box_head = box.FastRCNNConvFCHead(shape, [recipe.conv] * 2, [recipe.hidden], norm_layer=nn.BatchNorm2d)
    mask_head = mask.MaskRCNNHeads(encoder.dim, (recipe.conv,) * 2, 1, norm_layer=nn.BatchNorm2d)
    return Trunk(backbone, encoder.dim), box_head, mask_head, recipe.hidden, recipe.conv, POOLED


def _normalisation(encoder: Encoder) -> dict[str, list[float]]:
    """What the detector normalises with, before it scales and pads images."""
    found = encoder.spec.get("normalise")
    channels = encoder.spec["channels"]
    if found is None:
        return {"image_mean": [0.0] * channels, "image_std": [1.0] * channels}
    return {"image_mean": found["mean"], "image_std": found["std"]}


def weights_of(detector: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Groups of weights for SGD: those of norms do not decay (Detectron2's WEIGHT_DECAY_NORM)."""
    norms = {
        id(weight)
        for module in detector.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
        for weight in module.parameters(recurse=False)
    }
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if id(weight) not in norms], "weight_decay": decay},
        {"params": [weight for weight in weights if id(weight) in norms], "weight_decay": 0.0},
    ]
