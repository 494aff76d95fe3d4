"""MoCo v2 (Chen, Fan, Girshick, He, arXiv 2003.04297): InfoNCE of a query against a key and a queue of older keys."""

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from probekit.checked import Meta
from probekit.config import Count, Part, Positive, Several, Whole
from probekit.methods.base import Step, Suited, fit, fit_queue
from probekit.methods.losses import info_nce
from probekit.methods.momentum import FeatureQueue, Keep, MomentumMethod
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.ranks import averaged, fewer, gathered, rank, size, synced
from probekit.views.recipes import Views


class MoCoV2(MomentumMethod):
    """Momentum contrast. The first view is the query, the second the key.

    On several GPUs the authors shuffle the keys' batch norm, since query and key that share their statistics give each
    other away. On one device the keys go through the target in groups, to the same end; a batch that is one group has
    no such protection.

    Args:
        momentum: Share of the target that stays at each step.
        temperature: tau.
        queue: Older keys K, the negatives; they need not be a multiple of the batch. With 0 the negatives are the
            batch's other keys.
        layers: Of the projector; the last of three is followed by batch norm without scale and shift.
        group: Images of a key's group; a batch is shared out evenly, so about so many.
        keep: The encoder that is kept, "online" or "target".
    """

    about = "a query against its key and a queue of older keys"
    paper = "MoCo v2, arXiv 2003.04297"
    recipe = "moco-v2"

    def __init__(
        self,
        encoder: Encoder,
        *,
        momentum: Part = 0.999,  # official code
        temperature: Positive = 0.2,  # paper, section 3
        queue: Whole = 65_536,  # official code
        hidden: Count = 2048,  # official code
        projection_dim: Several = 128,  # official code
        layers: Annotated[int, Meta(ge=2, le=3)] = 2,  # official code, and LCR's; LCR, section 4.1, on MoCo: 3
        group: Count = 32,  # official code: 256 images on 8 GPUs
        keep: Keep = "online",  # official code
    ) -> None:
        super().__init__(encoder, momentum=momentum, final_momentum=momentum, keep=keep)
        self.temperature, self.group = temperature, group
        widths = (encoder.dim, *[hidden] * (layers - 1), projection_dim)
        self.projector = MLP(*widths, norm=False, last="batch norm" if layers == 3 else "linear")
        self.queue = FeatureQueue(queue, projection_dim) if queue else None
        self.keys = torch.empty(0)
        self.turns: list[tuple[_BatchNorm, float]] = []  # of the target, where each process has groups of its own
        self.make_target()

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int, batch_size: int) -> Suited:
        """A queue of at most half of the images: a longer one holds an image's own key too often, as a negative.

        With K keys and N images it does so K^2 / (2 N^2) of the time, by the order of two epochs: one time in eight.
        """
        chosen = dict(options)
        lines = fit_queue(chosen, typed=typed, batch_size=batch_size)
        most = max(images // 2, batch_size)
        if chosen["queue"] > most:
            why = f"there are {images:,} images, and a longer one more often holds an image's own key, as a negative"
            lines.append(fit(chosen, "method.queue", most, typed=typed, why=why))
        group = chosen["group"]
        if "method.group" in typed and group > 0 and batch_size % group:
            groups = cls.groups_of(batch_size, group)
            lines.append(
                f"warning: method.group={group} becomes {groups} of about {batch_size / groups:.3g} images: groups "
                f"share a batch of {batch_size} evenly"
            )
        return chosen, lines

    @staticmethod
    def groups_of(batch_size: int, group: int) -> int:
        """Into how many groups a batch of keys is divided, each of about `group` images."""
        return max(1, round(batch_size / group))

    def unite(self, batch_size: int) -> None:
        """As any method; but every group of keys stays with one process, and each has as many, if there are several."""
        groups = self.groups_of(batch_size, self.group)
        if groups == 1:
            super().unite(batch_size)
            return
        if groups % size():
            raise ValueError(
                f"expected groups of keys that {size()} processes can share, found {groups} of about "
                f"{batch_size / groups:.3g} images; type: --set method.group={max(2, batch_size // size())}, or "
                f"to go on with a run --gpus {fewer(groups)}"
            )
        synced(self, but=[self.target])
        # A rank's groups are every so-manieth of all: its running statistics forget as much between two of its own, and
        # their mean, of which the rank with the last group has the largest part, is what one process has.
        for part in self.target.modules():
            if isinstance(part, _BatchNorm) and part.track_running_stats:
                stays = 1 - cast(float, part.momentum)
                part.momentum = 1 - stays ** size()
                share = (1 - stays) * stays ** (size() - 1 - rank()) / part.momentum
                self.turns.append((part, size() * share))

    def step(self, views: Views) -> Step:
        """InfoNCE of the first views. Logs: `contrastive` (chance ln(1 + K); ln B without a queue)."""
        features = self.encode(views.inputs[0])
        self.keys, their_map = self._keys(views.inputs[1])
        query = self.projector(features.pooled)
        if self.queue is None:
            loss = info_nce(gathered(query), gathered(self.keys), None, temperature=self.temperature)
        else:
            loss = info_nce(query, self.keys, self.queue.rows.clone(), temperature=self.temperature)
        compared = torch.cat([query.detach(), self.keys])
        logs = {"contrastive": loss.detach()}
        return Step(loss=loss, features=features, logs=logs, projections=compared, target_map=their_map)

    @torch.no_grad()
    def _keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors `[B, P]` of the target, and its feature map, in the images' order."""
        groups = max(1, self.groups_of(size() * len(x), self.group) // size())
        theirs = self.encode_target(*(x[start::groups] for start in range(groups)))
        place = torch.cat([torch.arange(start, len(x), groups, device=x.device) for start in range(groups)])
        keys = F.normalize(self.target["projector"](theirs.pooled), dim=1)
        keys, feature_map = (torch.empty_like(rows).index_copy_(0, place, rows) for rows in (keys, theirs.map))
        return keys, feature_map

    def after_step(self) -> None:
        """The target follows; the keys join the queue."""
        super().after_step()
        for norm, share in self.turns:
            torch._foreach_mul_(running_of(norm), share)
        averaged([statistic for norm, _ in self.turns for statistic in running_of(norm)])
        if self.queue is not None:
            self.queue.push(gathered(self.keys))

    @property
    def chance_loss(self) -> float | None:
        """That of keys that are all alike, ln(1 + K); without a queue it depends on the batch."""
        return None if self.queue is None else math.log(1 + len(self.queue.rows))


def running_of(norm: _BatchNorm) -> list[Tensor]:
    """The running statistics of a batch norm that has some."""
    return [cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)]
