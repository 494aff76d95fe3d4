"""DINO (Caron et al., arXiv 2104.14294): a student's small and large crops match a teacher's large ones."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.config import Count, Number, Part, Positive, Several
from probekit.methods.base import Rate, Step, Suited
from probekit.methods.losses import swapped_cross_entropy, used
from probekit.methods.momentum import Keep, MomentumMethod
from probekit.models.encoder import Encoder
from probekit.models.heads import MLP
from probekit.ranks import averaged
from probekit.views.recipes import VIEWS, Views


class DINOHead(nn.Module):
    """A perceptron, unit vectors, and a linear layer with unit rows. `[B, dim] -> [B, K]`, float32."""

    def __init__(self, *, dim: int, hidden: int, bottleneck: int, out: int) -> None:
        super().__init__()
        self.mlp = MLP(dim, hidden, hidden, bottleneck, norm=False, activation=nn.GELU)
        self.mlp.apply(_initialise)
        self.last = nn.Linear(bottleneck, out, bias=False)

    def forward(self, pooled: Tensor, frozen: Tensor) -> Tensor:
        """`frozen`, bool scalar: the last layer gets no gradient."""
        return self.outputs(self.unit(pooled), frozen)

    def unit(self, pooled: Tensor) -> Tensor:
        """The unit vectors that the last layer sees, `[B, bottleneck]`."""
        with torch.autocast(pooled.device.type, enabled=False):
            return F.normalize(self.mlp(pooled), dim=1)

    def outputs(self, z: Tensor, frozen: Tensor) -> Tensor:
        """The last layer's cosines `[B, K]`; `frozen` as above."""
        with torch.autocast(z.device.type, enabled=False):
            weight = torch.where(frozen, self.last.weight.detach(), self.last.weight)
            return z @ F.normalize(weight, dim=1).T  # the gain of weight norm is 1 and stays (official code)


def _initialise(module: nn.Module) -> None:
    """Normal weights of deviation .02, cut off at 2; no bias (official code)."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DINO(MomentumMethod):
    """Self-distillation without labels.

    Args:
        momentum: Share of the teacher that stays at the first step; it rises to 1 along a cosine.
        out: Width K of the output.
        student_temperature: Temperature of the student's softmax.
        teacher_temperature: Temperature of the teacher's softmax at the first step of its warm-up; lower is sharper.
        final_teacher_temperature: After `teacher_warmup` epochs of linear change; .07 for transformers.
        teacher_warmup: Epochs; 30 for transformers. With 0 the final temperature holds from the first step on.
        centre_momentum: Share of the centre that stays at each step.
        freeze: Epochs in which the last layer stays as it is.
        bottleneck: Width before the last layer.
        keep: The encoder that is kept, "target" (the teacher) or "online".
    """

    about = "a student matches its own moving average over large and small crops"
    paper = "DINO, arXiv 2104.14294"
    recipe = "dino"
    cause = "a student that is too sharp for views so different, or a centre that lags"
    remedy: ClassVar[Mapping[str, float]] = {"student_temperature": 0.3, "centre_momentum": 0.5}
    spans: ClassVar[Mapping[str, str]] = {
        "teacher_warmup": "method.final_teacher_temperature is not reached",
        "freeze": "the last layer stays as it is drawn",
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        momentum: Part = 0.996,  # paper, section 3.1
        out: Several = 65_536,  # paper, appendix C
        student_temperature: Positive = 0.1,  # paper, section 3.2
        teacher_temperature: Positive = 0.04,  # official code
        final_teacher_temperature: Positive = 0.04,  # official code
        teacher_warmup: Number = 0.0,  # official code
        centre_momentum: Part = 0.9,  # official code
        freeze: Number = 1.0,  # official code
        hidden: Count = 2048,  # paper, section 3.1
        bottleneck: Several = 256,  # paper, appendix C
        keep: Keep = "target",  # paper, section 5.2
    ) -> None:
        super().__init__(encoder, momentum=momentum, final_momentum=1.0, keep=keep)
        self.student_temperature, self.centre_momentum, self.freeze = student_temperature, centre_momentum, freeze
        self.temperatures, self.teacher_warmup = (teacher_temperature, final_teacher_temperature), teacher_warmup
        self.projector = DINOHead(dim=encoder.dim, hidden=hidden, bottleneck=bottleneck, out=out)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(out))
        self.mean_output = torch.empty(0)
        self.make_target()

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int, batch_size: int) -> Suited:
        """As they are; a line where the first temperature of the teacher has no effect."""
        first, last = options["teacher_temperature"], options["final_teacher_temperature"]
        if options["teacher_warmup"] or first == last:
            return dict(options), []
        line = (
            f"method.teacher_temperature={first:g} has no effect: method.teacher_warmup is 0, and "
            f"method.final_teacher_temperature, {last:g}, holds from the first step on"
        )
        return dict(options), [line]

    def step(self, views: Views) -> Step:
        """The student against the centred teacher. Logs: `distillation` (chance ln K), `prototypes used`, a share."""
        x, batch = views.inputs.flatten(0, 1), views.inputs.shape[1]
        features = self.encode(x)
        pooled = [features.pooled]
        if views.local is not None:
            pooled.append(self.encode(views.local.inputs.flatten(0, 1)).pooled)
        frozen = self.clock.before(self.freeze)
        z = self.projector.unit(torch.cat(pooled))
        logits = self.projector.outputs(z, frozen) / self.student_temperature
        with torch.no_grad():
            theirs = self.encode_target(x)
            outputs = self.target["projector"](theirs.pooled, frozen)
            codes = ((outputs - self.centre) / self._teacher_temperature()).softmax(1)
            self.mean_output = outputs.mean(0)
            averaged([self.mean_output])
        loss = swapped_cross_entropy(codes.view(VIEWS, batch, -1), logits.view(-1, batch, codes.shape[1]))
        logs = {"distillation": loss.detach(), "prototypes used": used(logits[: VIEWS * batch])}
        return Step(loss, features, logs, projections=z[: VIEWS * batch].detach(), target_map=theirs.map)

    def _teacher_temperature(self) -> Tensor:
        first, last = self.temperatures
        steps = self.teacher_warmup * self.clock.batches
        done = (self.clock.step / steps).clamp(max=1) if steps else torch.ones_like(self.clock.done)
        return first + (last - first) * done

    @torch.no_grad()
    def after_step(self) -> None:
        """The teacher follows; the centre follows the mean of its outputs."""
        super().after_step()
        self.centre.lerp_(self.mean_output, 1 - self.centre_momentum)

    def rates(self) -> Sequence[Rate]:
        """None for the last layer while it is frozen: weight decay would change it, too."""
        return (Rate((self.projector.last.weight,), start=self.clock.first_step(self.freeze)),)

    @property
    def trained_projection(self) -> nn.Module:
        """The student's head, up to its unit vectors."""
        return self.projector.mlp

    @property
    def chance_loss(self) -> float:
        """That of an even output, ln K."""
        return math.log(len(self.centre))
