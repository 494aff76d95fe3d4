"""One training step: views, forward, losses, backward, update. Tensor code that never waits for the device."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from probekit.branches.base import Branch, branches_of, brings_images
from probekit.config import Config
from probekit.data import Images, shrunk
from probekit.methods.base import Method, Step
from probekit.train.health import OWN_LOSS, batch_health, projection_health
from probekit.train.optim import build_optimizer, rates_on_device, scaled_rate
from probekit.train.regions import Regions
from probekit.train.seeds import stream_seed
from probekit.views import ViewMaker, Views

WARM_UP = 3  # eager steps before a CUDA graph is recorded: cuDNN chooses its algorithms, the optimizer makes its state


class TrainingStep:
    """Makes one step on a batch, all on the device, and returns its scalars, float32 `[k]`.

    Attributes:
        names: What the k scalars are, known after the first step; "loss" is the first.
        view_size: (h, w) of the views.

    Args:
        config: The run's settings.
        method: On the device, branches attached.
        optimizer: Of the method's parameters.
        images: All of the split, uint8 `[N, C, H, W]`: branches may ask for more than the batch.
        generator: On the device: the source of the views' randomness.
        labels: int64 `[N]` on the device, for a method that needs them.
        regions: Where the crops of each image stand; None is anywhere.
    """

    def __init__(
        self,
        config: Config,
        method: Method,
        optimizer: Optimizer,
        images: Images,
        generator: torch.Generator,
        labels: Tensor | None = None,
        regions: Regions | None = None,
    ) -> None:
        self.config, self.method, self.optimizer = config, method, optimizer
        self.images, self.generator, self.labels, self.regions = images, generator, labels, regions
        self.view_size = shrunk(images, config.views.max_size)
        stride = method.encoder.stride
        self.maker = ViewMaker(config.views.recipe, images.shape[1:], size=self.view_size, stride=stride)
        self.maker.to(images.device)
        self.names: list[str] = []

    def __call__(self, index: Tensor, images: Tensor) -> Tensor:
        """The whole step.

        Args:
            index: int64 `[B]`, which images of the split.
            images: uint8 `[B, C, H, W]`, these images.
        """
        loss, step = self._gradients(index, images)
        if self.config.optimizer.clip:
            clip_each([p.grad for p in self.method.parameters() if p.grad is not None], self.config.optimizer.clip)
        self.optimizer.step()
        self.method.after_step()
        health = batch_health(step.features.pooled, len(index)) | projection_health(step.projections, len(index))
        own = {OWN_LOSS: step.loss.detach()} if active_branches(self.method) else {}
        logs = {"loss": loss.detach(), **own, **step.logs, **health}
        self.names = list(logs)
        return torch.stack([value.float() for value in logs.values()])

    def rehearse(self, batch: int) -> None:
        """Forward and backward of a batch of another size, and no update: does it fit into memory?"""
        index = torch.arange(batch, device=self.images.device)
        self._gradients(index, self.images[index])

    def views(self, index: Tensor, images: Tensor) -> Views:
        """Augmented views of a batch of images; arguments as for the step."""
        placement = None if self.regions is None else self.regions.of(index)
        made: Views = self.maker(images, self.maker.draw(len(images), self.generator), placement)
        return made

    def _gradients(self, index: Tensor, images: Tensor) -> tuple[Tensor, Step]:
        with torch.autocast(index.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16"):
            step = self._forward(index, images)
            loss = step.loss
            for branch in active_branches(self.method):
                loss = loss + branch.weight * branch.loss(step)
                step.logs |= {f"{branch.name} {name}": value for name, value in branch.logs.items()}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss, step

    def _forward(self, index: Tensor, images: Tensor) -> Step:
        views = self.views(index, images)
        if self.labels is not None:
            views.labels = self.labels[index]
        step = self.method.step(views)
        for branch in active_branches(self.method):
            more = branch.companions(index)
            if more is not None:
                step.companions[branch.name] = self.method.encode(self.views(more, self.images[more]).inputs[0])
        return step


def clip_each(gradients: list[Tensor], largest: float) -> None:
    """Shortens each gradient whose norm is above `largest` to it, in place (DINO, official code: each by its own)."""
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((largest / (norms + 1e-6)).clamp(max=1).unbind()))


def active_branches(method: Method) -> list[Branch]:
    """The branches of a method, but for those of weight 0, which take no part in training."""
    return [branch for branch in branches_of(method) if branch.weight]


class RecordedStep:
    """A training step that is recorded as one CUDA graph, so that a replay is a single launch.

    The first steps are made one kernel at a time; then the graph is recorded, which makes no step. What cannot be
    recorded goes on as it began, and says so once.

    Args:
        step: On a GPU, without branches that bring other images from step to step.
        say: Takes a line for the user.
    """

    def __init__(self, step: TrainingStep, say: Callable[[str], None]) -> None:
        self.step, self.say = step, say
        self.stream = torch.cuda.Stream(step.images.device)  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.index = self.images = torch.empty(0)
        self.scalars = torch.empty(0)
        self.to_warm_up = WARM_UP

    def __call__(self, index: Tensor, images: Tensor) -> Tensor:
        """As the step; the scalars are a copy, which the next replay does not change."""
        if self.graph is None and self.to_warm_up == 0:
            self._record(index, images)
        if self.graph is None:
            self.to_warm_up -= 1
            return self._eager(index, images)
        self.index.copy_(index)
        self.images.copy_(images)
        self.graph.replay()
        return self.scalars.clone()

    def _eager(self, index: Tensor, images: Tensor) -> Tensor:
        """On the stream of the recording, as torch asks for (CUDA semantics, CUDA graphs)."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            scalars = self.step(index, images)
        current.wait_stream(self.stream)
        return scalars

    def _record(self, index: Tensor, images: Tensor) -> None:
        self.index, self.images = index.clone(), images.clone()
        self.step.optimizer.zero_grad(set_to_none=True)  # gradients then live in the graph's own memory
        views = self.step.generator
        generators = [views, *(g for g in torch.cuda.default_generators if g.device == views.device)]
        before = [generator.get_state() for generator in generators]
        try:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(views)
            # The outer context gives the stream back where the inner one fails as it ends.
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, stream=self.stream):
                self.scalars = self.step(self.index, self.images)
        except RuntimeError as error:
            for generator, state in zip(generators, before, strict=True):
                renew(generator, state)
            self.step.optimizer.zero_grad(set_to_none=True)
            reason = str(error).splitlines()[0]
            self.say(f"the step cannot be recorded as a CUDA graph, and is launched kernel by kernel: {reason}")
            return
        self.graph = graph


def renew(generator: torch.Generator, state: Tensor) -> None:
    """Puts a generator back to a state.

    On a GPU that state is a new object: in some versions of torch the one that was part of a failed recording still
    takes itself for recorded, and refuses to draw.
    """
    if generator.device.type == "cuda":
        generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())
    generator.set_state(state)


def build_step(config: Config, method: Method, images: Images, labels: NDArray[np.int64] | None = None) -> TrainingStep:
    """A run's step with a fresh optimizer at the peak rate and a fresh stream of views.

    Args:
        config: The run's settings.
        method: On the device, branches attached.
        images: uint8 `[N, C, H, W]`.
        labels: `[N]`, used by methods that need them.
    """
    settings, device = config.optimizer, images.device
    optimizer = build_optimizer(
        method,
        name=settings.name,
        lr=scaled_rate(settings.lr, scaling=settings.scaling, batch_size=config.train.batch_size),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        rates=[*method.rates(), *(rate for branch in active_branches(method) for rate in branch.rates())],
    )
    rates_on_device(optimizer, device)
    generator = torch.Generator(device).manual_seed(stream_seed(config.seed, "views"))
    known = torch.from_numpy(labels).to(device) if method.needs_labels and labels is not None else None
    regions = Regions(images, config.crop) if config.crop.policy == "contrastive" else None
    return TrainingStep(config, method, optimizer, images, generator, known, regions)


def fastest_step(step: TrainingStep, say: Callable[[str], None]) -> TrainingStep | RecordedStep:
    """The step recorded as a CUDA graph where it can be, else as it is."""
    fixed = not any(brings_images(branch) for branch in active_branches(step.method))
    recordable = step.images.device.type == "cuda" and fixed
    return RecordedStep(step, say) if recordable else step
