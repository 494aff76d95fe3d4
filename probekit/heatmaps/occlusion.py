"""Occlusion (Zeiler and Fergus 2014): what is lost when a window is hidden."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.heatmaps.base import Batch, Look
from probekit.models.encoder import Encoder

PASS = 64  # hidden copies that are encoded at a time: bounds memory


class Occlusion(Look):
    """The mean drop of the target over the windows that cover a pixel.

    Without a target: how far the embedding turns away, 1 minus the cosine to that of the whole image. Windows start
    every `stride` px; those at the right and lower edge are cut.
    """

    about = "what is lost when a window is hidden"
    unit = "drop of the target, or 1 - cosine without one"
    signed = True
    targeted = True

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        """`[B, H, W]` of the image."""
        inputs = batch.inputs
        fill = torch.zeros_like(inputs) if batch.fill is None else batch.fill
        windows = self._windows(*inputs.shape[-2:]).to(inputs.device)
        covered = windows.sum(dim=0)
        drops = torch.stack([self._drops(encoder, batch, i, inputs[i], fill[i], windows) for i in range(len(inputs))])
        return torch.einsum("bk,khw->bhw", drops, windows.float()) / covered

    def _windows(self, height: int, width: int) -> Tensor:
        """Bool `[K, H, W]`, true where window k hides the image."""
        side = self.context.window
        masks = []
        for top in self._starts(height):
            for left in self._starts(width):
                mask = torch.zeros(height, width, dtype=torch.bool)
                mask[top : top + side, left : left + side] = True
                masks.append(mask)
        return torch.stack(masks)

    def _starts(self, length: int) -> Iterator[int]:
        steps = max(0, -(-(length - self.context.window) // self.context.stride))
        return (step * self.context.stride for step in range(steps + 1))

    def _drops(self, encoder: Encoder, batch: Batch, i: int, image: Tensor, fill: Tensor, windows: Tensor) -> Tensor:
        """What each window costs image i, `[K]`."""
        whole = batch.features.pooled[i : i + 1].float()
        drops = []
        for masks in torch.split(windows, PASS):
            hidden = torch.where(masks[:, None], fill, image).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                pooled = encoder(hidden).pooled.float()
            if batch.target is None:
                drops.append(1 - F.cosine_similarity(pooled, whole))
            else:
                drops.append((whole - pooled) @ batch.target.direction[i])
        return torch.cat(drops)
