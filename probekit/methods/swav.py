"""SwAV (Caron et al., arXiv 2006.09882): each crop predicts the cluster codes of the image's other crops."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.config import Count, Number, Positive, Several, Whole
from probekit.methods.base import Method, Rate, Step, Suited, fit, fit_queue
from probekit.methods.losses import sinkhorn, swapped_cross_entropy, used
from probekit.methods.momentum import Clock, FeatureQueue
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.ranks import gathered, mine
from probekit.views.recipes import VIEWS, Views


class SwAV(Method):
    """Swapping assignments between views, with as many small crops as the recipe has.

    Args:
        prototypes: K.
        temperature: tau of the predictions.
        epsilon: Weight of Sinkhorn's entropy. While features tell little apart, they grow only where the scores of two
            views correlate by more than epsilon / temperature (docs/methods.md): else the loss stays at ln K.
        queue: Earlier features of each large crop that take part in Sinkhorn; 0 for none.
        queue_from: Epochs before they do.
        freeze: Epochs in which the prototypes stay as they are.
    """

    about = "each crop predicts the cluster codes of the others"
    paper = "SwAV, arXiv 2006.09882"
    recipe = "swav"
    cause = "codes too soft for views so different"
    remedy: ClassVar[Mapping[str, float]] = {"epsilon": 0.02, "temperature": 0.3}
    spans: ClassVar[Mapping[str, str]] = {
        "queue_from": "the queue takes no part",
        "freeze": "the prototypes stay as they are drawn",
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: Several = 3000,  # paper, appendix A
        temperature: Positive = 0.1,  # paper, appendix A
        epsilon: Positive = 0.05,  # paper, appendix A
        iterations: Count = 3,  # paper, appendix A
        queue: Whole = 3840,  # official code, batches of 256
        queue_from: Whole = 15,  # official code
        freeze: Number = 1.0,  # official code: 313 steps, an epoch of ImageNet in batches of 4096
        hidden: Count = 2048,  # official code
        projection_dim: Several = 128,  # official code
    ) -> None:
        super().__init__(encoder)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.queue_from, self.freeze = queue_from, freeze
        self.projector = MLP(encoder.dim, hidden, projection_dim, norm=True)
        self.prototypes = nn.Linear(projection_dim, prototypes, bias=False)
        self.prototypes.weight = nn.Parameter(F.normalize(self.prototypes.weight.detach(), dim=1))
        self.queues = nn.ModuleList(FeatureQueue(queue, projection_dim) for _ in range(VIEWS if queue else 0))
        self.clock = Clock()
        self.latest: tuple[Tensor, ...] = ()

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int, batch_size: int) -> Suited:
        """A queue no longer than the images are many, and fewer prototypes than features are shared out to them."""
        chosen = dict(options)
        lines = fit_queue(chosen, typed=typed, batch_size=batch_size)
        if chosen["queue"] > max(images, batch_size):
            whole = max(images // batch_size, 1) * batch_size
            why = f"there are {images:,} images, and it holds whole batches"
            lines.append(fit(chosen, "method.queue", whole, typed=typed, why=why))
        if not chosen["queue"] and "method.queue_from" in typed:
            lines.append(f"warning: method.queue_from={chosen['queue_from']} has no effect: method.queue is 0")
        features = batch_size + max(0, chosen["queue"])
        if chosen["prototypes"] >= features:
            why = f"a step shares {features:,} features out among them"
            lines.append(fit(chosen, "method.prototypes", max(2, features // 2), typed=typed, why=why))
        return chosen, lines

    def plan(self, *, batches: int, epochs: int) -> None:
        """Tells the clock."""
        self.clock.plan(batches=batches, epochs=epochs)

    def step(self, views: Views) -> Step:
        """The swapped prediction. Logs: `swapped` (chance ln K), `prototypes used`, a share."""
        batch = views.inputs.shape[1]
        features = self.encode(views.inputs.flatten(0, 1))
        pooled = [features.pooled]
        if views.local is not None:
            pooled.append(self.encode(views.local.inputs.flatten(0, 1)).pooled)
        weight = self.prototypes.weight
        weight = torch.where(self._frozen, weight.detach(), weight)
        with torch.autocast(weight.device.type, enabled=False):
            z = F.normalize(self.projector(torch.cat(pooled)), dim=1)
            scores = (z @ weight.T).view(-1, batch, len(weight))
        large = z[: VIEWS * batch].detach()
        self.latest = gathered(large, VIEWS).chunk(VIEWS)
        codes = torch.stack([mine(self._codes(i, weight.detach())) for i in range(VIEWS)])
        loss = swapped_cross_entropy(codes, scores / self.temperature)
        logs = {"swapped": loss.detach(), "prototypes used": used(scores[:VIEWS].detach().flatten(0, 1))}
        return Step(loss, features, logs, projections=large)

    @property
    def _frozen(self) -> Tensor:
        """Whether the prototypes stay as they are, bool scalar."""
        return self.clock.before(self.freeze)

    @torch.no_grad()
    def _codes(self, view: int, prototypes: Tensor) -> Tensor:
        """Codes `[B, K]` of a large crop of all images, together with its queue where that is in use."""
        z, weight = self.latest[view], None
        batch = len(z)
        if self.queues:
            queue = self._queues()[view]
            in_use = queue.full & ~self.clock.before(self.queue_from)
            weight = torch.cat([in_use.expand(len(queue.rows)), torch.ones_like(in_use).expand(batch)]).float()
            z = torch.cat([queue.rows, z])
        with torch.autocast(z.device.type, enabled=False):
            scores = z @ prototypes.T
        return sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations, weight=weight)[-batch:]

    def _queues(self) -> list[FeatureQueue]:
        return cast(list[FeatureQueue], list(self.queues))

    @torch.no_grad()
    def after_step(self) -> None:
        """The features join their queues; prototypes become unit vectors again; the clock goes on."""
        for queue, z in zip(self._queues(), self.latest, strict=False):
            queue.push(z)
        weight = self.prototypes.weight
        weight.copy_(torch.where(self._frozen, weight, F.normalize(weight, dim=1)))
        self.clock.tick()

    def rates(self) -> Sequence[Rate]:
        """None for the prototypes while they are frozen: weight decay would move them, too."""
        return (Rate((self.prototypes.weight,), start=self.clock.first_step(self.freeze)),)

    @property
    def chance_loss(self) -> float:
        """That of even predictions, ln K."""
        return math.log(len(self.prototypes.weight))
