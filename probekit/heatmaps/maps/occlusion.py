"""Occlusion (Zeiler and Fergus 2014): what is lost when a window is hidden."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.heatmaps.base import AttributionMap, Batch
from probekit.models.encoder import Encoder

PASS = 64  # hidden copies that are encoded at a time: bounds memory


class Occlusion(AttributionMap):
    """The mean drop of the target over the windows that cover a pixel.

    Without a target: how far the embedding turns away, 1 minus the cosine to that of the whole image. Windows start
    every `stride` px; those at the right and lower edge are cut.
    """

    about = "what is lost when a window is hidden"
    unit = "drop of the target, or 1 - cosine without one"
    signed = True
    targeted = True

    def maps(self, encoder: Encoder, batch: Batch) -> Tensor:
        inputs = batch.inputs
        fill = torch.zeros_like(inputs) if batch.fill is None else batch.fill
        windows = self._windows(*inputs.shape[-2:])
        drops = [self._drops(encoder, batch, i, inputs[i], fill[i], windows) for i in range(len(inputs))]
        # A mask for each window would take as many images as there are windows.
        total, covered = inputs.new_zeros(len(inputs), *inputs.shape[-2:]), inputs.new_zeros(inputs.shape[-2:])
        for (rows, columns), drop in zip(windows, torch.stack(drops, dim=1), strict=True):
            total[:, rows, columns] += drop[:, None, None]
            covered[rows, columns] += 1
        return total / covered

    def _windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Rows and columns that each window hides."""
        side = self.context.window
        return [
            (slice(top, top + side), slice(left, left + side))
            for top in self._starts(height)
            for left in self._starts(width)
        ]

    def _starts(self, length: int) -> Iterator[int]:
        steps = max(0, -(-(length - self.context.window) // self.context.stride))
        return (step * self.context.stride for step in range(steps + 1))

    def _drops(
        self,
        encoder: Encoder,
        batch: Batch,
        i: int,
        image: Tensor,
        fill: Tensor,
        windows: Sequence[tuple[slice, slice]],
    ) -> Tensor:
        """What each window costs image i, `[K]`."""
        whole = batch.features.pooled[i : i + 1].float()
        drops = []
        for start in range(0, len(windows), PASS):
            part = windows[start : start + PASS]
            hidden = image.repeat(len(part), 1, 1, 1)
            for copy, (rows, columns) in zip(hidden, part, strict=True):
                copy[:, rows, columns] = fill[:, rows, columns]
            hidden = hidden.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                pooled = encoder(hidden).pooled.float()
            if batch.target is None:
                drops.append(1 - F.cosine_similarity(pooled, whole))
            else:
                drops.append((whole - pooled) @ batch.target.direction[i])
        return torch.cat(drops)
